"""Scores of windows averaged over tracks and sources, and turned into the plain values of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sepvae.atomic import write_whole
from sepvae.errors import DataError, OutputError
from sepvae.evaluation import bss_eval
from sepvae.signal import metrics
from sepvae.signal.metrics import WindowScore

REPORT_NAME = "report.json"

TrackScores = Mapping[str, Mapping[str, Sequence[WindowScore]]]
"""Track -> source -> counted windows."""


def summarise(tracks: TrackScores, sources: Sequence[str]) -> dict[str, Any]:
    """Scores of one method: per track and source, per source over tracks, and over all."""
    by_track = {
        name: {source: asdict(metrics.summarise(windows)) for source, windows in scores.items()}
        for name, scores in tracks.items()
    }
    keys = ("si_sdr", "si_sdr_improvement")
    by_source = {
        source: {key: mean(scores[source][key] for scores in by_track.values()) for key in keys}
        for source in sources
    }
    overall = {key: mean(scores[key] for scores in by_source.values()) for key in keys}
    return {"tracks": by_track, "sources": by_source, "mean": overall}


def summarise_bss(
    tracks: Mapping[str, Mapping[str, Mapping[str, float]]], sources: Sequence[str]
) -> dict[str, Any]:
    """BSSEval scores per track and source, their medians per source, and the mean of these."""
    by_source: dict[str, dict[str, float]] = {}
    for source in sources:
        found = [scores[source] for scores in tracks.values() if source in scores]
        if found:
            by_source[source] = {key: median(scores[key] for scores in found) for key in bss_eval.METRICS}
    overall = {key: mean(scores[key] for scores in by_source.values()) for key in bss_eval.METRICS}
    return {"tracks": tracks, "sources": by_source, "mean": overall}


def leakage(levels_db: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Level under the mixture of stems that should be silent, source -> track -> dB, with their means."""
    return {
        source: {"tracks": tracks, "mean": mean(tracks.values())}
        for source, tracks in levels_db.items()
        if tracks
    }


def check_seconds(max_seconds: float | None) -> None:
    """Raise where a track's beginning of this many seconds is no length to score.

    Raises:
        DataError: it is none.
    """
    if max_seconds is not None and not 0.001 <= max_seconds <= 1e9:
        raise DataError(f"max_seconds must be from 0.001 to 1e9, found {max_seconds}")


def protocol(*, max_seconds: float | None, museval: bool) -> dict[str, Any]:
    """The scoring protocol, as it stands in a report."""
    return {
        "si_sdr": "channel mean, mean over windows, then tracks, then sources",
        "window_s": metrics.WINDOW_S,
        "active_above_dbfs": metrics.ACTIVE_DB,
        "max_seconds": max_seconds,
        "bss_eval": bss_eval.PROTOCOL if museval else None,
    }


def plain(value: Any) -> Any:
    """Values that JSON has: no score is null, floats are rounded to 1e-4."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def mean(values: Iterable[float]) -> float:
    """Mean of the finite scores; NaN if there are none."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def median(values: Iterable[float]) -> float:
    """Median of what has a score (infinite ones count), NaN where nothing has."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def output_folder(out: str | Path) -> Path:
    """Make the folder of a report.

    Raises:
        OutputError: it cannot be made, or holds something else under the report's name.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = not (folder / REPORT_NAME).exists() or _is_report(folder / REPORT_NAME)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not known:
        raise OutputError(f"{folder / REPORT_NAME}: exists and is no report of an evaluation")
    return folder


def _is_report(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes() or b"{}")
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and (not found or "protocol" in found)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report; it is there complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_whole(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
