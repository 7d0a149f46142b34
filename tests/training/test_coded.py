"""The error of what is decoded from the solos' own codes: what it looks at, and what it can move."""

from dataclasses import replace

import pytest
import torch

from sepvae.data.augment import TONE_POINTS
from sepvae.data.mixing import Mixture
from sepvae.errors import RecipeError
from sepvae.models.features import log_power
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training.modules import EncoderModule, SeparationModule
from sepvae.training.objectives import LossConfig, OptimConfig


@pytest.fixture
def batch() -> Mixture:
    sources = 0.1 * torch.randn(2, 4, 2, 34 * 64, generator=torch.Generator().manual_seed(0))
    return Mixture(sources, torch.ones(2, 4, len(TONE_POINTS)), 0)


def module(kind: type[SeparationModule] | type[EncoderModule], config: SeparationConfig) -> SeparationModule:
    torch.manual_seed(0)
    losses = LossConfig(frozen_steps=0, solo_every=1, coded_db=1.0)
    made = kind(SeparationVAE(config), OptimConfig(), losses)
    made.log_terms = lambda terms: made.found.update({(0, k): v.item() for k, v in terms.items()})
    return made


def test_it_is_the_oracle_masks_where_the_codes_tell_the_truth(
    tiny_config: SeparationConfig, batch: Mixture
) -> None:
    made = module(SeparationModule, tiny_config)
    targets = made.targets(batch)
    truth = log_power(targets.P)
    oracle = made.output_error(targets, truth)
    torch.testing.assert_close(made.coded_error(targets, {}), oracle)
    torch.testing.assert_close(made.coded_error(targets, {2: truth[:, 2]}), oracle)
    louder = {2: truth[:, 2] + 3}
    assert made.coded_error(targets, louder) > oracle + 1


@pytest.mark.parametrize(("kind", "coded"), [(SeparationModule, 1), (EncoderModule, 4)])
def test_it_trains_the_vaes_whose_solos_are_looked_at_and_never_the_mixture(
    tiny_config: SeparationConfig, batch: Mixture, kind: type[SeparationModule], coded: int
) -> None:
    made = module(kind, tiny_config)
    targets = made.targets(batch)
    solos = {k: made.model.source_vae(made.model.config.sources[k])(targets.solo(k))[0] for k in range(coded)}
    made.coded_error(targets, solos).backward()
    reached = [
        any(p.grad is not None and p.grad.any() for p in made.model.source_vae(source).parameters())
        for source in made.model.config.sources
    ]
    assert reached == [k < coded for k in range(4)]
    assert all(p.grad is None for p in made.model.mixture.parameters())


@pytest.mark.parametrize("kind", [SeparationModule, EncoderModule])
def test_it_is_a_term_of_both_trainings(
    tiny_config: SeparationConfig, batch: Mixture, kind: type[SeparationModule]
) -> None:
    with_it, without = module(kind, tiny_config), module(kind, tiny_config)
    without.losses = replace(without.losses, coded_db=0.0)
    added = with_it.training_step(batch, 0) - without.training_step(batch, 0)
    assert added.item() == pytest.approx(with_it.found[0, "coded_db"], rel=1e-3)
    assert (0, "coded_db") not in without.found


def test_it_does_not_go_with_known_sources() -> None:
    with pytest.raises(RecipeError, match="coded_db"):
        LossConfig(given=True, coded_db=1.0)
