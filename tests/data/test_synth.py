"""Instruments play the pitch, the length and the level that they are asked for; effects do what their name says."""

import numpy as np
import pytest

from sepvae.data import effects
from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.kits import LANES, Hit, Loop, Samples, lane_of, make_kit, make_loop, play_loop, sequence
from sepvae.data.synth import (
    FM,
    Analog,
    Envelope,
    Instrument,
    Note,
    OneShot,
    Organ,
    Pluck,
    Wave,
    hertz,
    saw,
)
from sepvae.errors import DataError

TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE
STEADY = Envelope(0.005, 1.0, 1.0, 0.05)
TONE = np.sin(2 * np.pi * 110 * TIME).astype(np.float32)
INSTRUMENTS = {
    "sine": Analog((Wave("sine"),), STEADY),
    "saw": Analog((Wave("saw"),), STEADY, cutoff_octaves=2.0, sweep_octaves=2.0),
    "poly": Analog((Wave("pulse"),), STEADY, poly=True),
    "triangle": Analog((Wave("triangle"),), STEADY, glide_s=0.01),
    "fm": FM(2.0, 1.0, 0.2, STEADY),
    "organ": Organ(((1.0, 1.0), (2.0, 0.5))),
    "pluck": Pluck(brightness=0.4),
    "one-shot": OneShot(TONE, 45.0),
}


def level_db(audio: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(audio.size))) ** 2
    frequency = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)
    return 10 * np.log10(spectrum[(frequency >= low) & (frequency < high)].sum() + 1e-20)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_plays_its_pitch_for_its_time(name: str) -> None:
    instrument: Instrument = INSTRUMENTS[name]
    audio = instrument.play([Note(0.25, 0.5, 47.0, 0.5)], SAMPLE_RATE)
    assert (audio.shape, audio.dtype) == ((SAMPLE_RATE,), np.float32)
    assert np.isfinite(audio).all()
    assert not audio[: int(0.24 * SAMPLE_RATE)].any()
    assert np.abs(audio[int(0.95 * SAMPLE_RATE) :]).max() < 1e-3
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(audio.size), 8 * audio.size))
    partials = np.flatnonzero(spectrum > 0.5 * spectrum.max()) / 8 / hertz(47.0)
    # every strong partial is a multiple of the fundamental, to the width of the window's peak
    assert np.abs(partials - np.round(partials)).max() < 0.03
    louder = instrument.play([Note(0.25, 0.5, 47.0, 1.0)], SAMPLE_RATE)
    np.testing.assert_allclose(louder, 2 * audio, atol=1e-5)


def test_a_sawtooth_hardly_aliases() -> None:
    step = np.full(SAMPLE_RATE, 5000 / SAMPLE_RATE, np.float32)
    cycles = np.arange(SAMPLE_RATE) * 5000 / SAMPLE_RATE
    naive = 2 * (cycles % 1) - 1
    # 44.1 kHz folds the ninth harmonic to 900 Hz
    fundamental = level_db(naive, 4900, 5100)
    assert level_db(naive, 800, 1000) > fundamental - 22
    assert level_db(saw(cycles, step), 800, 1000) < fundamental - 40


def test_a_note_slides_from_the_one_before() -> None:
    notes = [Note(0.0, 0.5, 40.0, 1.0), Note(0.5, 0.5, 52.0, 1.0)]
    straight, gliding = (
        Analog((Wave("sine"),), STEADY, glide_s=g).play(notes, SAMPLE_RATE) for g in (0.0, 0.05)
    )
    after = slice(int(0.51 * SAMPLE_RATE), int(0.56 * SAMPLE_RATE))
    crossings = [np.sum(np.diff(np.signbit(audio[after])) != 0) for audio in (straight, gliding)]
    assert crossings[1] < crossings[0]


def test_shelves_lift_their_side_and_leave_the_other() -> None:
    impulse = np.eye(1, SAMPLE_RATE, dtype=np.float32)[0]
    for high in (False, True):
        response = 20 * np.log10(np.abs(np.fft.rfft(effects.shelf(impulse, 1000.0, 6.0, high=high))))
        np.testing.assert_allclose(response[[20, 1000, 18000]], [0, 3, 6] if high else [6, 3, 0], atol=0.02)


def test_saturation_keeps_the_level_and_adds_odd_harmonics() -> None:
    out = effects.saturate(TONE, 12.0)
    assert effects.rms(out) == pytest.approx(effects.rms(TONE), rel=0.01)
    assert level_db(out, 320, 340) > level_db(TONE, 320, 340) + 40
    assert level_db(out, 210, 230) < level_db(out, 320, 340) - 20


def test_compression_narrows_the_range_of_levels() -> None:
    loud_quiet = np.concatenate([TONE, 0.1 * TONE])
    out = effects.compress(loud_quiet, 0.5)
    ratio = effects.rms(out[SAMPLE_RATE // 2 : SAMPLE_RATE]) / effects.rms(out[-SAMPLE_RATE // 2 :])
    # the gain follows the level with a delay
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)
    np.testing.assert_allclose(effects.compress(loud_quiet, 0.0), loud_quiet, atol=1e-5)


def test_space_is_added_and_the_length_kept(rng: np.random.Generator) -> None:
    dry = np.zeros((2, SAMPLE_RATE), np.float32)
    dry[:, :2000] = TONE[:2000]
    wet = effects.reverb(dry, 0.5, 0.3, rng)
    assert wet.shape == dry.shape
    assert np.abs(wet[:, 5000:8000]).max() > 10 * np.abs(wet[:, 35000:]).max() > 0
    repeated = effects.echo(dry, 0.25, 0.5, 0.5)
    assert not repeated[:, 3000:11000].any()
    assert np.abs(repeated[:, 11025:13025]).max() == pytest.approx(0.5 * np.abs(dry).max(), rel=0.1)
    wide = effects.widen(effects.pan(TONE, 0.0), 0.5, rng)
    np.testing.assert_allclose(wide.mean(axis=0), TONE, atol=1e-5)  # mono hears nothing of it


def test_panning_keeps_the_power_and_ducking_pulls_down() -> None:
    for position in (-1.0, -0.3, 0.0, 0.8):
        power = np.square(effects.pan(TONE, position)).sum() / np.square(TONE).sum()
        assert power == pytest.approx(2.0, rel=1e-4)
    ducked = effects.duck(np.ones(SAMPLE_RATE, np.float32), [0.5], 0.8, 0.1)
    assert ducked[SAMPLE_RATE // 2] == pytest.approx(0.2)
    assert ducked[: SAMPLE_RATE // 2].min() == ducked[int(0.61 * SAMPLE_RATE) :].min() == 1.0


def test_a_closed_hat_stops_an_open_one() -> None:
    kit = dict.fromkeys(LANES, np.ones((2, 20000), np.float32))
    kit["hat"] = np.zeros((2, 10), np.float32)
    alone = sequence([Hit(0.0, "open", 1.0)], kit, 30000)
    stopped = sequence([Hit(0.0, "open", 1.0), Hit(0.1, "hat", 1.0)], kit, 30000)
    assert alone[0, 15000] == 1.0
    assert (stopped[0, 4000], stopped[0, 4410]) == (1.0, 0.0)


@pytest.mark.parametrize("recorded", [0.0, 1.0])
def test_a_kit_has_a_sound_for_every_lane_and_kicks_are_low(samples: Samples, recorded: float) -> None:
    for seed in range(3):
        kit = make_kit(samples, recorded, np.random.default_rng(seed))
        assert set(kit) == set(LANES)
        for sound in kit.values():
            assert sound.shape[0] == 2
            assert np.isfinite(sound).all()
            assert 0 < np.abs(sound).max() < 2.5
        if not recorded:
            assert level_db(kit["kick"].mean(0), 20, 250) > level_db(kit["kick"].mean(0), 250, 20000)
            assert level_db(kit["hat"].mean(0), 4000, 20000) > level_db(kit["hat"].mean(0), 20, 4000)


def test_general_midi_keys_have_lanes() -> None:
    assert [lane_of(key) for key in (36, 38, 42, 46, 50, 99)] == [
        "kick",
        "snare",
        "hat",
        "open",
        "tom",
        "perc",
    ]


def test_a_loop_repeats_on_the_beat(samples: Samples, rng: np.random.Generator) -> None:
    loop = make_loop(samples, rng)
    assert loop.audio.shape[1] / SAMPLE_RATE == pytest.approx(60 * loop.beats / loop.tempo)
    assert 60 < loop.tempo < 200
    length = loop.audio.shape[1]
    played = play_loop(loop, 3 * length / SAMPLE_RATE, 0.0, rng)
    np.testing.assert_array_equal(played[:, :length], played[:, length : 2 * length])
    steps = Loop(np.repeat(np.arange(8.0), 1000)[None].repeat(2, 0), 4, 120.0)
    chopped = play_loop(steps, 8000 / SAMPLE_RATE, 1.0, rng)
    assert chopped.shape == (2, 8000)
    assert set(np.unique(chopped[0].reshape(8, 1000)[:, 500])) <= set(range(8))


def test_samples_say_what_is_missing(tmp_path: object, samples: Samples, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="drums and bass"):
        Samples(f"{tmp_path}/nowhere")
    with pytest.raises(DataError, match="no xylophone"):
        samples.pick("drums", ["xylophone*"], rng)
