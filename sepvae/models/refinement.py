"""Posteriors of solos brought closer to the optimum than an encoder alone brings them."""

from __future__ import annotations

import torch
from torch import Tensor

from sepvae.models.latents import Gaussian, Posterior, kl_divergence
from sepvae.models.vae import SourceVAE

LEARNING_RATE = 0.05
BETA = 0.25
"""Weight of the KL, the one that the recipes train with (`losses.beta`)."""


def refine(
    vae: SourceVAE,
    P: Tensor,
    posterior: Posterior,
    sizes: Tensor,
    *,
    steps: int,
    autocast: torch.dtype | None = None,
) -> Posterior:
    """Move the means of a solo's posterior by some steps of Adam on what training maximises, taken at the means.

    An encoder has to serve all solos at once; what it leaves to be gained for a single one is the amortisation gap.
    This is for solos alone: a mixture's latents gain nothing by it (docs/refinement.md).

    Args:
        vae: of the source; its weights stay as they are.
        P: banded power.
        posterior: of its encoder.
        sizes: bins per band.
        steps: > 0.
        autocast: type that the decoder computes in; None for that of its weights.

    Shape: P `[B, 2, N, T]`, sizes `[N]` -> the same posterior with other means.

    Source: Kim et al. 2018, "Semi-amortized variational autoencoders".
    """
    kind = P.device.type
    with torch.inference_mode(False), torch.enable_grad():
        P, sizes = P.clone(), sizes.clone()
        means = [level.mean.detach().clone().requires_grad_() for level in posterior.levels]
        log_sds = [level.log_sd.detach().clone() for level in posterior.levels]
        optimizer = torch.optim.Adam(means, lr=LEARNING_RATE)
        for _ in range(steps):
            with torch.autocast(kind, autocast, enabled=autocast is not None):
                log_variance, priors = vae.decode_with_priors(means)
            nll = vae.nll(P, log_variance.float(), sizes, linearise=True)
            latents = zip(means, log_sds, priors, strict=True)
            kl = torch.stack([kl_divergence(Gaussian(m, s), p).sum() for m, s, p in latents]).sum()
            gradients = torch.autograd.grad((nll.sum() + BETA * kl) / P.shape[-1], means)
            for mean, gradient in zip(means, gradients, strict=True):
                mean.grad = gradient
            with torch.device("cpu"):  # where it counts its steps, whatever torch's default device is
                optimizer.step()
    levels = zip(means, log_sds, strict=True)
    return Posterior(tuple(Gaussian(mean.detach(), log_sd) for mean, log_sd in levels))
