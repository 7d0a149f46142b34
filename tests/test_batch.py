"""Which files many inputs mean, what their results are called, and the report on them."""

import json
from pathlib import Path

import pytest

from sepvae.batch import Job, file_report, find_jobs, write_report
from sepvae.errors import AudioFileError, OutputError
from sepvae.separator import SeparatedFile


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def tracks(jobs: list[Job], root: Path) -> dict[str, str]:
    return {job.path.relative_to(root).as_posix(): job.track for job in jobs}


def test_a_folder_means_the_audio_in_it_and_keeps_its_shape(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.MP3",
        "cd1/a.wav",
        "cd 2/ä'x.flac",
        "notes.txt",
        ".hidden/a.wav",
        "cd1/.a.wav",
        "out/old/bass.wav",
    )
    jobs = find_jobs([tmp_path], tmp_path / "out")
    assert tracks(jobs, tmp_path) == {"b.MP3": "b", "cd 2/ä'x.flac": "cd 2/ä'x", "cd1/a.wav": "cd1/a"}


def test_a_file_is_taken_as_it_is_named(tmp_path: Path) -> None:
    [named] = touch(tmp_path, "notes.txt")
    assert find_jobs([named, tmp_path / "missing.wav"], tmp_path / "out") == [
        Job(named, "notes"),
        Job(tmp_path / "missing.wav", "missing"),
    ]


def test_an_input_given_twice_is_done_once(tmp_path: Path) -> None:
    [path] = touch(tmp_path, "a.wav")
    assert len(find_jobs([path, tmp_path, tmp_path / "x" / ".." / "a.wav"], tmp_path / "out")) == 1


def test_inputs_of_the_same_name_get_different_ones(tmp_path: Path) -> None:
    paths = touch(tmp_path, "a/song.wav", "b/song.wav", "c/Song.mp3", "song-2.wav")
    jobs = find_jobs(paths, tmp_path / "out")
    assert tracks(jobs, tmp_path) == {
        "a/song.wav": "song",
        "b/song.wav": "song-3",  # song-2 belongs to a file of that name
        "c/Song.mp3": "Song-4",
        "song-2.wav": "song-2",
    }
    assert [job.clash for job in jobs] == [None, paths[0], paths[0], None]


def test_the_report_tells_success_loss_and_failure(tmp_path: Path) -> None:
    job = Job(tmp_path / "a.wav", "a")
    done = SeparatedFile(
        job.path, {"bass": tmp_path / "bass.wav"}, sample_rate=44100, frames=88200, seconds=0.5
    )
    cut = SeparatedFile(job.path, {}, sample_rate=44100, frames=1, seconds=1.0, loss="ends early")
    skipped = SeparatedFile(job.path, {}, skipped=True)
    results = [done, cut, skipped, AudioFileError("a.wav: no such file")]
    write_report(tmp_path / "r.json", {"model": "music"}, [file_report(job, result) for result in results])
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["model"] == "music"
    assert [entry["status"] for entry in report["files"]] == ["done", "incomplete", "skipped", "failed"]
    assert report["files"][0]["real_time_factor"] == 4
    assert report["files"][3]["error"] == "a.wav: no such file"
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_report_without_its_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="report"):
        write_report(tmp_path / "no" / "r.json", {}, [])
