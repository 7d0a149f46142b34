"""Likelihoods of spectrograms and the loss of a separated output, all on banded powers.

Every band counts as often as it has bins, so the sums over bands are those over the bins of the STFT.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sepvae.models.features import log_power

LINEAR_FROM = 2.0
"""Where log P - log v exceeds this, training continues the exponential as a straight line."""
FLOOR = 3e-3
"""Share of the mixture's energy that is added to an output's error and its reference, so that silent sources count."""


def complex_gaussian_nll(
    P: Tensor, log_variance: Tensor, sizes: Tensor, *, linearise: bool = False
) -> Tensor:
    """Negative log-likelihood of S ~ N_c(0, v): log v + |S|^2 / v, the Itakura-Saito divergence up to a constant.

    Args:
        P: power |S|^2, averaged over each band.
        log_variance: log v per band.
        sizes: bins per band.
        linearise: continue the exponential linearly where v is far too small, so that the first steps do not explode.

    Shape: P and log_variance `[..., N, T]`, sizes `[N]` -> `[..., N, T]`, nats without the constant log(pi).

    Source: Fevotte, Bertin & Durrieu 2009.
    """
    excess = log_power(P) - log_variance
    if linearise:
        bend = torch.exp(excess.clamp(max=LINEAR_FROM))
        ratio = bend * (1 + (excess - LINEAR_FROM).clamp(min=0))
    else:
        ratio = torch.exp(excess)
    return sizes[:, None] * (log_variance + ratio)


def gaussian_nll(P: Tensor, log_variance: Tensor, sizes: Tensor, weight: float) -> Tensor:
    """Fixed-variance Gaussian on log-magnitudes: C (x - x^)^2 with x = log|S| and x^ = log(v) / 2.

    Args:
        weight: C = 1 / (2 sigma^2), > 0.

    Shape: as `complex_gaussian_nll`.
    """
    return sizes[:, None] * weight * torch.square(0.5 * (log_power(P) - log_variance))


def output_error_db(M: Tensor, P_mix: Tensor, P: Tensor, cross: Tensor, sizes: Tensor) -> Tensor:
    """Error of masked sources relative to the sources, in decibels, without leaving the band domain.

    With one mask per band the squared error sum |M X - S|^2 needs only the banded |X|^2, |S|^2 and Re(X S*).

    Args:
        M: masks.
        P_mix: banded |X|^2.
        P: banded |S|^2.
        cross: banded Re(X S*).
        sizes: bins per band.

    Shape: M, P, cross `[B, K, C, N, T]`, P_mix `[B, C, N, T]`, sizes `[N]` -> `[B, K]`.
    """
    P_mix = P_mix.unsqueeze(1)
    error = M.square() * P_mix - 2 * M * cross + P
    energy = (sizes[:, None] * P).sum((2, 3, 4))  # [B, K]
    margin = FLOOR * (sizes[:, None] * P_mix).sum((2, 3, 4)) + 1e-6  # [B, 1]
    distance = (sizes[:, None] * error).sum((2, 3, 4)).clamp(min=0)  # [B, K]
    return 10 * torch.log10((distance + margin) / (energy + margin))
