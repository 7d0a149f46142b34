"""What is sung lies in the song's key, in the singer's range, in the song's time, and breathes."""

from collections import defaultdict

import numpy as np
import pytest

from sepvae.data.composer import Song, compose
from sepvae.data.melody import CENTRES, RANGE, VocalLine, sections, write_vocals
from sepvae.data.styles import GENRES, STEPS


def songs(count: int = 60) -> list[tuple[Song, VocalLine | None]]:
    out = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        song = compose(40.0, rng)
        out.append((song, write_vocals(song, rng)))
    return out


@pytest.fixture(scope="module")
def written() -> list[tuple[Song, VocalLine]]:
    return [(song, line) for song, line in songs() if line]


def test_a_line_repeats_under_its_seed() -> None:
    assert songs(6) == songs(6)


def test_some_songs_are_instrumental_and_some_are_rapped(written: list[tuple[Song, VocalLine]]) -> None:
    assert 0.6 < len(written) / 60 < 0.9
    roles = {phrase.role for _, line in written for phrase in (*line.phrases, *line.backing)}
    assert roles == {"verse", "chorus", "rap", "ooh"}
    assert any(phrase.harmonies for _, line in written for phrase in line.phrases)


def test_every_note_lies_in_the_key_and_in_the_singers_range(written: list[tuple[Song, VocalLine]]) -> None:
    for song, line in written:
        key = {(song.tonic + step) % 12 for step in song.scale}
        assert CENTRES[0] <= line.centre <= CENTRES[1]
        for phrase in (*line.phrases, *line.backing):
            for notes in (phrase.notes, *phrase.harmonies):
                assert {int(note.pitch) % 12 for note in notes} <= key
        for phrase in line.phrases:
            assert all(RANGE[0] <= note.pitch - line.centre <= RANGE[1] for note in phrase.notes)


def test_held_notes_are_tones_of_their_chord(written: list[tuple[Song, VocalLine]]) -> None:
    for song, line in written:
        starts = np.array([bar.start for bar in song.bars])
        for phrase in line.phrases:
            for note in phrase.notes:
                if note.duration < 0.6:
                    continue
                degree = song.bars[int(np.searchsorted(starts, note.start + 0.05, side="right")) - 1].degree
                triad = {(song.tonic + song.scale[(degree + third) % 7]) % 12 for third in (0, 2, 4)}
                assert int(note.pitch) % 12 in triad


def test_phrases_follow_each_other_with_rests_and_end_before_the_song(
    written: list[tuple[Song, VocalLine]],
) -> None:
    for song, line in written:
        last = -1.0
        for phrase in line.phrases:
            assert phrase.notes[0].start >= last + 0.1  # a breath
            for note, following in zip(phrase.notes, phrase.notes[1:], strict=False):
                assert 0 < note.duration <= following.start - note.start + 1e-9
            last = phrase.notes[-1].start + phrase.notes[-1].duration
        assert last < song.duration - 1.0


def test_a_hook_comes_back_in_its_words_and_rhythm(written: list[tuple[Song, VocalLine]]) -> None:
    repeated = 0
    for song, line in written:
        known = defaultdict(list)
        for phrase in line.phrases:
            if phrase.role == "chorus":
                known[phrase.words].append(len(phrase.notes))
        repeated += sum(len(lengths) - 1 for lengths in known.values())
        assert all(len(set(lengths)) == 1 for lengths in known.values() if song.tempo < 105)
    assert repeated > len(written)


def test_the_form_of_a_song_covers_it_bar_by_bar() -> None:
    for genre in GENRES:
        song = compose(30.0, np.random.default_rng(3), genre)
        bar_s = STEPS * 60 / song.tempo / 4
        np.testing.assert_allclose([bar.start for bar in song.bars], bar_s * np.arange(len(song.bars)))
        assert song.duration == pytest.approx(bar_s * len(song.bars) + 2)
        assert {len(section) for section in sections(song.bars)} <= {4, 8}
        assert all(len({bar.kind for bar in section}) == 1 for section in sections(song.bars))
