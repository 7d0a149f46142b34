"""The report tells of every input what became of it."""

import json
from pathlib import Path

import pytest

from sepvae.audio.verify import SumError
from sepvae.batch.jobs import Job
from sepvae.batch.report import count, failure, success, unfinished, write_report
from sepvae.errors import OutputError
from sepvae.separator import SeparatedFile


def test_the_report_tells_success_loss_and_failure(tmp_path: Path) -> None:
    job = Job(tmp_path / "a.wav", "a")
    common = {"sample_rate": 44100, "subtype": "PCM_16", "input_sha256": "12"}
    done = SeparatedFile(
        job.path,
        {"bass": tmp_path / "bass.wav"},
        frames=88200,
        seconds=0.5,
        output_sha256={"bass": "34"},
        sum_error=SumError(2e-5, -80.0, 0),
        **common,  # type: ignore[arg-type]
    )
    cut = SeparatedFile(job.path, {}, frames=1, seconds=1.0, loss="ends early", **common)  # type: ignore[arg-type]
    skipped = SeparatedFile(job.path, {}, skipped=True, **common)  # type: ignore[arg-type]
    cut_before = SeparatedFile(job.path, {}, skipped=True, loss="ends early", **common)  # type: ignore[arg-type]
    entries = [success(job, result) for result in (done, cut, skipped, cut_before)]
    entries += [failure(job, "a.wav: no such file"), unfinished(job)]
    write_report(tmp_path / "r.json", {"model": "music"}, entries)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["model"] == "music"
    assert report["counts"] == {"done": 1, "skipped": 1, "incomplete": 2, "failed": 1, "unfinished": 1}
    first = report["files"][0]
    assert first["outputs"] == {"bass": {"path": str(tmp_path / "bass.wav"), "sha256": "34"}}
    assert (first["real_time_factor"], first["null_error"], first["input_sha256"]) == (4, 2e-5, "12")
    assert report["files"][4]["error"] == "a.wav: no such file"
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert count([]) == {}


def test_a_lossy_format_has_no_null_error_but_one_in_decibels() -> None:
    result = SeparatedFile(
        Path("a"), {}, sample_rate=8000, frames=8, subtype="OPUS", output_rate=48000,
        sum_error=SumError(0.1, -20.0, 0),
    )  # fmt: skip
    entry = success(Job(Path("a"), "a"), result)
    assert (entry["null_error"], entry["sum_error_db"], entry["output_sample_rate"]) == (None, -20.0, 48000)


def test_a_report_without_its_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="report"):
        write_report(tmp_path / "no" / "r.json", {}, [])
