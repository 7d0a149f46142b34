"""Parts of the networks: dual-axis residual blocks and the two halves of a U-Net over spectrograms.

Dimensions: B batch, D channels, F cells along frequency, T frames. All maps are `[B, D, F, T]` in `channels_last`.
No layer looks at statistics over time or over the batch, so a part of a recording gives what the whole gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of one cell.

    Autocast would turn bfloat16 into float32 and back. A CPU takes it as it is, with the same result in half the time.

    Shape: `[B, D, F, T]` -> the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1)
        if x.device.type == "cpu" and x.dtype == torch.bfloat16:
            with torch.autocast("cpu", enabled=False):
                return super().forward(channels_last).permute(0, 3, 1, 2)
        return super().forward(channels_last).permute(0, 3, 1, 2)


class FrequencyMixing(nn.Module):
    """Two linear layers along the whole frequency axis, shared by channels and frames.

    Shape: `[B, D, F, T]` -> the same, F = bins.

    Source: the time-distributed fully connected layers of TFC-TDF-UNet (Choi et al. 2020), without their norms.
    """

    def __init__(self, bins: int, bottleneck: int = 4) -> None:
        super().__init__()
        self.down = nn.Linear(bins, max(bins // bottleneck, 4))
        self.up = nn.Linear(self.down.out_features, bins)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # [B, F, T, D]
        hidden = functional.relu(along_axis_one(self.down, x.flatten(2)))  # [B, H, T * D]
        mixed = along_axis_one(self.up, hidden)  # [B, F, T * D]
        return mixed.unflatten(2, x.shape[2:]).permute(0, 3, 1, 2)


def along_axis_one(linear: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on axis 1 instead of the last, without moving the data.

    Shape: x `[B, in, M]` -> `[B, out, M]`.
    """
    return torch.baddbmm(linear.bias[:, None], linear.weight.expand(len(x), -1, -1), x)


class DualAxisBlock(nn.Module):
    """Residual convolutions over time and frequency, then residual mixing along the whole frequency axis.

    Shape: `[B, D, F, T]` -> the same.
    """

    convolutions = 2

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.mixing = FrequencyMixing(bins)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.conv_out(functional.relu(self.conv_in(self.norm(x))))
        return x + self.mixing(x)


def stack(channels: int, bins: int, blocks: int) -> nn.Sequential:
    """`blocks` dual-axis blocks in a row."""
    return nn.Sequential(*(DualAxisBlock(channels, bins) for _ in range(blocks)))


def upsample(x: Tensor, factor: int) -> Tensor:
    """Repeat every cell `factor` times along frequency and time.

    Shape: `[B, D, F, T]` -> `[B, D, F * factor, T * factor]`.
    """
    return functional.interpolate(x, scale_factor=float(factor), mode="nearest")


class BottomUp(nn.Module):
    """Strided patches, then levels that each halve both axes.

    Args:
        planes: input maps.
        bins: bands of the input, a multiple of `patch * 2 ** (levels - 1)`.
        patch: bands per cell of the finest level.
        channels: channels of each level, finest first.
        blocks: blocks of each level, finest first.

    Shape: `[B, planes, N, T]` -> one `[B, D_l, N / patch / 2^l, T / 2^l]` per level l, finest first. `condition`
    `[B, D_0]` is added to all cells of the finest level before its blocks.
    """

    def __init__(
        self, planes: int, bins: int, patch: int, channels: Sequence[int], blocks: Sequence[int]
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(planes, channels[0], (patch, 1), stride=(patch, 1))
        self.down = nn.ModuleList(nn.Conv2d(i, o, 2, stride=2) for i, o in pairwise(channels))
        self.levels = nn.ModuleList(
            stack(c, bins // patch >> level, n)
            for level, (c, n) in enumerate(zip(channels, blocks, strict=True))
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        x = self.stem(x)
        if condition is not None:
            x = x + condition[..., None, None]
        x = self.levels[0](x)
        features = [x]
        for down, level in zip(self.down, self.levels[1:], strict=True):
            x = level(down(x))
            features.append(x)
        return features


class UNet(nn.Module):
    """A bottom-up path, and a top-down path that brings the wide view back to the finer levels.

    Args and Shape: as `BottomUp`, which it returns in refined form; the coarsest level is the same.
    """

    def __init__(
        self, planes: int, bins: int, patch: int, channels: Sequence[int], blocks: Sequence[int]
    ) -> None:
        super().__init__()
        self.bottom_up = BottomUp(planes, bins, patch, channels, blocks)
        self.lateral = nn.ModuleList(nn.Conv2d(o, i, 1) for i, o in pairwise(channels))
        self.levels = nn.ModuleList(
            stack(c, bins // patch >> level, n)
            for level, (c, n) in enumerate(zip(channels[:-1], blocks[:-1], strict=True))
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        features = self.bottom_up(x, condition)
        for level in reversed(range(len(self.levels))):
            wide = upsample(self.lateral[level](features[level + 1]), 2)
            features[level] = self.levels[level](features[level] + wide)
        return features


def receptive_frames(blocks: Sequence[int]) -> int:
    """Frames on one side that an output of `blocks` dual-axis blocks per level depends on, finest level first."""
    return sum(n * DualAxisBlock.convolutions << level for level, n in enumerate(blocks))
