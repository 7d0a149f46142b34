"""Equalisers that are fitted to a mixture undo what made the variances wrong, and no more."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sepvae.errors import ShapeError
from sepvae.signal import gains
from sepvae.signal.bands import Bands

FRAMES = 256


@pytest.fixture
def bands() -> Bands:
    return Bands(129, kept=16, width=7)


@pytest.fixture
def basis(bands: Bands) -> Tensor:
    return gains.equaliser(bands, 8000, 6)


@pytest.fixture
def variances(bands: Bands, generator: torch.Generator) -> Tensor:
    """Two sources that play at different times, and a third that hardly plays. `[K, N, M]`."""
    V = torch.rand(3, bands.count, FRAMES, generator=generator) * 1e-3
    gate = (torch.arange(FRAMES) // 16 % 2).float()
    V[0] *= 0.05 + gate
    V[1] *= 1.05 - gate
    V[2] *= 1e-4
    return V + 1e-7


def mixture(V: Tensor, generator: torch.Generator) -> Tensor:
    """Power of complex Gaussian sources with these variances."""
    return V.sum(0) * -torch.log(torch.rand(V.shape[1:], generator=generator).clamp(min=1e-9))


def test_the_triangles_share_out_every_band(basis: Tensor, bands: Bands) -> None:
    assert basis.shape == (6, bands.count)
    torch.testing.assert_close(basis.sum(0), torch.ones(bands.count))
    peaks = basis.argmax(1)
    assert (peaks[1:] >= peaks[:-1]).all()


def test_a_source_that_is_too_loud_in_the_model_is_found(
    variances: Tensor, basis: Tensor, bands: Bands, generator: torch.Generator
) -> None:
    P = mixture(variances, generator)
    V = variances.clone()
    V[0] *= 10.0  # the model believes it to be 10 dB louder than it is
    g = gains.fit_gains(P, V, bands.sizes, basis, steps=20, shrink=1.0, caution=0.0)
    found_db = 10 / math.log(10) * g @ basis
    assert found_db[0].mean() == pytest.approx(-10, abs=1.0)
    assert found_db[1].mean() == pytest.approx(0, abs=1.0)


def test_a_tilted_source_gets_its_tilt_back(
    variances: Tensor, basis: Tensor, bands: Bands, generator: torch.Generator
) -> None:
    tilt = torch.linspace(-2, 2, 6) @ basis  # log-gain of the truth
    P = mixture(variances * torch.stack([tilt, 0 * tilt, 0 * tilt]).exp()[..., None], generator)
    g = gains.fit_gains(P, variances, bands.sizes, basis, steps=30, shrink=1.0, caution=0.0)
    assert ((g[0] @ basis) - tilt).abs().mean() < 0.25


def test_a_likely_mixture_leaves_the_gains_alone(
    variances: Tensor, basis: Tensor, bands: Bands, generator: torch.Generator
) -> None:
    g = gains.fit_gains(mixture(variances, generator), variances, bands.sizes, basis, steps=20)
    assert g[:2].abs().max() < 0.3
    assert g[2].abs().max() < 0.1  # caution holds the source that does not play


def test_a_few_hits_that_are_drawn_too_weakly_raise_no_gain(
    variances: Tensor, basis: Tensor, bands: Bands, generator: torch.Generator
) -> None:
    P = mixture(variances, generator)
    P[:, 16:FRAMES:32] += 300 * variances[0].mean()  # 25 dB above the variance, in one frame of 32
    bounded = gains.fit_gains(P, variances, bands.sizes, basis, steps=5)
    unbounded = gains.fit_gains(P, variances, bands.sizes, basis, steps=5, most=math.inf)
    assert bounded[0].max() < 0.5
    assert unbounded[0].min() > 1.5


def test_the_likelihood_grows_and_shrinking_bounds_the_gains(
    variances: Tensor, basis: Tensor, bands: Bands, generator: torch.Generator
) -> None:
    P = mixture(variances, generator)
    V = variances * torch.tensor([100.0, 0.01, 1.0])[:, None, None]

    def nll(steps: int) -> float:
        g = gains.fit_gains(P, V, bands.sizes, basis, steps=steps)
        total = ((g @ basis).exp()[..., None] * V).sum(0)
        return float((bands.sizes[:, None] * (total.log() + P / total)).sum())

    found = [nll(steps) for steps in (0, 1, 3, 10, 50, 51)]
    assert found[0] > found[1] > found[2] > found[3]
    assert found[4] == pytest.approx(found[5], rel=1e-4)  # more steps change nothing any more


def test_silence_pulls_at_nothing(variances: Tensor, basis: Tensor, bands: Bands) -> None:
    P = torch.zeros(bands.count, FRAMES)
    g = gains.fit_gains(P, variances * 1e-9, bands.sizes, basis, steps=10)
    assert g.abs().max() < 0.01
    assert torch.isfinite(gains.fit_gains(P, variances, bands.sizes, basis, steps=10)).all()


def test_part_of_a_window_is_fitted_with_more_caution(
    variances: Tensor, basis: Tensor, bands: Bands, generator: torch.Generator
) -> None:
    P, V = 4 * mixture(variances, generator)[:, :8], variances[..., :8]
    whole = gains.fit_gains(P, V, bands.sizes, basis, steps=5)
    part = gains.fit_gains(P, V, bands.sizes, basis, steps=5, points=FRAMES)
    assert part.abs().mean() < 0.7 * whole.abs().mean()


def test_windows_cover_every_frame_with_weight_one() -> None:
    first, last = 200, 700
    weights = sum(gains.crossfade(first, last, w) for w in gains.windows(first, last))
    torch.testing.assert_close(weights, torch.ones(last - first))
    for window in gains.windows(first, last):
        start, stop = gains.span(window)
        outside = gains.crossfade(start - 9, stop + 9, window)
        assert outside[:9].abs().max() < 1e-6
        assert outside[-9:].abs().max() < 1e-6
    assert gains.crossfade(first, last, gains.windows(first, last)[0]).any()


def test_windows_of_a_stream_that_has_gone_on_for_weeks_are_as_smooth_as_the_first() -> None:
    late = 2**26
    weights = gains.crossfade(late, late + 200, late // gains.HALF_WINDOW)
    torch.testing.assert_close(weights, gains.crossfade(0, 200, 0))


def test_wrong_shapes_are_refused(variances: Tensor, basis: Tensor, bands: Bands) -> None:
    with pytest.raises(ShapeError, match="expected steps"):
        gains.fit_gains(variances[0, :, :5], variances, bands.sizes, basis, steps=1)
    with pytest.raises(ShapeError, match="expected steps"):
        gains.fit_gains(variances[0], variances, bands.sizes, basis, steps=-1)
