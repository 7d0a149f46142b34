"""The metrics are what their paper says, and the protocol is what the design says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sepvae.errors import ShapeError
from sepvae.signal import metrics

RATE = 1000  # ten seconds are 10,000 samples


def _noise(*shape: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * level


def _slow_si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Project, subtract, divide: the definition, sample by sample."""
    scale = sum(a * b for a, b in zip(estimate, reference, strict=True)) / sum(b * b for b in reference)
    target = [scale * b for b in reference]
    error = [a - t for a, t in zip(estimate, target, strict=True)]
    return 10 * math.log10(sum(t * t for t in target) / sum(e * e for e in error))


@pytest.mark.parametrize("error_db", [-40, -10, 0, 10, 30])
def test_si_sdr_equals_its_definition_and_torchmetrics(error_db: float) -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.audio")
    reference = _noise(800)
    estimate = reference + 10 ** (error_db / 20) * _noise(800, seed=1)
    found = metrics.si_sdr(estimate, reference)
    assert found == pytest.approx(_slow_si_sdr(estimate, reference), abs=1e-4)  # eps of 1e-10 at -40 dB
    oracle = torchmetrics.scale_invariant_signal_distortion_ratio(
        torch.from_numpy(estimate), torch.from_numpy(reference)
    )
    assert found == pytest.approx(oracle.item(), abs=1e-4)


def test_a_known_error_gives_a_known_score() -> None:
    time = np.arange(1000) / 1000
    reference = np.sin(2 * np.pi * 10 * time)
    orthogonal = np.cos(2 * np.pi * 10 * time)
    assert metrics.si_sdr(reference + 0.1 * orthogonal, reference) == pytest.approx(20.0, abs=1e-6)


@given(st.floats(1e-12, 1e12), st.floats(1e-12, 1e12), st.sampled_from([-1, 1]))
def test_the_scale_of_either_signal_changes_nothing(a: float, b: float, sign: int) -> None:
    reference, error = _noise(200), _noise(200, seed=1)
    plain = metrics.si_sdr(reference + error, reference)
    assert metrics.si_sdr(sign * a * (reference + error), b * reference) == pytest.approx(plain, abs=1e-6)


def test_batches_are_scored_one_by_one() -> None:
    reference, estimate = _noise(2, 3, 100), _noise(2, 3, 100, seed=1)
    found = metrics.si_sdr(estimate, reference)
    assert found.shape == (2, 3)
    assert found[1, 2] == metrics.si_sdr(estimate[1, 2], reference[1, 2])


def test_perfect_silent_and_missing_signals() -> None:
    signal, silence = _noise(100), np.zeros(100)
    assert metrics.si_sdr(signal, signal) == pytest.approx(100)
    assert metrics.si_sdr(silence, signal) == pytest.approx(-100)
    assert math.isnan(metrics.si_sdr(signal, silence))
    assert math.isnan(metrics.si_sdr(silence, silence))
    for wrong in (math.nan, math.inf):
        assert math.isnan(metrics.si_sdr(np.where(np.arange(len(signal)) == 1, wrong, signal), signal))


def test_signals_of_different_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match="one length"):
        metrics.si_sdr(np.ones(3), np.ones(4))


@given(st.integers(0, 50_000))
def test_windows_lie_side_by_side_and_only_the_partial_last_is_dropped(length: int) -> None:
    parts = metrics.windows(length, RATE)
    if length < 10_000:
        assert parts == ([slice(0, length)] if length else [])
    else:
        assert len(parts) == length // 10_000
        assert all(part.stop - part.start == 10_000 and part.stop <= length for part in parts)
        assert [part.start for part in parts] == [10_000 * i for i in range(len(parts))]


def test_the_mixture_improves_by_nothing_and_the_truth_by_much() -> None:
    references = {"a": _noise(2, 30_000), "b": _noise(2, 30_000, seed=1)}
    mixture = references["a"] + references["b"]
    same = metrics.score_track(dict.fromkeys(references, mixture), references, mixture, RATE)
    assert all(score.si_sdr_improvement == 0 and score.windows == 3 for score in same.values())
    best = metrics.score_track(references, references, mixture, RATE)
    assert all(score.si_sdr > 90 and score.si_sdr_improvement > 90 for score in best.values())


def test_only_windows_with_an_audible_reference_count() -> None:
    reference = _noise(2, 40_000)
    channel_mean_rms = 0.1 * 2**-0.5
    reference[:, 10_000:20_000] *= 10 ** (-46 / 20) / channel_mean_rms
    reference[:, 20_000:30_000] *= 10 ** (-44 / 20) / channel_mean_rms
    reference[:, 30_000:] = 0
    mixture = reference + _noise(2, 40_000, seed=1)
    scores = metrics.score_windows({"a": mixture}, {"a": reference}, mixture, RATE)["a"]
    audible = (slice(0, 10_000), slice(20_000, 30_000))
    expected = [float(metrics.si_sdr(mixture.mean(0)[part], reference.mean(0)[part])) for part in audible]
    assert [score.si_sdr for score in scores] == pytest.approx(expected)


def test_a_silent_reference_has_no_windows_and_no_score() -> None:
    noise = _noise(2, 20_000)
    score = metrics.score_track({"a": noise}, {"a": np.zeros_like(noise)}, noise, RATE)["a"]
    assert score.windows == 0
    assert math.isnan(score.si_sdr)
    assert math.isnan(score.si_sdr_improvement)


def test_a_track_is_the_mean_of_its_windows_and_scores_do_not_depend_on_how_it_is_cut() -> None:
    reference, mixture = _noise(30_000), _noise(30_000, seed=1)
    mixture += reference
    estimate = reference + _noise(30_000, seed=2) * np.linspace(0.1, 1, 30_000)
    whole = metrics.score_windows({"a": estimate}, {"a": reference}, mixture, RATE)["a"]
    parts = []
    for cut in (slice(0, 20_000), slice(20_000, 30_000)):
        parts += metrics.score_windows({"a": estimate[cut]}, {"a": reference[cut]}, mixture[cut], RATE)["a"]
    assert parts == whole
    assert metrics.summarise(whole).si_sdr == pytest.approx(np.mean([score.si_sdr for score in whole]))


def test_lengths_that_differ_are_named() -> None:
    with pytest.raises(ShapeError, match=r"a: .*9 \(estimate\), 10 \(reference\), 10 \(mixture\)"):
        metrics.score_track({"a": np.ones(9)}, {"a": np.ones(10)}, np.ones(10), RATE)


def test_an_estimate_that_is_not_finite_is_named() -> None:
    with pytest.raises(ShapeError, match="a: the estimate holds NaN"):
        metrics.score_track({"a": np.array([0.1, math.nan])}, {"a": np.ones(2)}, np.ones(2), RATE)
