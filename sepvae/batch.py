"""Which files a call with many inputs means, what to call their results, and the report on them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepvae.errors import OutputError
from sepvae.separator import SeparatedFile

# fmt: off
AUDIO_ENDINGS = frozenset((
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".ape", ".au", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".mka", ".mkv",
    ".mov", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".ogv", ".opus", ".rf64", ".snd", ".tta", ".w64", ".wav", ".webm",
    ".wma", ".wv",
))
"""Endings of the files that are taken from a folder; a file named by itself may have any."""
# fmt: on


@dataclass(frozen=True)
class Job:
    """One input file of a batch.

    Args:
        path: the file.
        track: its name in the output template, different for every job.
        clash: the earlier input that would have had the same name; None where there is none.
    """

    path: Path
    track: str
    clash: Path | None = None


def find_jobs(inputs: Sequence[str | os.PathLike[str]], out_dir: str | os.PathLike[str]) -> list[Job]:
    """List the files that are meant by files and folders, each once.

    Folders are searched with all their sub-folders, which become part of the track's name; hidden files, and
    those in the output folder, are left out.

    Args:
        inputs: files, which need not exist, and folders.
        out_dir: output folder.
    """
    found: dict[Path, tuple[Path, str]] = {}
    for entry in map(Path, inputs):
        is_folder = os.path.isdir(entry)
        for path, track in _in_folder(entry, Path(out_dir)) if is_folder else [(entry, entry.stem)]:
            found.setdefault(path.resolve(), (path, track))
    wanted = {track.casefold() for _, track in found.values()}
    owner: dict[str, Path] = {}
    jobs = []
    for path, track in found.values():
        clash = owner.get(track.casefold())  # some file systems do not tell A from a
        name, number = track, 1
        while clash is not None and name.casefold() in wanted:
            number += 1
            name = f"{track}-{number}"
        wanted.add(name.casefold())
        owner[name.casefold()] = path
        jobs.append(Job(path, name, clash))
    return jobs


def _in_folder(folder: Path, out_dir: Path) -> Iterator[tuple[Path, str]]:
    """Audio files below a folder in a fixed order, with their names relative to it and without ending."""
    results = out_dir.resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in AUDIO_ENDINGS and not hidden and path.is_file():
            if results != folder.resolve() and path.resolve().is_relative_to(results):
                continue
            yield path, relative.with_suffix("").as_posix()


def file_report(job: Job, result: SeparatedFile | Exception) -> dict[str, Any]:
    """One input's entry in the report, as plain JSON values."""
    if isinstance(result, Exception):
        return {"input": str(job.path), "status": "failed", "error": str(result)}
    entry: dict[str, Any] = {
        "input": str(job.path),
        "status": "skipped" if result.skipped else "incomplete" if result.loss else "done",
        "outputs": {stem: str(path) for stem, path in result.outputs.items()},
    }
    if result.skipped:
        return entry
    duration_s = result.frames / result.sample_rate
    return entry | {
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "frames": result.frames,
        "subtype": result.subtype,
        "gain": result.gain,
        "residual_db": result.residual_db,
        "loss": result.loss,
        "warnings": list(result.warnings),
        "seconds": round(result.seconds, 3),
        "real_time_factor": round(duration_s / max(result.seconds, 1e-3), 2),
    }


def write_report(
    path: str | os.PathLike[str], settings: Mapping[str, Any], files: Iterable[Mapping[str, Any]]
) -> None:
    """Write the report on a batch as JSON, all at once.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".sepvae-{secrets.token_hex(8)}.part")
    try:
        temporary.write_text(
            json.dumps({**settings, "files": list(files)}, indent=2) + "\n", encoding="utf-8"
        )
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: the report cannot be written ({error.strerror})") from error
