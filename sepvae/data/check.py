"""`sepvae data prepare NAME --check ROOT`: what of a dataset is missing or broken, before hours of decoding find it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepvae.data.datasets.base import Dataset, Problem, RawTrack, StemFile
from sepvae.data.datasets.decode import decode, is_cut_short, probe
from sepvae.errors import DataError

LENGTHS_MAY_DIFFER_S = 0.1
SILENT_PEAK = 1e-4
"""Peak under which a whole recording counts as silent (-80 dBFS)."""


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        problems: in the order in which they were found.
        tracks: tracks by split.
        seconds: length of all tracks together, as far as headers say.
    """

    problems: tuple[Problem, ...]
    tracks: dict[str, int]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether nothing is missing or broken; notes do not count."""
        return all(problem.kind == "note" for problem in self.problems)


def check(
    dataset: Dataset,
    root: str | Path,
    *,
    thorough: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Look at every file of a dataset.

    Args:
        dataset: the reader.
        root: folder of the raw files.
        thorough: decode every file to its end instead of reading headers and ends alone.
        progress: called after every track with the tracks that are done and all of them.

    Raises:
        DataError: the folder does not have the layout at all.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    tracks = dataset.tracks(root)
    problems = list(dataset.expected(root, tracks))
    look = functools.cache(functools.partial(_look, thorough=thorough))
    seconds = 0.0
    for index, track in enumerate(tracks, 1):
        found, length_s = _check_track(track, look, dataset.together)
        problems += found
        seconds += length_s
        progress(index, len(tracks))
    return Report(tuple(problems), dict(Counter(track.split for track in tracks)), seconds)


@dataclass(frozen=True)
class _Look:
    """What one file looks like; `broken` says why nothing else is known."""

    rate: int = 0
    channels: int = 0
    seconds: float | None = None
    silent: bool = False
    broken: str = ""


def _check_track(
    track: RawTrack, look: Callable[[StemFile], _Look], together: bool
) -> tuple[list[Problem], float]:
    problems = [Problem("missing", path, "") for path in track.missing]
    if not track.stems and not track.missing:
        problems.append(Problem("note", Path(track.split, track.name), "has none of the sources"))
    rates: dict[Path, int] = {}
    lengths: dict[Path, float] = {}
    for file in dict.fromkeys(StemFile(file.path, file.stream) for file in track.files):
        seen = look(file)
        if seen.broken:
            problems.append(Problem("broken", file.path, seen.broken))
            continue
        rates[file.path] = seen.rate
        if seen.seconds is not None:
            lengths[file.path] = seen.seconds
        if seen.channels > 2:
            problems.append(Problem("note", file.path, f"{seen.channels} channels, the first two are taken"))
        if seen.silent:
            problems.append(Problem("note", file.path, "nothing but silence"))
    if together:
        problems += _differing(track, rates, lengths)
    return problems, max(lengths.values(), default=0.0)


def _look(file: StemFile, thorough: bool) -> _Look:
    """Open a file, or decode all of it."""
    try:
        if thorough:
            audio, rate = decode(file.path, file.stream)
            silent = float(np.abs(audio).max()) < SILENT_PEAK
            return _Look(rate, len(audio), audio.shape[1] / rate, silent)
        rate, channels, frames = probe(file.path, file.stream)
    except DataError as error:
        return _Look(broken=str(error).removeprefix(f"{file.path}: "))
    if frames == 0:
        return _Look(broken="no audio in it")
    if file.stream is None and is_cut_short(file.path):
        return _Look(broken="is shorter than its header says")
    return _Look(rate, channels, None if frames is None else frames / rate)


def _differing(track: RawTrack, rates: dict[Path, int], lengths: dict[Path, float]) -> Iterator[Problem]:
    """Notes on files of one track that do not agree; reading brings them together."""
    if len(set(rates.values())) > 1:
        listed = ", ".join(f"{path.name} {rate} Hz" for path, rate in rates.items())
        yield Problem("note", Path(track.split, track.name), f"files at different rates: {listed}")
    if lengths and max(lengths.values()) - min(lengths.values()) > LENGTHS_MAY_DIFFER_S:
        shortest = min(lengths, key=lambda path: lengths[path])
        what = f"{lengths[shortest]:.1f} s of {max(lengths.values()):.1f} s, the rest is taken as silence"
        yield Problem("note", shortest, what)


def lines(report: Report, root: Path, most: int = 40) -> Sequence[str]:
    """The report as lines of text: problems first, the sum last.

    Args:
        most: problems of each kind that are listed, > 0.
    """
    out = []
    for kind in ("missing", "broken", "note"):
        of_kind = [problem for problem in report.problems if problem.kind == kind]
        for problem in of_kind[:most]:
            where = problem.where.relative_to(root) if problem.where.is_relative_to(root) else problem.where
            out.append(f"{kind:8}{where}{': ' if problem.what else ''}{problem.what}")
        if len(of_kind) > most:
            out.append(f"{kind:8}and {len(of_kind) - most} more")
    splits = ", ".join(f"{count} {split}" for split, count in report.tracks.items())
    counted = Counter(problem.kind for problem in report.problems)
    found = ", ".join(f"{counted[kind]} {kind}" for kind in ("missing", "broken", "note") if counted[kind])
    out.append(f"{splits}; {report.seconds / 3600:.2f} h; {found or 'nothing missing or broken'}")
    return out
