"""SI-SDR and the one protocol by which every score of this project is taken.

The protocol: a track is cut into windows of 10 s without overlap (a last partial window is dropped, unless
the track is shorter than one window); all signals are reduced to their channel mean; a window counts for a
source where the RMS of that source's reference is above -45 dBFS; its score is SI-SDR, its improvement the
SI-SDR minus that of the mixture taken as the estimate. Scores are means over a track's counted windows, then
over tracks, then over sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sepvae.errors import ShapeError

WINDOW_S = 10.0
ACTIVE_DB = -45.0
_EPS = 1e-10  # bounds SI-SDR to +-100 dB


@dataclass(frozen=True)
class WindowScore:
    """SI-SDR of one counted window and of the mixture in its place.

    Attributes:
        si_sdr: of the estimate, in dB.
        mixture: of the mixture taken as the estimate, in dB.
    """

    si_sdr: float
    mixture: float


@dataclass(frozen=True)
class SourceScore:
    """Mean scores of one source in one track; NaN where no window counted.

    Attributes:
        si_sdr: mean over the counted windows, in dB, higher is better.
        si_sdr_improvement: mean over the counted windows of SI-SDR minus the mixture's, in dB.
        windows: how many windows counted.
    """

    si_sdr: float
    si_sdr_improvement: float
    windows: int


def si_sdr(estimate: npt.ArrayLike, reference: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Scale-invariant signal-to-distortion ratio in dB: a score, not a loss, so higher is better.

    It removes no means, does not change with the scale of either argument, and is bounded to +-100 dB. An
    all-zero estimate scores -100 dB (nothing of the reference is in it), an all-zero reference NaN, and so does an
    estimate with NaN or infinite samples.

    Args:
        estimate: real signals.
        reference: real signals, of a shape that broadcasts with the estimate's.

    Shape:
        `[..., L]`, `[..., L]` -> `[...]`

    Raises:
        ShapeError: if the lengths differ or are zero.

    Source:
        Le Roux, Wisdom, Erdogan & Hershey 2019, "SDR - half-baked or well done?", eq. 3,
        https://arxiv.org/abs/1811.02508; here both energies are relative to the estimate's, plus 1e-10.
    """
    x = np.asarray(estimate, dtype=np.float64)
    s = np.asarray(reference, dtype=np.float64)
    if x.ndim == 0 or s.ndim == 0 or x.shape[-1] != s.shape[-1] or x.shape[-1] == 0:
        raise ShapeError(f"si_sdr expects signals of one length, found {list(x.shape)} and {list(s.shape)}")
    finite = np.isfinite(x).all(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x / np.abs(x).max(axis=-1, keepdims=True)  # keeps the squares of tiny and huge signals finite
        s = s / np.abs(s).max(axis=-1, keepdims=True)
        x = np.nan_to_num(x, nan=0.0)  # an all-zero estimate stays all-zero; an all-zero reference stays NaN
        scale = (x * s).sum(-1) / (s * s).sum(-1)  # [...]
        target = scale[..., None] * s  # [..., L]
        energy = (x * x).sum(-1)
        good = np.where(energy > 0, (target * target).sum(-1) / energy, 0.0)
        bad = np.where(energy > 0, ((x - target) ** 2).sum(-1) / energy, 1.0)
        ratio = 10 * np.log10((good + _EPS) / (bad + _EPS))
    return np.where(np.isnan(s).any(-1) | ~finite, np.nan, ratio)


def windows(length: int, sample_rate: int) -> list[slice]:
    """The windows in which a track of `length` samples is scored: side by side, the last partial one dropped.

    Args:
        length: samples, int >= 0.
        sample_rate: Hz, int > 0.

    Returns:
        Slices over samples; the whole track where it is shorter than one window; nothing where it is empty.
    """
    step = round(WINDOW_S * sample_rate)
    if 0 < length < step:
        return [slice(0, length)]
    return [slice(start, start + step) for start in range(0, length - step + 1, step)]


def level_db(audio: npt.ArrayLike) -> float:
    """RMS level in dB relative to full scale 1.0; -inf for silence and for nothing at all.

    Args:
        audio: real signal of any shape.
    """
    power = float(np.mean(np.square(np.asarray(audio, dtype=np.float64)))) if np.size(audio) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def is_active(reference: npt.ArrayLike) -> bool:
    """Whether a window counts: the RMS of the reference's channel mean is above -45 dBFS.

    Args:
        reference: one window.

    Shape:
        `[L]` or `[C, L]`
    """
    return level_db(_channel_mean(reference)) > ACTIVE_DB


def score_windows(
    estimates: Mapping[str, npt.ArrayLike],
    references: Mapping[str, npt.ArrayLike],
    mixture: npt.ArrayLike,
    sample_rate: int,
) -> dict[str, list[WindowScore]]:
    """Score every counted window of one track, or of a part of it that starts on a window.

    Args:
        estimates: audio of each source; those that have no reference are left out.
        references: true audio of each source.
        mixture: the sum of the sources.
        sample_rate: Hz, int > 0.

    Shape:
        each `[L]` or `[C, L]`, all of one length

    Returns:
        For every source in both mappings its counted windows in order, none where it is silent.

    Raises:
        ShapeError: if the lengths differ, or an estimate holds NaN or infinite samples.
    """
    mix = _channel_mean(mixture)  # [L]
    scores: dict[str, list[WindowScore]] = {}
    for source in (name for name in references if name in estimates):
        s, x = _channel_mean(references[source]), _channel_mean(estimates[source])
        if not s.size == x.size == mix.size:
            raise ShapeError(
                f"{source}: expected one length, found {x.size} (estimate), {s.size} (reference), "
                f"{mix.size} (mixture)"
            )
        if not np.isfinite(x).all():
            raise ShapeError(f"{source}: the estimate holds NaN or infinite samples")
        scores[source] = [
            WindowScore(float(si_sdr(x[part], s[part])), float(si_sdr(mix[part], s[part])))
            for part in windows(s.size, sample_rate)
            if is_active(s[part])
        ]
    return scores


def summarise(scores: Sequence[WindowScore]) -> SourceScore:
    """Mean over counted windows; NaN where there are none.

    Args:
        scores: the counted windows of one source in one track.
    """
    if not scores:
        return SourceScore(math.nan, math.nan, 0)
    values = [score.si_sdr for score in scores]
    gains = [score.si_sdr - score.mixture for score in scores]
    return SourceScore(float(np.mean(values)), float(np.mean(gains)), len(scores))


def score_track(
    estimates: Mapping[str, npt.ArrayLike],
    references: Mapping[str, npt.ArrayLike],
    mixture: npt.ArrayLike,
    sample_rate: int,
) -> dict[str, SourceScore]:
    """Score one track by the project's protocol; a silent reference has no windows and NaN scores.

    Args, Shape and Raises: as of `score_windows`.
    """
    scores = score_windows(estimates, references, mixture, sample_rate)
    return {source: summarise(found) for source, found in scores.items()}


def _channel_mean(audio: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Average the channels of `[C, L]` to `[L]`; `[L]` stays."""
    x = np.asarray(audio, dtype=np.float64)
    if x.ndim not in (1, 2):
        raise ShapeError(f"expected audio [L] or [C, L], found {list(x.shape)}")
    return x.mean(axis=0) if x.ndim == 2 else x
