"""A prepared set says what it was made from, is finished by the next run, and leaves out what cannot be read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.data import prepared
from sepvae.data.corpora import read_stems, scan
from sepvae.data.datasets import DATASETS
from sepvae.data.prepared import prepare
from sepvae.errors import DataError, OutputError, SepvaeError

RATE = 8000
Prepare = Callable[..., dict]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four tracks of two sources at 16 kHz."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for source in ("voice", "tone"):
            soundfile.write(
                tmp_path / "raw" / name / f"{source}.flac", 0.1 * rng.standard_normal(8000), 16000
            )
    return tmp_path / "raw"


def made(raw: Path, out: Path, **options: object) -> dict:
    settings = {"sample_rate": RATE, "channels": 1, **options}
    return json.loads(prepare(DATASETS["stems"], raw, out, **settings).read_text(encoding="utf-8"))


def times(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.wav")}


def test_a_prepared_set_is_read_as_stems_of_one_rate(raw: Path, tmp_path: Path) -> None:
    manifest = made(raw, tmp_path / "out")
    tracks = [
        *scan(tmp_path / "out" / "train", ("voice", "tone")),
        *scan(tmp_path / "out" / "valid", ("voice", "tone")),
    ]
    assert len(tracks) == 4
    assert all((track.sample_rate, track.frames) == (RATE, 4000) for track in tracks)
    assert manifest["sources"] == ["tone", "voice"]
    assert manifest["splits"]["train"].keys() | manifest["splits"]["valid"].keys() == {"a", "b", "c", "d"}
    assert manifest["corpora"]["stems"]["licence"]
    file = soundfile.info(next((tmp_path / "out").rglob("voice.wav")))
    assert (file.subtype, file.channels) == ("PCM_16", 1)
    assert read_stems(tracks[0], RATE)["voice"].shape == (2, 4000)


def test_what_is_complete_is_kept_and_what_changed_is_made_again(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = made(raw, out)
    before = times(out)
    assert made(raw, out) == first
    assert times(out) == before
    soundfile.write(raw / "a" / "voice.flac", np.full(4000, 0.1), 16000)
    made(raw, out)
    changed = {name for name, time in times(out).items() if before[name] != time}
    assert {name.split("/")[1] for name in changed} == {"a"}


def test_what_the_raw_data_has_no_more_is_removed_and_named(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    first = made(raw, out)
    [valid] = first["splits"]["valid"]
    others = sorted(first["splits"]["train"])
    (out / "train" / "mine").mkdir()
    (raw / "train").mkdir()
    (raw / "valid").mkdir()
    (raw / valid).rename(raw / "train" / valid)
    (raw / others[0]).rename(raw / "valid" / others[0])
    (raw / others[1]).rename(raw / "train" / others[1])
    shutil.rmtree(raw / others[2])
    again = made(raw, out)
    assert {split: set(tracks) for split, tracks in again["splits"].items()} == {
        "train": {valid, others[1]},
        "valid": {others[0]},
    }
    assert {path.parent.relative_to(out).as_posix() for path in out.rglob("track.json")} == {
        f"train/{valid}",
        f"train/{others[1]}",
        f"valid/{others[0]}",
    }
    assert (out / "train" / "mine").is_dir()
    assert f"removed train/{others[2]}: the raw data has it no more" in caplog.messages
    heard = "models trained on the old set have heard it"
    assert f"removed train/{others[0]}: moved from train to valid: {heard}" in caplog.messages
    assert f"removed valid/{valid}: moved from valid to train" in caplog.messages


def test_a_track_that_two_splits_had_has_not_moved_when_one_lacks_it(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "valid"):
        shutil.copytree(raw / "a", tmp_path / "split" / split / "a")
        shutil.copytree(raw / "b", tmp_path / "split" / split / "b")
    made(tmp_path / "split", tmp_path / "out")
    shutil.rmtree(tmp_path / "split" / "train" / "a")
    made(tmp_path / "split", tmp_path / "out")
    assert "removed train/a: the raw data has it no more" in caplog.messages


def test_a_track_that_has_become_unreadable_is_removed_as_such(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(raw, tmp_path / "out")
    tracks = DATASETS["stems"].tracks(raw)
    monkeypatch.setattr(type(DATASETS["stems"]), "tracks", lambda self, root: tracks)
    (raw / "b" / "voice.flac").unlink()
    made(raw, tmp_path / "out")
    (removed,) = (text for text in caplog.messages if text.startswith("removed"))
    assert removed.endswith("/b: it cannot be read any more")


def test_other_settings_are_refused_by_what_differs(raw: Path, tmp_path: Path) -> None:
    first = made(raw, tmp_path / "out")
    with pytest.raises(DataError, match="made with sample_rate 8000, not 16000"):
        made(raw, tmp_path / "out", sample_rate=16000)
    with pytest.raises(DataError, match="made with options"):
        prepare(
            DATASETS["stems"].with_options({"only": "voice"}),
            raw,
            tmp_path / "out",
            sample_rate=RATE,
            channels=1,
        )
    other = made(raw, tmp_path / "other", channels=2)
    assert other["settings_sha256"] != first["settings_sha256"]


def test_a_killed_run_is_finished_by_the_next(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, count = tmp_path / "out", prepared.write_track, []

    def killed(*arguments: object) -> float:
        count.append(1)
        if len(count) == 3:
            raise SystemExit
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "write_track", killed)
        with pytest.raises(SystemExit):
            made(raw, out)
    assert not (out / "manifest.json").exists()
    (out / "train" / ".c.new-0123abcd").mkdir()
    (out / "train" / ".stfolder").mkdir()  # of a program that keeps the folder in step with others
    kept = times(out)
    assert len(kept) == 4
    with pytest.raises(DataError, match="not 16000"):  # the settings hold from the start
        made(raw, out, sample_rate=16000)
    manifest = made(raw, out)
    assert {name: times(out)[name] for name in kept} == kept
    assert sum(map(len, manifest["splits"].values())) == 4
    assert [path.name for path in out.rglob(".*")] == [".stfolder"]


def test_jobs_make_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "one")
    made(raw, tmp_path / "two", jobs=2)
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_what_cannot_be_read_is_left_out_and_named(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (raw / "b" / "voice.flac").write_bytes(b"fLaC and nothing more")
    for source in ("voice", "tone"):
        soundfile.write(raw / "c" / f"{source}.flac", np.zeros(4000), 16000)
    manifest = made(raw, tmp_path / "out")
    reasons = {name.split("/")[1]: reason for name, reason in manifest["skipped"].items()}
    assert set(reasons) == {"b", "c"}
    assert "voice.flac" in reasons["b"]
    assert "silence" in reasons["c"]
    assert {name for split in manifest["splits"].values() for name in split} == {"a", "d"}
    assert "left out" in caplog.text


def test_songs_that_lie_too_deep_are_named(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (raw / "album").mkdir()
    (raw / "b").rename(raw / "album" / "b")
    made(raw, tmp_path / "out")
    assert "album: no audio directly in it, audio lies deeper, left out" in caplog.messages


def test_a_raw_file_that_vanishes_costs_its_track(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = DATASETS["stems"]
    tracks = dataset.tracks(raw)
    monkeypatch.setattr(type(dataset), "tracks", lambda self, root: tracks)
    (raw / "b" / "voice.flac").unlink()
    (reason,) = made(raw, tmp_path / "out")["skipped"].values()
    assert "voice.flac: cannot be read" in reason


def end(*work: object) -> None:
    os._exit(9)


def test_a_worker_that_is_killed_is_told_in_one_line(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "_make", end)
    with pytest.raises(SepvaeError, match="worker process was killed"):
        made(raw, tmp_path / "out", jobs=2)


def test_a_set_without_validation_says_so(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b", "c", "d"):
        shutil.rmtree(raw / name)
    assert set(made(raw, tmp_path / "out")["splits"]) == {"train"}
    assert "data.valid=[]" in caplog.text


def test_tracks_held_out_that_cannot_be_read_are_named(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (held,) = made(raw, tmp_path / "whole")["splits"]["valid"]
    (raw / held / "voice.flac").write_bytes(b"fLaC and nothing more")
    assert set(made(raw, tmp_path / "out")["splits"]) == {"train"}
    (text,) = (text for text in caplog.messages if "validation" in text)
    assert f"cannot be read: valid/{held}; repair or remove them" in text
    shutil.rmtree(raw / held)
    assert len(made(raw, tmp_path / "out")["splits"]["valid"]) == 1


def test_folders_that_do_not_fit_are_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        made(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="cannot lie in the raw data"):
        made(raw, raw / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(DataError, match="not empty"):
        made(raw, tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        made(raw, tmp_path / "file" / "out")
    for path in raw.rglob("*.flac"):
        path.write_bytes(b"none of this is audio")
    with pytest.raises(DataError, match=r"no track of stems .* can be read"):
        made(raw, tmp_path / "out")
