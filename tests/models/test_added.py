"""Sources that are added to a trained model."""

import dataclasses

import pytest
import torch

from sepvae.errors import ShapeError
from sepvae.models.build import build, config_dict
from sepvae.models.separation import SeparationConfig, SeparationVAE


def test_an_added_source_does_not_change_the_others(
    tiny_config: SeparationConfig, tiny_model: SeparationVAE
) -> None:
    grown = dataclasses.replace(tiny_config, sources=(*tiny_config.sources, "flute"), added=1)
    model = SeparationVAE(grown).eval()
    missing, unknown = model.load_state_dict(tiny_model.state_dict(), strict=False)
    assert not unknown
    assert {".".join(name.split(".")[:2]) for name in missing} == {"vaes.flute", "mixture.added"}
    P, P_side = torch.rand(2, 2, 32, 16) + 0.01, torch.rand(2, 32, 16)
    before, after = tiny_model.posteriors(P, P_side), model.posteriors(P, P_side)
    assert len(after) == len(before) + 1
    for a, b in zip(before, after, strict=False):
        assert all(torch.equal(x.mean, y.mean) for x, y in zip(a.levels, b.levels, strict=True))


def test_the_context_covers_what_an_added_source_looks_at(tiny_config: SeparationConfig) -> None:
    grown = dataclasses.replace(tiny_config, sources=(*tiny_config.sources, "flute"), added=1)
    torch.manual_seed(0)
    model = SeparationVAE(grown).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    frames = 2 * model.context_frames + 32
    P, P_side = torch.rand(1, 2, 32, frames) + 0.01, torch.rand(1, 32, frames)
    whole = model.band_log_variances(P, P_side)
    P[..., 0], P[..., -1] = 5, 5
    moved = model.band_log_variances(P, P_side)
    inner = slice(model.context_frames, -model.context_frames)
    assert not torch.equal(moved, whole)
    torch.testing.assert_close(moved[..., inner], whole[..., inner], atol=1e-5, rtol=0)


def test_the_config_survives_the_card(tiny_config: SeparationConfig) -> None:
    grown = dataclasses.replace(tiny_config, sources=(*tiny_config.sources, "flute"), added=1)
    assert build(config_dict(SeparationVAE(grown))).config == grown


def test_not_all_sources_can_be_added(tiny_config: SeparationConfig) -> None:
    with pytest.raises(ShapeError, match="fewer can be added"):
        dataclasses.replace(tiny_config, added=4)
