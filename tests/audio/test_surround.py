"""Each speaker keeps its channel, whatever the order of a format."""

from pathlib import Path

import numpy as np
import pytest

from sepvae import Separator
from sepvae.audio import AudioReader
from sepvae.audio.decoders.ffmpeg import AvDecoder
from sepvae.audio.encoding import ENCODINGS, AudioWriter
from sepvae.audio.surround import from_vorbis, to_vorbis
from sepvae.models.separation import SeparationVAE

RATE, SECONDS = 48000, 1


def speakers(channels: int) -> np.ndarray:
    """A tone of its own for each channel, in the order of wav: the fourth of six or more is for low sounds only."""
    hertz = [40 if channel == 3 and channels > 5 else 200 + 150 * channel for channel in range(channels)]
    times = np.arange(RATE * SECONDS) / RATE
    return (0.3 * np.sin(2 * np.pi * np.array(hertz)[:, None] * times)).astype(np.float32)


def write(path: Path, name: str, audio: np.ndarray) -> None:
    writer = AudioWriter(path, ENCODINGS[name], ENCODINGS[name].subtypes[0], RATE, len(audio))
    writer.write(audio)
    writer.finish()
    writer.publish()


def heard_by_ffmpeg(path: Path) -> np.ndarray:
    decoder = AvDecoder(path)
    out = decoder.read()
    decoder.close()
    return out.T


def read(path: Path) -> np.ndarray:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_channels_keep_their_speakers(tmp_path: Path, name: str, channels: int) -> None:
    audio = speakers(channels)
    path = tmp_path / f"a.{name}"
    write(path, name, audio)
    inner = slice(5000, -5000)
    for out in (heard_by_ffmpeg(path), read(path)):
        assert (
            np.abs((out - audio[:, : out.shape[1]])[:, inner]).max() < 0.15
        )  # another tone would be an error of 0.6


@pytest.mark.parametrize("channels", range(1, 10))
def test_both_orders_are_inverse(channels: int) -> None:
    assert [to_vorbis(channels)[k] for k in from_vorbis(channels)] == list(range(channels))


def test_surround_stems_in_ogg_add_up(tmp_path: Path, tiny_model: SeparationVAE) -> None:
    write(tmp_path / "film.wav", "wav", speakers(6))
    separator = Separator(tiny_model, "cpu", precision="float32", segment_s=0.5)
    result = separator.separate_file(tmp_path / "film.wav", tmp_path, format="ogg", verify=True)
    assert result.sum_error is not None
    assert result.sum_error.db is not None
    assert result.sum_error.db < -15
