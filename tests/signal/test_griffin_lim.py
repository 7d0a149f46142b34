"""Phases that are found fit the magnitudes."""

from __future__ import annotations

import pytest
import torch

from sepvae.errors import ShapeError
from sepvae.signal.griffin_lim import griffin_lim
from sepvae.signal.stft import STFT

LENGTH = 4000


@pytest.fixture
def stft() -> STFT:
    return STFT(256, 64)


@pytest.fixture
def chirp() -> torch.Tensor:
    """Two channels of a rising tone, the right one softer. `[2, L]`."""
    time = torch.arange(LENGTH) / 8000
    tone = torch.sin(2 * torch.pi * (300 * time + 800 * time**2))
    return torch.stack([tone, 0.5 * tone])


def misfit(stft: STFT, x: torch.Tensor, magnitude: torch.Tensor) -> float:
    return float((stft(x).abs() - magnitude).norm() / magnitude.norm())


def test_more_steps_fit_better(stft: STFT, chirp: torch.Tensor) -> None:
    magnitude = stft(chirp).abs()
    found = [
        misfit(stft, griffin_lim(stft, magnitude, LENGTH, iterations=n, generator=seeded()), magnitude)
        for n in (0, 8, 64)
    ]
    assert found[0] > 0.4
    assert found[1] < 0.6 * found[0]
    assert found[2] < 0.15


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_channels_share_their_phases(stft: STFT, chirp: torch.Tensor) -> None:
    x = griffin_lim(stft, stft(chirp).abs(), LENGTH, iterations=4, generator=seeded())
    torch.testing.assert_close(x[1], 0.5 * x[0], atol=1e-4, rtol=0)


def test_a_seed_gives_the_same_signal_and_another_seed_another(stft: STFT, chirp: torch.Tensor) -> None:
    magnitude = stft(chirp).abs()
    one, same, other = (
        griffin_lim(stft, magnitude, LENGTH, iterations=2, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)


def test_silence_stays_silent_and_wrong_arguments_are_refused(stft: STFT) -> None:
    nothing = torch.zeros(2, 129, stft.frames(LENGTH))
    assert not griffin_lim(stft, nothing, LENGTH, generator=seeded()).any()
    for magnitude, options in ((nothing[0], {}), (nothing, {"iterations": -1}), (nothing, {"momentum": 1.0})):
        with pytest.raises(ShapeError):
            griffin_lim(stft, magnitude, LENGTH, **options)
