"""A check names every file that is missing or broken, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from sepvae.cli import cli
from sepvae.data.check import Report, check, lines
from sepvae.data.datasets import DATASETS
from sepvae.data.datasets.decode import decode, is_cut_short, probe
from sepvae.errors import DataError

Layouts = Callable[[str], Path]


def of_kind(report: Report, kind: str) -> set[str]:
    return {problem.where.name for problem in report.problems if problem.kind == kind}


@pytest.mark.parametrize("name", DATASETS)
def test_nothing_in_a_tiny_dataset_is_broken(name: str, layouts: Layouts) -> None:
    report = check(DATASETS[name], layouts(name))
    assert of_kind(report, "broken") == set()
    assert sum(report.tracks.values()) > 1


def test_missing_stems_and_songs_are_named(layouts: Layouts) -> None:
    report = check(DATASETS["musdb18hq"], layouts("musdb18hq"))
    assert not report.complete
    missing = [str(problem.where) for problem in report.problems if problem.kind == "missing"]
    assert any(path.endswith("Short - Bass/drums.wav") for path in missing)
    assert sum("validation song" in problem.what for problem in report.problems) == 13
    assert {problem.what for problem in report.problems if problem.where.name == "test"} == {"1 songs of 50"}


def test_broken_files_are_told_from_whole_ones(write_layout: Layouts) -> None:
    root = write_layout("musdb18hq")
    song = root / "train" / "A Classic Education - NightOwl"
    (song / "bass.wav").write_bytes((song / "bass.wav").read_bytes()[:50_000])  # cut short
    (song / "drums.wav").write_bytes(b"RIFF")
    (song / "other.wav").write_bytes(b"")
    for thorough in (False, True):
        report = check(DATASETS["musdb18hq"], root, thorough=thorough)
        assert of_kind(report, "broken") == {"bass.wav", "drums.wav", "other.wav"}
    quick, deep = check(DATASETS["musdb18hq"], root), check(DATASETS["musdb18hq"], root, thorough=True)
    silent = [problem.where.name for problem in deep.problems if problem.what == "nothing but silence"]
    assert silent == ["vocals.wav"]
    assert not any(problem.what == "nothing but silence" for problem in quick.problems)


def test_a_container_of_stems_that_was_cut_anywhere_is_one_clear_error(write_layout: Layouts) -> None:
    song = write_layout("musdb18") / "train" / "One - A.stem.mp4"
    content = song.read_bytes()
    for length in [*range(0, 400, 13), *range(400, len(content), len(content) // 40)]:
        song.write_bytes(content[:length])
        for read in (decode, probe):
            with suppress(DataError):  # a cut within the sound itself is no error of the container
                read(song, 1)
    report = check(DATASETS["musdb18"], song.parents[1])
    assert of_kind(report, "broken") == {song.name}


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC"])
def test_files_of_all_kinds_that_end_early_are_found_without_decoding(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, (8000, 2), np.int16)
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, noise, 8000, format=kind)
    assert not is_cut_short(path)
    path.write_bytes(path.read_bytes()[:20_000])
    assert is_cut_short(path)


def test_flac_files_that_end_early_are_broken(write_layout: Layouts) -> None:
    root = write_layout("slakh2100")
    path = root / "slakh2100_flac_redux" / "test" / "Track01876" / "stems" / "S02.flac"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert of_kind(check(DATASETS["slakh2100"], root), "broken") == {"S02.flac"}


def test_metadata_that_cannot_be_read_is_named(write_layout: Layouts) -> None:
    root = write_layout("moisesdb")
    (root / "moisesdb_v0.1" / "0001" / "data.json").write_text('{"song": "x"}')
    with pytest.raises(DataError, match=r"0001.data\.json"):
        check(DATASETS["moisesdb"], root)
    root = write_layout("slakh2100")
    (root / "slakh2100_flac_redux" / "train" / "Track00001" / "metadata.yaml").write_text("stems: [")
    with pytest.raises(DataError, match=r"Track00001.metadata\.yaml"):
        check(DATASETS["slakh2100"], root)


def test_odd_rates_and_lengths_are_notes(tmp_path: Path) -> None:
    (tmp_path / "song").mkdir()
    soundfile.write(tmp_path / "song" / "a.wav", np.ones((8000, 1)) / 2, 8000)
    soundfile.write(tmp_path / "song" / "b.wav", np.ones((8000, 4)) / 2, 16000)
    report = check(DATASETS["stems"], tmp_path)
    assert report.complete
    text = "\n".join(lines(report, tmp_path))
    for words in (
        "4 channels",
        "different rates: a.wav 8000 Hz, b.wav 16000 Hz",
        "song/b.wav: 0.5 s of 1.0 s",
    ):
        assert words in text


def test_the_command_lists_problems_and_fails(write_layout: Layouts) -> None:
    root = write_layout("dnr")
    result = CliRunner().invoke(cli, ["data", "prepare", "dnr", "--check", str(root)])
    assert result.exit_code == 1
    assert "missing dnr_v2/tr/61/sfx.wav" in result.stdout
    assert "missing dnr_v2/cv: 2 mixtures of 487" in result.stdout
    assert result.stderr.strip().endswith("is not complete")
    root = write_layout("stems")
    result = CliRunner().invoke(
        cli, ["data", "prepare", "stems", "--check", str(root), "--out", str(root) + "-out"]
    )
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.splitlines()[-1]).is_file()


def test_long_lists_are_cut(layouts: Layouts) -> None:
    report = check(DATASETS["musdb18hq"], layouts("musdb18hq"))
    text = lines(report, layouts("musdb18hq"), most=3)
    assert "missing and 13 more" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stems", "--out", "x"], "--root"),
        (["stems", "--root", "x"], "--out"),
        (["stems", "--root", "x", "--out", "y", "--set", "only"], "KEY=VALUE"),
        (["music", "--check", "x"], "music has no --check"),
        (["moisesdb", "--download", "x"], "no public address"),
        (["stems", "--root", "x", "--out", "y", "--only", "z"], "stems has no --seed, --only"),
        (["fsdd", "--root", "x", "--out", "y", "--seed", "0"], "fsdd has no --seed, --only"),
        (["stems", "--root", "x", "--out", "y", "--thorough"], "--thorough goes with --check"),
    ],
)
def test_wrong_calls_say_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner(env={"SEPVAE_DATA": None}).invoke(cli, ["data", "prepare", *arguments])
    assert result.exit_code != 0
    assert message in result.stderr
