"""What lies above a model's reach follows the stem whose highest octave sounds, and is never lost."""

import numpy as np
import pytest

from sepvae.separation.highs import Highs

RATE, REACH = 48_000, 8_000.0


def share(
    stems: np.ndarray, rest: np.ndarray, blocks: list[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Push a signal in blocks, by default in one."""
    highs = Highs(len(stems), stems.shape[1], RATE, REACH, residual=1)
    outs, lefts = [], []
    start = 0
    for count in blocks or [stems.shape[-1]]:
        stop = start + count
        out, left = highs.push(stems[..., start:stop], rest[:, start:stop], last=stop == stems.shape[-1])
        outs.append(out)
        lefts.append(left)
        start = stop
    return np.concatenate(outs, axis=-1), np.concatenate(lefts, axis=-1)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)[None]


def level(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))


def test_highs_go_to_the_stem_that_sounds_below_them() -> None:
    """A tone of 10 kHz while the first stem has 6 kHz, then while the second has."""
    below, rest = 0.1 * tone(6000), 0.05 * tone(10_000)
    half = below.shape[1] // 2
    stems = np.stack([below, below]).astype(np.float32)
    stems[0, :, half:] = 0
    stems[1, :, :half] = 0
    out, left = share(stems, rest)
    gained = out - stems
    early, late = slice(2000, half - 2000), slice(half + 2000, -2000)
    assert level(gained[0][:, early]) == pytest.approx(level(rest[:, early]), rel=1e-3)
    assert level(gained[1][:, early]) < 1e-4 * level(rest)
    assert level(gained[1][:, late]) == pytest.approx(level(rest[:, late]), rel=1e-3)
    assert level(gained[0][:, late]) < 1e-4 * level(rest)
    np.testing.assert_allclose(gained[1], left, atol=1e-7)


def test_a_stem_that_sounds_three_times_as_loud_gets_three_times_as_much() -> None:
    stems = np.stack([0.3 * tone(6000), 0.1 * tone(6000)]).astype(np.float32)
    out, _ = share(stems, 0.05 * tone(10_000))
    gained = (out - stems)[..., 2000:-2000]
    assert level(gained[0]) == pytest.approx(3 * level(gained[1]), rel=1e-3)


def test_what_sounds_low_alone_gets_no_highs() -> None:
    """A hum of 200 Hz says nothing of the highs, however loud."""
    stems = np.stack([0.9 * tone(200), 0.01 * tone(6000)]).astype(np.float32)
    out, _ = share(stems, 0.05 * tone(10_000))
    assert level((out - stems)[0, :, 2000:-2000]) < 0.01 * level(0.05 * tone(10_000))


def test_highs_over_silence_are_the_residual_sources() -> None:
    rest = 0.05 * tone(10_000)
    out, left = share(np.zeros((2, *rest.shape), np.float32), rest)
    assert not out[0].any()
    np.testing.assert_allclose(out[1], rest, atol=1e-7)
    np.testing.assert_array_equal(left, rest)


@pytest.mark.parametrize("length", [1, 767, 768, 769, 1536, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sum_stays_and_no_sample_is_lost(length: int, dtype: type, rng: np.random.Generator) -> None:
    stems = (0.1 * rng.standard_normal((3, 2, length))).astype(dtype)
    rest = 0.1 * rng.standard_normal((2, length))
    out, left = share(stems, rest)
    assert out.shape == stems.shape
    assert left.shape == rest.shape
    assert out.dtype == dtype
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(out.sum(axis=0), stems.sum(axis=0) + rest, atol=tolerance)


def test_blocks_of_any_size_give_the_same_samples(rng: np.random.Generator) -> None:
    stems = (0.1 * rng.standard_normal((2, 1, 9000))).astype(np.float32)
    rest = 0.1 * rng.standard_normal((1, 9000))
    whole, _ = share(stems, rest)
    pieces, _ = share(stems, rest, [1, 766, 1, 768, 1536, 3000, 100, 2828])
    np.testing.assert_array_equal(pieces, whole)


def test_no_more_samples_wait_than_the_latency_says(rng: np.random.Generator) -> None:
    highs = Highs(2, 1, RATE, REACH, residual=1)
    waiting = 0
    for count in (1, 500, 1000, 35, 1, 4000, 700):
        stems = (0.1 * rng.standard_normal((2, 1, count))).astype(np.float32)
        waiting += count - highs.push(stems, np.zeros((1, count)), last=False)[0].shape[-1]
        assert 0 <= waiting < highs.latency
