"""A prepared set has its splits apart, its credits listed, the same bytes for a seed, and no half tracks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.data import compositions, corpora, music
from sepvae.data.corpora import scan
from sepvae.data.effects import active_rms_db
from sepvae.data.music import ALBUM_SPLITS, SPEAKERS, split_midi
from sepvae.data.own_sets import prepare
from sepvae.data.render import SOUNDFONTS, content_hash, load_score, onsets
from sepvae.errors import DataError, OutputError

Writer = Callable[..., Path]
RECORDED = ("album", "demo", "speech")


def put(path: Path, audio: np.ndarray, rate: int, **options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of everything, in the folders and formats of the raw material."""
    rng = np.random.default_rng(1)
    opus = {"format": "OGG", "subtype": "OPUS"}
    root = tmp_path_factory.mktemp("recordings")
    for songs in ALBUM_SPLITS.values():
        for song in songs:
            for source in ("vocals", "drums", "other"):
                audio = 0.1 * rng.standard_normal((24000, 2))
                put(root / "everything-is-free" / song / f"{source}.opus", audio, 48000, **opus)
    for name, length in (
        ("drums", 40000),
        ("bassguitar", 20000),
        ("leadguitar", 40000),
        ("clav", 40000),
        ("horns", 40000),
    ):
        put(root / "demo" / f"{name}.mp3", 0.3 * rng.standard_normal((length, 2)), 44100)
    for speaker in SPEAKERS:
        for index in range(3):
            put(
                root / "librispeech" / speaker / f"{index}.opus",
                0.02 * rng.standard_normal(16000),
                16000,
                **opus,
            )
    return root


@pytest.fixture
def raw(recordings: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recordings, tmp_path / "raw"))


def test_a_silent_utterance_stays_silent(tmp_path: Path) -> None:
    put(tmp_path / "silent.wav", np.zeros(16000), 16000)
    put(tmp_path / "loud.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    files = [tmp_path / "silent.wav", tmp_path / "loud.wav"]
    (tmp_path / "track").mkdir()
    music.make_speech(files, lambda: np.random.default_rng(1), "speech", tmp_path / "track")
    audio, rate = soundfile.read(tmp_path / "track" / "vocals.wav")
    assert not audio[:rate].any()
    assert np.abs(audio).max() > 0.01


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_recorded_parts_become_their_splits(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = json.loads(prepare("music", raw, out, only=RECORDED).read_text())
    for split, songs in ALBUM_SPLITS.items():
        tracks = scan(out / split).songs
        assert {track.name for track in tracks} == set(songs)
        assert all(set(track.files) == {"vocals", "drums", "other"} for track in tracks)
        assert all((track.sample_rate, track.frames) == (44100, 22050) for track in tracks)
    (demo,) = scan(out / "test-demo").tracks
    stems = corpora.read_stems(demo, 44100)
    assert set(stems) == {"drums", "bass", "other"}
    assert np.abs(sum(stems.values())).max() == pytest.approx(0.9, abs=1e-3)
    assert not stems["bass"][:, 30000:].any()  # padded, not stretched
    solos = [track for track in scan(out / "train") if track.solo]
    assert {track.name.split("-")[1] for track in solos} == set(SPEAKERS)
    for track in solos:
        audio = corpora.read_stems(track, 44100)["vocals"]
        np.testing.assert_array_equal(audio[0], audio[1])
        assert active_rms_db(audio) == pytest.approx(-20, abs=6)
    assert set(manifest["corpora"]) == set(RECORDED)
    assert manifest["corpora"]["speech"]["licence"] == "CC BY 4.0"
    listed = {f"{split}/{name}" for split, names in manifest["splits"].items() for name in names}
    assert listed == {str(path.parent.relative_to(out)) for path in out.rglob("track.json")}


def test_a_seed_decides_every_byte_whatever_the_count_of_jobs(raw: Path, tmp_path: Path) -> None:
    prepare("music", raw, tmp_path / "a", only=("speech",), seed=3)
    prepare("music", raw, tmp_path / "b", only=("speech",), seed=3, jobs=2)
    prepare("music", raw, tmp_path / "c", only=("speech",), seed=4)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert tree(tmp_path / "a" / "train") != tree(tmp_path / "c" / "train")
    with pytest.raises(DataError, match="made with seed 3, not 4"):
        prepare("music", raw, tmp_path / "a", only=("speech",), seed=4)


def test_an_interrupted_run_leaves_no_half_track_and_is_finished_by_the_next(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare("music", raw, tmp_path / "whole", only=RECORDED)
    out, real, calls = tmp_path / "out", soundfile.write, []

    def interrupted(path: str, *arguments: object, **options: object) -> None:
        calls.append(path)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare("music", raw, out, only=RECORDED)
    assert [path.name for path in (out / "train").iterdir()] == ["hydrogen"]
    # a run that was killed outright could not tidy up
    (out / "train" / ".lithium.new-0123abcd").mkdir()
    (out / "train" / ".lithium.new-0123abcd" / "vocals.wav").write_bytes(b"half")
    kept = (out / "train" / "hydrogen" / "vocals.wav").stat().st_mtime_ns
    prepare("music", raw, out, only=RECORDED)
    assert (out / "train" / "hydrogen" / "vocals.wav").stat().st_mtime_ns == kept
    assert tree(out) == tree(tmp_path / "whole")


def test_midi_splits_never_share_the_same_notes(tmp_path: Path, write_midi: Writer) -> None:
    for index in range(12):
        write_midi(tmp_path / f"m{index:02d}.mid", seconds=24, shift=index)
    write_midi(tmp_path / "m03-again.mid", seconds=24, shift=3, program=4)
    write_midi(tmp_path / "no-bass.mid", seconds=24, bass=False)
    write_midi(tmp_path / "short.mid", seconds=8)
    write_midi(tmp_path / "tiny.mid", seconds=2)
    files = list(tmp_path.glob("*.mid"))
    splits = split_midi(files, seed=0)
    assert splits == split_midi(reversed(files), seed=0) != split_midi(files, seed=1)
    assert {name: len(paths) for name, paths in splits.items()} == {"test": 6, "valid": 3, "train": 5}
    hashes = [content_hash(load_score(path)) for paths in splits.values() for path in paths]
    assert len(set(hashes)) == len(hashes)
    for path in (*splits["test"], *splits["valid"]):
        assert min(len(times) for times in onsets(load_score(path)).values()) >= music.MIN_ONSETS
    assert {path.stem for path in splits["train"]} > {"no-bass", "short"}


def test_midi_files_of_free_programs_are_played_once_and_in_turn_by_all_kinds_of_players(
    tmp_path: Path, write_midi: Writer
) -> None:
    songs = tmp_path / "scores" / "openttd-openmsx" / "usr"
    songs.mkdir(parents=True)
    for index in range(3):
        write_midi(songs / f"m{index}.mid", seconds=24, shift=index)
    write_midi(songs / "same.mid", seconds=24, shift=1)
    write_midi(songs / "short.mid", seconds=8)
    (songs / "broken.mid").write_bytes(b"MThd")
    items = music.score_items(tmp_path, 0, (), 1)
    assert [item.name for item in items] == [f"midi-openttd-openmsx-m{index}-00" for index in range(3)]
    assert {item.split for item in items} == {"train"}
    players = {item.corpora for item in items}
    assert players == {("openttd-openmsx", *rendering.corpora) for rendering in music.VARIATIONS}
    with pytest.raises(DataError, match=r"no MIDI files of openttd-openmsx.*scores"):
        music.score_items(tmp_path / "scores", 0, (), 1)


def test_midi_and_composed_songs_are_made_from_one_seed(
    raw: Path,
    tmp_path: Path,
    write_midi: Writer,
    write_samples: Writer,
    write_speech: Writer,
    small_soundfont: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(music, "MIN_SECONDS", 5.0)
    monkeypatch.setattr(compositions, "SECONDS", (1.0, 2.0))
    monkeypatch.setattr(compositions, "VALID_SONGS", 1)
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for name in SOUNDFONTS:  # all the same, since they are large
        (fonts / name).symlink_to(small_soundfont)
    for index in range(4):
        write_midi(raw / "midi" / "freedoom" / f"m{index}.mid", seconds=6.5, shift=index)
    write_samples(raw / "sonic-pi")
    write_speech(raw / "librispeech", (*SPEAKERS, compositions.VALID_SINGER))
    monkeypatch.setattr("sepvae.data.melody.INSTRUMENTAL_SHARE", 0.0)
    options = {"only": ("midi", "composed"), "soundfonts": (fonts,), "variations": 3, "songs": 1}
    out = tmp_path / "out"
    manifest = json.loads(prepare("music", raw, out, **options).read_text())
    splits = {split: set(tracks) for split, tracks in manifest["splits"].items()}
    assert splits["test-midi"] == splits["test-midi-known"]
    assert not splits["test-midi"] & splits["valid-midi"]
    held_out = splits["test-midi"] | splits["valid-midi"]
    assert {name.split("-")[1] for name in splits["train"] if name.startswith("midi")} == {
        "m0",
        "m1",
        "m2",
        "m3",
    } - held_out
    assert "composed-0000" in splits["train"]
    assert splits["valid-sung"] == {"sung-0000"}
    singers = {
        path.parent.name: json.loads(path.read_text())["vocals"]["speaker"]
        for path in out.glob("*/*/track.json")
        if path.parent.name.startswith(("composed", "sung"))
    }
    assert singers["sung-0000"] == compositions.VALID_SINGER
    assert singers["composed-0000"] in SPEAKERS
    heard = {"midi", "composed", "sonic-pi", "speech"}
    assert heard | {"fluidr3", "opl3", "timgm6mb", "musescore", "avldrums"} == set(manifest["corpora"])
    for split in splits:
        for track in scan(out / split):
            stems = corpora.read_stems(track, 44100)
            sung = {"vocals"} if track.name.startswith(("composed", "sung")) else set()
            assert set(stems) == {"drums", "bass", "other"} | sung
            assert len({audio.shape for audio in stems.values()}) == 1
            assert 0.05 < np.abs(sum(stems.values())).max() < 1
    # one of them again, alone
    track = next(
        path
        for path in (out / "train").iterdir()
        if path.name.startswith("midi") and path.name.endswith("01")
    )
    before = tree(track)
    track.rename(tmp_path / "aside")
    prepare("music", raw, out, **options)
    assert tree(track) == before


def test_what_is_missing_is_said_before_the_work_starts(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="no such dataset: talk"):
        prepare("talk", raw, out)
    with pytest.raises(DataError, match="no such folder of raw material"):
        prepare("music", tmp_path / "nowhere", out)
    with pytest.raises(DataError, match="no such part of music: noise"):
        prepare("music", raw, out, only=("noise",))
    with pytest.raises(DataError, match=r"no 4088/\*\.opus"):
        prepare("music", tmp_path, out, only=("speech",))
    monkeypatch.setattr("sepvae.data.render.SOUNDFONT_FOLDERS", ())
    monkeypatch.setattr("sepvae.data.programs.shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(DataError, match="Debian package fluid-soundfont-gm"):
        prepare("music", raw, out)
    monkeypatch.setattr("sepvae.data.programs.shutil.which", lambda name: None)
    with pytest.raises(DataError, match="Debian package fluidsynth"):
        prepare("music", raw, out)
    assert not out.exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        prepare("music", raw, tmp_path / "file" / "out", only=("demo",))
