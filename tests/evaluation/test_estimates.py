"""Stems of any tool get the score that a model with the same stems would get."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from sepvae.cli import cli
from sepvae.data import corpora
from sepvae.errors import DataError
from sepvae.evaluation.estimates import dataset_sources, evaluate_estimates
from sepvae.evaluation.report import REPORT_NAME, evaluate
from sepvae.models.separation import SeparationVAE
from sepvae.separator import Separator

RATE = 8000
SOURCES = ("drums", "bass", "other")


def write(folder: Path, stems: dict[str, np.ndarray], rate: int = RATE, subtype: str = "FLOAT") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, audio in stems.items():
        soundfile.write(folder / f"{name}.wav", audio.T, rate, subtype=subtype)


@pytest.fixture
def perfect(songs: Path, tmp_path: Path) -> Path:
    """The references themselves as estimates."""
    for track in corpora.scan(songs):
        write(tmp_path / "perfect" / track.name, corpora.read_stems(track, RATE))
    return tmp_path / "perfect"


def test_the_stems_of_a_model_score_as_the_model_does(
    taught_model: SeparationVAE, songs: Path, tmp_path: Path
) -> None:
    separator = Separator(taught_model, "cpu")
    for track in corpora.scan(songs):
        mixture = sum(corpora.read_stems(track, RATE).values())
        write(tmp_path / "stems" / track.name, separator.separate(mixture, RATE))
    found = evaluate(taught_model, songs, device="cpu", museval=False, quality="fast")
    ours = found["methods"]["model"]["sources"]
    theirs = evaluate_estimates(tmp_path / "stems", songs, museval=False)["methods"]["model"]["sources"]
    for source in SOURCES:
        for key in ("si_sdr", "si_sdr_improvement"):  # bfloat16 against other block borders
            assert theirs[source][key] == pytest.approx(ours[source][key], abs=0.05)


def test_references_as_estimates_score_the_bound_of_the_metric(perfect: Path, songs: Path) -> None:
    report = evaluate_estimates(perfect, songs, museval=False, max_seconds=10)
    assert all(report["methods"]["model"]["sources"][source]["si_sdr"] > 90 for source in SOURCES)


def test_bss_eval_stands_beside_it(songs: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for track in corpora.scan(songs):
        stems = corpora.read_stems(track, RATE)
        noisy = {s: x + x.std() * rng.standard_normal(x.shape) for s, x in stems.items()}
        write(tmp_path / "noisy" / track.name, noisy)
    found = evaluate_estimates(tmp_path / "noisy", songs, max_seconds=5)["bss_eval"]["sources"]
    assert all(abs(found[source]["sdr"]) < 6 for source in SOURCES)  # as much noise as signal


def test_names_are_mapped_and_ends_may_differ(perfect: Path, songs: Path) -> None:
    for folder in perfect.iterdir():
        audio, _ = soundfile.read(folder / "other.wav")
        (folder / "other.wav").unlink()
        soundfile.write(folder / "rest.flac", audio[: -RATE // 20], RATE)
    with pytest.raises(DataError, match=r"no stem 'other' in .*, which holds bass, drums, rest"):
        evaluate_estimates(perfect, songs)
    report = evaluate_estimates(perfect, songs, names={"other": "rest"}, museval=False, max_seconds=10)
    assert report["methods"]["model"]["sources"]["other"]["si_sdr"] > 60


def test_what_cannot_be_compared_is_refused(perfect: Path, songs: Path) -> None:
    with pytest.raises(DataError, match="no folder song0"):
        evaluate_estimates(perfect / "song0", songs)
    with pytest.raises(DataError, match="no source 'piano'"):
        evaluate_estimates(perfect, songs, names={"piano": "keys"})
    audio, _ = soundfile.read(perfect / "song1" / "bass.wav")
    soundfile.write(perfect / "song1" / "bass.wav", audio, 2 * RATE)
    with pytest.raises(DataError, match="at 16000 Hz, the track at 8000 Hz"):
        evaluate_estimates(perfect, songs)
    broken = audio.copy()
    broken[RATE, 1] = np.nan
    soundfile.write(perfect / "song1" / "bass.wav", broken, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"song1/bass\.wav holds NaN"):
        evaluate_estimates(perfect, songs, museval=False)
    soundfile.write(perfect / "song1" / "bass.wav", audio[: 20 * RATE], RATE)
    with pytest.raises(DataError, match=r"lasts 20\.00 s, the track 21\.00 s"):
        evaluate_estimates(perfect, songs)


def test_a_dataset_says_which_sources_it_has(songs: Path, tmp_path: Path) -> None:
    assert dataset_sources(songs) == SOURCES
    write(tmp_path / "set" / "one", dict.fromkeys(("speech", "noise", "mixture", "Mix"), np.zeros((2, 8))))
    assert dataset_sources(tmp_path / "set") == ("noise", "speech")
    with pytest.raises(DataError, match="no track"):
        dataset_sources(songs / "song0")


def test_the_command_scores_a_folder_of_stems(perfect: Path, songs: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--estimates", str(perfect), str(songs), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, [*arguments, "--no-museval", "--map", "bass=bass"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / REPORT_NAME).read_text())
    assert (report["model"], report["dataset"]) == ("perfect", songs.name)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / REPORT_NAME).write_text('["mine"]')
    for folder, code in (("out", 0), ("mine", 1)):
        again = CliRunner().invoke(cli, [*arguments[:-1], str(tmp_path / folder), "--no-museval"])
        assert again.exit_code == code, again.output
    assert (tmp_path / "mine" / REPORT_NAME).read_text() == '["mine"]'
    for wrong, message in (
        (["evaluate", str(songs)], "MODEL"),
        (["evaluate", "music", "--estimates", str(perfect), str(songs)], "MODEL"),
        ([*arguments, "--gates"], "--gates"),
        ([*arguments, "--map", "bass"], "SOURCE=NAME"),
    ):
        result = CliRunner().invoke(cli, wrong)
        assert result.exit_code == 2
        assert message in result.output
