"""Prepared sets: any dataset decoded once, at one rate, into 16-bit WAV files that training reads without decoding.

A prepared set is in the stems layout, so that it can be listened to, trained on and evaluated alike. Every track
remembers the files and the settings that it was made from, and is made again only when they change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepvae.atomic import remove_drafts, write_whole
from sepvae.data.corpora import MANIFEST_NAME, read_info, write_track
from sepvae.data.datasets.base import Dataset, RawTrack
from sepvae.data.pool import process_pool
from sepvae.errors import DataError, OutputError

FORMAT = 1
"""Raised when the same settings would give other files."""
logger = logging.getLogger(__name__)
OnTracks = Callable[[int, int], None]
"""Called with the tracks that are done and all of them."""


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a prepared set, beside the raw files.

    Args:
        dataset: the reader with its options.
        sample_rate: hertz, > 0.
        channels: 1 or 2.
    """

    dataset: Dataset
    sample_rate: int
    channels: int

    def plain(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "dataset": self.dataset.name,
            "options": dataclasses.asdict(self.dataset),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "format": FORMAT,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()


def prepare(
    dataset: Dataset,
    root: str | Path,
    out: str | Path,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    jobs: int = 1,
    progress: OnTracks = lambda done, of: None,
) -> Path:
    """Decode a dataset into a prepared set; what is complete is kept, what cannot be read is left out and named.

    Tracks of an earlier run that are in another split now, or in none, are removed.

    Args:
        dataset: the reader.
        root: folder of the raw files.
        out: folder of the set, one sub-folder per split.
        sample_rate: hertz; None takes the dataset's own.
        channels: 1 or 2; None takes the dataset's own.
        jobs: processes, > 0.
        progress: called after every track.

    Returns:
        The path of `manifest.json`.

    Raises:
        DataError: not the layout, no track that can be read, or a folder made with other settings.
        OutputError: the folder cannot be written.
        SepvaeError: a process was killed.
    """
    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"the prepared set cannot lie in the raw data: {out}")
    settings = Settings(dataset, sample_rate or dataset.sample_rate, channels or dataset.channels)
    tracks = dataset.tracks(root)
    for problem in dataset.expected(root, tracks):
        if problem.kind == "note":
            logger.warning("%s: %s", problem.where.relative_to(root).as_posix(), problem.what)
    try:
        _check_settings(settings, out)
        for split in {track.split for track in tracks}:
            remove_drafts(out / split)
        skipped = dict(_make_all(settings, tracks, root, out, jobs, progress))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error}") from error
    for name, reason in skipped.items():
        logger.warning("left out %s: %s", name, reason)
    made = [track for track in tracks if f"{track.split}/{track.name}" not in skipped]
    if not made:
        raise DataError(
            f"no track of {dataset.name} under {root} can be read; the first: {next(iter(skipped.values()))}"
        )
    _remove_others(dataset, made, skipped, out)
    if not any(track.split == "valid" for track in made):
        _warn_of_no_validation([name for name in skipped if name.startswith("valid/")])
    return _write_manifest(settings, made, skipped, out)


def _warn_of_no_validation(lost: Sequence[str], most: int = 5) -> None:
    """Say that there is nothing to validate on, and which tracks were meant for it and could not be read."""
    if not lost:
        logger.warning("no track is kept for validation: train with data.valid=[]")
        return
    more = f" and {len(lost) - most} more" if len(lost) > most else ""
    logger.warning(
        "no track is kept for validation, since these cannot be read: %s%s; "
        "repair or remove them and prepare again, or train with data.valid=[]",
        ", ".join(lost[:most]),
        more,
    )


def _check_settings(settings: Settings, out: Path) -> None:
    """Refuse a folder that holds a set made in another way."""
    path = out / MANIFEST_NAME
    draft = out / f".{MANIFEST_NAME}"  # names the settings of a set that is not finished
    known = next((_read_json(p) for p in (path, draft) if p.is_file()), None)
    if known is None:
        if out.is_dir() and any(out.iterdir()):
            raise DataError(f"{out} is not empty and was not made by this command")
        out.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"settings": settings.plain()}), encoding="utf-8")
        return
    before = known.get("settings", {"dataset": known.get("dataset")})
    now = json.loads(json.dumps(settings.plain()))
    changed = [
        f"{key} {before.get(key)!r}, not {value!r}" for key, value in now.items() if before.get(key) != value
    ]
    if changed:
        raise DataError(f"{out} was made with {'; '.join(changed)}")


def _remove_others(dataset: Dataset, made: Sequence[RawTrack], skipped: Mapping[str, str], out: Path) -> None:
    """Take away tracks that an earlier run made and that are gone, unreadable or in another split now; say which."""
    keep = {out / track.split / track.name for track in made}
    manifest = out / MANIFEST_NAME
    before = _read_json(manifest).get("splits", {}) if manifest.is_file() else {}
    now = {  # the splits in which a name is new
        track.name: track.split for track in made if track.name not in before.get(track.split, {})
    }
    for folder in sorted(out.glob("*/*/")):
        if folder in keep or folder.is_symlink() or folder.name.startswith("."):
            continue
        info = read_info(folder)
        if info.get("dataset") == dataset.name and "made_from" in info:
            shutil.rmtree(folder, ignore_errors=True)
            name, split = folder.relative_to(out).as_posix(), folder.parent.name
            why = "the raw data has it no more"
            if name in skipped:
                why = "it cannot be read any more"
            elif folder.name in now:
                heard = ": models trained on the old set have heard it" if split == "train" else ""
                why = f"moved from {split} to {now[folder.name]}{heard}"
            logger.warning("removed %s: %s", name, why)


def _read_json(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def fingerprint(track: RawTrack, root: Path, digest: str) -> str:
    """What a prepared track is made from: the settings, and the names and sizes of its files."""
    parts = [
        [source, os.path.relpath(part.path, root), part.stream, part.gain, part.path.stat().st_size]
        for source, parts in sorted(track.stems.items())
        for part in parts
    ]
    return hashlib.sha256(json.dumps([digest, parts]).encode()).hexdigest()


def _make_all(
    settings: Settings, tracks: Sequence[RawTrack], root: Path, out: Path, jobs: int, progress: OnTracks
) -> Iterator[tuple[str, str]]:
    """Make the tracks; yields those that had to be left out, with the reason."""
    work = [(settings, track, root, out) for track in tracks]
    if jobs <= 1:
        yield from _reasons(tracks, map(_make, work), progress)
        return
    with process_pool(jobs) as pool:
        yield from _reasons(tracks, pool.map(_make, work, chunksize=1), progress)


def _reasons(
    tracks: Sequence[RawTrack], results: Iterator[str | None], progress: OnTracks
) -> Iterator[tuple[str, str]]:
    for index, (track, reason) in enumerate(zip(tracks, results, strict=True), 1):
        progress(index, len(tracks))
        if reason is not None:
            yield f"{track.split}/{track.name}", reason


def _make(work: tuple[Settings, RawTrack, Path, Path]) -> str | None:
    """Make one track unless it is there already; the reason where it cannot be made."""
    settings, track, root, out = work
    folder = out / track.split / track.name
    if not track.stems:
        return f"no source in it: {track.missing[0]} is missing" if track.missing else "no source in it"
    try:
        made_from = fingerprint(track, root, settings.digest)
    except OSError as error:
        return f"{error.filename}: cannot be read ({error.strerror})"
    try:
        if folder.is_dir():
            if read_info(folder).get("made_from") == made_from:
                return None
            shutil.rmtree(folder)
        stems = settings.dataset.render(track, settings.sample_rate, settings.channels)
        info = {"solo": track.solo, "made_from": made_from, "dataset": settings.dataset.name}
        write_track(folder, stems, settings.sample_rate, info)
    except DataError as error:
        return str(error)
    return None


def _write_manifest(
    settings: Settings, tracks: Sequence[RawTrack], skipped: dict[str, str], out: Path
) -> Path:
    """Write `manifest.json`: settings and their hash, licence, sources, tracks by split, what was left out."""
    dataset = settings.dataset
    splits: dict[str, dict[str, list[str]]] = {}
    for track in tracks:
        splits.setdefault(track.split, {})[track.name] = [dataset.name]
    manifest = {
        "dataset": dataset.name,
        "settings": settings.plain(),
        "settings_sha256": settings.digest,
        "sample_rate": settings.sample_rate,
        "sources": dataset.sources(tracks),
        "corpora": {
            dataset.name: {
                "title": dataset.title,
                "licence": dataset.licence,
                "credit": dataset.credit,
                "homepage": dataset.homepage,
            }
        },
        "splits": splits,
        "skipped": skipped,
    }
    path = out / MANIFEST_NAME
    write_whole(path, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    (out / f".{MANIFEST_NAME}").unlink(missing_ok=True)
    return path
