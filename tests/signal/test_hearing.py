"""A network hears no passage louder or softer than it is used to, and none in one channel or with one inverted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepvae.signal.bands import Bands
from sepvae.signal.hearing import HIGHEST_DB, LOWEST_DB, MOST_DB, REACH, heard
from sepvae.signal.stft import STFT

N_FFT, HOP = 256, 64
BANDS = Bands(N_FFT // 2 + 1, 16, 4)


def powers(x: Tensor) -> tuple[Tensor, Tensor]:
    """Banded powers of the channels and of half their difference: `[2, N, T]`, `[N, T]`."""
    X = STFT(N_FFT, HOP)(x)
    return BANDS.merge(X.abs().square()), BANDS.merge(((X[0] - X[1]) / 2).abs().square())


def heard_of(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return heard(*powers(x), BANDS.sizes, N_FFT)


@pytest.fixture
def noise(generator: torch.Generator) -> Tensor:
    """Two channels that have some of their sound in common, at -21 dBFS. `[2, L]`."""
    x = torch.randn(2, 400 * HOP, generator=generator) + torch.randn(400 * HOP, generator=generator)
    return x * 10 ** (-21 / 20) / x.square().mean().sqrt()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (-50, LOWEST_DB),
        (-24.5, LOWEST_DB),
        (-21, -21),
        (-10, HIGHEST_DB),
        (90, HIGHEST_DB),
        (-80, MOST_DB - 80),
    ],
)
def test_steady_noise_is_heard_within_the_range(level: float, expected: float, noise: Tensor) -> None:
    P, P_side, gain = heard_of(10 ** ((level + 21) / 20) * noise)
    steady = slice(REACH, -REACH)
    heard_db = 10 * torch.log10(2 / N_FFT * (BANDS.sizes @ P.mean(0))[steady].mean())
    assert abs(float(heard_db) - expected) < 0.2  # what noise varies by
    plain, plain_side = powers(noise)
    share = P_side.sum(0)[steady] / P.sum((0, 1))[steady]
    torch.testing.assert_close(share, plain_side.sum(0)[steady] / plain.sum((0, 1))[steady])
    torch.testing.assert_close(gain * powers(10 ** ((level + 21) / 20) * noise)[0], P)


def test_what_networks_know_is_left_alone(noise: Tensor) -> None:
    P, P_side = powers(noise)
    for found, expected in zip(heard_of(noise), (P, P_side, torch.ones(P.shape[-1])), strict=True):
        assert torch.equal(found, expected)


def test_an_inverted_channel_is_heard_upright(noise: Tensor) -> None:
    inverted = noise * torch.tensor([[1.0], [-1.0]])
    for found, expected in zip(heard_of(inverted), heard_of(noise), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("channel", [0, 1])
def test_a_recording_in_one_channel_is_heard_as_mono(channel: int, noise: Tensor) -> None:
    alone = torch.zeros_like(noise)
    alone[channel] = noise[channel]
    both = noise[channel].expand(2, -1) / 2**0.5
    for found, expected in zip(heard_of(alone), heard_of(both), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_what_is_heard_depends_on_what_is_near_alone(generator: torch.Generator) -> None:
    P = torch.rand(2, 5, 900, generator=generator) ** 8
    P[0, :, 300:600] *= 1e-6
    P_side = P.mean(0) * torch.rand(1, 900, generator=generator)
    sizes, near = torch.ones(5), slice(300 - REACH, 700 + REACH)
    whole, part = heard(P, P_side, sizes, 256), heard(P[..., near], P_side[..., near], sizes, 256)
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(b[..., REACH:-REACH], a[..., 300:700])
    assert (whole[2] != 1).any()
    assert (whole[1] == 0).any()
