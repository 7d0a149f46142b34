"""Variational autoencoder of one source: a ladder of latents, and a decoder that sees nothing but them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae.errors import ShapeError
from sepvae.models.blocks import BottomUp, ChannelNorm, receptive_frames, stack, upsample
from sepvae.models.features import LevelScale, log_power, pan
from sepvae.models.latents import (
    Gaussian,
    GaussianHeads,
    Generators,
    Latents,
    Posterior,
    PosteriorHeads,
    free_bits,
    kl_divergence,
    standard_normal,
)
from sepvae.models.losses import complex_gaussian_nll, gaussian_nll

LATENT_LEVELS = (3, 1, 0)
"""Levels of the pyramid that carry latents, coarsest first: cells of (8, 2, 1) frames."""
PAN_LEVEL = 1
LEVELS = 4
FRAME_MULTIPLE = 1 << (LEVELS - 1)

Pick = Callable[[int, Callable[[], Gaussian]], Tensor]
"""Gives a level's latent; is told the level's index, and can ask for its prior, which costs time."""


@dataclass(frozen=True)
class VAEConfig:
    """Shape of a source VAE.

    Args:
        bands: number of bands N, a multiple of 8 * patch.
        patch: bands per cell of the finest level.
        latent_channels: latents per cell, coarsest level first.
        encoder_channels: channels of the encoder's four levels, finest first.
        decoder_channels: channels of the decoder's three levels, coarsest first.
        variational: False turns the KL term and the sampling off: a plain autoencoder.
        likelihood: `complex_gaussian` (variance form) or `gaussian` (fixed variance on log-magnitudes).
        gaussian_weight: C = 1 / (2 sigma^2) of the `gaussian` likelihood, > 0.
    """

    bands: int = 512
    patch: int = 4
    latent_channels: tuple[int, int, int] = (16, 8, 2)
    encoder_channels: tuple[int, int, int, int] = (24, 48, 64, 96)
    decoder_channels: tuple[int, int, int] = (96, 64, 24)
    variational: bool = True
    likelihood: str = "complex_gaussian"
    gaussian_weight: float = 2.0

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ShapeError(f"patch must be above zero, found {self.patch}")
        if self.bands % (self.patch * FRAME_MULTIPLE):
            raise ShapeError(f"bands must be a multiple of {self.patch * FRAME_MULTIPLE}, found {self.bands}")
        if self.likelihood not in ("complex_gaussian", "gaussian"):
            raise ShapeError(f"likelihood is complex_gaussian or gaussian, found {self.likelihood!r}")
        if not self.gaussian_weight > 0:
            raise ShapeError(f"gaussian_weight must be above zero, found {self.gaussian_weight}")


class LadderDecoder(nn.Module):
    """Turns latents into levels and balances from coarse to fine, and predicts each next level's prior on its way."""

    blocks = (1, 1, 1)
    context_frames = sum(
        receptive_frames([0] * level + [count]) for level, count in zip(LATENT_LEVELS, blocks, strict=True)
    )
    """Frames on each side that a decoded frame depends on."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        cells = config.bands // config.patch
        channels, latents = config.decoder_channels, config.latent_channels
        self.inputs = nn.ModuleList(nn.Conv2d(d, c, 1) for d, c in zip(latents, channels, strict=True))
        self.levels = nn.ModuleList(
            stack(c, cells >> level, n)
            for c, n, level in zip(channels, self.blocks, LATENT_LEVELS, strict=True)
        )
        self.widen = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in pairwise(channels))
        self.priors = nn.ModuleList(
            GaussianHeads(c, d, 1) for c, d in zip(channels[1:], latents[1:], strict=True)
        )
        self.norm = ChannelNorm(channels[-1])
        self.output = nn.Conv2d(channels[-1], config.patch, 1)
        self.pan_gate = nn.Conv2d(channels[LATENT_LEVELS.index(PAN_LEVEL)], 1, 1)
        self.pan_factor = config.patch << PAN_LEVEL, 1 << PAN_LEVEL
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(self, pick: Pick, coarsest: Gaussian) -> tuple[Tensor, Tensor]:
        """Run down the ladder.

        Args:
            pick: called for every level, the coarsest first, then for the pan latent.
            coarsest: prior of the coarsest level.

        Returns:
            Normalised log-variance `[B, 1, N, T]`, and balance of the channels `[B, 1, N, T]` in (-1, 1).
        """
        h = self.inputs[0](pick(0, lambda: coarsest))
        h = self.levels[0](h)
        for step in range(1, len(self.levels)):
            factor = 1 << (LATENT_LEVELS[step - 1] - LATENT_LEVELS[step])
            h = upsample(self.widen[step - 1](h), factor)
            z = pick(step, partial(self._prior, step, h))
            h = self.levels[step](h + self.inputs[step](z))
            if LATENT_LEVELS[step] == PAN_LEVEL:
                gate = self.pan_gate(h).float()  # [B, 1, F, T']
        out = self.output(functional.relu(self.norm(h))).float()  # [B, patch, F, T]
        level = out.permute(0, 2, 1, 3).flatten(1, 2).unsqueeze(1)  # [B, 1, N, T]
        balance = torch.tanh(pick(len(self.levels), lambda: standard_normal(gate)) * gate)
        bands, frames = self.pan_factor
        balance = balance.repeat_interleave(bands, 2).repeat_interleave(frames, 3)  # [B, 1, N, T]
        return level, balance

    def _prior(self, step: int, h: Tensor) -> Gaussian:
        """Prior of a finer level, from what the coarser ones have given."""
        return self.priors[step - 1](h)[0]


class SourceVAE(nn.Module):
    """Convolutional VAE of one source.

    The decoder puts out one variance per channel and band. Swapping the input's channels swaps the output's.

    Source: Kingma & Welling 2014; the variance form of Leglaive, Girin & Horaud 2018; the ladder of Sonderby et al.
    2016, with posteriors that do not depend on each other, so that a mixture's network can put them out all at once.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = LevelScale(config.bands)
        self.bottom_up = BottomUp(2, config.bands, config.patch, config.encoder_channels, (1,) * LEVELS)
        self.heads = PosteriorHeads(
            config.encoder_channels, config.patch, config.latent_channels, LATENT_LEVELS, PAN_LEVEL, 1
        )
        self.decoder = LadderDecoder(config)

    def encode(self, P: Tensor) -> Posterior:
        """Posterior of a solo.

        Args:
            P: banded power per channel.

        Shape: `[B, 2, N, T]`, T a multiple of 8.

        Raises:
            ShapeError: another shape.
        """
        if P.ndim != 4 or P.shape[1:3] != (2, self.config.bands) or P.shape[3] % FRAME_MULTIPLE:
            raise ShapeError(
                f"expected power [B, 2, {self.config.bands}, multiple of {FRAME_MULTIPLE}], found {list(P.shape)}"
            )
        balance = pan(P)
        planes = torch.cat([self.scale.normalise(log_power(P.mean(1, keepdim=True))), balance.abs()], 1)
        pyramid = self.bottom_up(planes.contiguous(memory_format=torch.channels_last))
        return self.heads(pyramid, balance)[0]

    def decode_with_priors(self, latents: Latents) -> tuple[Tensor, list[Gaussian]]:
        """Log-variance of given latents and the prior of every level, finer ones given the coarser.

        Shape: `[B, 2, N, T]`.
        """
        priors: list[Gaussian] = []

        def pick(level: int, prior: Callable[[], Gaussian]) -> Tensor:
            priors.append(prior())
            return latents[level]

        return self._run(pick, standard_normal(latents[0])), priors

    def decode(self, latents: Latents) -> Tensor:
        """Log-variance of given latents.

        Shape: `[B, 2, N, T]`.
        """
        return self._run(lambda level, prior: latents[level], standard_normal(latents[0]))

    def with_prior_means(self, latents: Latents, levels: Iterable[int]) -> Latents:
        """Latents with the mean of the prior at some levels, coarsest first, each given the coarser ones."""
        filled = list(latents)
        for level in levels:
            filled[level] = self.decode_with_priors(filled)[1][level].mean
        return filled

    def sample(
        self, frames: int, batch: int = 1, generator: Generators = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw log-variances from the prior.

        Args:
            frames: number of frames, a multiple of 8.
            temperature: factor on the standard deviation of every level's prior, >= 0.

        Shape: `[batch, 2, N, frames]`.
        """
        cells = self.config.bands // self.config.patch >> LATENT_LEVELS[0]
        shape = batch, self.config.latent_channels[0], cells, frames >> LATENT_LEVELS[0]
        coarsest = standard_normal(self.scale.mean.new_zeros(shape))
        return self._run(lambda level, prior: prior().sample(generator, temperature), coarsest)

    def _run(self, pick: Pick, coarsest: Gaussian) -> Tensor:
        level, balance = self.decoder(pick, coarsest)
        total = self.scale.restore(level)
        sides = torch.cat([torch.log1p(0.99 * balance), torch.log1p(-0.99 * balance)], 1)
        return total + sides  # [B, 2, N, T]

    def kl(self, posterior: Posterior, priors: Sequence[Gaussian], free_nats: float = 0.0) -> Tensor:
        """KL of the posterior from the ladder's prior; what lies below `free_nats` per latent counts as that much.

        Shape: `[B]`, nats.
        """
        return torch.stack(
            [free_bits(kl_divergence(q, p), free_nats) for q, p in zip(posterior.levels, priors, strict=True)]
        ).sum(0)

    def nll(
        self,
        P: Tensor,
        log_variance: Tensor,
        sizes: Tensor,
        *,
        linearise: bool = False,
        max_nats: float | None = None,
    ) -> Tensor:
        """Negative log-likelihood of a banded power.

        Args:
            linearise: see `complex_gaussian_nll`.
            max_nats: how many nats per bin above those of the best variance count at most, > 0; None: all.

        Shape: P and log_variance `[B, 2, N, T]`, sizes (bins per band) `[N]` -> `[B]`, nats.
        """
        nll = self._nll(P, log_variance, sizes, linearise)
        if max_nats is not None:
            best = self._nll(P, log_power(P), sizes, linearise)
            nll = best + torch.minimum(nll - best, max_nats * sizes[:, None])
        return nll.sum((1, 2, 3))

    def _nll(self, P: Tensor, log_variance: Tensor, sizes: Tensor, linearise: bool) -> Tensor:
        """The same of every band: `[B, 2, N, T]`."""
        if self.config.likelihood == "gaussian":
            return gaussian_nll(P, log_variance, sizes, self.config.gaussian_weight)
        return complex_gaussian_nll(P, log_variance, sizes, linearise=linearise)

    def forward(self, P: Tensor, generator: Generators = None) -> tuple[Tensor, Posterior, list[Gaussian]]:
        """Encode, draw, decode: log-variance `[B, 2, N, T]`, posterior and priors."""
        posterior = self.encode(P)
        latents = posterior.sample(generator) if self.config.variational else posterior.mean
        log_variance, priors = self.decode_with_priors(latents)
        return log_variance, posterior, priors

    def elbo(self, P: Tensor, sizes: Tensor, generator: Generators = None) -> Tensor:
        """One-sample estimate of the evidence lower bound of solos, exact likelihood and no free bits.

        Shape: P `[B, 2, N, T]`, sizes `[N]` -> `[B]`, nats.
        """
        log_variance, posterior, priors = self(P, generator)
        return -self.nll(P, log_variance, sizes) - self.kl(posterior, priors)
