"""Some steps on the latents of a solo raise what training raises, and change nothing else."""

import pytest
import torch
from torch import Tensor

from sepvae.models.latents import Posterior
from sepvae.models.refinement import BETA, refine
from sepvae.models.vae import SourceVAE


def objective(vae: SourceVAE, P: Tensor, sizes: Tensor, posterior: Posterior) -> float:
    with torch.no_grad():
        log_variance, priors = vae.decode_with_priors(posterior.mean)
        return float(-(vae.nll(P, log_variance, sizes) + BETA * vae.kl(posterior, priors)).sum())


@pytest.mark.parametrize("within", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_refining_raises_the_objective_and_leaves_the_weights_and_the_spreads(
    vae: SourceVAE, within: type
) -> None:
    P = torch.rand(2, 2, 32, 24, generator=torch.Generator().manual_seed(1)) * 1e-3
    sizes = torch.arange(1.0, 33.0)
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    with within():
        posterior = vae.encode(P)
        refined = refine(vae, P, posterior, sizes, steps=20)
    assert objective(vae, P, sizes, refined) > objective(vae, P, sizes, posterior) + 1
    for old, new in zip(posterior.levels, refined.levels, strict=True):
        assert torch.equal(old.log_sd, new.log_sd)
        assert not torch.equal(old.mean, new.mean)
        assert not new.mean.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert all(parameter.grad is None for parameter in vae.parameters())
    again = refine(vae, P, posterior, sizes, steps=20)
    assert all(torch.equal(a.mean, b.mean) for a, b in zip(refined.levels, again.levels, strict=True))
