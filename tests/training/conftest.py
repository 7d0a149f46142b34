"""Generated songs, and recipes made small enough to train in a second."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepvae import checkpoint
from sepvae.models.separation import SeparationConfig, SeparationVAE

RATE = 8000
SHORT = [
    f"model.sample_rate={RATE}",
    "data.mixing.frames=32",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.examples=false",
    "trainer.score_seconds=0",
    "logger=csv",
    "trainer.val_every=4",
    "trainer.checkpoint_every=2",
    "trainer.ema_start=1",
    "optim.max_steps=4",
    "optim.warmup_steps=1",
    "optim.decay_steps=1",
]
"""Overrides that make the training of a tiny model short and quiet."""
PITCHES = {"vocals": 600, "drums": 0, "bass": 60, "other": 300}


def write_song(folder: Path, pitches: dict[str, int], seed: int = 0) -> None:
    """A song of 11 s with one tone, or noise for pitch 0, per source."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    time = np.arange(11 * RATE) / RATE
    for source, pitch in pitches.items():
        wave = 0.1 * rng.standard_normal(len(time)) if not pitch else 0.2 * np.sin(6.28 * pitch * time)
        soundfile.write(folder / f"{source}.wav", np.stack([wave, 0.7 * wave], 1), RATE)


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one song of four sources in each set."""
    root = tmp_path_factory.mktemp("songs")
    for split in ("train", "valid", "valid-midi", "valid-sung"):
        write_song(root / split / "song", PITCHES)
    return root


@pytest.fixture
def settings(songs: Path, tiny_recipe: list[str]) -> Callable[..., list[str]]:
    """Overrides that make a recipe tiny: `settings(run_dir, *more)`."""

    def make(run_dir: Path, *more: str) -> list[str]:
        return [*tiny_recipe, *SHORT, f"data.root={songs}", f"run_dir={run_dir}", *more]

    return make


@pytest.fixture
def vaes(tmp_path: Path, tiny_config: SeparationConfig) -> Path:
    """A model folder with the VAEs, and the shape, of the tiny recipes."""
    with torch.random.fork_rng():
        torch.manual_seed(20260401)
        model = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=RATE))
    checkpoint.save(tmp_path / "vaes", model, {})
    return tmp_path / "vaes"


@pytest.fixture
def weights() -> Callable[[Path], dict[str, torch.Tensor]]:
    """The tensors of a model folder."""
    return lambda folder: checkpoint.load(folder)[0].state_dict()
