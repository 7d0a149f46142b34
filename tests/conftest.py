"""Fixtures that several test folders share; every random number comes from a seed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sepvae.models.build import build
from sepvae.models.separation import SeparationConfig, SeparationVAE

SAMPLE_RATE = 44100
TINY = json.loads((Path(__file__).parent / "assets" / "tiny.json").read_text(encoding="utf-8"))
"""The config of a complete model of four sources that is small enough to build and run in milliseconds."""

# The same sums in the same order on any number of cores, and no fight over few of them.
torch.set_num_threads(1)
# MKL looks at it when it is first called, which a command does as a `Worker` and a test may do before there is one.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


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


@pytest.fixture
def ambiguous_wav(rng: np.random.Generator) -> bytes:
    """A wav file with 24 bits in four bytes; its header does not say in which three of them."""
    samples = rng.integers(-(1 << 20), 1 << 20, (1000, 2), np.int32).tobytes()
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, SAMPLE_RATE, 8 * SAMPLE_RATE, 8, 24)
    body = head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture(scope="session")
def tiny_config() -> SeparationConfig:
    """The config of the tiny model, for music at 44.1 kHz."""
    return build(TINY).config


@pytest.fixture(scope="session")
def tiny_recipe() -> list[str]:
    """Overrides that give any recipe the shape of the tiny model, batches of two, and no other processes."""
    shape = {name: value for name, value in TINY.items() if name not in ("class", "vae")}
    shape |= {f"vae.{name}": value for name, value in TINY["vae"].items()}
    return [
        *(f"model.{name}={value}".replace(" ", "") for name, value in shape.items()),
        "data.workers=0",
        "data.valid_windows=2",
        "data.mixing.batch_size=2",
        "trainer.precision=32-true",
    ]


@pytest.fixture
def tiny_model(tiny_config: SeparationConfig) -> SeparationVAE:
    """The tiny model with seeded weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(20260401)
        return SeparationVAE(tiny_config).eval()


def stir(module: torch.nn.Module, scale: float = 0.3, generator: torch.Generator | None = None) -> None:
    """Give the weights that start at zero a value, so that every path counts."""
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def stirred_model(tiny_model: SeparationVAE, generator: torch.Generator) -> SeparationVAE:
    """The tiny model, stirred so that context and levels count."""
    stir(tiny_model, 0.2, generator)
    return tiny_model


@pytest.fixture
def default_type() -> Iterator[Callable[[torch.dtype], None]]:
    """Sets the type that torch makes tensors of, which is float32 again after the test."""
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real recordings that SEPVAE_DATA names."""
    root = os.environ.get("SEPVAE_DATA")
    if not root:
        pytest.skip("SEPVAE_DATA names no folder of recordings")
    return Path(root)
