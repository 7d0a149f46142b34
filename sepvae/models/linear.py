"""The linear end of the family: an autoencoder with one tied layer, which is PCA."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sepvae.errors import ShapeError
from sepvae.models.features import log_power


class LinearAutoencoder(nn.Module):
    """One linear layer to the latents and its transpose back, on the log-power spectrum of single frames.

    With squared error its best weights span the subspace of the largest singular vectors of the centred data.

    Args:
        bands: number of bands N, > 0.
        latents: numbers per frame, 0 < latents <= bands.

    Source: Baldi & Hornik 1989; Bourlard & Kamp 1988.
    """

    def __init__(self, bands: int, latents: int) -> None:
        super().__init__()
        if not 0 < latents <= bands:
            raise ShapeError(f"latents must lie in 1..{bands}, found {latents}")
        self.mean = nn.Parameter(torch.zeros(bands, 1))
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(bands, latents)))

    def encode(self, P: Tensor) -> Tensor:
        """Latents of banded powers: `[B, C, N, T]` -> `[B, C, D, T]`."""
        return self.weight.T @ (log_power(P) - self.mean)

    def decode(self, z: Tensor) -> Tensor:
        """Log-variance of latents: `[B, C, D, T]` -> `[B, C, N, T]`."""
        return self.weight @ z + self.mean

    def forward(self, P: Tensor) -> Tensor:
        """Log-variance of banded powers: `[B, C, N, T]` -> the same."""
        return self.decode(self.encode(P))
