"""Resampling keeps every sample in its place, however the stream is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepvae.audio.resample import Resampler, check_rate
from sepvae.errors import ShapeError


def resample(x: np.ndarray, in_rate: int, out_rate: int, block: int) -> np.ndarray:
    run = Resampler(in_rate, out_rate, len(x))
    out = [run.push(x[:, start : start + block]) for start in range(0, x.shape[1], block)]
    return np.concatenate([*out, run.finish()], axis=1)


@pytest.mark.parametrize(
    ("in_rate", "out_rate"), [(8000, 44100), (96000, 44100), (44100, 48000), (44100, 22050)]
)
def test_a_tone_stays_in_its_place(in_rate: int, out_rate: int) -> None:
    def tone(rate: int) -> np.ndarray:
        time = np.arange(rate) / rate
        return (np.sin(2 * np.pi * 997 * time) * np.sin(np.pi * time) ** 2)[None].astype(np.float32)

    out = resample(tone(in_rate), in_rate, out_rate, 1000)
    assert out.shape == (1, out_rate)
    # the passband is flat to about 1e-6; one sample of delay would be an error of 0.1
    np.testing.assert_allclose(out, tone(out_rate), atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 3000),
    rates=st.sampled_from([(8000, 44100), (48000, 44100), (44100, 96000), (44101, 44100)]),
    block=st.integers(1, 500),
)
def test_the_cut_into_blocks_does_not_matter(length: int, rates: tuple[int, int], block: int) -> None:
    x = np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)
    out = resample(x, *rates, block)
    assert abs(out.shape[1] - length * rates[1] / rates[0]) <= 0.5
    np.testing.assert_array_equal(out, resample(x, *rates, 3000))


def test_equal_rates_pass_through() -> None:
    x = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    np.testing.assert_array_equal(resample(x, 44100, 44100, 7), x)


@pytest.mark.parametrize("rate", [0, -44100, 44100.5, float("nan"), 10**9, True])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ShapeError, match="rate"):
        check_rate(rate)  # type: ignore[arg-type]
