"""A signal for magnitudes without phases."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sepvae.errors import ShapeError
from sepvae.signal.stft import STFT


def griffin_lim(
    stft: STFT,
    magnitude: Tensor,
    length: int,
    *,
    iterations: int = 32,
    momentum: float = 0.99,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Find a signal whose STFT has about these magnitudes, from random phases that all channels share.

    Args:
        stft: the transform.
        magnitude: wanted |S|, >= 0.
        length: samples of the signal.
        iterations: int >= 0; none leaves the random phases.
        momentum: how far each step is carried on, in [0, 1); 0 is the method of Griffin and Lim itself.
        generator: gives the first phases, on the CPU so that a seed means the same everywhere.

    Shape: magnitude `[C, F, T]`, T = stft.frames(length) -> `[C, L]`.

    Raises:
        ShapeError: another rank, or a value out of its range.

    Source: Perraudin, Balazs & Sondergaard 2013, "A fast Griffin-Lim algorithm".
    """
    if magnitude.ndim != 3 or iterations < 0 or not 0 <= momentum < 1:
        raise ShapeError("expected magnitudes [C, F, T], iterations >= 0 and 0 <= momentum < 1")
    phase = (
        2 * math.pi * torch.rand(magnitude.shape[1:], generator=generator, dtype=torch.float32, device="cpu")
    )
    angle = torch.polar(torch.ones_like(phase), phase).to(magnitude.device).expand(magnitude.shape)
    previous = torch.zeros_like(angle)
    for _ in range(iterations):
        consistent = stft(stft.inverse(magnitude * angle, length))  # [C, F, T]
        ahead = consistent + momentum * (consistent - previous)
        angle = ahead / ahead.abs().clamp(min=1e-16)
        previous = consistent
    return stft.inverse(magnitude * angle, length)
