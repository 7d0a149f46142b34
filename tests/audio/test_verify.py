"""Written stems, read back, add up to their input; where they do not, the numbers tell."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae import Separator
from sepvae.audio.verify import sum_error
from sepvae.models.separation import SeparationVAE


@pytest.fixture
def separator(tiny_model: SeparationVAE) -> Separator:
    return Separator(tiny_model, "cpu", precision="float32", segment_s=0.1)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("subtype", "written", "step"),
    [
        ("PCM_U8", "PCM_16", 2.0**-15),
        ("PCM_16", "PCM_16", 2.0**-15),
        ("PCM_24", "PCM_24", 2.0**-23),
        ("PCM_32", "FLOAT", 1e-6),
        ("FLOAT", "FLOAT", 1e-6),
        ("DOUBLE", "FLOAT", 1e-6),
    ],
)
def test_stems_of_every_depth_null(
    tmp_path: Path,
    separator: Separator,
    rng: np.random.Generator,
    channels: int,
    subtype: str,
    written: str,
    step: float,
) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, rng.uniform(-0.9, 0.9, (3001, channels)), 48000, subtype)
    result = separator.separate_file(path, tmp_path / "out", verify=True)
    assert result.sum_error is not None
    assert result.sum_error.peak <= (0 if written != "FLOAT" and result.gain == 1 else step / result.gain)
    assert result.sum_error.extra_frames == 0
    stem = soundfile.info(result.outputs["bass"])
    assert (stem.subtype, stem.channels, stem.frames, stem.samplerate) == (written, channels, 3001, 48000)
    exact = soundfile.read(path, always_2d=True)[0]  # not through our own reader
    total = sum(soundfile.read(file, always_2d=True)[0] for file in result.outputs.values())
    assert np.abs(total / result.gain - exact).max() <= step / result.gain


def test_a_gain_that_keeps_stems_below_full_scale_is_told_and_undone(
    tmp_path: Path, tiny_model: SeparationVAE, rng: np.random.Generator
) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, 3 * rng.uniform(-1, 1, (3001, 2)), 44100, "FLOAT")
    result = Separator(tiny_model, "cpu").separate_file(path, tmp_path / "out", subtype="PCM_16", verify=True)
    assert result.gain < 1
    assert "lowered" in result.warnings[0]
    assert result.sum_error is not None
    assert 0 < result.sum_error.peak <= 2.0**-15 / result.gain


@pytest.mark.parametrize(("name", "rate"), [("mp3", 44100), ("ogg", 44100), ("opus", 44100), ("mp3", 96000)])
def test_lossy_stems_tell_their_rate_and_error(
    tmp_path: Path, separator: Separator, tone: np.ndarray, name: str, rate: int
) -> None:
    soundfile.write(tmp_path / "song.wav", tone.T, rate, "PCM_16")
    result = separator.separate_file(tmp_path / "song.wav", tmp_path / "out", format=name, verify=True)
    assert result.output_rate == soundfile.info(result.outputs["bass"]).samplerate
    assert (result.output_rate != rate) == any("written at" in warning for warning in result.warnings)
    assert result.sum_error is not None
    assert result.sum_error.db is not None
    assert -90 < result.sum_error.db < -15
    assert result.sum_error.extra_frames == 0


def test_what_is_wrong_with_stems_shows(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, noise.T, 44100, "PCM_16")
    outputs = separator.separate_file(path, tmp_path / "out").outputs
    files = list(outputs.values())
    assert sum_error(path, files, 1.0).peak == 0
    assert sum_error(path, files, 0.5).db == pytest.approx(0)  # twice the input less the input
    assert sum_error(path, files[1:], 1.0).peak > 1e-3
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[:-100], rate, "PCM_16")
    assert sum_error(path, files, 1.0).extra_frames == 100
    soundfile.write(path, np.concatenate([samples, samples[:100]]), rate, "PCM_16")
    assert sum_error(path, files, 1.0).peak > 1e-3


def test_stems_that_are_not_meant_to_add_up_are_hashed_only(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, noise.T, 44100)
    result = separator.separate_file(path, tmp_path / "out", stems=["bass", "no_drums"], verify=True)
    assert result.sum_error is None
    assert set(result.output_sha256) == {"bass", "no_drums"}
