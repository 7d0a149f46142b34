"""What every decoder has in common: its face, the blocks it gives, and what counts as damage."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

BLOCK_FRAMES = 1 << 16
"""Frames per block when reading: large enough to be fast, small enough to be held easily."""

FAR_BEYOND = 8.0
"""Magnitude of samples that no encoder was given, 18 dB over full scale."""

FAILURES = (RuntimeError, OSError, ValueError, EOFError, FFmpegError)
"""What the libraries raise on files that they cannot decode."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about itself.

    Args:
        sample_rate: in Hz.
        channels: > 0.
        frames: samples per channel as the header promises them; None where it does not say.
        depth: subtype that holds the samples without loss: PCM_16, PCM_24 (also for lossy codecs) or FLOAT.
        channel_mask: speakers of the channels, in order, as the bits of an extensible wav header; 0 for none; None
            where the file does not say.
    """

    sample_rate: int
    channels: int
    frames: int | None
    depth: str
    channel_mask: int | None = None


class Decoder(Protocol):
    """What reads one open file from its beginning to its end."""

    info: AudioInfo

    def read(self) -> NDArray[np.float32]:
        """The next samples, `[n, C]`; none at the end."""

    def loss(self) -> str | None:
        """After the end: in one phrase, what the file should hold and does not."""

    def close(self) -> None: ...


def reason(error: Exception) -> str:
    """One short phrase of a library's error."""
    text = (getattr(error, "strerror", None) or str(error)).strip()  # PyAV's errors carry strerror too
    first = text.splitlines()[0] if text else type(error).__name__
    return re.sub(r"^Error( opening .*?)? ?: ", "", first).rstrip(". ") or "the decoder gave up"


def is_burst(samples: NDArray[np.float32]) -> bool:
    """Whether samples of a lossy codec are so loud that only damage makes them so."""
    return bool(samples.size) and float(max(samples.max(), -samples.min())) > FAR_BEYOND


def native(path: Path) -> str | bytes:
    """A path as libsndfile takes it, also if its bytes are no text."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)
