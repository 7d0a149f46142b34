"""The frequency axis of the models: single bins where harmonics live, merged bands above."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sepvae.errors import ShapeError


class Bands(nn.Module):
    """Keeps the lowest bins and merges the rest into bands of equal width; the last band takes what is left over.

    Args:
        n_bins: number of STFT bins F, > 0.
        kept: number of low bins that stay single, 0 <= kept <= n_bins.
        width: bins per merged band, > 0.
    """

    index: Tensor
    sizes: Tensor

    def __init__(self, n_bins: int, kept: int, width: int) -> None:
        super().__init__()
        if not 0 <= kept <= n_bins or width < 1:
            raise ShapeError(f"bands need 0 <= kept <= {n_bins} and width > 0, found {kept} and {width}")
        merged = max((n_bins - kept) // width, int(kept < n_bins))
        self.n_bins, self.kept, self.width, self.count = n_bins, kept, width, kept + merged
        upper = (torch.arange(n_bins - kept, device="cpu") // width).clamp(max=max(merged - 1, 0))
        index = torch.cat([torch.arange(kept, device="cpu"), kept + upper])
        self.register_buffer("index", index, persistent=False)
        sizes = torch.bincount(index, minlength=self.count).float()
        self.register_buffer("sizes", sizes, persistent=False)

    def merge(self, P: Tensor) -> Tensor:
        """Average over the bins of each band.

        Shape: P `[..., F, T]` -> `[..., N, T]`.

        Raises:
            ShapeError: another number of bins.
        """
        if P.shape[-2] != self.n_bins:
            raise ShapeError(f"expected {self.n_bins} bins on axis -2, found {list(P.shape)}")
        low, high = P[..., : self.kept, :], P[..., self.kept :, :]
        merged = self.count - self.kept
        if not merged:
            return low
        regular = (merged - 1) * self.width
        body = high[..., :regular, :].unflatten(-2, (merged - 1, self.width)).mean(-2)
        return torch.cat([low, body, high[..., regular:, :].mean(-2, keepdim=True)], dim=-2)

    def scale(self, X: Tensor, V: Tensor) -> Tensor:
        """Multiply every bin by the value of its band, such as a mask: `X * expand(V)` in half the time.

        Shape: X `[..., F, T]`, V `[..., N, T]` -> `[..., F, T]`, with the leading axes broadcast.

        Raises:
            ShapeError: another number of bands.
        """
        self._check_bands(V)
        X, V = X.transpose(-1, -2), V.transpose(-1, -2)  # as an STFT lies in memory
        regular = max(self.count - self.kept - 1, 0)
        last = self.kept + regular * self.width
        low = X[..., : self.kept] * V[..., : self.kept]
        body = X[..., self.kept : last].unflatten(-1, (regular, self.width)) * V[..., self.kept : -1, None]
        return torch.cat([low, body.flatten(-2), X[..., last:] * V[..., -1:]], -1).transpose(-1, -2)

    def expand(self, V: Tensor) -> Tensor:
        """Give every bin the value of its band.

        Shape: V `[..., N, T]` -> `[..., F, T]`.

        Raises:
            ShapeError: another number of bands.
        """
        self._check_bands(V)
        V = V.transpose(-1, -2)  # [..., T, N], as an STFT lies in memory
        low, high = V.tensor_split([self.kept], -1)
        body, last = high[..., :-1], high[..., -1:]
        rest = self.n_bins - self.kept - body.shape[-1] * self.width
        bins = [low, body.repeat_interleave(self.width, -1), last.expand(*last.shape[:-1], rest)]
        return torch.cat(bins, -1).transpose(-1, -2)

    def _check_bands(self, V: Tensor) -> None:
        if V.shape[-2] != self.count:
            raise ShapeError(f"expected {self.count} bands on axis -2, found {list(V.shape)}")
