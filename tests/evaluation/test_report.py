"""A report runs end to end and says the same on screen, in its result and in its file."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner

from sepvae import checkpoint
from sepvae.cli import cli
from sepvae.data import corpora
from sepvae.errors import DataError, SepvaeError
from sepvae.evaluation.report import REPORT_NAME, evaluate
from sepvae.models.separation import MaskNet, SeparationVAE

PRESENT = ("drums", "bass", "other")
CARD = {"name": "tiny", "description": "a test", "training": {}, "data": [], "scores": [], "licence": "MIT"}


@pytest.fixture(scope="module")
def report(
    taught_model: SeparationVAE, songs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict, Path]:
    """Everything at once, on the first 12 s of every song."""
    out = tmp_path_factory.mktemp("report") / "new"
    found = evaluate(
        taught_model,
        songs,
        out=out,
        device="cpu",
        gates=True,
        mask_net=MaskNet(taught_model.config),
        static_eq_from=songs,
        museval=False,
        max_seconds=12,
    )
    return found, out


@pytest.fixture
def one_song(songs: Path, tmp_path: Path) -> Path:
    shutil.copytree(songs / "song0", tmp_path / "one" / "song0")
    return tmp_path / "one"


def test_the_file_says_what_the_call_returns(report: tuple[dict, Path]) -> None:
    found, out = report
    assert json.loads((out / REPORT_NAME).read_text()) == found
    assert found["protocol"]["max_seconds"] == 12
    assert {path.name for path in out.iterdir()} == {REPORT_NAME, "song0.png", "song1.png"}


def test_the_model_stands_between_floor_and_ceiling(report: tuple[dict, Path]) -> None:
    methods = report[0]["methods"]
    means = {name: method["mean"]["si_sdr_improvement"] for name, method in methods.items()}
    assert means["static EQ"] < means["model"] < means["oracle variance mask"]
    assert means["mask net"] < means["model"]  # untrained
    assert report[0]["gates"]["z permuted"]["passed"]


def test_means_are_over_windows_then_tracks_then_sources(report: tuple[dict, Path]) -> None:
    model = report[0]["methods"]["model"]
    key = "si_sdr_improvement"
    for source in PRESENT:
        tracks = [scores[source][key] for scores in model["tracks"].values()]
        assert model["sources"][source][key] == pytest.approx(sum(tracks) / 2, abs=1e-3)
        assert all(scores[source]["windows"] == 1 for scores in model["tracks"].values())
    mean = sum(model["sources"][source][key] for source in PRESENT) / 3
    assert model["mean"][key] == pytest.approx(mean, abs=1e-3)


def test_a_source_that_no_song_has_is_reported_as_leakage(report: tuple[dict, Path]) -> None:
    found = report[0]
    assert list(found["leakage_db"]) == ["vocals"]
    assert set(found["leakage_db"]["vocals"]["tracks"]) == {"song0", "song1"}
    assert -120 <= found["leakage_db"]["vocals"]["mean"] < 0
    assert found["methods"]["model"]["sources"]["vocals"] == {"si_sdr": None, "si_sdr_improvement": None}


def test_a_source_that_plays_softly_should_not_be_silent(tiny_model: SeparationVAE, one_song: Path) -> None:
    bass, rate = soundfile.read(one_song / "song0" / "bass.wav")
    soundfile.write(one_song / "song0" / "bass.wav", 1e-4 * bass, rate, subtype="FLOAT")
    found = evaluate(tiny_model, one_song, device="cpu", museval=False, max_seconds=3)
    assert found["methods"]["model"]["tracks"]["song0"]["bass"]["windows"] == 0
    assert list(found["leakage_db"]) == ["vocals"]


def test_bss_eval_agrees_that_the_model_has_learned(taught_model: SeparationVAE, one_song: Path) -> None:
    found = evaluate(taught_model, one_song, device="cpu", max_seconds=5)["bss_eval"]
    assert list(found["sources"]) == list(found["tracks"]["song0"]) == list(PRESENT)
    assert all(found["sources"][source]["sdr"] > 3 for source in PRESENT)


def test_the_command_prints_tables_and_writes_the_report(
    tiny_model: SeparationVAE, songs: Path, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / "tiny", tiny_model, CARD)
    arguments = [
        "evaluate",
        str(tmp_path / "tiny"),
        str(songs),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli, [*arguments, "--no-museval", "--max-seconds", "2"])
    assert result.exit_code == 0, result.output
    assert "SI-SDR improvement" in result.stdout
    assert "oracle variance mask" in result.stdout
    found = json.loads((tmp_path / "out" / REPORT_NAME).read_text())
    assert found["model"] == "tiny"
    assert found["sample_rate"] == 44100  # the model's; the songs are resampled to it
    assert "bss_eval" not in found


def test_the_same_call_gives_the_same_numbers(taught_model: SeparationVAE, one_song: Path) -> None:
    first, second = (
        evaluate(taught_model, one_song, device="cpu", gates=True, museval=False, max_seconds=3)
        for _ in range(2)
    )
    assert first == second


def test_what_does_not_fit_is_refused(
    taught_model: SeparationVAE, tiny_model, songs: Path, tmp_path: Path
) -> None:
    for seconds in (0, 1e-9, float("inf"), float("nan")):
        with pytest.raises(DataError, match="max_seconds"):
            evaluate(taught_model, songs, max_seconds=seconds)
    with pytest.raises(DataError, match="mask net has other sources or another rate"):
        evaluate(taught_model, songs, mask_net=tiny_model)
    with pytest.raises(SepvaeError):
        evaluate(taught_model, tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(SepvaeError, match="cannot make"):
        evaluate(taught_model, songs, out=tmp_path / "file" / "out")


def test_solos_are_scored_only_where_there_is_nothing_else(
    taught_model: SeparationVAE, songs: Path, tmp_path: Path
) -> None:
    stems = corpora.read_stems(corpora.scan(songs).songs[0], 8000)
    corpora.write_track(tmp_path / "solo", {"bass": stems["bass"][:, :8000]}, 8000, {"solo": True})
    found = evaluate(taught_model, tmp_path, device="cpu", museval=False)
    assert list(found["methods"]["model"]["tracks"]) == ["solo"]
    assert torch.isfinite(torch.tensor(found["methods"]["model"]["sources"]["bass"]["si_sdr"]))


def test_stems_that_the_model_does_not_know_are_named(
    taught_model: SeparationVAE, one_song: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = next(one_song.iterdir())
    for name in ("piano", "mixture"):
        shutil.copy(folder / "bass.wav", folder / f"{name}.wav")
    with caplog.at_level(logging.WARNING):
        evaluate(taught_model, one_song, museval=False, max_seconds=10)
    assert caplog.messages == ["left out of the mixtures, the model has no such source: piano"]
