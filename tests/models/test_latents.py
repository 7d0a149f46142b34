"""Divergences agree with torch.distributions; free nats are not charged."""

import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from sepvae.models.latents import (
    Gaussian,
    Posterior,
    bounded_log_sd,
    divergence,
    free_bits,
    kl_divergence,
    standard_normal,
)
from sepvae.models.separation import SeparationConfig, SeparationVAE


def gaussian(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(
        torch.randn(2, 3, 4, 5, generator=generator), 0.5 * torch.randn(2, 3, 4, 5, generator=generator)
    )


def test_kl_equals_torch_distributions() -> None:
    q, p = gaussian(0), gaussian(1)
    expected = reference_kl(Normal(q.mean, q.log_sd.exp()), Normal(p.mean, p.log_sd.exp()))
    torch.testing.assert_close(kl_divergence(q, p), expected, atol=1e-5, rtol=1e-5)


def test_kl_to_itself_is_zero_and_divergence_sums_the_levels() -> None:
    q, p = gaussian(0), gaussian(1)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros_like(q.mean), atol=1e-6, rtol=0)
    both = divergence(Posterior((q, q)), Posterior((p, p)))
    torch.testing.assert_close(both, 2 * kl_divergence(q, p).sum((1, 2, 3)))


def test_samples_have_the_stated_mean_and_spread() -> None:
    q = Gaussian(torch.full((1, 1, 200, 200), 3.0), torch.full((1, 1, 200, 200), -1.0))
    z = q.sample(torch.Generator().manual_seed(0))
    assert abs(z.mean() - 3) < 0.01
    assert abs(z.std() - torch.tensor(-1.0).exp()) < 0.01
    torch.testing.assert_close(q.sample(temperature=0.0), q.mean)


def test_free_bits_charge_at_least_the_free_nats() -> None:
    q = gaussian(0)
    kl = kl_divergence(q, standard_normal(q.mean))
    torch.testing.assert_close(free_bits(kl, 0.0), kl.sum((1, 2, 3)))
    torch.testing.assert_close(free_bits(kl, 100.0), torch.full((2,), 100.0 * 3 * 20))


def test_spreads_are_bounded_smoothly() -> None:
    x = torch.tensor([-1e4, -2.0, 0.0, 1e4])
    y = bounded_log_sd(x)
    assert y[0] == -6
    assert y[1] == -2
    assert y[3] == 2


def test_a_fresh_posterior_does_not_drown_its_means(tiny_config: SeparationConfig) -> None:
    torch.manual_seed(0)
    model = SeparationVAE(tiny_config)
    P = torch.rand(2, 2, tiny_config.vae.bands, 16) + 0.01
    of_mixture, of_solo = model.posteriors(P, P[:, 0])[0], model.source_vae("vocals").encode(P)
    _, priors = model.source_vae("vocals").decode_with_priors(of_solo.mean)
    for posterior in (of_mixture, of_solo):
        for level in posterior.levels[:-1]:
            assert level.log_sd.mean() < -1
    assert all(prior.log_sd.mean() > -0.7 for prior in priors)
