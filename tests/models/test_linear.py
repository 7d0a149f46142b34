"""A tied linear autoencoder finds the subspace of the SVD."""

import pytest
import torch

from sepvae.errors import ShapeError
from sepvae.models.features import log_power
from sepvae.models.linear import LinearAutoencoder


def test_its_subspace_equals_that_of_the_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    spread = torch.tensor([3.0, 2.0, 1.5, 0.3, 0.2, 0.1, 0.1, 0.1])
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    x = basis @ (spread[:, None] * torch.randn(8, 400, generator=generator)) - 2
    P = x.exp()[None, None]
    model = LinearAutoencoder(8, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = (model(P) - log_power(P)).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    centred = log_power(P)[0, 0] - log_power(P)[0, 0].mean(1, keepdim=True)
    U, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    learned = torch.linalg.qr(model.weight.detach()).Q
    angles = torch.linalg.svdvals(U[:, :3].T @ learned)
    torch.testing.assert_close(angles, torch.ones(3), atol=1e-4, rtol=0)  # cosines of the principal angles
    residual = singular[3:].square().sum() / centred.numel()
    assert loss().item() == pytest.approx(residual.item(), rel=1e-3)


def test_more_latents_than_bands_are_refused() -> None:
    with pytest.raises(ShapeError, match="latents"):
        LinearAutoencoder(4, 5)
