"""Small songs whose sources are easy to tell apart, and a small model that has learned to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sepvae.data.corpora import write_track
from sepvae.models.separation import SeparationConfig, SeparationVAE

RATE = 8000
SECONDS = 21


def stems(seconds: float, seed: int) -> dict[str, np.ndarray]:
    """Drums: bursts over all bins; bass and other: a low and a high band of noise, on and off. `[2, L]` each."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hertz = np.fft.rfftfreq(time.size, 1 / RATE)

    def band(low: float, high: float) -> np.ndarray:
        spectrum = np.fft.rfft(rng.standard_normal(time.size)) * ((hertz >= low) & (hertz < high))
        return np.fft.irfft(spectrum, time.size)

    def gate(rate: float) -> np.ndarray:
        return np.sin(2 * np.pi * (rate * time + rng.random())) > 0

    drums = 0.3 * np.exp(-((time * 2 + rng.random()) % 1) * 12) * rng.standard_normal((2, time.size))
    bass = 0.3 * band(50, 500) * gate(0.7) * np.array([[1.0], [0.7]])
    other = 0.2 * band(800, 2500) * gate(0.9) * np.array([[0.6], [1.0]])
    return {
        "drums": drums.astype(np.float32),
        "bass": bass.astype(np.float32),
        "other": other.astype(np.float32),
    }


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs without vocals, 21 s each, in the stems layout."""
    root = tmp_path_factory.mktemp("songs")
    for i in range(2):
        write_track(root / f"song{i}", stems(SECONDS, seed=i), RATE, {})
    return root


@pytest.fixture(scope="session")
def small_config(tiny_config: SeparationConfig) -> SeparationConfig:
    return dataclasses.replace(tiny_config, sample_rate=RATE, n_fft=512, hop_length=128, band_width=15)


@pytest.fixture(scope="session")
def taught_model(small_config: SeparationConfig) -> SeparationVAE:
    """A model that has seen a little of such songs; it is shared, so leave its weights alone."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = SeparationVAE(small_config)
    audio = stems(3, seed=7)
    silence = np.zeros_like(audio["drums"])
    S = model.stft(torch.from_numpy(np.stack([audio.get(s, silence) for s in small_config.sources])))[None]
    X = S.sum(1)  # [1, 2, F, T]
    optimizer = torch.optim.Adam(model.mixture.parameters(), lr=1e-2)
    optimizer.add_param_group(
        {"params": [p for vae in model.vaes.values() for p in vae.decoder.parameters()]}
    )
    for _ in range(80):
        loss = (model.separate_frames(X) - S).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)
