"""Streaming resampling that keeps every sample in its place."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from sepvae.errors import ShapeError

MIN_RATE, MAX_RATE = 1_000, 1_536_000


def check_rate(sample_rate: int) -> int:
    """Return a sample rate as a plain integer, refusing what no recording has.

    Raises:
        ShapeError: not a whole number from 1 kHz to 1536 kHz.
    """
    try:
        whole = not isinstance(sample_rate, bool) and int(sample_rate) == sample_rate
    except (TypeError, ValueError, OverflowError):  # None, a list, NaN, infinity
        whole = False
    if not whole:
        raise ShapeError(f"a sample rate is a whole number of hertz, found {sample_rate!r}")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ShapeError(f"expected a sample rate from {MIN_RATE} to {MAX_RATE} Hz, found {sample_rate}")
    return int(sample_rate)


class Resampler:
    """Resamples blocks of a stream; the result does not depend on how the stream was cut into blocks.

    Output sample `n` lies at the time `n / out_rate`, and `L` samples give `L * out_rate / in_rate` in all,
    rounded. Equal rates pass through untouched.

    Args:
        in_rate: sample rate of what is pushed, in Hz.
        out_rate: sample rate of what comes back, in Hz.
        channels: > 0.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        in_rate, out_rate = check_rate(in_rate), check_rate(out_rate)
        self._stream = None
        self._channels = channels
        if in_rate != out_rate:
            self._stream = soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32", quality="HQ")

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in a block and return what is ready.

        Shape: block `[C, n]` -> `[C, m]`, m may be 0.
        """
        return block if self._stream is None else self._resample(block, last=False)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest; nothing can be pushed afterwards."""
        empty = np.zeros((self._channels, 0), dtype=np.float32)
        return empty if self._stream is None else self._resample(empty, last=True)

    def _resample(self, block: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
        assert self._stream is not None
        interleaved = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(interleaved, last=last).T)
