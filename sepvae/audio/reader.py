"""Block-wise reading of audio files, with an honest word on what a damaged one lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepvae.audio.chunks import ChunkScan, scan_chunks
from sepvae.audio.decoders import open_decoder
from sepvae.audio.decoders.base import BLOCK_FRAMES, FAILURES, AudioInfo, Decoder, reason
from sepvae.audio.phrases import undecodable
from sepvae.audio.resample import check_rate
from sepvae.errors import AudioFileError, ShapeError

MAX_CHANNELS = 64

# fmt: off
AUDIO_ENDINGS = frozenset((
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".ape", ".au", ".bwf", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".mka",
    ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".ogv", ".opus", ".rf64", ".snd", ".tta", ".w64", ".wav",
    ".webm", ".wma", ".wv",
))
"""Endings of the files that are taken from a folder; a file named by itself may have any."""
# fmt: on

# No recording shrinks this far: digital silence as FLAC, about the smallest there is, does so 1200-fold.
_BOMB_RATIO, _BOMB_BYTES = 10_000, 1 << 30

__all__ = ["AUDIO_ENDINGS", "BLOCK_FRAMES", "MAX_CHANNELS", "AudioInfo", "AudioReader"]


class AudioReader:
    """Reads a file of audio in blocks.

    What a truncated or damaged file still holds is read. Use it as a context manager; `loss` says after the
    last block, in one phrase, what is missing.

    Args:
        path: a regular file in any format that soundfile or PyAV reads.

    Raises:
        AudioFileError: missing, not a file, empty, not audio, damaged at its beginning, holding NaN or
            infinite samples, or growing beyond all measure when decoded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.frames_read = 0
        self.loss: str | None = None
        self._decoder, self._opened, self._chunks = _open(self.path)
        self.info = self._decoder.info
        try:
            check_rate(self.info.sample_rate)
            if not 1 <= self.info.channels <= MAX_CHANNELS:
                raise ShapeError(f"expected 1 to {MAX_CHANNELS} channels, found {self.info.channels}")
        except ShapeError as error:
            self._decoder.close()
            raise AudioFileError(f"{self.path}: {error}") from None

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._decoder.close()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples from beginning to end.

        Shape: each block `[C, n]`, n > 0.
        """
        stopped = None
        while True:
            try:
                block = self._decoder.read()
            except FAILURES as error:
                if self.frames_read == 0:
                    raise AudioFileError(
                        f"{self.path}: damaged, cannot be decoded ({reason(error)})"
                    ) from error
                stopped = undecodable(self.frames_read, self.info.sample_rate, reason(error))
                break
            if len(block) == 0:
                break
            self._check(block)
            self.frames_read += len(block)
            yield np.ascontiguousarray(block.T)
        if self.frames_read == 0:
            why = self._decoder.loss()
            raise AudioFileError(f"{self.path}: holds no audio samples" + (f" ({why})" if why else ""))
        faults = [stopped or self._decoder.loss() or self._misdeclared(), self._changed()]
        self.loss = "; ".join(fault for fault in faults if fault) or None

    def _check(self, block: NDArray[np.float32]) -> None:
        """Refuse samples that are no numbers, and files that swell when decoded."""
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            at_s = (self.frames_read + first) / self.info.sample_rate
            large = "" if np.isnan(block[first]).any() else " (or too large ones for 32-bit floats)"
            raise AudioFileError(
                f"{self.path}: holds NaN or infinite samples{large}, the first at {at_s:.3f} s"
            )
        decoded = 4 * self.info.channels * (self.frames_read + len(block))
        if decoded > max(_BOMB_BYTES, _BOMB_RATIO * self._opened.st_size):
            raise AudioFileError(
                f"{self.path}: grows to more than {_BOMB_RATIO} times its size when decoded, so it is no recording"
            )

    def _misdeclared(self) -> str | None:
        """Whether the header counts more samples than there are, or fewer."""
        return None if self._chunks is None else self._chunks.fault(self.frames_read, self.info.sample_rate)

    def _changed(self) -> str | None:
        """Whether somebody wrote to the file meanwhile; one that was only removed has been read in full."""
        try:
            now = self.path.stat()
        except OSError:
            return None
        same = (now.st_size, now.st_mtime_ns) == (self._opened.st_size, self._opened.st_mtime_ns)
        return None if same else "the file was changed while it was read"


def _open(path: Path) -> tuple[Decoder, os.stat_result, ChunkScan | None]:
    """A decoder for a file, the file's state before it is read, and what its header says of its size."""
    try:
        if not path.is_file():
            raise AudioFileError(f"{path}: {_what_is_there(path)}")
        found = path.stat()
        if found.st_size == 0:
            raise AudioFileError(f"{path}: the file is empty")
        with path.open("rb") as file:
            head = file.read(12)
        chunks = scan_chunks(path)
    except ValueError as error:  # a null byte in the name
        raise AudioFileError(f"{str(path)!r}: no such file ({error})") from error
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return open_decoder(path), found, chunks
    except FAILURES as error:
        why = f" ({error})" if type(error) is ValueError else ""  # ffmpeg's own reasons say little here
        if not why and head[4:8] == b"ftyp":
            why = " (an mp4 file without its index, which most writers put at the end, so it was cut short)"
        raise AudioFileError(f"{path}: not audio, or damaged beyond reading{why}") from error


def _what_is_there(path: Path) -> str:
    """One phrase on a path that is no regular file."""
    if path.is_dir():
        return "is a folder" if os.access(path, os.R_OK | os.X_OK) else "is a folder that cannot be read"
    return "is not a regular file" if path.exists() else "no such file"
