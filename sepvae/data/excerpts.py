"""Stretches of a dataset's tracks, read one at a time, so that memory does not grow with a song's length."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sepvae.data import corpora
from sepvae.data.datasets.decode import is_cut_short
from sepvae.errors import DataError
from sepvae.signal import metrics

logger = logging.getLogger(__name__)

BLOCK_S = 30.0
"""Length of a stretch unless told otherwise."""


@dataclass(frozen=True)
class Excerpt:
    """One stretch of one track with the context that a model needs around it.

    Attributes:
        track: the track's name.
        sources: names of the sources.
        references: the true sources, context included; silent where the track has no such stem.
        inner: samples that are scored; what lies around them is context.
        sample_rate: Hz.

    Shape:
        references: `[K, C, L]`
    """

    track: str
    sources: tuple[str, ...]
    references: np.ndarray
    inner: slice
    sample_rate: int

    @cached_property
    def mixture(self) -> np.ndarray:
        """Sum of the sources, context included: `[C, L]`."""
        return self.references.sum(axis=0)

    def score(self, estimates: np.ndarray) -> dict[str, list[metrics.WindowScore]]:
        """Score estimates by the project's protocol; silent references have no windows.

        Shape:
            estimates: `[K, C, L]`, context included
        """
        return metrics.score_windows(
            self.named(estimates),
            self.named(self.references),
            self.mixture[:, self.inner],
            self.sample_rate,
        )

    def named(self, signals: np.ndarray) -> dict[str, np.ndarray]:
        """Signals by source, without the context: `[K, C, L]` -> source -> `[C, L]`."""
        return dict(zip(self.sources, signals[..., self.inner], strict=True))


def spans(length: int, sample_rate: int, block_s: float = BLOCK_S) -> list[slice]:
    """Cut a track into stretches; a rest shorter than one scoring window goes to the last of them.

    Args:
        length: samples, int >= 0.
        sample_rate: Hz, int > 0.
        block_s: seconds, a whole number of scoring windows.
    """
    block, window = round(block_s * sample_rate), round(metrics.WINDOW_S * sample_rate)
    starts = [start for start in range(0, length, block) if start == 0 or length - start >= window]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], length], strict=True)] if length else []


def excerpts(
    track: corpora.Track,
    sources: Sequence[str],
    sample_rate: int,
    *,
    context: int = 0,
    grid: int = 1,
    max_seconds: float | None = None,
    block_s: float = BLOCK_S,
) -> Iterator[Excerpt]:
    """Read a track stretch by stretch.

    Args:
        track: the track.
        sources: names of the sources, in the order of axis K.
        sample_rate: rate of the result in Hz; a track at another rate is resampled as a whole.
        context: samples wanted on either side of what is scored, int >= 0; less at the track's ends.
        grid: every stretch starts on a multiple of this many samples, int > 0.
        max_seconds: only this much of the track's beginning, > 0.
        block_s: length of a stretch, a whole number of scoring windows.

    Raises:
        DataError: a stem cannot be read, or holds NaN or infinite samples.
    """
    for path in track.files.values():
        if is_cut_short(path):
            logger.warning("%s is shorter than its header says; what is there is scored", path)
    stems = corpora.read_stems(track, sample_rate) if track.sample_rate != sample_rate else None
    total = track.frames if stems is None else max(stem.shape[1] for stem in stems.values())
    length = total if max_seconds is None else min(total, round(max_seconds * sample_rate))
    for span in spans(length, sample_rate, block_s):
        start = max(span.start - context, 0) // grid * grid
        stop = min(span.stop + context, total)
        references = np.zeros((len(sources), 2, stop - start), dtype=np.float32)
        for k, source in enumerate(sources):
            if source in track.files:
                references[k] = _read(track, source, stems, start, stop)
                if not np.isfinite(references[k]).all():
                    raise DataError(f"{track.files[source]} holds NaN or infinite samples")
        inner = slice(span.start - start, span.stop - start)
        yield Excerpt(track.name, tuple(sources), references, inner, sample_rate)


def _read(
    track: corpora.Track, source: str, stems: Mapping[str, np.ndarray] | None, start: int, stop: int
) -> np.ndarray:
    """One stem between two samples: `[2, stop - start]`."""
    if stems is not None:
        return stems[source][:, start:stop]
    return corpora.read_audio(track.files[source], start=start, frames=stop - start)[0]
