"""What the networks see of a stereo spectrogram: level, width and pan, split by their symmetry between the channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sepvae.signal.wiener import VARIANCE_FLOOR

LEVEL_SCALE = 3.0
"""Natural-log units of level that the networks see as one."""


class LevelScale(nn.Module):
    """Maps log-powers to network units and back, around a fixed mean level per band taken from the training data.

    Args:
        bands: number of bands N.
    """

    mean: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((bands,), math.log(1e-5)))

    def normalise(self, log_power: Tensor) -> Tensor:
        """Shape: `[..., N, T]` -> the same, about zero mean and unit standard deviation."""
        return (log_power - self.mean[:, None]) / LEVEL_SCALE

    def restore(self, x: Tensor) -> Tensor:
        """Undo `normalise`: `[..., N, T]` -> the same."""
        return x * LEVEL_SCALE + self.mean[:, None]


def log_power(P: Tensor) -> Tensor:
    """Natural logarithm of a power of any shape with the variance floor added, finite on silence."""
    return torch.log(P + VARIANCE_FLOOR)


def pan(P: Tensor) -> Tensor:
    """Balance between left and right in [-1, 1]; it changes sign when the channels are swapped.

    Shape: P `[B, 2, N, T]` -> `[B, 1, N, T]`.
    """
    left, right = P[:, :1], P[:, 1:]
    return (left - right) / (left + right + 2 * VARIANCE_FLOOR)


def width(P: Tensor, P_side: Tensor) -> Tensor:
    """Share of the power that lies in the difference of the channels, in [0, 1]; a swap of them does not change it.

    Shape: P `[B, 2, N, T]`, P_side (power of half the difference) `[B, N, T]` -> `[B, 1, N, T]`.
    """
    total = P.mean(1)
    return (P_side / (total + VARIANCE_FLOOR)).unsqueeze(1)
