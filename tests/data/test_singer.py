"""The sung pitch is the written one, rests are silent, the top octave is there, and a seed gives the same bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyworld
import soundfile
from scipy.ndimage import uniform_filter1d

from sepvae.data import effects
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.melody import VocalLine, write_vocals
from sepvae.data.singer import Singer, Text, sing
from sepvae.data.synth import Note
from sepvae.data.utterances import Speech, Utterance, analyse, find_syllables
from sepvae.data.vocals import FORMANTS, choose_singer, make_vocals, treat_vocals
from sepvae.errors import DataError

NOTES = (
    Note(1.0, 0.3, 60.0, 0.8),
    Note(1.3, 0.3, 64.0, 0.8),
    Note(1.6, 1.2, 67.0, 0.9),
    Note(3.4, 0.8, 62.0, 0.8),
)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def utterance(speech: Speech) -> Utterance:
    return speech.draw(rng_of(0), 1)[1][0]


@pytest.fixture
def text(utterance: Utterance) -> Text:
    return Text(utterance, utterance.syllables)


def pitches(audio: np.ndarray, start: float, note: Note) -> np.ndarray:
    """The pitch of the middle of a note, as MIDI numbers, frame by frame."""
    wave = audio.astype(np.float64)
    f0, times = pyworld.dio(wave, SAMPLE_RATE, f0_floor=80, f0_ceil=900)
    f0 = pyworld.stonemask(wave, f0, times, SAMPLE_RATE)
    inside = (times + start > note.start + 0.3) & (times + start < note.start + note.duration - 0.15)
    assert (f0[inside] > 0).mean() > 0.9
    return 69 + 12 * np.log2(f0[inside & (f0 > 0)] / 440)


def test_syllables_are_found_where_they_are(utterance: Utterance) -> None:
    assert 10 <= len(utterance.syllables) <= 13
    centres = [(each.vowel + each.coda) / 2 * 0.005 for each in utterance.syllables]
    known = 0.1 + 0.075 + 0.1 + 0.325 * np.arange(12)
    assert all(np.abs(known - centre).min() < 0.08 for centre in centres)
    for each, following in zip(utterance.syllables, utterance.syllables[1:], strict=False):
        assert each.start <= each.vowel < each.coda <= each.end <= following.vowel
    assert utterance.pitch_hz == pytest.approx(106, abs=25)


def test_two_peaks_in_one_stretch_of_voice_are_two_syllables() -> None:
    loudness = 10 * np.cos(np.linspace(0, 6 * np.pi, 120))[15:100]
    voiced = np.ones(85, bool)
    voiced[:5] = False
    assert len(find_syllables(voiced, loudness)) == 2
    assert find_syllables(np.zeros(85, bool), loudness) == ()


@pytest.mark.parametrize("seed", range(4))
def test_the_sung_pitch_is_the_written_pitch(text: Text, seed: int) -> None:
    singer = choose_singer(text.utterance.pitch_hz, 60.0 + seed, rng_of(seed))[0]
    start, audio = sing(NOTES, text, singer, rng_of(seed))
    for note in (NOTES[2], NOTES[3]):
        heard = pitches(audio, start, note)
        assert abs(np.median(heard) - note.pitch) < 0.3
        assert np.abs(heard - note.pitch).max() < 0.3 + singer.vibrato[1] * 1.2


def test_hard_tuning_is_straight_and_vibrato_is_not(text: Text) -> None:
    straight = pitches(*reversed(sing(NOTES, text, Singer(tuned=True), rng_of(1))), NOTES[2])  # type: ignore[misc]
    swaying = pitches(*reversed(sing(NOTES, text, Singer(vibrato=(5.5, 0.5)), rng_of(1))), NOTES[2])  # type: ignore[misc]
    assert straight.std() < 0.05
    assert swaying.std() > 0.2


def test_rap_keeps_the_melody_of_the_speech(text: Text) -> None:
    level = [Note(1 + 0.25 * index, 0.25, 57.0, 0.8) for index in range(8)]
    _, audio = sing(level, text, Singer(spoken=True), rng_of(1))
    f0, _ = pyworld.dio(audio.astype(np.float64), SAMPLE_RATE, f0_floor=80, f0_ceil=900)
    heard = 12 * np.log2(f0[f0 > 0] / 220)
    assert abs(np.median(heard)) < 2.5
    assert heard.std() > 0.5


def test_rests_are_silent_and_notes_are_not(text: Text) -> None:
    start, audio = sing(NOTES, text, Singer(), rng_of(2))

    def level(first: float, last: float) -> float:
        part = audio[round((first - start) * SAMPLE_RATE) : round((last - start) * SAMPLE_RATE)]
        return float(np.sqrt(np.mean(part**2)))

    assert np.isfinite(audio).all()
    assert start < 1.0 < start + audio.size / SAMPLE_RATE
    loud = level(1.7, 2.7)
    assert level(2.95, 3.1) < 1e-4 * loud
    assert level(3.5, 4.1) > 0.2 * loud


def test_the_band_above_that_of_speech_is_not_empty(text: Text) -> None:
    _, audio = sing(NOTES, text, Singer(), rng_of(2))
    power = np.abs(np.fft.rfft(audio)) ** 2
    frequency = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)
    bands = [power[(frequency > low) & (frequency < low + 3000)].sum() for low in (1000, 8000, 11000, 18000)]
    assert bands[0] > bands[1] > bands[2] > bands[3] > 0
    assert bands[2] > 1e-6 * bands[0]


def test_a_noisy_vowel_does_not_hiss(utterance: Utterance) -> None:
    hissing = utterance.envelope.copy()
    hissing[:, 300:] = hissing[:, 30:60].mean()
    noisy = Text(replace(utterance, envelope=hissing), utterance.syllables)
    start, audio = sing(NOTES, noisy, Singer(air_db=9.0), rng_of(2))
    held = audio[round((2.0 - start) * SAMPLE_RATE) : round((2.6 - start) * SAMPLE_RATE)]
    power = np.abs(np.fft.rfft(held)) ** 2
    frequency = np.fft.rfftfreq(held.size, 1 / SAMPLE_RATE)
    assert 1e-5 < power[frequency > 7500].sum() / power[frequency < 6000].sum() < 0.03


def test_a_shorter_throat_has_higher_formants(text: Text) -> None:
    def formant(factor: float) -> float:
        _, audio = sing(NOTES, text, Singer(formant=factor, tuned=True), rng_of(2))
        power = np.abs(np.fft.rfft(audio)) ** 2
        frequency = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)
        raised = uniform_filter1d(
            power * frequency**4 * (frequency < 3000), int(400 * audio.size / SAMPLE_RATE)
        )
        return float(frequency[np.argmax(raised)])

    assert 1.2 < formant(FORMANTS[1]) / formant(FORMANTS[0]) < 1.8


def test_the_stem_repeats_under_its_seed_and_fits_the_song(speech: Speech) -> None:
    song = compose(4.0, rng_of(1), "pop")
    line = next(each for seed in range(9) if (each := write_vocals(song, rng_of(seed))))
    line = replace(line, phrases=line.phrases[:2], backing=())
    length = round(song.duration * SAMPLE_RATE)
    audio, chosen = make_vocals(line, song.tempo, length, speech, rng_of(3))
    again, _ = make_vocals(line, song.tempo, length, speech, rng_of(3))
    np.testing.assert_array_equal(audio, again)
    assert audio.shape == (2, length)
    assert audio.dtype == np.float32
    assert effects.rms(audio) > 1e-3
    assert chosen["speaker"] == "a"
    assert chosen["phrases"] == 2
    middle, side = audio.mean(axis=0), (audio[0] - audio[1]) / 2
    assert effects.rms(side) < 0.7 * effects.rms(middle)  # the lead is in the middle
    other, _ = make_vocals(line, song.tempo, length, speech, rng_of(4))
    assert not np.array_equal(audio, other)


def test_singers_without_a_lead_hold_their_vowels(speech: Speech) -> None:
    song = compose(4.0, rng_of(1), "pop")
    lines = [each for seed in range(30) if (each := write_vocals(song, rng_of(seed)))]
    line = next(each for each in lines if any(phrase.role == "ooh" for phrase in each.backing))
    only_pads = VocalLine(line.centre, (), line.backing[:1])
    audio, chosen = make_vocals(only_pads, song.tempo, 5 * SAMPLE_RATE, speech, rng_of(3))
    assert chosen["roles"] == ["ooh"]
    assert effects.rms(audio) > 0


def test_treatment_is_sane_whatever_is_drawn(rng: np.random.Generator) -> None:
    audio = (0.1 * rng.standard_normal((2, SAMPLE_RATE))).astype(np.float32)
    for seed in range(12):
        out = treat_vocals(audio, 120.0, rng_of(seed))
        assert out.shape == audio.shape
        assert np.isfinite(out).all()
        assert 0.02 < effects.rms(out) < 0.6
    telephone = effects.telephone(audio, 6.0)
    assert effects.rms(telephone) == pytest.approx(effects.rms(audio), rel=0.01)
    twin = effects.double(audio[0], 0.02, 8.0, rng)
    assert effects.rms(twin) == pytest.approx(effects.rms(audio[0]), rel=0.2)
    assert not twin[: SAMPLE_RATE // 400].any()  # later than the first take


def test_speech_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.opus in .*nobody"):
        Speech.of_folders(tmp_path, ("nobody",))
    with pytest.raises(DataError, match="no voice"):
        analyse(np.zeros(16000), 16000)
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "0.opus", np.zeros(16000), 16000, format="OGG", subtype="OPUS")
    with pytest.raises(DataError, match="no voice in the recordings of speaker a"):
        Speech.of_folders(tmp_path, ("a",)).draw(rng_of(0), 5)
