"""A source added to a trained model: its recipe, the mixtures that it learns from, and its training."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from sepvae import pretrained
from sepvae.card import read_card
from sepvae.data.corpora import Track, scan
from sepvae.data.mixing import Mixture
from sepvae.errors import RecipeError
from sepvae.models.latents import normal_like
from sepvae.models.separation import SeparationVAE
from sepvae.training.modules import SeparationModule
from sepvae.training.objectives import LossConfig, OptimConfig

MATERIAL = ("real", "sampled")


def grown(model: dict[str, Any], source: str) -> dict[str, Any]:
    """Configuration of a model with one more source.

    Raises:
        RecipeError: it has this source already.
    """
    if source in model["sources"]:
        raise RecipeError(f"add_source={source}: the model separates {', '.join(model['sources'])} already")
    names = [*model["vae_names"], source] if model.get("vae_names") else []
    return {
        **model,
        "sources": [*model["sources"], source],
        "vae_names": names,
        "added": model.get("added", 0) + 1,
    }


def alone(model: dict[str, Any], source: str) -> dict[str, Any]:
    """Configuration of a model of the same shape for a single source."""
    return {**model, "sources": [source], "residual_source": source, "vae_names": [], "added": 0}


def shape_stages(solo: DictConfig, head: DictConfig) -> None:
    """Give the two stages of an added source the shape of the model that `init` names, and their data.

    Args:
        solo: recipe of the new source's VAE.
        head: recipe of its head, with `init`, `add_source`, `others` and `material`.
    """
    card = read_card(pretrained.find(head.init))
    if card["model"].get("class") != "SeparationVAE":
        raise RecipeError(f"init={head.init}: only a model with VAEs can be given one more")
    model = {key: value for key, value in card["model"].items() if key != "class"}
    source = head.add_source
    run_dir = Path(head.run_dir)
    if head.material is None:
        head.material = "sampled" if head.others is None else "real"
    if head.material not in MATERIAL:
        raise RecipeError(f"material is {' or '.join(MATERIAL)}, found {head.material!r}")
    if head.material == "real" and head.others is None:
        raise RecipeError("material=real needs others=, a folder of sets with the other sources")
    card = {"name": f"{source}-vae", "description": f"Source VAE of {source}."}
    card |= {"licence": head.card.licence} if "licence" in head.card else {}
    with open_dict(solo), open_dict(head):
        solo.model, solo.card, head.model = alone(model, source), card, grown(model, source)
    for config in (solo, head):
        config.data.valid = [root for root in config.data.valid if Path(root).is_dir()]
    solo.run_dir, solo.init = str(run_dir / "vae"), None
    head.init = [str(head.init), str(run_dir / "vae" / "model")]
    if head.material == "real":
        head.data.train = str(run_dir / "material" / "train")
    if head.others is not None:
        head.data.valid = [str(run_dir / "material" / "valid")]


def link_material(head: DictConfig) -> None:
    """Make folders of links: all tracks to mix from, and held-out songs of the others with a solo of the new source.

    Links to other tracks, which an earlier call has made, go.

    Raises:
        DataError: a folder is missing or empty.
    """
    if head.others is None:
        return
    source, others = head.add_source, Path(head.others)
    old = [name for name in head.model.sources if name != source]
    own, folder = Path(head.data.root), Path(head.run_dir) / "material"
    links: dict[Path, Path] = {}
    if head.material == "real":
        for track in (*scan(own / "train", [source]), *scan(others / "train", old)):
            links |= _links(
                track, folder / "train" / f"{track.name}.{'own' if source in track.files else 'others'}"
            )
    songs = scan(others / "valid", old)
    solos = scan(own / "valid", [source])
    for song, solo in zip(songs.songs or songs.tracks, itertools.cycle(solos), strict=False):
        links |= _links(solo, folder / "valid" / song.name) | _links(song, folder / "valid" / song.name)
    for link in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # several processes do this at once
            if link.is_symlink() and links.get(link) != link.readlink():
                link.unlink()
    for link, path in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)


def _links(track: Track, folder: Path) -> dict[Path, Path]:
    """Links in a folder to a track's files."""
    return {folder / path.name: path.resolve() for path in track.files.values()}


class AddedModule(SeparationModule):
    """Trains the head of the newest source, and later its VAE too; all the rest of the model keeps every bit.

    Batches hold all sources, or the new one alone: then the others are drawn from their VAEs.
    """

    def __init__(
        self, model: SeparationVAE, optim: OptimConfig, losses: LossConfig, *, seed: int = 0
    ) -> None:
        super().__init__(model, optim, losses, seed=seed)
        self.model.requires_grad_(False)
        self.model.mixture.added[-1].requires_grad_(True)

    def on_train_batch_start(self, batch: Mixture, index: int) -> None:
        """Freeze or release the new source's VAE."""
        self.model.source_vae(self.model.config.sources[-1]).requires_grad_(self.joint)

    def solo_sources(self) -> Sequence[int]:
        return [len(self.model.config.sources) - 1]

    def without_silence(self, batch: Mixture) -> Mixture:
        return batch  # how many sources it holds says whether the others are to be drawn

    def spectra(self, batch: Mixture) -> list[Tensor]:
        S = super().spectra(batch)
        old = self.model.config.sources[:-1]
        if len(S) == len(old) + 1:
            return S
        noise = self.noise(batch)
        for generator in noise:  # not the numbers that the latents of the new source are drawn with
            generator.manual_seed(generator.initial_seed() ^ 1)
        return [*(self.sampled(source, S[0], noise) for source in old), *S]

    def sampled(self, source: str, like: Tensor, noise: list[torch.Generator]) -> Tensor:
        """A source drawn from the prior of its VAE, bin by bin from its variances.

        Shape: like complex `[B, C, F, T]` -> the same.
        """
        batch, channels, _, frames = like.shape
        log_variance = self.model.source_vae(source).sample(frames, batch, noise)[:, :channels]  # B, C, N, T
        amplitude = self.model.bands.expand(torch.exp(0.5 * log_variance.float()))
        parts = normal_like(torch.view_as_real(like), noise) * 0.5**0.5  # [B, C, F, T, 2]
        return amplitude * torch.view_as_complex(parts)
