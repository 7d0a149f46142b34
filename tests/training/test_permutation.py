"""Two speakers with one VAE have no right order: what training and validation find does not depend on the given one."""

import dataclasses

import pytest
import torch

from sepvae.data.augment import TONE_POINTS
from sepvae.data.mixing import Mixture
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training.modules import SeparationModule
from sepvae.training.objectives import LossConfig, OptimConfig


@pytest.fixture
def module(tiny_config: SeparationConfig, monkeypatch: pytest.MonkeyPatch) -> SeparationModule:
    names = ("first", "second", "noise")
    config = dataclasses.replace(
        tiny_config, sources=names, residual_source="noise", vae_names=("speech", "speech", "noise")
    )
    monkeypatch.setattr(SeparationModule, "log_terms", lambda self, terms: None)
    torch.manual_seed(0)
    losses = LossConfig(solo_every=1, frozen_steps=0)
    module = SeparationModule(SeparationVAE(config), OptimConfig(), losses)
    with torch.no_grad():  # weights that start at zero would make all heads alike
        for parameter in module.model.mixture.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return module


def batch(order: list[int]) -> Mixture:
    """Two excerpts of two pitches in noise, the sources in an order."""
    time = torch.arange(4000) / 44100
    pitches = torch.tensor([[700.0, 5000.0], [900.0, 3000.0]])
    voices = 0.2 * torch.sin(2 * torch.pi * pitches[..., None] * time)  # [B, 2, L]
    noise = 0.02 * torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(0))
    sources = torch.cat([voices, noise], 1)[:, order, None].expand(-1, -1, 2, -1)
    return Mixture(sources.contiguous(), torch.ones(2, 3, len(TONE_POINTS)))


def test_the_loss_does_not_depend_on_the_order_of_the_speakers(module: SeparationModule) -> None:
    straight, swapped = (module.training_step(batch(order), 0) for order in ([0, 1, 2], [1, 0, 2]))
    torch.testing.assert_close(straight, swapped, rtol=1e-6, atol=0)
    wrong = module.training_step(batch([2, 1, 0]), 0)  # noise is no speaker
    assert (wrong - straight).abs() > 1e-3


def test_each_excerpt_has_its_own_order(module: SeparationModule) -> None:
    whole = batch([0, 1, 2])
    mixed = Mixture(whole.sources.clone(), whole.tone)
    mixed.sources[1, :2] = whole.sources[1, :2].flip(0)
    torch.testing.assert_close(
        module.training_step(mixed, 0), module.training_step(whole, 0), rtol=1e-6, atol=0
    )


def test_gradients_reach_the_shared_vae_and_all_heads(module: SeparationModule) -> None:
    module.training_step(batch([0, 1, 2]), 0).backward()
    speech = module.model.source_vae("first").decoder
    reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in speech.parameters()]
    assert sum(reached) > len(reached) / 2  # some last layers begin at zero, and what lies before them waits
    for head in module.model.mixture.heads.heads:
        by_source = head.project.weight.grad.unflatten(0, (3, -1)).flatten(1)
        assert by_source.abs().amax(1).gt(0).all()
