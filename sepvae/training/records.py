"""What a run leaves behind: its recipe, versions and data, and model folders with filled-in cards."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepvae import checkpoint, pretrained
from sepvae.atomic import write_whole
from sepvae.card import read_card
from sepvae.errors import OutputError, RecipeError
from sepvae.evaluation.report import evaluate
from sepvae.evaluation.scores import into_card
from sepvae.models.separation import SeparationModel
from sepvae.training.recipe import plain

logger = logging.getLogger(__name__)

RECIPE_NAME, DATA_NAME, STATE_NAME = "recipe.yaml", "data.json", "state.json"
WHAT_IT_IS = ("stage", "model")
"""Parts of a recipe without which a checkpoint makes no sense."""
SETS = ("data.root", "data.train", "data.valid", "data.valid_windows", "data.workers")
TRAINER = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "accumulate",
    "compile",
    "val_every",
    "checkpoint_every",
    "early_stopping",
    "export",
    "score_seconds",
    "examples",
    "progress",
)
TOLD = ("stage", "seed", "source", "add_source", "material", "optim", "losses", "trainer", "logger")
"""Parts of a recipe that a card repeats, beside how the mixtures are drawn; none of them names a folder."""
TOLD_OF_DATA = ("valid_windows", "workers", "mixing")
FROM_PARENT = ("name", "description", "scores", "quality", "data", "licence")
"""Fields of a card that are still true, and the only ones, where a training does not change the separation."""
NOT_STATED = "not stated"
"""Licence of recordings of which nobody has said it."""
LEAVE_WEIGHTS = ("run_dir", "init", "card", "logger", *(f"trainer.{key}" for key in TRAINER), *SETS)
"""Values that may change while a run goes on: hashes tell what they mean for the weights, or they mean nothing."""


def write_records(run_dir: Path, config: DictConfig, sets: Mapping[str, Any]) -> None:
    """Write the recipe as composed, the versions of the packages with the commit, and the hashes of the data.

    `state.json` says what the run started from, and that it is not finished.

    Raises:
        OutputError: the run folder cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_state(run_dir, config, finished=False)
        write_whole(run_dir / RECIPE_NAME, OmegaConf.to_yaml(config, resolve=True).encode())
        for name, content in (("versions.json", versions()), (DATA_NAME, sets)):
            _write_json(run_dir / name, content)
    except OSError as error:
        raise OutputError(f"cannot write the run folder {run_dir}: {error.strerror}") from error


def write_state(run_dir: Path, config: DictConfig, *, finished: bool) -> None:
    """Write whether a run is finished, and the hashes of the weights that it started from.

    Raises:
        OutputError: the run folder cannot be written.
    """
    try:
        _write_json(run_dir / STATE_NAME, {"finished": finished, "init": _hashes(config)})
    except OSError as error:
        raise OutputError(f"cannot write the run folder {run_dir}: {error.strerror}") from error


def is_finished(config: DictConfig) -> bool:
    """Whether the run folder holds the model of this very recipe, made from the weights that `init` names now."""
    run_dir = Path(config.run_dir)
    recipe = run_dir / RECIPE_NAME
    if not (run_dir / "model" / "card.json").is_file():
        return False
    if _read_recipe(recipe) != plain(config):
        return False
    return _read_json(run_dir / STATE_NAME) == {"finished": True, "init": _hashes(config)}


def check_resume(config: DictConfig, sets: Mapping[str, Any]) -> None:
    """Refuse to go on with a checkpoint that is not this recipe's, and tell what has changed since it was written.

    Args:
        sets: size and hash of every set, by its name.

    Raises:
        RecipeError: another stage, model or `init`; or other values where there is no step left to train with them.
    """
    run_dir = Path(config.run_dir)
    state, before = _read_json(run_dir / STATE_NAME), _read_recipe(run_dir / RECIPE_NAME)
    changed = sorted(key for key in _differing(before, plain(config)) if not key.startswith(LEAVE_WEIGHTS))
    wrong = [key for key in changed if key.startswith(WHAT_IT_IS)]
    if state.get("init", _hashes(config)) != _hashes(config):
        wrong.append("init")
    if state.get("finished") and before and config.optim.max_steps <= before["optim"]["max_steps"]:
        wrong += changed
    if before and wrong:
        raise RecipeError(
            f"{run_dir} holds a run with another {wrong[0]}: remove it, or give another run_dir="
        )
    known = _read_json(run_dir / DATA_NAME)
    changed += [f"the set {name}" for name, entry in sets.items() if known.get(name, entry) != entry]
    if before and changed:
        logger.warning("%s goes on, but changed since it began: %s", run_dir, ", ".join(changed))


def _differing(before: Any, now: Any, prefix: str = "") -> Iterator[str]:
    """Keys of nested mappings whose values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            yield from _differing(before.get(key), now.get(key), f"{prefix}.{key}".lstrip("."))
    elif before != now:
        yield prefix


def _hashes(config: DictConfig) -> list[str]:
    """sha256 of the weights that `init` names."""
    return [read_card(origin)["weights"]["sha256"] for origin in origins(config)]


def _write_json(path: Path, content: Any) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any]:
    """What a record says, nothing where it is missing or was cut by a kill."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _read_recipe(path: Path) -> dict[str, Any]:
    """What the recipe of a run says, nothing where it is missing or damaged."""
    try:
        loaded = OmegaConf.load(path)
        found = plain(loaded) if isinstance(loaded, DictConfig) else {}
        return found if found.keys() >= {*WHAT_IT_IS, "optim"} else {}
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return {}


def export(
    model: SeparationModel, config: DictConfig, folder: Path, steps: int, sets: Mapping[str, Any]
) -> Path:
    """Write a model folder whose card says where the weights come from.

    Args:
        model: what to write.
        config: the recipe that it was trained with.
        folder: the model folder.
        steps: optimisation steps so far.
        sets: size and hash of every set, by its name.

    Returns:
        The folder.
    """
    training: dict[str, Any] = {
        "recipe": _told(config),
        "steps": steps,
        "data": sets,
        **versions(),
    }
    parents = [read_card(origin) for origin in origins(config)]
    if parents:
        training["init"] = [
            {"sha256": parent["weights"]["sha256"], **parent.get("training", {})} for parent in parents
        ]
    stated = plain(config.card)
    found = inherited(parents, _own_recordings(config, sets))
    card = {**found, **stated} if "data" in stated else {**stated, **found}
    if config.stage == "encoders":  # the separation is that of the model it started from
        card = {key: parents[0][key] for key in FROM_PARENT if key in parents[0]}
    card["training"] = training
    checkpoint.save(folder, model, card, storage_dtype=storage(config))
    return folder


def inherited(parents: Sequence[Mapping[str, Any]], own: Mapping[str, str]) -> dict[str, Any]:
    """Data and licence of a card whose recipe does not name the data.

    The data is that of the models it started from, and the new; so is the licence, where there are such models.

    Args:
        parents: cards of the models.
        own: entry of the new data.
    """
    entries: list[Any] = [entry for card in parents for entry in card.get("data", ())]
    licences = [part for card in parents if "licence" in card for part in card["licence"].split("; ")]
    if parents and own not in entries and "licence" in own and own["licence"] not in licences:
        licences.append(_of_own(own["licence"]))
    if len(set(licences)) > 1:
        licences = [_of_own(part) if part == NOT_STATED else part for part in licences]
    unique = [entry for i, entry in enumerate([*entries, own]) if entry not in entries[:i]]
    return {"data": unique, **({"licence": "; ".join(dict.fromkeys(licences))} if licences else {})}


def _of_own(licence: str) -> str:
    return f"of own recordings: {licence}"


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
        report = evaluate(folder, root, museval=False, max_seconds=max_seconds, present=present)
        into_card(folder, report)
        found = report["methods"]["model"]["mean"]["si_sdr_improvement"]
        if found is not None:
            logger.info("%s: mean SI-SDR improvement %.2f dB", report["dataset"], found)


def _own_recordings(config: DictConfig, sets: Mapping[str, Any]) -> dict[str, str]:
    """What a card says of data that the recipe does not name: of the set that the weights learn from."""
    train = sets[Path(config.data.train).name]
    what = f"{train['tracks']} tracks, {train['hours']} h"
    licence = plain(config.card).get("licence", NOT_STATED)
    return {"name": "own recordings", "what": what, "licence": licence, "credit": ""}


def _told(config: DictConfig) -> dict[str, Any]:
    """The recipe as composed, without folders of one machine and what the card says elsewhere."""
    recipe = plain(config)
    data = {name: recipe["data"][name] for name in TOLD_OF_DATA if name in recipe["data"]}
    return {"data": data, **{name: recipe[name] for name in TOLD if name in recipe}}


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
