"""Songs repeat under a seed, stay in key and in range, and come out as sane stems."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sepvae.data import effects
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.instruments import bass_instrument
from sepvae.data.kits import Samples
from sepvae.data.players import make_bass
from sepvae.data.producer import (
    MIX_PEAK,
    STEM_LEVELS_DB,
    balance,
    hits_of,
    notes_of,
    produce,
    produce_score,
)
from sepvae.data.render import load_score
from sepvae.data.styles import GENRES, SCALES, STEPS
from sepvae.data.synth import Note
from sepvae.data.utterances import Speech


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_groove_is_one_bar() -> None:
    for style in GENRES.values():
        for groove in style.grooves:
            assert {len(pattern) for pattern in groove.values()} == {STEPS}


@pytest.mark.parametrize("genre", GENRES)
def test_a_song_repeats_under_its_seed_and_no_other(genre: str) -> None:
    song = compose(30.0, rng_of(1), genre)
    assert song == compose(30.0, rng_of(1), genre)
    assert song != compose(30.0, rng_of(2), genre)


@pytest.mark.parametrize("genre", GENRES)
def test_a_song_keeps_to_its_time_its_range_and_its_key(genre: str) -> None:
    for seed in range(4):
        song = compose(30.0, rng_of(seed), genre)
        low, high = GENRES[genre].tempo
        assert low <= song.tempo <= high
        # whole sections of at most eight bars, and two seconds to fade away
        assert 30 <= song.duration <= 32.1 + 8 * 4 * 60 / song.tempo
        notes = [*song.bass, *(note for part in song.parts for note in part.notes)]
        times = [note.start for note in notes] + [hit.time for hit in song.drums]
        assert min(times) >= 0
        assert max(times) < song.duration
        assert all(note.duration > 0 and 0 < note.velocity <= 1 for note in notes)
        assert all(19 <= note.pitch <= 62 for note in song.bass)
        assert all(34 <= note.pitch <= 105 for part in song.parts for note in part.notes)
        melodic = [p for p in song.parts if p.role != "power"]
        used = {int(note.pitch) % 12 for part in melodic for note in part.notes}
        keys = [{(tonic + step) % 12 for step in scale} for scale in SCALES.values() for tonic in range(12)]
        assert any(used <= key for key in keys)
        assert [hit.time for hit in song.drums if hit.lane == "kick"] == list(song.kicks)


@pytest.mark.parametrize("kind", ["saw", "square", "triangle", "sub", "808", "reese"])
def test_a_bass_is_low(kind: str, samples: Samples) -> None:
    notes = [Note(0.5 * index, 0.4, 33.0 + index, 0.9) for index in range(4)]
    for seed in range(3):
        audio = bass_instrument(kind, samples, rng_of(seed)).play(notes, 2 * SAMPLE_RATE)
        power = np.abs(np.fft.rfft(audio)) ** 2
        frequency = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)
        assert power[frequency < 300].sum() > 0.6 * power.sum()
        assert abs(audio.mean()) < 0.01 * effects.rms(audio)


@pytest.mark.parametrize("kind", ["sub", "808", "reese", "fm", "pluck", "shot"])
def test_a_bass_repeats_under_its_seed(kind: str, samples: Samples) -> None:
    notes = [Note(0.0, 0.4, 36.0, 0.9), Note(0.5, 0.4, 43.0, 0.8)]
    first, again = (make_bass(notes, SAMPLE_RATE, [kind], samples, Path(), rng_of(4)) for _ in range(2))
    assert first[1] == again[1] == kind
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].shape == (2, SAMPLE_RATE)
    assert effects.rms(first[0]) > 1e-3


def test_levels_are_those_of_a_finished_mix(rng: np.random.Generator) -> None:
    for seed in range(10):
        stems = {name: rng.standard_normal((2, 20000)).astype(np.float32) for name in STEM_LEVELS_DB}
        out = balance(stems, rng_of(seed))
        assert np.abs(sum(out.values())).max() <= MIX_PEAK * 1.001
        levels = {name: 20 * np.log10(effects.rms(audio)) for name, audio in out.items()}
        spread = [levels[name] - STEM_LEVELS_DB[name] for name in levels]
        assert max(spread) - min(spread) <= 12.01  # each stem is off by six at most
    silent = balance(stems | {"bass": np.zeros((2, 20000), np.float32)}, rng)
    assert set(silent) == STEM_LEVELS_DB.keys() - {"bass"}


def test_midi_becomes_notes_and_hits(tmp_path: Path, write_midi: object) -> None:
    score = load_score(write_midi(tmp_path / "x.mid", seconds=1.0))  # type: ignore[operator]
    assert [hit.lane for hit in hits_of(score)] == ["kick"] * 4
    notes = [note for note in notes_of(score) if note.pitch >= 60]
    assert [note.start for note in notes] == [0.0, 0.25, 0.5, 0.75]
    np.testing.assert_allclose([note.duration for note in notes], 0.25)


def test_a_song_becomes_sane_stems_that_repeat(samples: Samples, small_soundfont: Path) -> None:
    stems, chosen = produce(samples, small_soundfont, 2.0, rng_of(9))
    again, _ = produce(samples, small_soundfont, 2.0, rng_of(9))
    assert {"genre", "tempo", "kit", "bass"} < set(chosen)
    assert {audio.shape for audio in stems.values()} == {next(iter(stems.values())).shape}
    for source, audio in stems.items():
        np.testing.assert_array_equal(audio, again[source])
        assert np.isfinite(audio).all()
        assert effects.rms(audio) > 1e-3
        assert np.abs(audio.mean(axis=1)).max() < 0.02 * effects.rms(audio)
    assert np.abs(sum(stems.values())).max() <= MIX_PEAK * 1.001


def test_a_song_is_sung_at_its_level(
    samples: Samples, speech: Speech, small_soundfont: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepvae.data.melody.INSTRUMENTAL_SHARE", 0.0)
    stems, chosen = produce(samples, small_soundfont, 2.0, rng_of(9), speech)
    assert set(stems) == {"vocals", "drums", "bass", "other"}
    assert chosen["vocals"]["speaker"] == "a"
    assert len({audio.shape for audio in stems.values()}) == 1
    levels = {name: 20 * np.log10(effects.rms(audio)) - STEM_LEVELS_DB[name] for name, audio in stems.items()}
    assert max(levels.values()) - min(levels.values()) <= 12.01
    assert np.abs(stems["vocals"]).max() < MIX_PEAK * 1.5
    assert np.abs(sum(stems.values())).max() <= MIX_PEAK * 1.001


def test_a_score_is_played_by_other_drums_and_another_bass(
    tmp_path: Path, write_midi: object, samples: Samples, small_soundfont: Path
) -> None:
    score = load_score(write_midi(tmp_path / "x.mid", seconds=2.0))  # type: ignore[operator]
    stems, chosen = produce_score(score, samples, small_soundfont, rng_of(1))
    assert set(stems) == {"drums", "bass", "other"}
    assert set(chosen) == {"kit", "bass"}
    without = replace(score, events=tuple(e for e in score.events if e[1].channel != 1))
    assert set(produce_score(without, samples, small_soundfont, rng_of(1))[0]) == {"drums", "other"}
