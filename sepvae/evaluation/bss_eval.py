"""BSSEval v4 by the museval package, in segments, so that memory does not grow with a song's length."""

from __future__ import annotations

import functools
import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from sepvae.errors import SepvaeError

logger = logging.getLogger(__name__)

METRICS = ("sdr", "isr", "sir", "sar")
SEGMENT_S = 60.0
PROTOCOL = (
    "BSSEval v4 (museval): median over frames of 1 s, then over tracks; "
    "distortion filters of ISR, SIR and SAR per segment of 60 s, not per track (SDR needs none)"
)
_FRAME_S = 1.0

Signals = Mapping[str, npt.ArrayLike]
"""Source -> `[C, L]`."""

Frames = dict[str, npt.NDArray[np.float64]]
"""Source -> `[4, frames]`, rows in the order of METRICS; NaN where museval gives no score."""


def frame_scores(estimates: Signals, references: Signals, sample_rate: int) -> Frames:
    """SDR, ISR, SIR and SAR of one segment on frames of 1 s without overlap, all sources together.

    The distortion filters are the segment's, where the official protocol takes the whole track's; SDR does not
    depend on them. As in museval, frames in which any reference or estimate is all zero are NaN for every
    source, so leave sources out that the track does not have at all.

    Args:
        estimates: estimated audio by source.
        references: true audio by source, the same sources.
        sample_rate: Hz, int > 0.

    Shape:
        each `[C, L]`

    Source:
        Stöter, Liutkus & Ito 2018, "The 2018 signal separation evaluation campaign",
        https://arxiv.org/abs/1804.06267.
    """
    truth = np.stack([np.asarray(references[source], np.float64).T for source in references])  # [K, L, C]
    guess = np.stack([np.asarray(estimates[source], np.float64).T for source in references])
    if truth.shape[2] == 2 and np.array_equal(truth[..., 0], truth[..., 1]):
        # Twin channels make museval's normal equations singular.
        truth, guess = truth[..., :1], guess[..., :1]
    frame = round(_FRAME_S * sample_rate)
    frames = max((truth.shape[1] - frame) // frame + 1, 1)
    if _any_silent(truth) or _any_silent(guess):
        return {source: np.full((4, frames), np.nan) for source in references}
    metrics = museval_metrics()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = metrics.bss_eval(truth, guess, window=frame, hop=frame, framewise_filters=False)
    except (np.linalg.LinAlgError, AttributeError):
        # An AttributeError since its way out of singular systems asks for a name that numpy has lost.
        logger.warning("BSSEval: linearly dependent references, no score for this segment")
        return {source: np.full((4, frames), np.nan) for source in references}
    scores = np.stack(found[:4])  # [4, K, frames]
    return {source: scores[:, k] for k, source in enumerate(references)}


class TrackBSS:
    """BSSEval of one track that comes in stretches, which it joins to segments of at least 60 s.

    Args:
        sources: those that the track has.
        sample_rate: Hz, int > 0.
    """

    def __init__(self, sources: Sequence[str], sample_rate: int) -> None:
        self.sources, self.sample_rate = tuple(sources), sample_rate
        self._pending: list[tuple[Signals, Signals]] = []
        self._segments: list[Frames] = []

    def take(self, estimates: Signals, references: Signals) -> None:
        """Take the next stretch, each signal `[C, L]`."""
        self._pending.append((estimates, references))
        length = sum(np.shape(truth[self.sources[0]])[-1] for _, truth in self._pending)
        if length >= SEGMENT_S * self.sample_rate:
            self._close_segment()

    def medians(self) -> dict[str, dict[str, float]]:
        """Median over all frames, NaN frames left out; NaN where nothing is left: source -> metric -> dB."""
        if self._pending:
            self._close_segment()
        result = {}
        for source in self.sources if self._segments else ():
            frames = np.concatenate([segment[source] for segment in self._segments], axis=1)  # [4, frames]
            kept = frames[:, ~np.isnan(frames).any(axis=0)]
            found = np.median(kept, axis=1) if kept.size else np.full(len(METRICS), np.nan)
            result[source] = dict(zip(METRICS, map(float, found), strict=True))
        return result

    def _close_segment(self) -> None:
        estimates = self._joined([estimates for estimates, _ in self._pending])
        references = self._joined([references for _, references in self._pending])
        self._segments.append(frame_scores(estimates, references, self.sample_rate))
        self._pending = []

    def _joined(self, stretches: Sequence[Signals]) -> Signals:
        """Consecutive stretches as one."""
        return {
            source: np.concatenate([np.asarray(stretch[source]) for stretch in stretches], axis=1)
            for source in self.sources
        }


def _any_silent(signals: npt.NDArray[np.float64]) -> bool:
    """Whether museval would call one of `[K, L, C]` silent."""
    return bool((signals.sum(axis=2) == 0).all(axis=1).any())


@functools.cache
def museval_metrics() -> ModuleType:
    """The metrics alone: importing all of museval wants the ffmpeg program, which scores do not need.

    Raises:
        SepvaeError: museval is not installed.
    """
    package = importlib.util.find_spec("museval")
    if package is None or package.origin is None:
        raise SepvaeError("BSSEval needs museval: install sepvae[train], or evaluate without it")
    spec = importlib.util.spec_from_file_location(
        "museval_metrics", Path(package.origin).with_name("metrics.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
