"""How much a mixture looks like a hit: broad in frequency and short in time.

A hit is as loud as its neighbours in frequency and louder than its neighbours in time; a held note is the other way
round. This holds for drums of every make, also where a model has never heard their like.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

REACH = 8
"""Bands and frames on each side that are looked at."""
FLOOR = 1e-8
"""Power of a noise that is always there (-80 dB below full scale): silence is no evidence."""
LIMIT = 2.0
"""Bound of the evidence on both sides, nepers of power."""


def percussiveness(P: Tensor) -> Tensor:
    """Mean log-power of the neighbours in frequency less that of the neighbours in time.

    Args:
        P: banded power of the mixture; channels are averaged.

    Shape: P `[C, N, T]` -> `[N, T]`, nepers of power from -LIMIT to LIMIT.

    Source: the harmonic-percussive separation of Fitzgerald 2010, with means of the logarithm for its medians.
    """
    level = torch.log(P.mean(0) + FLOOR)  # [N, T]
    over_time = neighbours(level)
    over_frequency = neighbours(level.T).T
    return (over_frequency - over_time).clamp(-LIMIT, LIMIT)


def neighbours(x: Tensor) -> Tensor:
    """Mean over `REACH` values to both sides along the last axis, less of them at the ends.

    Shape: `[M, T]` -> the same.
    """
    return functional.avg_pool1d(
        x.unsqueeze(0), 2 * REACH + 1, stride=1, padding=REACH, count_include_pad=False
    ).squeeze(0)
