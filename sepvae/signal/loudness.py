"""The level at which a network hears a recording, whatever level the recording has."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

LOWEST_DB, HIGHEST_DB = -24.0, -18.0
"""Mean powers between which a network hears a mixture, dB below full scale: those of most of its training."""
REACH = 64
"""Frames on each side that count for the level at one of them."""
MOST_DB = 40.0
"""A passage is raised by so much at the most, so that noise near silence stays soft."""
_SILENCE = 1e-20


def gain_control(P: Tensor, sizes: Tensor, n_fft: int) -> Tensor:
    """Gains on the power of every frame: 1 where the level around it is one that networks know.

    Args:
        P: banded power of the mixture, mean of the channels, of an STFT whose window has unit energy.
        sizes: bins per band.
        n_fft: of the STFT, samples.

    Shape: P `[N, T]`, sizes `[N]` -> `[T]`.
    """
    power = 2 / n_fft * (sizes @ P)  # [T], mean square of the samples
    width = 2 * REACH + 1
    around = functional.avg_pool1d(power[None], width, stride=1, padding=REACH, count_include_pad=False)[0]
    lowest, highest, most = (10 ** (db / 10) for db in (LOWEST_DB, HIGHEST_DB, MOST_DB))
    return (around.clamp(lowest, highest) / around.clamp(min=_SILENCE)).clamp(max=most)
