"""Wiener filter from log-variances: a softmax over the sources."""

from __future__ import annotations

import math

import torch
from torch import Tensor

VARIANCE_FLOOR = 1e-10
"""Smallest variance, in the STFT's units of white-noise power (-100 dB below full scale): silence stays finite."""


def masks(log_variance: Tensor, floor: float = VARIANCE_FLOOR) -> Tensor:
    """Share of each source in the variance of the mixture.

    Where all variances lie far below the floor, every source gets `1 / K`.

    Args:
        log_variance: natural logarithm of the variances, or that times an exponent, and the floor is then one of
            variances with this exponent.
        floor: variance added to each source, > 0.

    Shape: log_variance `[B, K, ...]` -> `[B, K, ...]`, which sums to one over axis 1.

    Source: the softmax form of v_k / sum_j v_j.
    """
    log_floor = torch.tensor(math.log(floor), dtype=log_variance.dtype, device=log_variance.device)
    return torch.softmax(torch.logaddexp(log_variance, log_floor), dim=1)
