"""From an own folder of stems to a model that separates: the commands of docs/tutorial.md on a tiny case."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from sepvae.cli import cli

from .conftest import RATE, SHORT, write_song

DOCS = Path(__file__).parents[2] / "docs"


def sepvae(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Somebody's own recordings."""
    for i in range(3):
        write_song(tmp_path / "own" / f"song {i}", {"violin": 700 + 50 * i, "tabla": 0}, seed=i)
    return tmp_path / "own"


def test_two_commands_from_a_folder_of_stems_to_a_working_model(
    own: Path, tiny_recipe: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sepvae.training.run.LEVEL_BATCHES", 2)
    sepvae("data", "prepare", "stems", "--root", own, "--out", "DATA", "--rate", RATE)
    short = [value for value in SHORT if "examples" not in value and "score" not in value]
    export = ["trainer.early_stopping=5", "trainer.export=best", "optim.schedule=cosine"]
    sepvae("train", "stems", "data.root=DATA", *tiny_recipe, *short, *export)
    run = tmp_path / "runs" / "stems"
    for stage in ("vae", "separation"):
        for name in (
            "recipe.yaml",
            "versions.json",
            "data.json",
            "checkpoints/last.ckpt",
            "checkpoints/best.ckpt",
        ):
            assert (run / stage / name).is_file(), name
        for name in ("mixture.wav", "violin.wav", "tabla.wav", "step_0000004.png"):
            assert (run / stage / "examples" / name).is_file(), name
    assert "commit" in json.loads((run / "separation" / "versions.json").read_text())
    seen = json.loads((run / "separation" / "data.json").read_text())
    assert seen["train"]["tracks"] == 2
    assert re.fullmatch("[0-9a-f]{64}", seen["train"]["sha256"])
    card = json.loads((run / "model" / "card.json").read_text())
    assert card["scores"][0]["set"] == "valid"
    assert card["data"][0]["name"] == "own recordings"
    assert card["training"]["data"] == seen
    song, _ = soundfile.read(own / "song 0" / "violin.wav")
    soundfile.write("song.wav", song, RATE)
    sepvae("separate", "-m", "runs/stems/model", "song.wav")
    stems = [soundfile.read(f"separated/song/{source}.wav")[0] for source in ("violin", "tabla")]
    np.testing.assert_allclose(sum(stems), soundfile.read("song.wav")[0], atol=2 / 32768)


def test_the_tutorial_names_these_commands() -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for command in (
        "sepvae data prepare stems --root my-songs --out DATA",
        "sepvae train stems data.root=DATA",
        "sepvae separate -m runs/stems/model song.wav",
    ):
        assert command in text
