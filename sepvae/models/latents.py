"""Diagonal Gaussian posteriors over a ladder of latents, and their divergences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae.models.blocks import ChannelNorm

Latents = list[Tensor]
"""One `[B, D_l, F_l, T_l]` per level, coarsest first, then the pan latent."""

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a batch, or one for each of its rows, so that a part of it draws what the whole would."""


def normal_like(x: Tensor, generators: Generators) -> Tensor:
    """Standard normal numbers in the shape of `x`.

    Shape: `[B, ...]`, with one generator or B of them.
    """
    if generators is None or isinstance(generators, torch.Generator):
        return torch.randn(x.shape, generator=generators, dtype=x.dtype, device=x.device)
    rows = [torch.randn(x.shape[1:], generator=row, dtype=x.dtype, device=x.device) for row in generators]
    return torch.stack(rows)


@dataclass(frozen=True)
class Gaussian:
    """Diagonal normal distribution.

    Shape: mean and log_sd `[B, D, F, T]`.
    """

    mean: Tensor
    log_sd: Tensor

    def sample(self, generator: Generators = None, temperature: float = 1.0) -> Tensor:
        """Reparametrised draw `[B, D, F, T]`, with the standard deviation scaled by `temperature`."""
        return self.mean + temperature * normal_like(self.mean, generator) * self.log_sd.exp()

    def detach(self) -> Gaussian:
        """The same distribution without gradients."""
        return Gaussian(self.mean.detach(), self.log_sd.detach())


def standard_normal(like: Tensor) -> Gaussian:
    """N(0, I) in the shape of `like`."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of every latent, in nats.

    Shape: `[B, D, F, T]`, agrees with `torch.distributions.kl_divergence`.
    """
    ratio = torch.exp(2 * (q.log_sd - p.log_sd))
    distance = torch.square((q.mean - p.mean) * torch.exp(-p.log_sd))
    return 0.5 * (ratio + distance - 1) - (q.log_sd - p.log_sd)


@dataclass(frozen=True)
class Posterior:
    """Posterior of one source over its whole ladder, coarsest level first, then the pan latent."""

    levels: tuple[Gaussian, ...]

    @property
    def mean(self) -> Latents:
        """The most likely latents."""
        return [level.mean for level in self.levels]

    def sample(self, generator: Generators = None) -> Latents:
        """Reparametrised draw of every level."""
        return [level.sample(generator) for level in self.levels]

    def rows(self, index: Tensor) -> Posterior:
        """The posterior of some rows of the batch: index `[M]`."""
        return Posterior(tuple(Gaussian(level.mean[index], level.log_sd[index]) for level in self.levels))

    def detach(self) -> Posterior:
        """The same posterior without gradients."""
        return Posterior(tuple(level.detach() for level in self.levels))


def divergence(q: Posterior, p: Posterior) -> Tensor:
    """KL(q || p) summed over all latents.

    Shape: `[B]`, nats.
    """
    return torch.stack(
        [kl_divergence(a, b).sum((1, 2, 3)) for a, b in zip(q.levels, p.levels, strict=True)]
    ).sum(0)


def bounded_log_sd(x: Tensor) -> Tensor:
    """Keeps a log standard deviation within (-6, 2), smoothly."""
    return -2 + 4 * torch.tanh((x + 2) / 4)


class GaussianHeads(nn.Module):
    """Mean and standard deviation of the latents of `sources` sources, from a map of features.

    Args:
        channels: channels D of the features.
        latent_channels: latents per cell.
        sources: number of sources.
        initial_log_sd: about where the log standard deviations start, before `bounded_log_sd`.

    Shape: `[B, D, F, T]` -> one Gaussian `[B, latent_channels, F, T]` per source, in float32.
    """

    def __init__(
        self, channels: int, latent_channels: int, sources: int, initial_log_sd: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.project = nn.Conv2d(channels, sources * 2 * latent_channels, 1)
        self.latent_channels = latent_channels
        with torch.no_grad():
            log_sds = self.project.bias.unflatten(0, (sources, 2, latent_channels))[:, 1]  # type: ignore[union-attr]
            log_sds += initial_log_sd

    def forward(self, x: Tensor) -> list[Gaussian]:
        out = self.project(functional.relu(self.norm(x))).float()  # [B, K * 2 * D, F, T]
        parts = out.split(self.latent_channels, dim=1)
        return [Gaussian(m, bounded_log_sd(s)) for m, s in zip(parts[::2], parts[1::2], strict=True)]


class PanHeads(nn.Module):
    """Posterior of the pan latents, whose means change sign with the input's pan.

    Every layer on the way of the pan is free of biases and odd; features that do not change with the order of the
    channels only scale it.

    Args:
        channels: channels of the features.
        patch: bands and frames per cell of the features.
        sources: number of sources.

    Shape: pan `[B, 1, N, T]`, features `[B, D, F, T']` -> one Gaussian `[B, 1, F, T']` per source, in float32.
    """

    hidden = 16

    def __init__(self, channels: int, patch: tuple[int, int], sources: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, self.hidden, patch, stride=patch, bias=False)
        self.gates = nn.Conv2d(channels, sources * (self.hidden + 1), 1)
        self.smooth = nn.Conv2d(self.hidden, self.hidden, 3, padding=1, bias=False)
        self.sources = sources

    def forward(self, pan: Tensor, features: Tensor) -> list[Gaussian]:
        odd = self.smooth(self.embed(pan))  # [B, H, F, T']
        gates, log_sds = self.gates(features).float().tensor_split([self.sources * self.hidden], dim=1)
        gates = gates.unflatten(1, (self.sources, self.hidden))  # [B, K, H, F, T']
        means = (odd.float().unsqueeze(1) * torch.tanh(gates)).sum(2, keepdim=True)  # [B, K, 1, F, T']
        log_sds = bounded_log_sd(log_sds)
        return [Gaussian(means[:, k], log_sds[:, k : k + 1]) for k in range(self.sources)]


INITIAL_LOG_SD = -2.0
"""Initial log standard deviation. With wide posteriors the sampling noise hides the mean, and the decoder learns to
ignore the latents."""


class PosteriorHeads(nn.Module):
    """Posteriors of all sources from a pyramid of features.

    Args:
        channels: channels of the pyramid, finest first.
        patch: bands per cell of the finest level.
        latent_channels: latents per cell at the ladder's levels, coarsest first.
        latent_levels: level of the pyramid of each of these.
        pan_level: level of the pyramid of the pan latent.
        sources: number of sources.

    Shape: pyramid (finest first), pan `[B, 1, N, T]` -> one `Posterior` per source.
    """

    def __init__(
        self,
        channels: Sequence[int],
        patch: int,
        latent_channels: Sequence[int],
        latent_levels: Sequence[int],
        pan_level: int,
        sources: int,
    ) -> None:
        super().__init__()
        self.latent_levels, self.pan_level = tuple(latent_levels), pan_level
        self.heads = nn.ModuleList(
            GaussianHeads(channels[level], d, sources, INITIAL_LOG_SD)
            for level, d in zip(latent_levels, latent_channels, strict=True)
        )
        self.pan_heads = PanHeads(channels[pan_level], (patch << pan_level, 1 << pan_level), sources)

    def forward(self, pyramid: Sequence[Tensor], pan: Tensor) -> list[Posterior]:
        levels = [head(pyramid[level]) for head, level in zip(self.heads, self.latent_levels, strict=True)]
        levels.append(self.pan_heads(pan, pyramid[self.pan_level]))
        return [Posterior(levels_of_source) for levels_of_source in zip(*levels, strict=True)]


def free_bits(kl: Tensor, nats: float) -> Tensor:
    """Sum of a divergence with at least `nats` counted per channel, so that no channel of the ladder is given up.

    Args:
        kl: nats of every latent.
        nats: free nats per latent, averaged over the cells of a channel, >= 0.

    Shape: `[B, D, F, T]` -> `[B]`.

    Source: Kingma et al. 2016, eq. 15, with the minimum taken per channel and recording.
    """
    cells = math.prod(kl.shape[2:])
    return kl.mean((2, 3)).clamp(min=nats).sum(1) * cells
