"""Bands keep low bins, merge high ones, and map back exactly."""

import pytest
import torch

from sepvae.errors import ShapeError
from sepvae.signal.bands import Bands

AXES = [(2049, 384, 13), (2049, 384, 16), (33, 8, 4), (33, 33, 4), (33, 0, 5), (33, 32, 7), (9, 0, 20)]


@pytest.mark.parametrize(("n_bins", "kept", "width"), AXES)
def test_every_bin_lies_in_one_band_and_energy_is_kept(n_bins: int, kept: int, width: int) -> None:
    bands = Bands(n_bins, kept, width)
    P = torch.rand(2, n_bins, 3, generator=torch.Generator().manual_seed(0))
    merged = bands.merge(P)
    assert merged.shape == (2, bands.count, 3)
    assert bands.sizes.sum() == n_bins
    torch.testing.assert_close((merged * bands.sizes[:, None]).sum(1), P.sum(1))
    torch.testing.assert_close(merged[:, :kept], P[:, :kept])


@pytest.mark.parametrize(("n_bins", "kept", "width"), AXES)
def test_merging_undoes_expanding(n_bins: int, kept: int, width: int) -> None:
    bands = Bands(n_bins, kept, width)
    V = torch.rand(bands.count, 4, generator=torch.Generator().manual_seed(1))
    assert bands.expand(V).shape == (n_bins, 4)
    torch.testing.assert_close(bands.merge(bands.expand(V)), V)


@pytest.mark.parametrize(("n_bins", "kept", "width"), AXES)
def test_scaling_multiplies_every_bin_by_its_band(n_bins: int, kept: int, width: int) -> None:
    bands, generator = Bands(n_bins, kept, width), torch.Generator().manual_seed(2)
    X = torch.randn(2, n_bins, 4, dtype=torch.complex64, generator=generator)
    V = torch.rand(2, bands.count, 4, generator=generator)
    torch.testing.assert_close(bands.scale(X, V), X * bands.expand(V), atol=0, rtol=1e-6)


def test_the_music_axis_has_512_bands() -> None:
    assert Bands(2049, 384, 13).count == 512


def test_wrong_axes_are_refused() -> None:
    bands = Bands(33, 8, 4)
    with pytest.raises(ShapeError, match="33 bins"):
        bands.merge(torch.zeros(32, 2))
    with pytest.raises(ShapeError, match="bands on axis"):
        bands.expand(torch.zeros(33, 2))
    with pytest.raises(ShapeError, match="width"):
        Bands(33, 40, 4)
