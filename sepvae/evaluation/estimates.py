"""Scores of stems that any tool has written, by the same protocol as those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track as progress

from sepvae.data import corpora
from sepvae.data.corpora import Track
from sepvae.data.excerpts import excerpts
from sepvae.errors import DataError
from sepvae.evaluation import summary
from sepvae.evaluation.bss_eval import TrackBSS
from sepvae.evaluation.summary import REPORT_NAME
from sepvae.signal.metrics import WindowScore

LENGTH_TOLERANCE_S = 0.1
"""Stems may be this much shorter or longer than the track: lossy codecs and framing leave such ends."""


def evaluate_estimates(
    estimates: str | Path,
    dataset: str | Path,
    *,
    names: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    museval: bool = True,
    max_seconds: float | None = None,
) -> dict[str, Any]:
    """Score a folder of stems on a dataset, and write JSON.

    The mixture is the sum of the dataset's stems, everything is taken at the tracks' own rate, and nothing is
    aligned or scaled: the stems are expected sample by sample where the references are.

    Args:
        estimates: folder with one folder per track and one file per source, `<track>/<stem>.<ext>`; tracks
            of the dataset must all be there, and so must every stem that the track has a reference of.
        dataset: folder in the stems layout; its songs are scored, its solos only where it has nothing else.
        names: source of the dataset -> name of the stem where the tool calls it something else.
        out: folder for `report.json`; None writes nothing.
        museval: also take BSSEval v4, which is slow.
        max_seconds: only this much of every track's beginning, >= 0.001.

    Returns:
        What the JSON file says, in the layout of a model's report; the stems are its method "model".

    Raises:
        DataError: the dataset or a stem is missing or unreadable, not finite, or of another rate or length.
        OutputError: the report cannot be written.
    """
    summary.check_seconds(max_seconds)
    sources = dataset_sources(dataset)
    unknown = sorted(set(names or {}) - set(sources))
    if unknown:
        raise DataError(f"no source {unknown[0]!r} in {dataset}, it has {', '.join(sources)}")
    track_set = corpora.scan(dataset, sources)
    tracks = track_set.songs or track_set.tracks
    found = {track.name: find_stems(Path(estimates), track, names or {}) for track in tracks}
    folder = None if out is None else summary.output_folder(out)
    scores: dict[str, dict[str, list[WindowScore]]] = {}
    bss: dict[str, dict[str, dict[str, float]]] = {}
    for track in progress(tracks, "Evaluating", console=Console(stderr=True), transient=True):
        measured = TrackBSS(list(track.files), track.sample_rate) if museval else None
        scores[track.name] = _score(track, sources, found[track.name], measured, max_seconds)
        if measured is not None:
            bss[track.name] = measured.medians()
    report = {
        "model": Path(estimates).resolve().name,
        "dataset": track_set.root.resolve().name,
        "sources": list(sources),
        "sample_rate": sorted({track.sample_rate for track in tracks}),
        "protocol": summary.protocol(max_seconds=max_seconds, museval=museval),
        "methods": {"model": summary.summarise(scores, sources)},
        "leakage_db": {},
    }
    if museval:
        report["bss_eval"] = summary.summarise_bss(bss, sources)
    report = summary.plain(report)
    if folder is not None:
        summary.write_json(folder / REPORT_NAME, report)
    return report


def dataset_sources(dataset: str | Path) -> tuple[str, ...]:
    """Names of the stems that a dataset has, those of `music` first.

    Raises:
        DataError: there is no such folder, or no track in it.
    """
    root = Path(dataset)
    if not root.is_dir():
        raise DataError(f"no such dataset folder: {root}")
    stems = corpora.stem_names(root)
    if not stems:
        raise DataError(f"no track under {root}")
    return tuple(s for s in corpora.SOURCES if s in stems) + tuple(sorted(stems - set(corpora.SOURCES)))


def find_stems(estimates: Path, track: Track, names: Mapping[str, str]) -> dict[str, Path]:
    """The estimates of a track's sources, checked before anything is scored.

    Raises:
        DataError: one is missing, there twice, unreadable, or of another rate or length than the track.
    """
    folder = estimates / track.name
    if not folder.is_dir():
        raise DataError(f"no folder {track.name} under {estimates}")
    found = {}
    for source in track.files:
        name = names.get(source, source)
        files = [
            path for extension in corpora.EXTENSIONS if (path := folder / f"{name}{extension}").is_file()
        ]
        if len(files) != 1:
            wrong = "two files for" if files else "no"
            known = ", ".join(sorted(path.stem for path in folder.iterdir())) or "nothing"
            raise DataError(f"{wrong} stem {name!r} in {folder}, which holds {known}")
        _check(files[0], track)
        found[source] = files[0]
    return found


def _check(path: Path, track: Track) -> None:
    info = corpora.file_info(path)
    if info.samplerate != track.sample_rate:
        raise DataError(f"{path} is at {info.samplerate} Hz, the track at {track.sample_rate} Hz")
    if abs(info.frames - track.frames) > LENGTH_TOLERANCE_S * track.sample_rate:
        raise DataError(
            f"{path} lasts {info.frames / info.samplerate:.2f} s, the track {track.seconds:.2f} s"
        )


def _score(
    track: Track,
    sources: Sequence[str],
    files: Mapping[str, Path],
    bss: TrackBSS | None,
    max_seconds: float | None,
) -> dict[str, list[WindowScore]]:
    """Counted windows of one track, stretch by stretch."""
    scores: dict[str, list[WindowScore]] = {source: [] for source in sources}
    position = 0
    for excerpt in excerpts(track, sources, track.sample_rate, max_seconds=max_seconds):
        length = excerpt.references.shape[-1]
        estimates = np.zeros_like(excerpt.references)
        for source, path in files.items():
            audio = corpora.read_audio(path, start=position, frames=length)[0]
            if not np.isfinite(audio).all():
                raise DataError(f"{path} holds NaN or infinite samples")
            estimates[sources.index(source)] = audio
        position += length
        for source, windows in excerpt.score(estimates).items():
            scores[source] += windows
        if bss is not None:
            guess, truth = excerpt.named(estimates), excerpt.named(excerpt.references)
            bss.take({s: guess[s] for s in files}, {s: truth[s] for s in files})
    return scores
