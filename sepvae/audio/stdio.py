"""Standard input and output: audio that comes from a pipe and goes into one."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

import numpy as np
from numpy.typing import NDArray

from sepvae.audio.headers import RIFF_LIMIT, riff_header
from sepvae.errors import AudioFileError, OutputError

_FLOAT_TAG = 3
_UNKNOWN = RIFF_LIMIT - 1  # size of what is still being written, as other programs put it into a pipe


@contextmanager
def spooled(file: BinaryIO) -> Iterator[Path]:
    """Keep what comes from a pipe in a temporary file, since most formats cannot be decoded front to back.

    Args:
        file: what to read to its end.

    Returns:
        Path of the file, named `stdin`.

    Raises:
        AudioFileError: it cannot be read, or not be kept.
    """
    with tempfile.TemporaryDirectory(prefix="sepvae-") as folder:
        path = Path(folder) / "stdin"
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        except OSError as error:
            raise AudioFileError(f"stdin: cannot be read or kept ({error.strerror})") from error
        yield path


class WavStream:
    """Writes a wav of float samples to a file or a pipe, block by block.

    The length is not known before the end: where the file can be sought, the header is corrected then; in a
    pipe, or where it appends to one, it says "until the end", which all readers of pipes understand.

    Args:
        file: binary and writable.
        sample_rate: in Hz.
        channels: > 0.

    Raises:
        OutputError: it is no such file, or cannot be written, here and in every method.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int) -> None:
        if isinstance(file, io.TextIOBase) or not hasattr(file, "write"):
            raise OutputError(
                f"expected a file that is open for writing bytes, found an object of type {type(file).__name__}"
            )
        name = getattr(file, "name", None)
        self._name = name.strip("<>") if isinstance(name, str) else "the output"
        self._file, self._data_bytes = file, 0
        align = 4 * channels
        self._format = struct.pack(
            "<HHIIHH", _FLOAT_TAG, channels, sample_rate, min(sample_rate * align, _UNKNOWN), align, 32
        )
        self._start = _position(file)
        self._write(riff_header(self._format, _UNKNOWN, _UNKNOWN))

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples.

        Shape: block `[C, n]`.
        """
        data = np.ascontiguousarray(block.T, dtype="<f4").tobytes()
        self._data_bytes += len(data)
        self._write(data)

    def finish(self) -> None:
        """Bring everything out, and correct the header where that is possible."""
        header_bytes = len(riff_header(self._format, 0, 0))
        riff_bytes = header_bytes - 8 + self._data_bytes
        if self._start is not None and riff_bytes < RIFF_LIMIT and self._seek(self._start):
            self._write(riff_header(self._format, self._data_bytes, riff_bytes))
            self._seek(self._start + header_bytes + self._data_bytes)

    def _seek(self, position: int) -> bool:
        """Whether the file could be sought: a compressed one may say so and go forwards only."""
        try:
            self._file.seek(position)
        except OSError as error:
            if error.errno is not None:  # of the system
                raise self._failed(error) from error
            return False
        return True

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:  # a file without a buffer may take a part only
                taken = self._file.write(rest)
                if not taken:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                rest = rest[taken:]
            if hasattr(self._file, "flush"):
                self._file.flush()
        except (OSError, ValueError) as error:  # a file that is closed has a ValueError
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        if isinstance(error, BrokenPipeError):
            return OutputError(f"{self._name}: its reader has gone")
        return OutputError(f"{self._name}: cannot be written ({getattr(error, 'strerror', None) or error})")


def _position(file: BinaryIO) -> int | None:
    """Where a file that can be sought stands; None for a pipe, or where all that is written goes to the end."""
    try:
        return file.tell() if file.seekable() and not _appends(file) else None
    except (OSError, ValueError, AttributeError):
        return None


def _appends(file: BinaryIO) -> bool:
    """Whether all that is written goes to the end, as with `>>` in a shell, wherever the file has been sought."""
    if fcntl is None:
        return False
    try:
        return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND)
    except (OSError, AttributeError):  # no file of the system
        return False
