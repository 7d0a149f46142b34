"""MIDI becomes stems that are grouped by instrument, equally long, and sum to what is played together."""

from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import pytest

from sepvae.data.programs import find_program
from sepvae.data.render import (
    DRUM_CHANNEL,
    Score,
    active_window,
    content_hash,
    find_soundfont,
    is_onset,
    load_score,
    onsets,
    remap,
    render,
    render_kit,
    render_stems,
    split_score,
    stretch,
    to_midi,
    transpose,
    window,
)
from sepvae.errors import DataError

Writer = Callable[..., Path]


def on(channel: int, note: int) -> mido.Message:
    return mido.Message("note_on", channel=channel, note=note, velocity=80)


def program(channel: int, number: int) -> mido.Message:
    return mido.Message("program_change", channel=channel, program=number)


def pitches(score: Score) -> list[tuple[int, int]]:
    return [(message.channel, message.note) for _, message in score.events if is_onset(message)]


def programs(score: Score) -> list[int]:
    return [message.program for _, message in score.events if message.type == "program_change"]


def test_times_follow_the_tempo(tmp_path: Path) -> None:
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000), on(0, 60)])
    track.append(mido.MetaMessage("set_tempo", tempo=1_000_000, time=480))
    track.append(on(0, 62).copy(time=480))
    file = mido.MidiFile(ticks_per_beat=480, tracks=[track])
    file.save(str(tmp_path / "x.mid"))
    assert [now for now, _ in load_score(tmp_path / "x.mid").events] == [0.0, 1.5]


def test_what_is_no_midi_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.mid").write_bytes(b"MThd\0\0")
    with pytest.raises(DataError, match=r"bad\.mid"):
        load_score(tmp_path / "bad.mid")


def test_a_key_signature_that_does_not_exist_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    key = b"\x00\xff\x59\x02\xff\xff"  # one flat, in the mode 255
    track = key + b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + bytes([0, 0, 0, 1, 0, 96])
    (tmp_path / "key.mid").write_bytes(header + b"MTrk" + len(track).to_bytes(4, "big") + track)
    with pytest.raises(DataError, match=r"key\.mid: KeySignatureError"):
        load_score(tmp_path / "key.mid")


def test_each_note_lands_in_exactly_one_stem(tmp_path: Path, write_midi: Writer) -> None:
    score = load_score(write_midi(tmp_path / "x.mid"))
    parts = {group: pitches(part) for group, part in split_score(score).items()}
    assert {channel for channel, _ in parts["drums"]} == {DRUM_CHANNEL}
    assert {channel for channel, _ in parts["bass"]} == {1}
    assert {channel for channel, _ in parts["other"]} == {0}
    assert sum(map(len, parts.values())) == len(pitches(score)) == 36


def test_a_channel_that_changes_its_program_changes_its_stem() -> None:
    score = Score(((0.0, program(2, 38)), (0.0, on(2, 40)), (1.0, program(2, 81)), (1.0, on(2, 70))))
    parts = split_score(score)
    assert (pitches(parts["bass"]), pitches(parts["other"])) == ([(2, 40)], [(2, 70)])


def test_the_content_hash_sees_notes_and_nothing_else(tmp_path: Path, write_midi: Writer) -> None:
    score = load_score(write_midi(tmp_path / "a.mid"))
    same = load_score(write_midi(tmp_path / "b.mid", program=5))
    other = load_score(write_midi(tmp_path / "c.mid", shift=1))
    assert content_hash(score) == content_hash(same) != content_hash(other)


def test_a_window_keeps_the_state_and_ends_what_sounds() -> None:
    volume = mido.Message("control_change", channel=3, control=7, value=50)
    bend = mido.Message("pitchwheel", channel=3, pitch=100)
    score = Score(
        (
            (0.0, program(3, 20)),
            (0.4, bend),
            (0.5, volume),
            (0.6, on(3, 50)),
            (2.0, on(3, 60)),
            (9.0, on(3, 70)),
        )
    )
    part = window(score, 1.0, 4.0)
    assert pitches(part) == [(3, 60)]
    assert all(
        event in part.events
        for event in [(0.0, program(3, 20)), (0.0, bend), (0.0, volume), (1.0, on(3, 60))]
    )
    assert (3.0, mido.Message("note_off", channel=3, note=60)) in part.events
    assert part.duration == 3.0


def test_stretching_and_transposing_spare_the_drums() -> None:
    score = Score(((1.0, on(0, 60)), (1.0, on(DRUM_CHANNEL, 36)), (2.0, on(0, 126))))
    assert [now for now, _ in stretch(score, 1.5).events] == [1.5, 1.5, 3.0]
    assert pitches(transpose(score, 4)) == [(0, 64), (DRUM_CHANNEL, 36), (0, 118)]


def test_programs_are_replaced_within_their_family_and_repeat_under_a_seed() -> None:
    numbers = [0, 27, 33, 38, 81, 124]
    score = Score(tuple((0.0, program(channel, number)) for channel, number in enumerate(numbers)))
    seen = set()
    for seed in range(20):
        new = programs(remap(score, np.random.default_rng(seed)))[1:]  # the first is the drum kit's
        assert [number // 8 for number in new] == [number // 8 for number in numbers]
        assert new[-1] == 124  # sound effects stay
        assert new == programs(remap(score, np.random.default_rng(seed)))[1:]
        seen.add(tuple(new))
    assert len(seen) > 10


def test_a_score_survives_the_way_through_a_file(tmp_path: Path, write_midi: Writer) -> None:
    score = stretch(load_score(write_midi(tmp_path / "x.mid")), 0.937)
    to_midi(score).save(str(tmp_path / "y.mid"))
    back = load_score(tmp_path / "y.mid")
    assert [message.bytes() for _, message in back.events] == [message.bytes() for _, message in score.events]
    # half a tick of 1/3840 s
    np.testing.assert_allclose([t for t, _ in back.events], [t for t, _ in score.events], atol=1.31e-4)


def test_the_window_is_where_all_stems_play() -> None:
    early = [(0.5 * step, on(0, 60)) for step in range(200)]
    bass = [(0.0, program(1, 33))] + [(40 + 0.5 * step, on(1, 40)) for step in range(40)]
    drums = [(40 + 0.5 * step, on(DRUM_CHANNEL, 36)) for step in range(120)]
    score = Score(tuple(sorted([*early, *bass, *drums], key=lambda event: event[0])))
    start, end = active_window(score, 20.0)
    assert (start, end) == (40.0, 60.0)
    for seed in range(5):
        start, end = active_window(score, 20.0, np.random.default_rng(seed))
        inside = {group: np.sum((times >= start) & (times < end)) for group, times in onsets(score).items()}
        assert min(inside.values()) >= 20
    assert active_window(score, 1000.0) == (0.0, score.duration)


def test_what_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepvae.data.render.SOUNDFONT_FOLDERS", ())
    monkeypatch.delenv("SEPVAE_SOUNDFONTS", raising=False)
    with pytest.raises(DataError, match="Debian package fluid-soundfont-gm"):
        find_soundfont("FluidR3_GM.sf2")
    (tmp_path / "FluidR3_GM.sf2").touch()
    assert find_soundfont("FluidR3_GM.sf2", [tmp_path]) == tmp_path / "FluidR3_GM.sf2"
    monkeypatch.setenv("SEPVAE_SOUNDFONTS", str(tmp_path))
    assert find_soundfont("FluidR3_GM.sf2") == tmp_path / "FluidR3_GM.sf2"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="Debian package fluidsynth"):
        find_program("fluidsynth")


def test_stems_are_equally_long_and_sum_to_what_is_played_together(
    tmp_path: Path, write_midi: Writer, small_soundfont: Path
) -> None:
    score = load_score(write_midi(tmp_path / "x.mid"))
    settings = {"synth.reverb.active": 0}
    stems = render_stems(score, small_soundfont, settings, tail=0.5)
    together = render(score, small_soundfont, score.duration + 0.5, settings)
    assert {audio.shape for audio in stems.values()} == {together.shape}
    error = sum(stems.values()) - together
    # a voice that is struck again may be let go one block of 64 samples earlier or later
    assert np.sqrt(np.mean(error**2)) < 0.03 * np.sqrt(np.mean(together**2))
    assert all(np.sqrt(np.mean(audio**2)) > 1e-3 for audio in stems.values())


def test_a_stem_without_notes_is_silent(tmp_path: Path, write_midi: Writer, small_soundfont: Path) -> None:
    score = load_score(write_midi(tmp_path / "x.mid", seconds=1.0, bass=False))
    assert not render_stems(score, small_soundfont)["bass"].any()


def test_a_drum_kit_plays_the_drum_channel_alone(tmp_path: Path, small_soundfont: Path) -> None:
    drums = Score(((0.0, program(DRUM_CHANNEL, 25)), (0.1, on(DRUM_CHANNEL, 60))))
    both = Score((*drums.events, (0.2, on(0, 40))))
    alone = render_kit(drums, small_soundfont, 1.0)
    assert np.abs(alone).max() > 0.001
    np.testing.assert_array_equal(render_kit(both, small_soundfont, 1.0), alone)
    melodic = Score(((0.1, on(0, 60)),))  # the first program of the file, which a kit holds
    np.testing.assert_array_equal(alone, render(melodic, small_soundfont, 1.0, {"synth.reverb.active": 0}))


def test_a_file_that_is_no_soundfont_is_an_error(
    tmp_path: Path, write_midi: Writer, small_soundfont: Path
) -> None:
    (tmp_path / "bad.sf2").write_bytes(b"no SoundFont")
    score = load_score(write_midi(tmp_path / "x.mid", seconds=1.0))
    with pytest.raises(DataError, match=r"bad\.sf2"):
        render(score, tmp_path / "bad.sf2", 1.0)
