"""Each step does one thing to the sound, and only that."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import find_peaks

from sepvae.data.augment import (
    EQ,
    OFF,
    ChannelSwap,
    Codec,
    Compression,
    Effects,
    Gain,
    Level,
    Loudness,
    Polarity,
    Reverb,
    Saturation,
    Sometimes,
    change_speed,
    coded,
    frames_for,
    loudness,
    stretch,
)
from sepvae.errors import RecipeError

RATE = 16000


@pytest.fixture
def tone() -> np.ndarray:
    """Two seconds of 440 Hz, the right channel at half the level: `[2, L]`."""
    wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    return np.stack([wave, wave / 2]).astype(np.float32)


@pytest.fixture
def clicks() -> np.ndarray:
    """A click every quarter of a second: `[2, L]`."""
    audio = np.zeros((2, 2 * RATE), np.float32)
    for start in range(RATE // 8, 2 * RATE, RATE // 4):
        audio[:, start : start + 32] = np.hanning(32)
    return audio


def pitch(audio: np.ndarray) -> float:
    middle = audio[0, RATE // 4 : -RATE // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    return float(spectrum.argmax() * RATE / (1 << 18))


def places(audio: np.ndarray) -> np.ndarray:
    """Seconds at which the clicks are."""
    return find_peaks(np.abs(audio[0]), height=0.1, distance=RATE // 8)[0] / RATE


def test_gain_spreads_in_decibels(tone: np.ndarray, rng: np.random.Generator) -> None:
    gains = [20 * np.log10(Gain(3.0)(tone, RATE, rng)[0, 9] / tone[0, 9]) for _ in range(500)]
    assert np.std(gains) == pytest.approx(3.0, rel=0.15)
    assert np.mean(gains) == pytest.approx(0.0, abs=0.5)
    levels = [20 * np.log10(Level((-6.0, 2.0))(tone, RATE, rng)[0, 9] / tone[0, 9]) for _ in range(300)]
    assert -6 <= min(levels) < -5.5
    assert 1.5 < max(levels) <= 2


def test_polarity_and_swap_happen_half_of_the_time(tone: np.ndarray, rng: np.random.Generator) -> None:
    tone = tone[:, :500]
    turned = [Polarity()(tone, RATE, rng) for _ in range(200)]
    assert all(np.array_equal(np.abs(audio), np.abs(tone)) for audio in turned)
    assert 60 < sum(np.array_equal(audio, -tone) for audio in turned) < 140
    swapped = [ChannelSwap()(tone, RATE, rng) for _ in range(200)]
    assert all(np.array_equal(np.sort(audio, 0), np.sort(tone, 0)) for audio in swapped)
    assert 60 < sum(np.array_equal(audio, tone[::-1]) for audio in swapped) < 140


def test_sometimes_is_sometimes(rng: np.random.Generator) -> None:
    drawn = np.array([Sometimes(0.3, (-2.0, 2.0), rest=0.0).draw(rng) for _ in range(400)])
    assert 0.2 < np.mean(drawn != 0) < 0.4
    assert np.abs(drawn).max() <= 2


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_speed_changes_pitch_and_tempo_together(tone: np.ndarray, clicks: np.ndarray, speed: float) -> None:
    length = RATE
    frames = frames_for(length, speed)
    fast = change_speed(tone[:, :frames], speed, RATE, length)
    assert fast.shape == (2, length)
    assert pitch(fast) == pytest.approx(440 * speed, rel=2e-3)
    found = places(change_speed(clicks[:, :frames], speed, RATE, length))
    np.testing.assert_allclose(found, places(clicks)[: len(found)] / speed, atol=1e-3)


@pytest.mark.parametrize("tempo", [0.85, 1.2])
def test_tempo_leaves_the_pitch(tone: np.ndarray, clicks: np.ndarray, tempo: float) -> None:
    length = RATE
    frames = frames_for(length, tempo)
    assert pitch(stretch(tone[:, :frames], RATE, length, tempo=tempo)) == pytest.approx(440, rel=2e-3)
    changed = stretch(clicks[:, :frames], RATE, length, tempo=tempo)
    assert changed.shape == (2, length)
    found = places(changed)
    assert len(found) >= 3
    np.testing.assert_allclose(found, places(clicks)[: len(found)] / tempo, atol=3e-3)


@pytest.mark.parametrize("semitones", [-2.0, 3.0])
def test_pitch_leaves_the_tempo(tone: np.ndarray, clicks: np.ndarray, semitones: float) -> None:
    changed = stretch(tone, RATE, tone.shape[1], semitones=semitones)
    assert pitch(changed) == pytest.approx(440 * 2 ** (semitones / 12), rel=5e-3)
    found = places(stretch(clicks, RATE, clicks.shape[1], semitones=semitones))
    np.testing.assert_allclose(found, places(clicks)[: len(found)], atol=4e-3)
    again = stretch(tone, RATE, tone.shape[1], semitones=semitones)
    np.testing.assert_array_equal(changed, again)


def test_no_change_is_no_change(tone: np.ndarray) -> None:
    assert np.array_equal(stretch(tone, RATE, 900), tone[:, :900])
    assert np.array_equal(change_speed(tone, 1.0, RATE, 900), tone[:, :900])


@pytest.mark.parametrize(
    "step", [EQ(0.0), Saturation(0.0), Compression(0.0), Reverb(0.0), Codec(0.0), Loudness(0.0)]
)
def test_without_a_chance_nothing_happens(step: EQ, tone: np.ndarray, rng: np.random.Generator) -> None:
    assert step(tone, RATE, rng) is tone


@pytest.mark.parametrize(
    "step", [EQ(1.0), Saturation(1.0), Compression(1.0), Reverb(1.0), Codec(1.0), Loudness(1.0)]
)
def test_steps_keep_shape_and_input_and_follow_their_seed(step: EQ, tone: np.ndarray) -> None:
    before = tone.copy()
    first, again, other = (step(tone, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == tone.shape
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(tone, before)
    silence = np.zeros_like(tone)
    assert np.abs(step(silence, RATE, np.random.default_rng(1))).max() < 1e-6


def test_eq_multiplies_the_spectrum_by_a_smooth_curve(rng: np.random.Generator) -> None:
    noise = rng.standard_normal((2, 4 * RATE)).astype(np.float32)
    changed = EQ(1.0, sd_db=6.0)(noise, RATE, rng)
    ratio = np.abs(np.fft.rfft(changed)) / np.abs(np.fft.rfft(noise))  # [2, F]
    bands = np.array([np.median(band) for band in np.array_split(ratio[0, 100:], 40)])
    decibels = 20 * np.log10(bands)
    assert np.ptp(decibels) > 2
    assert np.abs(np.diff(decibels)).max() < 3
    np.testing.assert_allclose(EQ(1.0, sd_db=0.0)(noise, RATE, rng), noise, atol=1e-5)


def test_saturation_adds_harmonics_and_keeps_the_level(tone: np.ndarray, rng: np.random.Generator) -> None:
    def third(audio: np.ndarray) -> float:
        """Power of the third harmonic over that of the tone, in decibels."""
        power = np.abs(np.fft.rfft(audio[0] * np.hanning(audio.shape[-1]))) ** 2  # bins of 0.5 Hz
        first, third = (power[2 * n * 440 - 8 : 2 * n * 440 + 9].sum() for n in (1, 3))
        return float(10 * np.log10(third / first))

    driven = Saturation(1.0, drive_db=(6.0, 6.0))(tone, RATE, rng)
    assert third(tone) < -90
    assert -30 < third(driven) < -10
    np.testing.assert_allclose(np.mean(driven**2), np.mean(tone**2), rtol=1e-3)


def test_compression_brings_loud_and_soft_closer_at_any_rate(
    tone: np.ndarray, rng: np.random.Generator
) -> None:
    for rate in (RATE, 3 * RATE):
        steps = np.repeat(tone, rate // RATE, axis=1)
        half = steps.shape[1] // 2
        steps[:, half:] *= 0.1
        even = Compression(1.0, amount=(0.5, 0.5), release_s=(0.1, 0.1))(steps, rate, rng)
        quarter = half // 2
        levels = [np.mean(part**2) for part in (even[:, quarter:half], even[:, half + quarter :])]
        assert 10 * np.log10(levels[0] / levels[1]) == pytest.approx(10, abs=0.5)  # 20 dB, halved
        onset = np.abs(even[:, half : half + rate // 100]).max() / np.abs(even[:, -rate // 100 :]).max()
        assert onset < 0.6  # the level has not recovered yet


def test_reverb_adds_a_tail_of_the_energy_and_length_asked_for() -> None:
    click = np.zeros((2, RATE), np.float32)
    click[:, 0] = 1
    room = Reverb(1.0, seconds=(0.5, 0.5), wet=(0.2, 0.2))(click, RATE, np.random.default_rng(0))
    np.testing.assert_allclose(room[:, 0], 1, atol=1e-6)  # the dry sound is untouched
    np.testing.assert_allclose((room[:, 1:] ** 2).sum(1), 0.2, rtol=1e-4)
    tail = 10 * np.log10(
        (room[:, 1:] ** 2).reshape(2, -1)[:, : 8 * (RATE // 10) // 2].reshape(2, 4, -1).mean((0, 2))
    )
    np.testing.assert_allclose(np.diff(tail), -12, atol=1)  # 60 dB in 0.5 s are 12 dB in 0.1 s
    assert abs(np.corrcoef(room[:, 1:4000])[0, 1]) < 0.1  # another one per channel


@pytest.mark.parametrize("codec", ["mp3", "vorbis", "opus"])
def test_codecs_lose_something_but_not_the_place(codec: str, rng: np.random.Generator) -> None:
    noise = 2.0 * rng.standard_normal((2, 2 * RATE)).astype(np.float32)  # far above full scale
    changed = coded(noise, RATE, codec, 0.8)
    assert changed.shape == noise.shape
    spectra = np.fft.rfft(noise[0]) * np.conj(np.fft.rfft(changed[0]))
    assert np.argmax(np.fft.irfft(spectra)) == 0  # not shifted by a sample
    error = np.mean((changed - noise) ** 2) / np.mean(noise**2)
    assert 1e-4 < error < 0.9


def test_opus_needs_a_rate_of_its_own(tone: np.ndarray) -> None:
    with pytest.raises(RecipeError, match="opus needs a rate of"):
        coded(tone, 44100, "opus", 0.5)
    with pytest.raises(RecipeError, match="found wma"):
        Codec(1.0, ("wma",))


def test_loudness_is_reached(tone: np.ndarray, rng: np.random.Generator) -> None:
    changed = Loudness(1.0, (-25.0, -25.0))(tone, RATE, rng)
    assert loudness(changed, RATE) == pytest.approx(-25, abs=0.05)
    np.testing.assert_allclose(changed[0], 2 * changed[1], rtol=1e-5)  # a gain, nothing else
    short = tone[:, : RATE // 4]
    assert Loudness(1.0)(short, RATE, rng) is short
    assert loudness(tone * 1e-6, RATE) is None


def test_effects_come_from_a_recipe_and_refuse_what_they_do_not_know() -> None:
    effects = Effects.from_plain({"eq": {"chance": 0.5}, "pitch": {"chance": 1.0, "range": [-1.0, 1.0]}})
    assert effects.steps == (EQ(0.5),)
    assert effects.pitch == Sometimes(1.0, (-1.0, 1.0), rest=0.0)
    assert effects.any
    assert not OFF.any
    with pytest.raises(RecipeError, match="no effect 'chorus'"):
        Effects.from_plain({"chorus": {}})
    with pytest.raises(RecipeError, match=r"effect eq: .*depth"):
        Effects.from_plain({"eq": {"depth": 1}})
