"""Bass lines, alone and against drums: low, short, hard-edged, and the same for the same seed."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sepvae.data import basslines
from sepvae.data.corpora import SAMPLE_RATE, read_stems, scan
from sepvae.data.effects import active_rms_db
from sepvae.data.items import rng_for
from sepvae.data.synth import Note

SOURCES = ("vocals", "drums", "bass", "other")


def test_a_line_is_a_solo_of_the_bass_at_its_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basslines, "SECONDS", 4.0)
    for name in ("a", "b"):
        basslines.make_bass_line(partial(rng_for, 0, name), tmp_path / name)
    basslines.make_bass_line(partial(rng_for, 0, "a"), tmp_path / "c")
    tracks = {track.name: track for track in scan(tmp_path, SOURCES)}
    assert all(track.solo and set(track.files) == {"bass"} for track in tracks.values())
    lines = {name: read_stems(track, SAMPLE_RATE)["bass"] for name, track in tracks.items()}
    np.testing.assert_array_equal(lines["a"], lines["c"])
    assert lines["a"].shape != lines["b"].shape or np.abs(lines["a"] - lines["b"]).max() > 0.01
    for line in lines.values():
        assert np.abs(line).max() <= 1
        assert active_rms_db(line) == pytest.approx(basslines.LEVEL_DB, abs=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_notes_start_within_milliseconds(seed: int) -> None:
    instrument = basslines.hard_edged(np.random.default_rng(seed))
    audio = np.abs(instrument.play([Note(0.5, 0.4, 36.0, 1.0)], SAMPLE_RATE))
    assert not audio[: SAMPLE_RATE // 2 - 1].any()
    period = round(SAMPLE_RATE / 60)  # a little over one of the note's 65 Hz
    early, late = audio[SAMPLE_RATE // 2 :][:period].max(), audio[SAMPLE_RATE // 2 :].max()
    assert early > 0.5 * late


def test_a_groove_is_drums_and_bass_at_their_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basslines, "SECONDS", 4.0)
    for part in ("drums", "bass"):
        (tmp_path / "samples" / part).mkdir(parents=True)
    monkeypatch.setattr(basslines, "KITS", (0.0,))
    monkeypatch.setattr(basslines, "HARD", 1.0)
    for name in ("a", "b"):
        basslines.make_groove(tmp_path / "samples", partial(rng_for, 0, name), tmp_path / "out" / name)
    basslines.make_groove(tmp_path / "samples", partial(rng_for, 0, "a"), tmp_path / "out" / "c")
    tracks = {track.name: track for track in scan(tmp_path / "out", SOURCES)}
    grooves = {name: read_stems(track, SAMPLE_RATE) for name, track in tracks.items()}
    assert all(set(stems) == {"drums", "bass"} and not tracks[name].solo for name, stems in grooves.items())
    np.testing.assert_array_equal(grooves["a"]["bass"], grooves["c"]["bass"])
    for stems in grooves.values():
        above_db = active_rms_db(stems["bass"]) - active_rms_db(stems["drums"])
        assert basslines.BASS_DB[0] - 0.1 <= above_db <= basslines.BASS_DB[1] + 0.1
        assert np.abs(stems["drums"] + stems["bass"]).max() <= 1.001


def test_some_notes_start_too_high() -> None:
    instruments = [basslines.hard_edged(np.random.default_rng(seed)) for seed in range(60)]
    drops = [instrument.drop[0] for instrument in instruments]
    assert 15 < sum(drop > 0 for drop in drops) < 40
    assert max(drops) <= 24


def test_lines_are_moved_low_and_shortened() -> None:
    notes = tuple(Note(0.5 * i, 0.4, 45.0 + 5 * (i % 3), 0.8) for i in range(12))
    spans = []
    for seed in range(20):
        moved = basslines.staccato(notes, np.random.default_rng(seed))
        pitches = [note.pitch for note in moved]
        assert basslines.LOWEST[0] <= min(pitches) <= basslines.LOWEST[1]
        assert all(0.1 <= note.duration <= 0.4 for note in moved)
        assert [note.start for note in moved] == [note.start for note in notes]
        spans.append(max(pitches) - min(pitches))
    assert {round(span, 6) for span in spans} == {0.0, 10.0}
    assert basslines.staccato((), np.random.default_rng(0)) == []
