"""Training mixtures and validation windows, as Lightning asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sepvae.data.clips import ValidationWindows
from sepvae.data.corpora import TrackSet, scan
from sepvae.data.mixing import WHOLE, ExcerptStream, MixingConfig, Mixture, Share
from sepvae.data.values import check_number
from sepvae.errors import RecipeError
from sepvae.models.separation import SeparationModel
from sepvae.training.recipe import plain

MAX_EXCERPT_S = 3600
"""Longest excerpt to train on: any longer one is a slip, and would fill the memory before the first step."""

NumberedWindow = tuple[int, str, Tensor, list[int]]


class NumberedWindows(Dataset[NumberedWindow]):
    """Every `world`-th validation window from `rank` on, with its number; each process has one at least.

    Shape: item -> number, name of the set, sources `[K, 2, L]`, indices of the sources that sound.
    """

    def __init__(self, sets: Sequence[ValidationWindows], rank: int, world: int) -> None:
        self.windows = [(windows, place) for windows in sets for place in range(len(windows))]
        self.numbers = list(range(rank, len(self.windows), world)) or list(range(len(self.windows)))[:1]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> NumberedWindow:
        number = self.numbers[index]
        windows, place = self.windows[number]
        return (number, *windows[place])


class MixtureData(lightning.LightningDataModule):
    """Training mixtures from the step at which the trainer stands, and validation windows.

    Args:
        config: the recipe.
        model: what they are for.

    Raises:
        DataError: a folder is missing, or has no usable track.
        RecipeError: values that contradict each other.
    """

    def __init__(self, config: DictConfig, model: SeparationModel) -> None:
        super().__init__()
        for name in ("workers", "valid_windows"):
            check_number(f"data.{name}", config.data[name], least=0, whole=True)
        self.config, self.shape = config.data, model.config
        self.seed, self.pieces = int(config.seed), int(config.trainer.accumulate)
        self.mixing = mixing_config(plain(config.data.mixing), model)
        self.valid = [
            ValidationWindows(root, self.shape.sources, self.shape.sample_rate, config.data.valid_windows)
            for root in config.data.valid
        ]
        self._check_names()
        sampled = config.stage == "added" and config.material == "sampled"
        mixed = self.shape.sources[-1:] if sampled else self.shape.sources
        self._stream = ExcerptStream(
            config.data.train, mixed, self.shape.sample_rate, self.mixing, seed=self.seed
        )

    def _check_names(self) -> None:
        by_name: dict[str, set[str]] = {}
        for root in self.roots():
            by_name.setdefault(Path(root).name, set()).add(root)
        if same := next((sorted(roots) for roots in by_name.values() if len(roots) > 1), None):
            raise RecipeError(f"sets are told apart by the names of their folders: {' and '.join(same)}")

    def scored_sets(self) -> list[str]:
        """Validation sets that have a window in which there is something to separate."""
        return [root for root, windows in zip(self.config.valid, self.valid, strict=True) if len(windows)]

    def stream(self, start: int, share: Share = WHOLE) -> ExcerptStream:
        """Mixtures from batch `start` on."""
        return self._stream.part(start, share)

    def first_batches(self, count: int) -> list[Mixture]:
        """The first batches of the stream, whole."""
        stream = self.stream(0)
        return [stream.batch(index) for index in range(count)]

    def share(self, rank: int, world: int) -> Share:
        """The part of every batch that one of several processes takes.

        Raises:
            RecipeError: the parts would not be equal.
        """
        if self.mixing.batch_size % (world * self.pieces):
            raise RecipeError(
                f"data.mixing.batch_size={self.mixing.batch_size} cannot be split evenly over {world} devices "
                f"and trainer.accumulate={self.pieces} pieces"
            )
        return Share(rank, world, self.pieces)

    def own_share(self) -> Share:
        """The part of every batch that this process takes."""
        return self.share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else WHOLE

    def train_dataloader(self) -> DataLoader[Mixture]:
        start = self.trainer.global_step if self.trainer else 0
        stream = self.stream(start, self.own_share())
        return DataLoader(
            stream, batch_size=None, num_workers=self.config.workers, pin_memory=torch.cuda.is_available()
        )

    def val_dataloader(self) -> DataLoader[Any]:
        share = self.own_share()
        return DataLoader(NumberedWindows(self.valid, share.rank, share.world), batch_size=None)

    @cached_property
    def sets(self) -> dict[str, Any]:
        """Tracks, hours and a hash of every set, by its name: what the weights have seen."""
        return {Path(root).name: describe_set(scan(root, self.shape.sources)) for root in self.roots()}

    def roots(self) -> list[str]:
        """Folders of all sets, first the one to train on."""
        return [str(root) for root in (self.config.train, *self.config.valid)]


def mixing_config(values: dict[str, Any], model: SeparationModel) -> MixingConfig:
    """How the mixtures for a model are drawn.

    Args:
        values: `data.mixing` of a recipe, with the length of an excerpt in `frames` of the model's STFT.

    Raises:
        RecipeError: values that cannot be, or do not go with the model.
    """
    frames, overlap, unit = values["frames"], model.stft.overlap, model.frame_multiple
    hop_length = model.config.hop_length
    longest = MAX_EXCERPT_S * model.config.sample_rate // hop_length + overlap - 1
    check_number("data.mixing.frames", frames, least=overlap + 1, most=longest, whole=True)
    if frames % unit:
        raise RecipeError(f"data.mixing.frames must be a multiple of {unit}, found {frames}")
    length = (frames - overlap + 1) * hop_length
    settings: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name != "frames"
    }
    try:
        config = MixingConfig(length=length, **settings)
    except TypeError as error:
        raise RecipeError(f"data.mixing: {error}") from error
    count = len(model.config.sources)
    if config.sounding is not None and config.sounding > count:
        raise RecipeError(
            f"data.mixing.sounding must be from 1 to the {count} sources, found {config.sounding}"
        )
    return config


def describe_set(track_set: TrackSet) -> dict[str, Any]:
    """Size of a set, and a sha256 over the names, sizes and lengths of its files."""
    lines = [
        f"{track.name}/{path.name} {path.stat().st_size} {track.frames} {track.sample_rate}"
        for track in track_set
        for path in track.files.values()
    ]
    return {
        "tracks": len(track_set),
        "hours": round(sum(track.seconds for track in track_set) / 3600, 3),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }
