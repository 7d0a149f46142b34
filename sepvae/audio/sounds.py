"""Whole files as arrays, for what does not stream."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepvae.audio.encoding import ENCODINGS, Encoding, choose_encoding
from sepvae.audio.outputs import StemFiles
from sepvae.audio.reader import AudioInfo, AudioReader
from sepvae.audio.resample import Resampler
from sepvae.errors import AudioFileError, OutputError


def read_sound(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], AudioInfo]:
    """Read a file of one or two channels.

    Returns:
        Samples `[C, L]` and what the file says of itself.

    Raises:
        AudioFileError: it cannot be read to its end, or has more channels.
    """
    with AudioReader(path) as reader:
        if reader.info.channels > 2:
            raise AudioFileError(f"{path}: expected one or two channels, found {reader.info.channels}")
        audio = np.concatenate(list(reader.blocks()), axis=1)
        if reader.loss is not None:
            raise AudioFileError(f"{path}: {reader.loss}")
        return audio, reader.info


def write_sound(
    path: str | os.PathLike[str], audio: NDArray[np.float32], sample_rate: int, depth: str = "PCM_16"
) -> tuple[float, Encoding]:
    """Write a file whose ending names its format; it appears when it is complete.

    Args:
        path: of the file.
        audio: full scale is 1.
        sample_rate: in Hz.
        depth: sample format where the file's format has it, else the deepest that it has.

    Shape: audio `[C, L]`.

    Returns:
        The gain that keeps it at full scale, 1 unless it was beyond, and the format.

    Raises:
        OutputError: the format is unknown, or the file cannot be written.
    """
    target = Path(path)
    name = sound_format(target)
    encoding, subtype = choose_encoding(name, None, depth, audio.shape[0], sample_rate)
    with StemFiles({"sound": target}, encoding, subtype, sample_rate, audio.shape[0]) as files:
        files.write(audio[None])
        return files.commit(), encoding


def sound_format(path: Path) -> str:
    """Format that the ending of a file to be written names.

    Raises:
        OutputError: it names none.
    """
    name = path.suffix[1:].lower()
    if name not in ENCODINGS:
        raise OutputError(f"{path}: expected a name that ends in .{', .'.join(ENCODINGS)}")
    return name


def change_rate(
    audio: NDArray[np.float32], rate: int, new_rate: int, length: int | None = None
) -> NDArray[np.float32]:
    """Resample a whole signal as streams are, at soxr's high quality; `corpora.resample` takes the highest.

    Args:
        audio: the signal.
        rate, new_rate: in Hz.
        length: samples to give, since there and back may round the length by some; None leaves it as it is.

    Shape: audio `[C, L]` -> `[C, length]`.
    """
    resampler = Resampler(rate, new_rate, audio.shape[0])
    out = np.concatenate([resampler.push(audio), resampler.finish()], axis=1)
    if length is None:
        return out
    return np.pad(out[:, :length], ((0, 0), (0, max(0, length - out.shape[1]))))
