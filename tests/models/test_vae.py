"""The source VAE: its bound, its symmetry, and a decoder that sees nothing but z."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from sepvae.errors import ShapeError
from sepvae.models.losses import LINEAR_FROM, complex_gaussian_nll, gaussian_nll
from sepvae.models.vae import SourceVAE


def test_shapes_of_all_levels(vae: SourceVAE, P: Tensor) -> None:
    posterior = vae.encode(P)
    shapes = [tuple(level.mean.shape) for level in posterior.levels]
    assert shapes == [(2, 4, 2, 2), (2, 3, 8, 8), (2, 2, 16, 16), (2, 1, 8, 8)]
    log_variance, priors = vae.decode_with_priors(posterior.mean)
    assert log_variance.shape == P.shape
    assert [tuple(prior.mean.shape) for prior in priors] == shapes


def test_decoder_sees_nothing_but_z(vae: SourceVAE, P: Tensor) -> None:
    z = vae.encode(P).mean
    before = vae.decode(z)
    vae.encode(100 * P.flip(-1))
    torch.testing.assert_close(vae.decode([level.clone() for level in z]), before, rtol=0, atol=0)


def test_every_level_of_z_matters(vae: SourceVAE, P: Tensor) -> None:
    z = vae.encode(P).mean
    whole = vae.decode(z)
    for level in range(len(z)):
        changed = [x + (index == level) for index, x in enumerate(z)]
        assert (vae.decode(changed) - whole).abs().max() > 1e-3


def test_finer_priors_depend_on_coarser_latents_only(vae: SourceVAE, P: Tensor) -> None:
    z = vae.encode(P).mean
    _, priors = vae.decode_with_priors(z)
    finest_moved = [z[0], z[1], z[2] + 1, z[3]]
    for old, new in zip(priors, vae.decode_with_priors(finest_moved)[1], strict=True):
        torch.testing.assert_close(old.mean, new.mean)
    coarsest_moved = [z[0] + 1, *z[1:]]
    moved = vae.decode_with_priors(coarsest_moved)[1]
    assert (moved[1].mean - priors[1].mean).abs().max() > 1e-4
    torch.testing.assert_close(moved[0].mean, torch.zeros_like(moved[0].mean))


def test_swapping_the_channels_swaps_the_output(vae: SourceVAE, P: Tensor) -> None:
    straight, swapped = vae.decode(vae.encode(P).mean), vae.decode(vae.encode(P.flip(1)).mean)
    torch.testing.assert_close(swapped, straight.flip(1), atol=1e-5, rtol=0)
    assert (straight[:, 0] - straight[:, 1]).abs().max() > 1e-3  # pan is coded at all
    mono = vae.decode(vae.encode(P[:, :1].expand(-1, 2, -1, -1)).mean)
    torch.testing.assert_close(mono[:, 0], mono[:, 1], atol=0, rtol=0)


def test_elbo_is_likelihood_minus_kl(vae: SourceVAE, P: Tensor, sizes: Tensor) -> None:
    elbo = vae.elbo(P, sizes, torch.Generator().manual_seed(5))
    log_variance, posterior, priors = vae(P, torch.Generator().manual_seed(5))
    expected = -complex_gaussian_nll(P, log_variance, sizes).sum((1, 2, 3)) - vae.kl(posterior, priors)
    torch.testing.assert_close(elbo, expected)
    assert (vae.kl(posterior, priors) > 0).all()


def test_samples_come_from_the_prior_and_repeat_with_their_seed(vae: SourceVAE) -> None:
    draw = [vae.sample(16, 2, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert draw[0].shape == (2, 2, 32, 16)
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_autoencoder_draws_nothing(vae: SourceVAE, P: Tensor) -> None:
    torch.manual_seed(0)
    plain = SourceVAE(dataclasses.replace(vae.config, variational=False))
    assert torch.equal(plain(P)[0], plain(P)[0])
    assert not torch.equal(vae(P)[0], vae(P)[0])


def test_silence_stays_finite(vae: SourceVAE, sizes: Tensor) -> None:
    silence = torch.zeros(1, 2, 32, 16)
    elbo = vae.elbo(silence, sizes)
    elbo.sum().backward()
    assert elbo.isfinite().all()
    grads = [p.grad for p in vae.parameters() if p.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("likelihood", ["complex_gaussian", "gaussian"])
def test_one_batch_can_be_overfitted(vae: SourceVAE, likelihood: str, P: Tensor, sizes: Tensor) -> None:
    torch.manual_seed(0)
    vae = SourceVAE(dataclasses.replace(vae.config, likelihood=likelihood))
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    start = None
    for _ in range(60):
        log_variance, posterior, priors = vae(P)
        loss = (vae.nll(P, log_variance, sizes, linearise=True) + 0.1 * vae.kl(posterior, priors)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        start = loss.item() if start is None else start
    assert loss.item() < start - 0.5 * abs(start)


def test_gradients_reach_every_weight(vae: SourceVAE, P: Tensor, sizes: Tensor) -> None:
    vae.elbo(P, sizes).sum().backward()
    missing = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


def test_itakura_saito_form() -> None:
    P, V = torch.tensor([[[0.5]]]), torch.tensor([[[0.2]]])
    nll = complex_gaussian_nll(P, V.log(), torch.ones(1))
    best = complex_gaussian_nll(P, P.log(), torch.ones(1))
    itakura_saito = 0.5 / 0.2 - math.log(0.5 / 0.2) - 1
    assert (nll - best).item() == pytest.approx(itakura_saito, rel=1e-5)


def test_linearised_likelihood_meets_the_exact_one_and_does_not_explode() -> None:
    P = torch.ones(1, 1)
    for excess in (-3.0, 0.0, LINEAR_FROM):
        log_variance = torch.full((1, 1), -excess)
        exact = complex_gaussian_nll(P, log_variance, torch.ones(1))
        torch.testing.assert_close(
            complex_gaussian_nll(P, log_variance, torch.ones(1), linearise=True), exact
        )
    far = torch.full((1, 1), -50.0, requires_grad=True)
    complex_gaussian_nll(P, far, torch.ones(1), linearise=True).sum().backward()
    assert far.grad is not None
    assert abs(far.grad.item()) < 10


def test_gaussian_form_is_the_textbook_one() -> None:
    P, V = torch.tensor([[math.e**4]]), torch.tensor([[math.e**2]])
    assert gaussian_nll(P, V.log(), torch.ones(1), 3.0).item() == pytest.approx(3.0 * (2 - 1) ** 2, rel=1e-5)


def test_a_band_counts_as_often_as_it_has_bins() -> None:
    P, V = torch.rand(4, 3) + 0.1, torch.rand(4, 3) + 0.1
    sizes = torch.tensor([1.0, 2.0, 3.0, 4.0])
    index = torch.repeat_interleave(torch.arange(4), sizes.long())
    full = complex_gaussian_nll(P[index], V[index].log(), torch.ones(10)).sum()
    torch.testing.assert_close(complex_gaussian_nll(P, V.log(), sizes).sum(), full)


def test_wrong_shapes_are_refused(vae: SourceVAE) -> None:
    with pytest.raises(ShapeError, match="multiple of 8"):
        vae.encode(torch.ones(1, 2, 32, 15))
    with pytest.raises(ShapeError, match="bands"):
        dataclasses.replace(vae.config, bands=40)
    with pytest.raises(ShapeError, match="likelihood"):
        dataclasses.replace(vae.config, likelihood="poisson")
