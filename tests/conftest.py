"""Fixtures that several test folders share; every random number comes from a seed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.models.vae import VAEConfig

SAMPLE_RATE = 44100

torch.set_num_threads(
    1
)  # the same sums in the same order on any number of cores, and no fight over few of them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260401)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20260401)


@pytest.fixture
def noise(rng: np.random.Generator) -> np.ndarray:
    """Half a second of quiet stereo noise [2, L], the channels different."""
    return (0.1 * rng.standard_normal((2, SAMPLE_RATE // 2))).astype(np.float32)


@pytest.fixture
def tone() -> np.ndarray:
    """Half a second of a 440 Hz tone [2, L], the right channel at half the level."""
    wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE)
    return np.stack([wave, wave / 2]).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_config() -> SeparationConfig:
    """A complete model of four sources that is small enough to build and run in milliseconds."""
    vae = VAEConfig(
        bands=32,
        patch=1,
        latent_channels=(3, 2, 1),
        encoder_channels=(4, 4, 6, 6),
        decoder_channels=(6, 4, 4),
    )
    return SeparationConfig(
        n_fft=256,
        hop_length=64,
        kept_bins=16,
        band_width=7,
        trunk_channels=(4, 6, 6, 8),
        trunk_blocks=(1, 1, 1, 1),
        vae=vae,
    )


@pytest.fixture
def tiny_model(tiny_config: SeparationConfig) -> SeparationVAE:
    """The tiny model with seeded weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(20260401)
        return SeparationVAE(tiny_config).eval()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real recordings that SEPVAE_DATA names."""
    root = os.environ.get("SEPVAE_DATA")
    if not root:
        pytest.skip("SEPVAE_DATA names no folder of recordings")
    return Path(root)
