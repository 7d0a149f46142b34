"""Whole files as arrays, for what does not stream."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepvae.audio.encoding import ENCODINGS, choose_encoding
from sepvae.audio.outputs import StemFiles
from sepvae.audio.reader import AudioReader
from sepvae.audio.resample import Resampler
from sepvae.errors import AudioFileError, OutputError


def read_sound(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Read a file of one or two channels.

    Returns:
        Samples `[C, L]` and their rate in Hz.

    Raises:
        AudioFileError: it cannot be read to its end, or has more channels.
    """
    with AudioReader(path) as reader:
        if reader.info.channels > 2:
            raise AudioFileError(f"{path}: expected one or two channels, found {reader.info.channels}")
        audio = np.concatenate(list(reader.blocks()), axis=1)
        if reader.loss is not None:
            raise AudioFileError(f"{path}: {reader.loss}")
        return audio, reader.info.sample_rate


def write_sound(
    path: str | os.PathLike[str], audio: NDArray[np.float32], sample_rate: int, subtype: str | None = None
) -> float:
    """Write a file whose ending names its format; it appears when it is complete.

    Shape: audio `[C, L]`.

    Returns:
        The gain that keeps it at full scale; 1 unless it was beyond.

    Raises:
        OutputError: the format is unknown, or the file cannot be written.
    """
    target = Path(path)
    name = target.suffix[1:].lower()
    if name not in ENCODINGS:
        raise OutputError(f"{target}: expected a name that ends in .{', .'.join(ENCODINGS)}")
    encoding, subtype = choose_encoding(name, subtype, depth="PCM_16", channels=audio.shape[0])
    with StemFiles({"sound": target}, encoding, subtype, sample_rate, audio.shape[0]) as files:
        files.write(audio[None])
        return files.commit()


def change_rate(audio: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    """Resample a whole signal `[C, L]` as streams are, at soxr's high quality; `corpora.resample` takes the highest."""
    resampler = Resampler(rate, new_rate, audio.shape[0])
    return np.concatenate([resampler.push(audio), resampler.finish()], axis=1)
