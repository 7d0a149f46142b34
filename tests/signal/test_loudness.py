"""A network hears no passage louder or softer than it is used to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepvae.signal.bands import Bands
from sepvae.signal.loudness import HIGHEST_DB, LOWEST_DB, MOST_DB, REACH, gain_control
from sepvae.signal.stft import STFT


def level_db(x: Tensor) -> float:
    return 10 * float(torch.log10(x.square().mean()))


@pytest.mark.parametrize("n_fft", [256, 1024])
@pytest.mark.parametrize(
    ("level", "heard"),
    [
        (-50, LOWEST_DB),
        (-24.5, LOWEST_DB),
        (-21, -21),
        (-10, HIGHEST_DB),
        (90, HIGHEST_DB),
        (-80, MOST_DB - 80),
    ],
)
def test_steady_noise_is_heard_within_the_range(
    n_fft: int, level: float, heard: float, generator: torch.Generator
) -> None:
    x = 10 ** (level / 20) * torch.randn(2, 400 * n_fft // 4, generator=generator)
    stft, bands = STFT(n_fft, n_fft // 4), Bands(n_fft // 2 + 1, 16, 4)
    P = bands.merge(stft(x).abs().square()).mean(0)
    gain = gain_control(P, bands.sizes, n_fft)[REACH:-REACH]
    heard_db = level_db(x) + 10 * torch.log10(gain)
    assert (heard_db - heard).abs().max() < 0.5  # what noise varies by over 2 * REACH + 1 frames


def test_a_level_that_networks_know_is_left_alone() -> None:
    P = torch.full((3, 400), 10 ** ((LOWEST_DB + HIGHEST_DB) / 20) * 128 / 9)
    assert torch.equal(gain_control(P, torch.tensor([2.0, 3.0, 4.0]), 256), torch.ones(400))


def test_a_gain_depends_on_what_is_near_alone(generator: torch.Generator) -> None:
    P = 100 * torch.rand(5, 600, generator=generator) ** 8
    sizes, gain = torch.ones(5), gain_control(P, torch.ones(5), 256)
    part = gain_control(P[:, 200 - REACH : 300 + REACH], sizes, 256)[REACH:-REACH]
    torch.testing.assert_close(part, gain[200:300])
    assert len(gain.unique()) > 100
