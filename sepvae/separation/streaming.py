"""Separation of a stream of blocks: any rate, any channels, stems that add up to what went in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sepvae.audio import MAX_CHANNELS
from sepvae.audio.resample import check_rate
from sepvae.errors import NOT_FINITE, NonFiniteError, SepvaeError, ShapeError
from sepvae.models.separation import SeparationModel
from sepvae.separation.highs import Highs
from sepvae.separation.quality import Quality
from sepvae.separation.selection import Presence
from sepvae.separation.views import MeanOfViews, View

AUDIBLE_HZ = 16_000
"""A model that reaches this far leaves nothing audible above it."""
_LONGEST_SEGMENT_S = 1e9


class SeparationStream:
    """Accepts a signal in blocks of any size and returns the stems as far as they are ready; suitable for live input.

    No sample is left out or moved: the n-th sample that comes back belongs to the n-th that went in,
    `latency_s` later at the most. Stems come at the rate, with the channels and in the float type of the
    signal. Channels are separated in pairs, a single or last odd one as two equal channels. What the stems
    leave of the signal, content above the model's Nyquist above all, goes to the residual source; where that can be
    heard, each stem gets a share of it (`Highs`). So all stems add up to the signal. A stream belongs to one thread;
    several streams of one model may run side by side.

    Args:
        model: separation model in evaluation mode.
        sample_rate: of the signal, in Hz.
        channels: of the signal, > 0.
        segment_s: length of the chunks that the model sees, context apart, in seconds, > 0.
        autocast: data type that the network computes in; None for that of its weights.
        quality: what is done beyond the plain Wiener filter.
        presence: the sources that the signal has; None for all of the model's.
    """

    def __init__(
        self,
        model: SeparationModel,
        sample_rate: int,
        channels: int,
        *,
        segment_s: float,
        autocast: torch.dtype | None = None,
        quality: Quality | None = None,
        presence: Presence | None = None,
    ) -> None:
        if not isinstance(channels, int | np.integer) or not 1 <= channels <= MAX_CHANNELS:
            raise ShapeError(f"expected 1 to {MAX_CHANNELS} channels, found {channels!r}")
        sample_rate = check_rate(sample_rate)
        config = model.config
        if not isinstance(segment_s, int | float | np.integer | np.floating):
            raise ShapeError(f"a segment lasts some seconds, found {segment_s!r}")
        if not 0 < segment_s < _LONGEST_SEGMENT_S:
            raise ShapeError(f"a segment must last longer than 0 s, and less than years, found {segment_s}")
        quality = quality or Quality()
        self._model, self._channels = model, channels
        self._presence = presence or Presence(config.sources, config.residual_source)
        self._sources = len(self._presence.indices)  # K'
        self._residual = self._presence.names.index(self._presence.residual_source)
        present = None if self._presence.complete else self._presence.indices
        self._views = [
            View(
                model,
                channels,
                speed,
                segment_s=segment_s,
                quality=quality,
                autocast=autocast,
                present=present,
            )
            for speed in quality.speeds
        ]
        self._mean = MeanOfViews(self._views, sample_rate)
        self._sample_rate = sample_rate
        reach_hz = config.sample_rate / 2
        self._highs = (
            Highs(self._sources, channels, sample_rate, reach_hz, self._residual)
            if reach_hz < min(AUDIBLE_HZ, sample_rate / 2)
            else None
        )
        self._waiting: deque[NDArray[Any]] = deque()  # blocks whose stems are not out yet
        self._dtype = np.dtype(np.float32)  # of the last block
        self._energy = self._residual_energy = 0.0
        self._end: str | None = None  # how it came to one

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems in the order in which they come back."""
        return self._model.config.sources

    @property
    def latency_s(self) -> float:
        """Longest time from a sample's going in to its coming back, computing and the caller's block apart.

        It is the length of a chunk and of the context after it, times the highest of the `speeds`; `segment_s` sets
        the former.
        """
        highs = self._highs.latency / self._sample_rate if self._highs else 0.0
        return self._mean.latency_s + highs

    @property
    def remarks(self) -> tuple[str, ...]:
        """What should be known about the way in which the stems were made, one line each."""
        shortened = [view.shortened_s for view in self._views if view.shortened_s is not None]
        if not shortened:
            return ()
        taken, wanted = min(shortened)
        return (f"the device ran out of memory: chunks of {taken:.1f} s were taken, not {wanted:.1f} s",)

    @property
    def residual_db(self) -> float | None:
        """Energy so far of what the model did not reach and the residual source got, relative to the signal's.

        None for silence.
        """
        if self._energy == 0 or self._residual_energy == 0:
            return None
        return 10 * math.log10(self._residual_energy / self._energy)

    def push(self, block: NDArray[Any]) -> NDArray[Any]:
        """Take in samples and return the stems that are ready.

        Shape: block `[C, n]` -> `[K, C, m]`, m may be 0.

        Raises:
            ShapeError: wrong number of channels, not float, NaN or infinite samples; the block is left out.
            NonFiniteError: the model gave numbers that are not finite; the stream ends with that.
            SepvaeError: the stream has been finished, or has ended with an error.
        """
        self._check_open()
        if not isinstance(block, np.ndarray):
            raise ShapeError(f"expected an array of float samples, found {type(block).__name__}")
        if block.ndim != 2 or block.shape[0] != self._channels or not np.issubdtype(block.dtype, np.floating):
            expected = f"float samples [{self._channels}, n]"
            raise ShapeError(f"expected {expected}, found {block.dtype} {list(block.shape)}")
        with np.errstate(over="ignore", under="ignore"):
            narrow = block.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise ShapeError("the samples hold NaN or infinite values (or too large ones for 32-bit floats)")
        self._waiting.append(block.copy())
        self._dtype = block.dtype
        with self._ending_at_errors():
            return self._add_residual(self._mean.push(narrow), last=False)

    def finish(self) -> NDArray[Any]:
        """Return the rest of the stems; nothing can be pushed afterwards.

        Raises:
            NonFiniteError: the model gave numbers that are not finite.
            SepvaeError: it was called before, or the stream has ended with an error.
        """
        self._check_open()
        with self._ending_at_errors():
            stems = self._add_residual(self._mean.finish(), last=True)
        self._end = "been finished"
        return stems

    def _check_open(self) -> None:
        if self._end is not None:
            raise SepvaeError(f"the stream has {self._end}")

    @contextmanager
    def _ending_at_errors(self) -> Iterator[None]:
        """Take nothing more after an error: what came behind the hole would be out of place."""
        try:
            yield
        except BaseException:
            self._end = "ended with an error"
            raise

    @np.errstate(over="ignore", under="ignore", invalid="ignore")  # what is not finite is found at the end
    def _add_residual(self, stems: NDArray[np.float32], last: bool) -> NDArray[Any]:
        """Add what the stems leave of the signal, and silence for absent sources; return what is ready."""
        length = sum(block.shape[1] for block in self._waiting) if last else stems.shape[-1]
        signal = self._take(length)  # [C, m]
        stems = stems[..., :length]  # the way to the model's rate and back may round the length by one
        if stems.shape[-1] < length:
            stems = np.pad(stems, ((0, 0), (0, 0), (0, length - stems.shape[-1])))
        if not np.isfinite(stems).all():
            raise NonFiniteError(NOT_FINITE)
        out = stems.astype(signal.dtype, copy=False)
        residual = signal.astype(np.float64)
        self._energy += float(np.vdot(residual, residual))
        for stem in out:
            residual -= stem
        if self._highs:
            out, residual = self._highs.push(out, residual, last)
        else:
            out[self._residual] = residual + out[self._residual]
        self._residual_energy += float(np.vdot(residual, residual))
        if not np.isfinite(out).all():  # a float16 ends at 65504
            raise NonFiniteError(NOT_FINITE)
        if self._presence.complete:
            return out
        stems = np.zeros((len(self.sources), *out.shape[1:]), signal.dtype)  # [K, C, m]
        stems[list(self._presence.indices)] = out
        return stems

    def _take(self, count: int) -> NDArray[Any]:
        """Remove the first `count` samples of those that wait."""
        parts = []
        while count > 0:
            block = self._waiting.popleft()
            if block.shape[1] > count:
                self._waiting.appendleft(block[:, count:])
                block = block[:, :count]
            parts.append(block)
            count -= block.shape[1]
        return np.concatenate(parts, axis=1) if parts else np.zeros((self._channels, 0), self._dtype)
