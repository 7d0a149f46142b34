"""What a run leaves behind: its recipe, versions and data, and model folders with filled-in cards."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from sepvae import checkpoint, pretrained
from sepvae.card import read_card
from sepvae.errors import OutputError
from sepvae.evaluation.report import evaluate
from sepvae.evaluation.scores import into_card
from sepvae.models.separation import SeparationModel
from sepvae.training.recipe import plain


def write_records(run_dir: Path, config: DictConfig, manifest: Mapping[str, Any]) -> None:
    """Write the recipe as composed, the versions of the packages with the commit, and the hashes of the data.

    Raises:
        OutputError: the run folder cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, run_dir / "recipe.yaml", resolve=True)
        for name, content in (("versions", versions()), ("data", manifest)):
            (run_dir / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the run folder {run_dir}: {error.strerror}") from error


def is_finished(config: DictConfig) -> bool:
    """Whether the run folder holds the model of this very recipe."""
    run_dir = Path(config.run_dir)
    recipe = run_dir / "recipe.yaml"
    if not (run_dir / "model" / "card.json").is_file() or not recipe.is_file():
        return False
    return OmegaConf.load(recipe) == OmegaConf.create(plain(config))


def export(
    model: SeparationModel, config: DictConfig, folder: Path, steps: int, data: Mapping[str, Any]
) -> Path:
    """Write a model folder whose card says where the weights come from.

    Args:
        model: what to write.
        config: the recipe that it was trained with.
        folder: the model folder.
        steps: optimisation steps so far.
        data: size and hash of every set, by its name.

    Returns:
        The folder.
    """
    training: dict[str, Any] = {
        "recipe": _without_folders(config),
        "steps": steps,
        "data": data,
        **versions(),
    }
    parents = [read_card(origin) for origin in origins(config)]
    if parents:
        training["init"] = [
            {"sha256": parent["weights"]["sha256"], **parent.get("training", {})} for parent in parents
        ]
    card = {**inherited(parents, _own_recordings(data)), **plain(config.card)}
    if config.stage == "encoders":  # the separation is that of the model it started from
        kept = ("name", "description", "scores", "data", "licence")
        card |= {key: parents[0][key] for key in kept if key in parents[0]}
    card["training"] = training
    checkpoint.save(folder, model, card, storage_dtype=storage(config))
    return folder


def inherited(parents: Sequence[Mapping[str, Any]], own: Mapping[str, str]) -> dict[str, Any]:
    """Data and licence of a card unless the recipe names them: those of the models it started from, and the new data.

    Args:
        parents: cards of the models.
        own: entry of the new data.
    """
    entries: list[Any] = [entry for card in parents for entry in card.get("data", ())]
    licences = [card["licence"] for card in parents if "licence" in card]
    unique = [entry for i, entry in enumerate([*entries, own]) if entry not in entries[:i]]
    return {"data": unique, **({"licence": licences[0]} if licences else {})}


def storage(config: DictConfig) -> torch.dtype:
    """Type to store matrices in: that of the model whose weights are kept, bfloat16 for new ones."""
    if config.stage in ("encoders", "added"):
        return checkpoint.stored_dtype(read_card(origins(config)[0]))
    return torch.bfloat16


def origins(config: DictConfig) -> list[Path]:
    """Model folders that `init` names: none, one, or several."""
    init = config.init
    names = [] if init is None else [init] if isinstance(init, str) else list(init)
    return [pretrained.find(name) for name in names]


def score(
    folder: Path, roots: Sequence[str | Path], max_seconds: float | None, *, present: bool = False
) -> None:
    """Score a model on some sets by the protocol, told what is present or not, and write the scores into its card."""
    for root in roots:
        into_card(folder, evaluate(folder, root, museval=False, max_seconds=max_seconds, present=present))


def _own_recordings(data: Mapping[str, Any]) -> dict[str, str]:
    """What a card says of data that the recipe does not name."""
    sets = ", ".join(f"{name}: {entry['tracks']} tracks, {entry['hours']} h" for name, entry in data.items())
    return {"name": "own recordings", "what": sets, "licence": "not stated", "credit": ""}


def _without_folders(config: DictConfig) -> dict[str, Any]:
    """The recipe as composed, less what names folders of one machine and what the card says elsewhere."""
    recipe = plain(config)
    for name in ("run_dir", "init", "model", "card"):
        recipe.pop(name, None)
    recipe["data"] = {
        k: v for k, v in recipe["data"].items() if k not in ("root", "train", "valid", "others")
    }
    return recipe


def versions() -> dict[str, str]:
    """Versions of the packages that training depends on, and the commit where they are a checkout with git at hand."""
    names = ("sepvae", "torch", "torchaudio", "lightning", "numpy")
    found = {name: importlib.metadata.version(name) for name in names if _installed(name)}
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # installed, perhaps within somebody else's repository
        return found
    try:
        commit = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return found
    return {**found, "commit": commit.stdout.strip()} if commit.returncode == 0 else found


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
