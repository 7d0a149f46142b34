"""The mixture's network: one trunk over its spectrogram, with heads for posteriors or for masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae.models.blocks import ChannelNorm, UNet, receptive_frames, stack
from sepvae.models.features import LevelScale, log_power, pan, width
from sepvae.models.latents import Posterior, PosteriorHeads
from sepvae.models.vae import LATENT_LEVELS, PAN_LEVEL

PLANES = 3


class MixtureTrunk(nn.Module):
    """Level, width and pan of a mixture through a dual-axis U-Net.

    Args:
        bands: number of bands N.
        patch: bands per cell of the finest level.
        channels: channels of the levels, finest first.
        blocks: blocks of the levels, finest first, in each of the two directions.
        told_sources: length of the 0/1 vector of presence that it receives; 0 for none.

    Shape: banded power P `[B, 2, N, T]`, P_side `[B, N, T]` and present `[B, K]` of 0 and 1 (None: all are there) ->
    pyramid (finest first) and pan `[B, 1, N, T]`, of the given frames or of all. The bounds of `frames` are multiples
    of those that a cell of the coarsest level covers.
    """

    def __init__(
        self,
        bands: int,
        patch: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        told_sources: int = 0,
    ) -> None:
        super().__init__()
        self.scale = LevelScale(bands)
        self.unet = UNet(PLANES, bands, patch, channels, blocks)
        self.presence = nn.Linear(told_sources, channels[0], bias=False) if told_sources else None

    def forward(
        self, P: Tensor, P_side: Tensor, *, present: Tensor | None = None, frames: slice | None = None
    ) -> tuple[list[Tensor], Tensor]:
        balance = pan(P)
        loudness = self.scale.normalise(log_power(P.mean(1, keepdim=True)))
        planes = torch.cat([loudness, width(P, P_side), balance.abs()], 1)  # [B, 3, N, T]
        planes = planes.contiguous(memory_format=torch.channels_last)
        pyramid = self.unet(planes, self._condition(present, P))
        if frames is None:
            return pyramid, balance
        cropped = [x[..., frames.start >> level : frames.stop >> level] for level, x in enumerate(pyramid)]
        return cropped, balance[..., frames]

    def _condition(self, present: Tensor | None, P: Tensor) -> Tensor | None:
        """The vector of presence, mapped to the channels of the finest level: `[B, D_0]`; None if it is not told."""
        if self.presence is None:
            return None
        sources = self.presence.in_features
        if present is None:
            present = P.new_ones(len(P), sources)
        return self.presence(present[:, :sources].to(P.dtype))


class AddedHeads(nn.Module):
    """Posterior of a source that was added to a trained mixture encoder: blocks and heads of its own on the trunk.

    The trunk has not been trained for this source, so a block stands between it and each of the heads.

    Args:
        bands: number of bands N.
        channels, patch, latent_channels: as in `MixtureEncoder`.

    Shape: pyramid (finest first), pan `[B, 1, N, T]` -> its `Posterior`.
    """

    levels = tuple(sorted({*LATENT_LEVELS, PAN_LEVEL}))
    context_frames = max(receptive_frames([0] * level + [1]) for level in levels)

    def __init__(
        self, bands: int, channels: Sequence[int], patch: int, latent_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {str(level): stack(channels[level], bands // patch >> level, 1) for level in self.levels}
        )
        self.heads = PosteriorHeads(channels, patch, latent_channels, LATENT_LEVELS, PAN_LEVEL, 1)

    def forward(self, pyramid: Sequence[Tensor], balance: Tensor) -> Posterior:
        own = list(pyramid)
        for level in self.levels:
            own[level] = self.blocks[str(level)](pyramid[level])
        return self.heads(own, balance)[0]


class MixtureEncoder(nn.Module):
    """q(z_1, ..., z_K | x): posteriors of all sources from the mixture.

    Args:
        trunk: the mixture's trunk.
        channels: channels of its pyramid, finest first.
        patch: bands per cell of its finest level.
        latent_channels: latents per cell, coarsest level first.
        sources: number of sources, less those that were added later.
        added: heads of those, in the order of the sources; none of them shares a weight with another source.

    Shape: P `[B, 2, N, T]`, P_side `[B, N, T]`, present and frames as in `MixtureTrunk` -> one `Posterior` per source.
    """

    def __init__(
        self,
        trunk: MixtureTrunk,
        channels: Sequence[int],
        patch: int,
        latent_channels: Sequence[int],
        sources: int,
        added: Sequence[AddedHeads] = (),
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = PosteriorHeads(channels, patch, latent_channels, LATENT_LEVELS, PAN_LEVEL, sources)
        self.added = nn.ModuleList(added)

    def forward(
        self, P: Tensor, P_side: Tensor, *, present: Tensor | None = None, frames: slice | None = None
    ) -> list[Posterior]:
        pyramid, balance = self.trunk(P, P_side, present=present, frames=frames)
        return [*self.heads(pyramid, balance), *(heads(pyramid, balance) for heads in self.added)]


class MaskHead(nn.Module):
    """Log-variances (up to a common term) straight from the trunk, as the mask network that sepvae is measured against.

    Shape: features, finest map of the pyramid, `[B, D_0, N / patch, T]`, pan `[B, 1, N, T]` -> `[B, K, 2, N, T]`.
    """

    def __init__(self, channels: int, patch: int, sources: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.project = nn.Conv2d(channels, sources * 2 * patch, 1)
        self.patch, self.sources = patch, sources

    def forward(self, features: Tensor, balance: Tensor) -> Tensor:
        out = self.project(functional.relu(self.norm(features))).float()
        out = out.unflatten(1, (self.sources, 2, self.patch))  # [B, K, 2, patch, F, T]
        out = out.transpose(3, 4).flatten(3, 4)  # [B, K, 2, N, T]
        even, odd = out[:, :, :1], out[:, :, 1:] * balance.unsqueeze(1)
        return torch.cat([even + odd, even - odd], 2)
