"""Tiny models that have every part of the real ones."""

import pytest
import torch

from sepvae.models.separation import MaskNet, SeparationConfig, SeparationModel, SeparationVAE
from sepvae.models.vae import SourceVAE, VAEConfig

from ..conftest import stir

TINY_VAE = VAEConfig(
    bands=32, patch=2, latent_channels=(4, 3, 2), encoder_channels=(4, 6, 8, 8), decoder_channels=(8, 6, 4)
)
TINY = SeparationConfig(
    sources=("voice", "noise", "tone"),
    residual_source="noise",
    sample_rate=8000,
    n_fft=128,
    hop_length=32,
    kept_bins=16,
    band_width=3,
    trunk_channels=(6, 8, 8, 10),
    trunk_blocks=(1, 1, 1, 1),
    vae=TINY_VAE,
)


@pytest.fixture
def vae() -> SourceVAE:
    torch.manual_seed(0)
    vae = SourceVAE(TINY_VAE)
    stir(vae)
    return vae


@pytest.fixture(params=[SeparationVAE, MaskNet])
def model(request: pytest.FixtureRequest) -> SeparationModel:
    torch.manual_seed(0)
    model = request.param(TINY)
    stir(model)
    return model


@pytest.fixture
def separation_vae() -> SeparationVAE:
    torch.manual_seed(0)
    model = SeparationVAE(TINY)
    stir(model)
    return model


@pytest.fixture(name="P")
def power() -> torch.Tensor:
    """Banded power of two solos."""
    return torch.rand(2, 2, 32, 16, generator=torch.Generator().manual_seed(3)).square() + 1e-4


@pytest.fixture
def sizes() -> torch.Tensor:
    """Bins per band of the tiny models."""
    return torch.cat([torch.ones(16), torch.full((15,), 3.0), torch.tensor([4.0])])
