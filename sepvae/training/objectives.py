"""What training minimises: settings of the optimiser and the losses, and the terms that several trainings share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sepvae.data.values import check_number
from sepvae.errors import RecipeError
from sepvae.models.latents import Generators, Posterior
from sepvae.models.vae import SourceVAE

SILENT_POWER = 1e-8
"""Mean power per bin under which an excerpt of a source counts as silent (-80 dB below full scale)."""
LOSS_WEIGHTS = ("beta", "output_db", "source_nll", "mixture_nll", "match", "solo", "contrast", "coded_db")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and one of two schedules.

    Args:
        lr: peak learning rate, > 0.
        weight_decay: >= 0.
        schedule: `linear` (constant, then a linear decay to zero over the last steps) or `cosine` (half a cosine
            from the peak to zero).
        warmup_steps, decay_steps, max_steps: optimisation steps; `cosine` has no use for `decay_steps`.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "linear"
    warmup_steps: int = 100
    decay_steps: int = 1000
    max_steps: int = 5000

    def __post_init__(self) -> None:
        if self.schedule not in ("linear", "cosine"):
            raise RecipeError(f"optim.schedule is linear or cosine, found {self.schedule!r}")
        for name in ("lr", "max_steps"):
            check_number(f"optim.{name}", getattr(self, name), above=0)
        for name in ("weight_decay", "warmup_steps", "decay_steps"):
            check_number(f"optim.{name}", getattr(self, name), least=0)

    def factor(self, step: int) -> float:
        """Learning rate at a step, as a share of the peak."""
        up = (step + 1) / max(self.warmup_steps, 1)
        if self.schedule == "cosine":
            progress = (step - self.warmup_steps) / max(self.max_steps - self.warmup_steps, 1)
            down = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        else:
            down = (self.max_steps - step) / max(self.decay_steps, 1)
        return max(min(up, down, 1.0), 0.0)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the losses; nats are per bin of the STFT, decibels as they are.

    Args:
        beta: weight of the KL, >= 0.
        beta_warmup: steps over which beta rises from zero.
        free_nats: nats per latent as which less is counted too, so that there is nothing to gain below.
        output_db: weight of the separated output's error in dB.
        source_nll: weight of the true source's NLL under the decoded posterior of the mixture.
        mixture_nll: weight of the mixture's NLL under the sum of the variances.
        match: weight of the KL from the solo's posterior to the mixture's.
        solo: weight of the solo ELBO kept while separating.
        solo_every: steps between two looks at a solo, of one source in turn, > 0.
        frozen_steps: steps with frozen decoders before all is trained jointly.
        given: which sources sound in an excerpt is known, as `present` says when separating: the silent ones are not
            decoded and take no part in the Wiener filter. Means still count every source.
        contrast: weight of the margin by which a solo's own VAE must explain it better than another source's.
        contrast_margin: this margin, nats per bin of the ELBO.
        contrast_most: nats per bin of likelihood, and of KL, that count at most in this comparison, > 0: without such
            a bound the other source's VAE learns to fail wildly.
        coded_db: weight of the VAE-oracle error in dB: this solo encoded and decoded, all other sources known.
        in_turn: train the solo encoders of one source per step, in turn, instead of all in every step.
    """

    beta: float = 0.25
    beta_warmup: int = 200
    free_nats: float = 0.02
    output_db: float = 0.3
    source_nll: float = 0.3
    mixture_nll: float = 0.1
    match: float = 0.1
    solo: float = 0.3
    solo_every: int = 2
    frozen_steps: int = 500
    given: bool = False
    contrast: float = 0.0
    contrast_margin: float = 0.5
    contrast_most: float = 3.0
    coded_db: float = 0.0
    in_turn: bool = False

    def __post_init__(self) -> None:
        for name in ("solo_every", "contrast_most"):
            check_number(f"losses.{name}", getattr(self, name), above=0)
        check_number("losses.contrast_margin", self.contrast_margin)
        for name in (*LOSS_WEIGHTS, "beta_warmup", "free_nats", "frozen_steps"):
            check_number(f"losses.{name}", getattr(self, name), least=0)
        if self.given and self.coded_db:
            raise RecipeError("losses.coded_db does not go with losses.given=true")


class SoloTerms(NamedTuple):
    """The parts of the ELBO of solos in nats per bin of the STFT, and what was drawn.

    Shape: nll and kl `[B]`, log_variance `[B, 2, N, T]`.
    """

    nll: Tensor
    kl: Tensor
    posterior: Posterior
    log_variance: Tensor


def solo_terms(vae: SourceVAE, P: Tensor, sizes: Tensor, free_nats: float, noise: Generators) -> SoloTerms:
    """The two terms of the negative ELBO of solos.

    Shape: P `[B, 2, N, T]`, sizes (bins per band) `[N]`.
    """
    log_variance, posterior, priors = vae(P, noise)
    bins = bins_of(P, sizes)
    nll = vae.nll(P, log_variance, sizes, linearise=True) / bins
    return SoloTerms(nll, vae.kl(posterior, priors, free_nats) / bins, posterior, log_variance)


def bounded_elbo(vae: SourceVAE, P: Tensor, sizes: Tensor, max_nats: float, solo: SoloTerms) -> Tensor:
    """The ELBO of solos, with the likelihood of a bin cut off `max_nats` nats below its best, and the KL at as many.

    Shape: P `[B, 2, N, T]`, sizes `[N]` -> `[B]`, nats per bin.
    """
    nll = vae.nll(P, solo.log_variance, sizes, linearise=True, max_nats=max_nats) / bins_of(P, sizes)
    return -(nll + solo.kl.clamp(max=max_nats))


def margin_shortfall(lead: Tensor, margin: float) -> Tensor:
    """By how much the lead of a solo's own VAE over another source's falls short of a margin.

    A VAE that likes the solos of every source is no prior for its own; this keeps them apart.

    Shape: lead, of one ELBO over the other, `[B]` -> `[B]`, nats per bin, 0 where the margin is kept.
    """
    return (margin - lead).clamp(min=0)


def bins_of(P: Tensor, sizes: Tensor) -> float:
    """Number of STFT bins in one excerpt of a banded power `[B, 2, N, T]`, to turn nats into nats per bin."""
    return 2 * float(sizes.sum()) * P.shape[-1]


@dataclass
class Targets:
    """Banded statistics of a batch; C is 2, or 1 for a mono batch.

    Args:
        order: which sources these are in every excerpt, if not all in the model's order.

    Shape: P_mix `[B, 2, N, T]`, P_side `[B, N, T]`, P and cross `[B, K, C, N, T]`, order `[B, K]`.
    """

    P_mix: Tensor
    P_side: Tensor
    P: Tensor
    cross: Tensor
    order: Tensor | None = None

    @property
    def channels(self) -> int:
        """Number of channels: 2, or 1 for a mono batch."""
        return self.P.shape[2]

    def solo(self, k: int) -> Tensor:
        """Power of source k, `[B, 2, N, T]`, where all sources are in the model's order."""
        return self.P[:, k].expand(-1, 2, -1, -1)

    @property
    def sounds(self) -> Tensor:
        """Which of the sources here are not silent, `[B, K]`."""
        return self.P.mean((2, 3, 4)) > SILENT_POWER

    def present(self, count: int) -> Tensor:
        """Which of the model's `count` sources sound, in its own order: `[B, count]` of 0 and 1."""
        if self.order is None:
            return self.sounds.float()
        return self.P.new_zeros(len(self.P), count).scatter_(1, self.order, self.sounds.to(self.P.dtype))

    def sounding(self, k: int) -> tuple[Tensor, Tensor]:
        """Excerpts in which source k is not silent, and its place among the sources there: `[M]`, `[M]`."""
        sounds = self.sounds
        order = torch.arange(sounds.shape[1], device=sounds.device) if self.order is None else self.order
        rows, places = torch.nonzero(sounds & (order == k), as_tuple=True)
        return rows, places


def tone_weights(n_fft: int, sample_rate: int, points: Tensor) -> Tensor:
    """Weights that interpolate factors at some frequencies over all bins.

    Shape: points (hertz, ascending) `[M]` -> `[F, M]`.
    """
    bins = torch.fft.rfftfreq(n_fft, 1 / sample_rate)
    right = torch.searchsorted(points, bins, right=True).clamp(1, len(points) - 1)
    share = (bins - points[right - 1]) / (points[right] - points[right - 1])
    weights = torch.zeros(len(bins), len(points))
    weights[torch.arange(len(bins)), right - 1] = 1 - share
    weights[torch.arange(len(bins)), right] = share
    return weights
