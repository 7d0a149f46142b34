"""Training in which the sources that sound are known: silent ones are not decoded and get nothing of the mixture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sepvae.data.augment import TONE_POINTS
from sepvae.data.mixing import Mixture
from sepvae.models.latents import Posterior
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training.added import AddedModule
from sepvae.training.modules import SeparationModule, sounding_first
from sepvae.training.objectives import LossConfig, OptimConfig
from sepvae.training.run import train

SILENT = [(0, 1), (0, 2), (1, 0)]
"""Row and source of the excerpts without sound; the last row has all sources."""


@pytest.fixture
def batch() -> Mixture:
    sources = 0.1 * torch.randn(3, 4, 1, 34 * 64, generator=torch.Generator().manual_seed(0))
    for row, source in SILENT:
        sources[row, source] = 0
    return Mixture(sources, torch.ones(3, 4, len(TONE_POINTS)), 0)


def module(config: SeparationConfig, *, given: bool, frozen_steps: int = 0) -> SeparationModule:
    torch.manual_seed(0)
    losses = LossConfig(given=given, frozen_steps=frozen_steps, solo_every=1)
    made = SeparationModule(SeparationVAE(replace(config, sample_rate=8000)), OptimConfig(), losses)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    made.log_terms = lambda terms: None  # type: ignore[method-assign]
    return made


def test_silent_sources_are_floors_and_the_others_what_they_always_are(
    tiny_config: SeparationConfig, batch: Mixture
) -> None:
    found = {}
    for given in (False, True):
        made = module(tiny_config, given=given)
        targets = made.targets(batch)
        posteriors = made.model.posteriors(targets.P_mix, targets.P_side)
        found[given] = made.decode(targets, posteriors, made.noise(batch))
    silent = torch.zeros(3, 4, dtype=torch.bool)
    for row, source in SILENT:
        silent[row, source] = True
    assert (found[True][silent] < -23).all()
    assert found[True].shape == found[False].shape
    last = ~silent.any(1)  # rows of which nothing is left out draw the same numbers
    torch.testing.assert_close(found[True][last], found[False][last])
    assert (found[True][~silent] != found[False][~silent]).any()


def test_leaving_silence_out_changes_no_gradient(tiny_config: SeparationConfig, batch: Mixture) -> None:
    batch.sources[2, 3] = 0  # three at most sound at once
    kept = sounding_first(batch)
    assert kept.order is not None
    assert kept.sources.shape[:2] == kept.tone.shape[:2] == kept.order.shape == (3, 3)
    torch.testing.assert_close(kept.sources.sum(1), batch.sources.sum(1))
    gradients = []
    for mixture in (batch, kept):
        made = module(tiny_config, given=True)
        targets, noise = made.targets(mixture), made.noise(mixture)
        posteriors = made.model.posteriors(targets.P_mix, targets.P_side)
        error = made.output_error(targets, made.decode(targets, posteriors, noise))
        (error * targets.P.shape[1] / 4).backward()
        gradients.append([p.grad for p in made.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for whole, part in zip(*gradients, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-5)


def test_the_solos_are_those_of_the_source(tiny_config: SeparationConfig, batch: Mixture) -> None:
    made = module(tiny_config, given=True)
    whole, kept = made.targets(batch), made.targets(sounding_first(batch))
    for k in range(4):
        rows, places = kept.sounding(k)
        torch.testing.assert_close(kept.P[rows, places], whole.P[rows, k])
        assert rows.tolist() == [row for row in range(3) if (row, k) not in SILENT]


def test_training_tells_the_model_which_sources_sound(
    tiny_config: SeparationConfig, batch: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = torch.ones(3, 4)
    for row, source in SILENT:
        sounds[row, source] = 0
    told = []
    made = module(replace(tiny_config, told=True), given=True)
    posteriors = made.model.posteriors

    def listening(P: torch.Tensor, P_side: torch.Tensor, *, present: torch.Tensor) -> list[Posterior]:
        told.append(present)
        return posteriors(P, P_side, present=present)

    monkeypatch.setattr(made.model, "posteriors", listening)
    batch.sources[2, 3] = 0  # so that leaving silence out leaves three, in another order
    sounds[2, 3] = 0
    made.training_step(batch, 0).backward()
    torch.testing.assert_close(told[0], sounds)
    assert made.model.mixture.trunk.presence.weight.grad.any()


@pytest.mark.parametrize("frozen_steps", [0, 9])
def test_gradients_reach_what_trains(
    tiny_config: SeparationConfig, batch: Mixture, frozen_steps: int
) -> None:
    made = module(tiny_config, given=True, frozen_steps=frozen_steps)
    made.on_train_batch_start(batch, 0)
    made.training_step(batch, 0).backward()
    decoder = [p.grad for p in made.model.source_vae("vocals").decoder.parameters()]
    trunk = [p.grad for p in made.model.mixture.trunk.parameters()]
    assert any(grad is not None and grad.any() for grad in trunk)
    assert any(grad is not None and grad.any() for grad in decoder) == (frozen_steps == 0)


def test_a_source_that_sounds_nowhere_costs_nothing(tiny_config: SeparationConfig, batch: Mixture) -> None:
    batch.sources[:, 0] = 0
    made = module(tiny_config, given=True)
    made.training_step(batch, 0).backward()  # step 0 looks at the solo of source 0
    assert all(p.grad is None for p in made.model.source_vae("vocals").parameters())


@pytest.mark.parametrize("sources", [1, 4])
def test_an_added_source_is_trained_beside_all_others(
    tiny_config: SeparationConfig, batch: Mixture, sources: int
) -> None:
    config = replace(tiny_config, sample_rate=8000, added=1)
    made = AddedModule(SeparationVAE(config), OptimConfig(), LossConfig(given=True, solo_every=1))
    made.log_terms = lambda terms: None  # type: ignore[method-assign]
    batch = replace(batch, sources=batch.sources[:, -sources:], tone=batch.tone[:, -sources:])
    batch.sources[2, :-1] = 0  # so that leaving silence out would leave two
    assert made.targets(made.without_silence(batch)).P.shape[1] == 4
    made.training_step(batch, 0).backward()
    assert any(p.grad is not None and p.grad.any() for p in made.model.mixture.added[-1].parameters())


def test_validation_shares_the_mixture_among_those_that_sound(
    tiny_config: SeparationConfig, batch: Mixture
) -> None:
    made = module(tiny_config, given=True)
    sources = batch.sources[0].expand(-1, 2, -1)
    with torch.no_grad():
        estimates = made.estimates(sources)
    assert not estimates[[1, 2]].any()
    torch.testing.assert_close(estimates.sum(0), sources.sum(0), atol=1e-5, rtol=0)


def test_the_recipe_trains(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    solo = train("music/vae", settings(tmp_path / "vae"))
    options = ["losses.given=true", "data.mixing.sounding=2", "losses.frozen_steps=2"]
    folder = train("music/separation", settings(tmp_path / "sep", f"init={solo}", *options))
    assert (folder / "model.safetensors").is_file()
