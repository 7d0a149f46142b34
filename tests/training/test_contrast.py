"""The margin between the VAE of a source and those of the others: what it costs, whom it spares, that it is learnt."""

import math
from dataclasses import replace

import pytest
import torch

from sepvae.models.features import log_power
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training.modules import contrast_term
from sepvae.training.objectives import LossConfig, bounded_elbo, margin_shortfall, solo_terms

LOSSES = LossConfig(contrast=1.0, contrast_margin=0.5)


@pytest.fixture
def model(tiny_config: SeparationConfig) -> SeparationVAE:
    torch.manual_seed(0)
    return SeparationVAE(tiny_config)


@pytest.fixture
def solos(tiny_config: SeparationConfig) -> torch.Tensor:
    """Power of three solos, `[3, 2, N, T]`."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 1, tiny_config.vae.bands, 16, generator=generator).expand(-1, 2, -1, -1) ** 2


def lack(
    model: SeparationVAE, solos: torch.Tensor, turn: int = 0, losses: LossConfig = LOSSES
) -> torch.Tensor:
    noise = [torch.Generator().manual_seed(row) for row in range(len(solos))]
    vae = model.source_vae(model.config.sources[0])
    own = solo_terms(vae, solos, model.bands.sizes, losses.free_nats, noise)
    return contrast_term(model, losses, 0, turn, solos, own, noise)["contrast"]


def test_only_what_lacks_of_the_margin_costs() -> None:
    lead = torch.tensor([1.0, 0.5, 0.25, -1.0])
    torch.testing.assert_close(margin_shortfall(lead, 0.5), torch.tensor([0.0, 0.0, 0.25, 1.5]))


def test_every_turn_looks_at_another_source(model: SeparationVAE, solos: torch.Tensor) -> None:
    for turn in range(3):
        model.zero_grad(set_to_none=True)
        lack(model, solos, turn).backward()
        reached = [
            any(p.grad is not None for p in model.source_vae(s).parameters()) for s in model.config.sources
        ]
        assert reached == [True, *(other == turn for other in range(3))]


def test_failing_wildly_counts_no_more_than_failing(model: SeparationVAE, solos: torch.Tensor) -> None:
    vae, sizes = model.source_vae("drums"), model.bands.sizes
    bins = 2 * float(sizes.sum()) * solos.shape[-1]
    best = -vae.nll(solos, log_power(solos), sizes) / bins  # what no variances can exceed
    vae.scale.mean.sub_(30)  # decodes variances that are 30 nats too small
    noise = [torch.Generator().manual_seed(row) for row in range(len(solos))]
    solo = solo_terms(vae, solos, sizes, 0.0, noise)
    assert (best - bounded_elbo(vae, solos, sizes, math.inf, solo) > 20).all()
    assert (best - bounded_elbo(vae, solos, sizes, 2.0, solo) <= 4).all()
    torch.testing.assert_close(
        bounded_elbo(vae, solos, sizes, math.inf, solo), -solo.nll - solo.kl, rtol=1e-4, atol=1e-4
    )


def test_silence_is_nobodys(model: SeparationVAE, solos: torch.Tensor) -> None:
    loud, silent = lack(model, solos), lack(model, torch.zeros_like(solos))
    assert loud > 0
    assert silent == 0


def test_sources_that_share_a_vae_are_no_rivals(tiny_config: SeparationConfig, solos: torch.Tensor) -> None:
    model = SeparationVAE(replace(tiny_config, vae_names=("one",) * len(tiny_config.sources)))
    own = solo_terms(model.source_vae("vocals"), solos, model.bands.sizes, 0.0, None)
    assert contrast_term(model, LOSSES, 0, 0, solos, own, []) == {}


def test_training_on_it_tells_the_vaes_apart(model: SeparationVAE, solos: torch.Tensor) -> None:
    before = lack(model, solos).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        lack(model, solos).backward()
        optimizer.step()
    assert before > 0.3
    assert lack(model, solos) < 0.5 * before
