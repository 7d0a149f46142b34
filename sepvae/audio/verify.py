"""Reading written stems back: do they add up to their input?"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from sepvae.audio.decoders.base import native
from sepvae.audio.reader import BLOCK_FRAMES, AudioReader
from sepvae.audio.resample import Resampler
from sepvae.audio.surround import from_vorbis
from sepvae.errors import OutputError


@dataclass(frozen=True)
class SumError:
    """How far the sum of the written stems, divided by their gain, is from the input.

    Args:
        peak: largest difference of a sample, full scale 1.
        db: energy of the difference relative to the input's; None where one of them is silent.
        extra_frames: samples per channel that the stems have more than the input, at the stems' rate.
    """

    peak: float
    db: float | None
    extra_frames: int


def sum_error(source: str | os.PathLike[str], stems: Iterable[Path], gain: float) -> SumError:
    """Compare the sum of written stems with their input, sample by sample.

    Args:
        source: the input.
        stems: files of its stems, at its rate or another one.
        gain: factor that all of them share.

    Raises:
        AudioFileError: the input cannot be read any more.
        OutputError: a stem cannot be read, or they differ in length.
    """
    peak = energy = error_energy = 0.0
    with AudioReader(source) as reader:
        total = _Sum(stems, reader.info.sample_rate, reader.info.channels)
        for block in reader.blocks():
            signal = block.astype(np.float64)
            error = total.take(block.shape[1]) / gain - signal
            peak = max(peak, float(np.abs(error).max()))
            energy += float(np.vdot(signal, signal))
            error_energy += float(np.vdot(error, error))
    db = 10 * math.log10(error_energy / energy) if energy > 0 and error_energy > 0 else None
    expected = round(reader.frames_read * total.sample_rate / reader.info.sample_rate)
    return SumError(peak, db, total.frames - expected)


class _Sum:
    """The sum of several files at a given rate, in pieces of any length."""

    def __init__(self, paths: Iterable[Path], sample_rate: int, channels: int) -> None:
        self._paths = list(paths)
        self._rate, self._channels = sample_rate, channels
        with _reading(self._paths[0]), soundfile.SoundFile(native(self._paths[0])) as file:
            self.sample_rate, self.frames = file.samplerate, file.frames
        self._blocks = self._read()
        self._rest = np.zeros((channels, 0))

    def take(self, count: int) -> NDArray[np.float64]:
        """The next samples `[C, count]`; resampling may leave the last ones out, which are silence then."""
        parts, missing = [self._rest], count - self._rest.shape[1]
        while missing > 0:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self._channels, missing))
            parts.append(block)
            missing -= block.shape[1]
        joined = np.concatenate(parts, axis=1)
        self._rest = joined[:, count:]
        return joined[:, :count]

    def _read(self) -> Iterator[NDArray[np.float64]]:
        with _reading(self._paths[0]), ExitStack() as stack:
            files = [stack.enter_context(soundfile.SoundFile(native(path))) for path in self._paths]
            resample = Resampler(self.sample_rate, self._rate, self._channels)
            exact = self.sample_rate == self._rate
            channels = range(self._channels) if files[0].format != "OGG" else from_vorbis(self._channels)
            while True:
                blocks = [file.read(BLOCK_FRAMES, always_2d=True) for file in files]
                if len({block.shape for block in blocks}) > 1:
                    raise OutputError(f"{self._paths[0]}: the written stems differ in length or channels")
                total = np.sum(blocks, axis=0).T[list(channels)]  # [C, n]
                if total.shape[1] == 0:
                    break
                yield total if exact else resample.push(total.astype(np.float32)).astype(np.float64)
            if not exact:
                yield resample.finish().astype(np.float64)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise OutputError(f"{path}: the written stems cannot be read back ({error})") from error
