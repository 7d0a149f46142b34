"""Permutation-invariant training: the assignment of estimates to sources that are interchangeable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations, product

import torch
from torch import Tensor


def orders(count: int, alike: Sequence[Sequence[int]]) -> Tensor:
    """Every order of the sources that permutes them within their groups only, the given order first.

    Args:
        count: number of sources K.
        alike: groups of indices of sources that are alike; those in none keep their place.

    Shape:
        -> `[P, K]`, P the product of the groups' factorials
    """
    found = []
    for choice in product(*(permutations(group) for group in alike)):
        order = list(range(count))
        for group, places in zip(alike, choice, strict=True):
            for k, place in zip(group, places, strict=True):
                order[k] = place
        found.append(order)
    return torch.tensor(found)


def best_order(
    error: Callable[[Tensor], Tensor], references: Tensor, alike: Sequence[Sequence[int]]
) -> Tensor:
    """The order of the references that is nearest to the estimates, for every excerpt on its own.

    Args:
        error: error of each estimate against the reference in its place, from references in some order; called once
            per order, without gradients.
        references: `[B, K, ...]`, or their indices `[B, K]` where the error looks them up itself.
        alike: groups of indices of sources that are alike.

    Shape:
        error: `[B, K, ...]` -> `[B, K]`; -> `[B, K]`, indices

    Source: Yu, Kolbaek, Tan & Jensen 2017, permutation invariant training; all K! orders of a group are tried.
    """
    batch, count = references.shape[:2]
    candidates = orders(count, alike).to(references.device)  # [P, K]
    with torch.no_grad():
        costs = [error(take(references, order.expand(batch, -1))).sum(1) for order in candidates]  # P of [B]
    return candidates[torch.stack(costs).argmin(0)]


def take(signals: Tensor, order: Tensor) -> Tensor:
    """Sources in another order.

    Shape: signals `[B, K, ...]`, order `[B, K]` -> `[B, K, ...]`.
    """
    index = order.reshape(*order.shape, *(1,) * (signals.ndim - 2))
    return signals.take_along_dim(index, 1)


def in_order_of(estimates: Tensor, references: Tensor, alike: Sequence[Sequence[int]]) -> Tensor:
    """Estimates of one mixture, those of sources that are alike each in the place of the source it is nearest to.

    Args:
        estimates: in the order of the model's heads.
        references: true sources; what they have beyond the estimates is left out.
        alike: groups of indices of sources that are alike.

    Shape: estimates `[K, C, L']`, references `[K, C, L]`, L' <= L -> `[K, C, L']`.
    """
    if not alike:
        return estimates

    def error(found: Tensor) -> Tensor:
        return (estimates - found).square().sum((2, 3))

    order = best_order(error, references[None, ..., : estimates.shape[-1]], alike)
    return estimates[order[0].argsort()]
