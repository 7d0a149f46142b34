"""How a network hears a recording that its training had no like of, although it holds nothing new.

Such are recordings that are too soft or too loud, in one channel alone, or with one channel upside down. What is
changed is the power that a network looks at, never the signal. All is decided frame by frame, from frames nearby, so
it does not depend on how a signal is cut into chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LOWEST_DB, HIGHEST_DB = -24.0, -18.0
"""Mean powers between which a network hears a mixture, dB below full scale: those of most of its training."""
MOST_DB = 40.0
"""A passage is raised by so much at the most, so that noise near silence stays soft."""
REACH = 64
"""Frames on each side that count for what is decided at one of them."""
SILENT = 1e-3
"""A channel whose power is less than this share of the other's is taken for silent."""
INVERTED = 2.0
"""A channel is taken for inverted where the channels' difference has more than so many times the power of their sum."""
_FLOOR = 1e-20


def heard(P: Tensor, P_side: Tensor, sizes: Tensor, n_fft: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a network should hear of a mixture's banded powers, and the gain on power that is in it.

    Args:
        P, P_side: power of the channels and of half their difference, of an STFT whose window has unit energy.
        sizes: bins per band.
        n_fft: of the STFT, samples.

    Shape: P `[2, N, T]`, P_side `[N, T]`, sizes `[N]` -> the same two, and gains `[T]`.
    """
    P, P_side = without_silent_channel(P, P_side, sizes)
    P_side = without_inverted_channel(P, P_side, sizes)
    gain = level_gain(P, sizes, n_fft)
    return gain * P, gain * P_side, gain


def without_silent_channel(P: Tensor, P_side: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """A recording in one channel alone as mono of the same power.

    Shape: P `[2, N, T]`, P_side `[N, T]`, sizes `[N]` -> the same two.
    """
    left, right = around(sizes @ P)
    silent = torch.minimum(left, right) < SILENT * torch.maximum(left, right)  # [T]
    return torch.where(silent, P.mean(0), P), torch.where(silent, 0.0, P_side)


def without_inverted_channel(P: Tensor, P_side: Tensor, sizes: Tensor) -> Tensor:
    """The power of half the channels' difference, or of half their sum where one of them seems to be inverted.

    Shape: P `[2, N, T]`, P_side `[N, T]`, sizes `[N]` -> `[N, T]`.
    """
    P_middle = (P.mean(0) - P_side).clamp(min=0)
    inverted = around(sizes @ P_side) > INVERTED * around(sizes @ P_middle)  # [T]
    return torch.where(inverted, P_middle, P_side)


def level_gain(P: Tensor, sizes: Tensor, n_fft: int) -> Tensor:
    """Gains on the power of every frame: 1 where the level around it is one that networks know.

    Shape: P `[2, N, T]`, sizes `[N]` -> `[T]`.
    """
    level = around(2 / n_fft * (sizes @ P.mean(0)))  # mean square of the samples
    lowest, highest, most = (10 ** (db / 10) for db in (LOWEST_DB, HIGHEST_DB, MOST_DB))
    return (level.clamp(lowest, highest) / level.clamp(min=_FLOOR)).clamp(max=most)


def around(x: Tensor) -> Tensor:
    """Mean over every frame and `REACH` others to both sides, fewer of them at the ends.

    Shape: `[..., T]` -> the same.
    """
    flat = x.reshape(1, -1, x.shape[-1])
    mean = functional.avg_pool1d(flat, 2 * REACH + 1, stride=1, padding=REACH, count_include_pad=False)
    return mean.reshape(x.shape)
