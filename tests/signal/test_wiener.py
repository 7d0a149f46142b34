"""The Wiener filter shares the mixture out completely and stays finite."""

import math

import torch

from sepvae.signal import wiener


def test_masks_are_the_shares_of_the_variances() -> None:
    V = torch.rand(2, 3, 2, 5, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    torch.testing.assert_close(wiener.masks(V.log()), V / V.sum(1, keepdim=True))


def test_silence_is_shared_equally_and_never_nan() -> None:
    for log_variance in (torch.full((1, 4, 2, 3, 2), -torch.inf), torch.full((1, 4, 2, 3, 2), -200.0)):
        torch.testing.assert_close(wiener.masks(log_variance), torch.full((1, 4, 2, 3, 2), 0.25))


def test_the_floor_is_a_variance_of_its_own_in_every_source() -> None:
    log_variance = torch.tensor([math.log(3e-10), -torch.inf]).view(1, 2, 1, 1, 1)
    expected = torch.tensor([4 / 5, 1 / 5]).view(1, 2, 1, 1, 1)
    torch.testing.assert_close(wiener.masks(log_variance, floor=1e-10), expected)


def test_filtered_sources_add_up_to_the_mixture() -> None:
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(2, 2, 9, 5, dtype=torch.complex64, generator=generator)
    M = wiener.masks(5 * torch.randn(2, 4, 2, 9, 5, generator=generator))
    torch.testing.assert_close((X.unsqueeze(1) * M).sum(1), X)


def test_twice_all_variances_is_the_same_filter() -> None:
    log_variance = torch.randn(1, 3, 2, 5, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(wiener.masks(log_variance), wiener.masks(log_variance + math.log(2)))
