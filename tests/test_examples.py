"""The examples are what their script makes, are small, and say under which licence they are."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

CHECKOUT = Path(__file__).resolve().parents[1]
EXAMPLES, ASSETS = CHECKOUT / "examples", CHECKOUT / "tests" / "assets"
EXAMPLE_FILES = {  # rate, channels, seconds, licence
    "instrumental.ogg": (44100, 2, 83.25, "CC0 1.0 Universal"),
    "singing.opus": (48000, 2, 30.0, "CC0 1.0 Universal"),
    "noisy-speech.opus": (16000, 1, 12.0, "CC BY 4.0"),
}


@pytest.mark.parametrize("name", EXAMPLE_FILES)
def test_an_example_is_small_whole_and_not_clipped(name: str) -> None:
    path = EXAMPLES / name
    audio, rate = soundfile.read(path, always_2d=True)
    expected_rate, channels, seconds, _ = EXAMPLE_FILES[name]
    assert rate == expected_rate
    assert audio.shape[1] == channels
    assert len(audio) / rate == pytest.approx(seconds, abs=0.01)
    assert 0.5 < np.abs(audio).max() < 1.0
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("name", EXAMPLE_FILES)
def test_an_example_has_its_licence_beside_it(name: str) -> None:
    text = (EXAMPLES / name).with_suffix(".LICENSE.txt").read_text()
    assert text.startswith(f"{name}: {EXAMPLE_FILES[name][-1]}")
    assert "CC0 1.0 Universal" in (EXAMPLES / "CC0-1.0.txt").read_text()


def test_no_example_stands_without_its_test() -> None:
    found = {
        path.name for path in EXAMPLES.iterdir() if path.is_file() and path.suffix not in {".py", ".txt"}
    }
    assert found == EXAMPLE_FILES.keys()


def test_the_script_makes_the_examples_again(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_examples.py", str(data_root), "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "make_examples.py"), run_name="__main__")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.o*"))
    assert made == sorted(
        path.relative_to(CHECKOUT) for folder in (EXAMPLES, ASSETS) for path in folder.glob("*.o*")
    )
    for path in made:
        again, _ = soundfile.read(tmp_path / path)
        committed, _ = soundfile.read(CHECKOUT / path)
        assert np.abs(again - committed).max() < 1e-3  # another encoder build may round otherwise
