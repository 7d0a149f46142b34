"""Models that are told which sources are present."""

import dataclasses

import pytest
import torch

from sepvae.models.build import build, config_dict
from sepvae.models.separation import MaskNet, SeparationConfig, SeparationModel, SeparationVAE

from ..conftest import stir


@pytest.fixture(params=[SeparationVAE, MaskNet])
def told_model(request: pytest.FixtureRequest, tiny_config: SeparationConfig) -> SeparationModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = request.param(dataclasses.replace(tiny_config, told=True)).eval()
    stir(model)
    return model


def mixtures(model: SeparationModel) -> torch.Tensor:
    x = 0.1 * torch.randn(2, 2, 3000, generator=torch.Generator().manual_seed(0))
    return model.stft(x)


@torch.inference_mode()
def test_every_row_is_told_of_its_own_sources(told_model: SeparationModel) -> None:
    X = mixtures(told_model)
    present = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1]])
    everything, known = told_model.log_variances(X), told_model.log_variances(X, present)
    torch.testing.assert_close(known[1], everything[1])
    assert (known[0] - everything[0]).abs().mean() > 1e-3
    torch.testing.assert_close(told_model.log_variances(X, torch.ones(2, 4)), everything)


@torch.inference_mode()
def test_a_model_that_is_told_nothing_hears_the_same(tiny_model: SeparationVAE) -> None:
    X = mixtures(tiny_model)
    told = tiny_model.log_variances(X, torch.tensor([[1.0, 0, 0, 0]] * 2))
    assert torch.equal(told, tiny_model.log_variances(X))


def test_a_config_without_it_is_told_nothing(tiny_model: SeparationVAE) -> None:
    config = config_dict(tiny_model)
    del config["told"]
    assert not build(config).config.told


@torch.inference_mode()
def test_an_added_source_is_nothing_that_the_trunk_is_told(tiny_config: SeparationConfig) -> None:
    config = dataclasses.replace(tiny_config, told=True)
    torch.manual_seed(0)
    model = SeparationVAE(config).eval()
    grown = SeparationVAE(dataclasses.replace(config, sources=(*config.sources, "flute"), added=1)).eval()
    _, unknown = grown.load_state_dict(model.state_dict(), strict=False)
    assert not unknown
    X = mixtures(model)
    present = torch.tensor([[1.0, 0, 1, 0]] * 2)
    flute = torch.ones(2, 1)
    expected = model.log_variances(X, present)
    found = grown.log_variances(X, torch.cat([present, flute], 1))
    torch.testing.assert_close(found[:, :4], expected)
