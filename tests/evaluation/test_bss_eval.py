"""BSSEval is museval's, and silence does not break it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sepvae.evaluation import bss_eval

RATE = 1000
LENGTH = 8 * RATE


@pytest.fixture
def references(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: rng.standard_normal((2, LENGTH)) * 0.1 for name in ("a", "b")}


def test_interference_at_20_db_is_scored_as_20_db(references: dict[str, np.ndarray]) -> None:
    a, b = references["a"], references["b"]
    track = bss_eval.TrackBSS(("a", "b"), RATE)
    track.take({"a": a + 0.1 * b, "b": b}, references)
    scores = track.medians()
    assert scores["a"]["sdr"] == pytest.approx(20, abs=0.5)
    assert scores["a"]["sir"] == pytest.approx(20, abs=0.8)  # 2 x 512 taps, fitted on 8,000 samples
    assert scores["a"]["sar"] > 60
    assert scores["b"]["sdr"] > 60


def test_stretches_are_joined_before_they_are_scored(references: dict[str, np.ndarray]) -> None:
    estimates = {name: s + 0.3 * references["a"][::-1] for name, s in references.items()}
    whole, parts = bss_eval.TrackBSS(("a", "b"), RATE), bss_eval.TrackBSS(("a", "b"), RATE)
    whole.take(estimates, references)
    for cut in (slice(0, LENGTH // 2), slice(LENGTH // 2, LENGTH)):
        parts.take(*({name: x[:, cut] for name, x in xs.items()} for xs in (estimates, references)))
    assert parts.medians() == whole.medians()


def test_sdr_is_the_plain_ratio_of_every_second(references: dict[str, np.ndarray]) -> None:
    estimates = {name: s + 0.2 * references["b"][::-1] for name, s in references.items()}
    found = bss_eval.frame_scores(estimates, references, RATE)["a"][0]
    s, x = (signal["a"].reshape(2, 8, RATE) for signal in (references, estimates))
    expected = 10 * np.log10(np.square(s).sum((0, 2)) / np.square(x - s).sum((0, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_frames_of_silence_do_not_count(references: dict[str, np.ndarray]) -> None:
    estimates = {name: s + 0.1 * references["b"][::-1] for name, s in references.items()}
    references["a"][:, :RATE] = 0
    frames = bss_eval.frame_scores(estimates, references, RATE)
    assert np.isnan(frames["a"][:, 0]).all()
    assert np.isnan(frames["b"][:, 0]).all()  # museval's way: no source of a frame without all of them
    assert np.isfinite(frames["a"][:, 1:]).all()


def test_a_silent_segment_gives_no_score(references: dict[str, np.ndarray]) -> None:
    track = bss_eval.TrackBSS(("a", "b"), RATE)
    track.take(references, {"a": references["a"], "b": np.zeros_like(references["b"])})
    assert all(math.isnan(score) for scores in track.medians().values() for score in scores.values())


def test_twin_channels_are_scored_as_one(references: dict[str, np.ndarray]) -> None:
    twins = {name: np.repeat(s[:1], 2, axis=0) for name, s in references.items()}
    noisy = {name: s + 0.1 * references["b"][1] for name, s in twins.items()}
    twin = bss_eval.frame_scores(noisy, twins, RATE)
    mono = bss_eval.frame_scores(*({n: x[:1] for n, x in xs.items()} for xs in (noisy, twins)), RATE)
    np.testing.assert_array_equal(twin["a"], mono["a"])


def test_two_equal_references_are_no_error() -> None:
    impulse = np.zeros((2, LENGTH))
    impulse[:, 100] = 1
    frames = bss_eval.frame_scores({"a": impulse, "b": impulse}, {"a": impulse, "b": impulse}, RATE)
    assert frames["a"].shape == (4, 8)
