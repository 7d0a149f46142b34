"""Sources that share a VAE have no order of their own: the nearest one counts, and only among themselves."""

import dataclasses
from itertools import permutations

import pytest
import torch

from sepvae.errors import ShapeError
from sepvae.models.build import build, config_dict
from sepvae.models.permutation import best_order, in_order_of, orders, take
from sepvae.models.separation import SeparationConfig, SeparationVAE


def shared(config: SeparationConfig, **changes: object) -> SeparationConfig:
    names = {"sources": ("first", "second", "noise"), "vae_names": ("speech", "speech", "noise")}
    return dataclasses.replace(config, **{**names, **changes})


def test_orders_are_all_permutations_within_the_groups() -> None:
    assert orders(3, [(0, 1, 2)]).tolist() == [list(order) for order in permutations(range(3))]
    assert orders(4, [(1, 3)]).tolist() == [[0, 1, 2, 3], [0, 3, 2, 1]]
    assert len(orders(5, [(0, 1), (2, 3, 4)])) == 12
    assert orders(2, []).tolist() == [[0, 1]]


def test_the_best_order_undoes_any_permutation_for_each_excerpt_on_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    estimates = torch.randn(6, 4, 5, generator=generator)
    mixed = orders(4, [(0, 1, 3)])  # 6 of them, one per excerpt
    references = take(estimates, mixed) + 0.1 * torch.randn(6, 4, 5, generator=generator)
    order = best_order(lambda found: (estimates - found).square().sum(2), references, [(0, 1, 3)])
    torch.testing.assert_close(take(references, order), estimates, atol=0.5, rtol=0)
    assert (order[:, 2] == 2).all()  # the source of its own stays


def test_the_cost_of_the_best_order_is_the_smallest_of_all() -> None:
    generator = torch.Generator().manual_seed(1)
    estimates, references = torch.randn(2, 8, 3, 7, generator=generator)

    def error(found: torch.Tensor) -> torch.Tensor:
        return (estimates - found).square().sum(2)

    best = error(take(references, best_order(error, references, [(0, 1, 2)]))).sum(1)
    slow = torch.stack([error(references[:, list(order)]).sum(1) for order in permutations(range(3))]).amin(0)
    torch.testing.assert_close(best, slow)


def test_estimates_are_put_in_the_place_of_the_nearest_speaker() -> None:
    sources = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(2))
    estimates = sources[[1, 0, 2], :, :40] + 0.01
    torch.testing.assert_close(in_order_of(estimates, sources, [(0, 1)]), sources[..., :40] + 0.01)
    noise_first = sources[[2, 1, 0]]
    assert in_order_of(noise_first, sources, [(0, 1)])[2].equal(sources[0])  # only speakers change places
    assert in_order_of(estimates, sources, []) is estimates


def test_sources_share_one_vae_and_have_heads_of_their_own(separation_vae: SeparationVAE) -> None:
    model = SeparationVAE(shared(separation_vae.config))
    assert set(model.vaes) == {"speech", "noise"}
    assert model.source_vae("first") is model.source_vae("second")
    assert model.config.alike == ((0, 1),)
    X = model.stft(0.1 * torch.randn(1, 2, 3000, generator=torch.Generator().manual_seed(0)))
    assert model.log_variances(X).shape[1] == 3
    assert len(list(model.parameters())) < len(list(separation_vae.parameters()))
    again = build(config_dict(model))
    again.load_state_dict(model.state_dict())
    assert separation_vae.config.alike == ()


def test_names_of_sources_are_free(separation_vae: SeparationVAE) -> None:
    names = ("keys", "St. Peter's organ", "training")
    model = SeparationVAE(dataclasses.replace(separation_vae.config, sources=names, residual_source="keys"))
    again = build(config_dict(model))
    again.load_state_dict(model.state_dict())
    assert len({id(model.source_vae(name)) for name in names}) == 3


def test_names_that_torch_cannot_tell_apart_are_refused(separation_vae: SeparationVAE) -> None:
    for names in (("keys", "keys_"), ("a.b", "a_b")):
        with pytest.raises(ShapeError, match="must differ in more than"):
            SeparationVAE(dataclasses.replace(separation_vae.config, sources=names, residual_source=names[0]))


def test_vae_names_go_with_the_sources(separation_vae: SeparationVAE) -> None:
    with pytest.raises(ShapeError, match="3 sources need as many vae_names"):
        shared(separation_vae.config, vae_names=("speech", "noise"))
