"""The input files of a batch, found from files, folders and patterns, and the names of their results."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from sepvae.errors import SepvaeError

STDIN = "-"
"""What stands for standard input among the inputs."""

# fmt: off
AUDIO_ENDINGS = frozenset((
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".ape", ".au", ".bwf", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".mka",
    ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".ogv", ".opus", ".rf64", ".snd", ".tta", ".w64", ".wav",
    ".webm", ".wma", ".wv",
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
        name: what to call it in messages; its path by default.
    """

    path: Path
    track: str
    clash: Path | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.name or str(self.path)


def find_jobs(
    inputs: Iterable[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stdin: Path | None = None,
) -> list[Job]:
    """List the files that are meant by files, folders and patterns, each once.

    Folders are searched with all their sub-folders, which become part of the track's name; hidden files, and
    those in the output folder, are left out.

    Args:
        inputs: files, which need not exist, folders, and patterns such as `music/**/*.flac`; a pattern that is
            the name of a file means this file.
        out_dir: output folder.
        include: patterns of the files to take from folders, all by default. They are compared with the path
            below the folder, each of its folders, and the bare name, without regard to case.
        exclude: patterns of those to leave out.
        stdin: file that holds what came from standard input, which the input `-` means.
    """
    found: dict[str, tuple[Path, str, str]] = {}
    for entry in _expanded(inputs):
        if entry == STDIN and stdin is not None:
            found.setdefault(os.path.realpath(stdin), (stdin, "stdin", STDIN))
        elif os.path.isdir(entry):
            for path, track in _in_folder(Path(entry), Path(out_dir), include, exclude):
                found.setdefault(os.path.realpath(path), (path, track, ""))
        else:
            path = Path(entry)
            path = path.absolute() if str(path) == STDIN else path  # libsndfile takes - for stdin
            found.setdefault(os.path.realpath(path), (path, path.stem, ""))
    wanted = {track.casefold() for _, track, _ in found.values()}
    owner: dict[str, Path] = {}
    jobs = []
    for path, track, shown in found.values():
        clash = owner.get(track.casefold())  # some file systems do not tell A from a
        name, number = track, 1
        while clash is not None and name.casefold() in wanted:
            number += 1
            name = f"{track}-{number}"
        wanted.add(name.casefold())
        owner[name.casefold()] = path
        jobs.append(Job(path, name, clash, shown))
    return jobs


def read_manifest(file: IO[bytes]) -> list[str]:
    """Return the inputs that a list names, one on each line, or ended by null bytes as `find -print0` does.

    Of lines, empty ones and those that begin with `#` are left out. Relative paths count from the current
    folder.

    Raises:
        SepvaeError: it cannot be read.
    """
    try:
        content = file.read()
    except OSError as error:
        raise SepvaeError(f"the manifest cannot be read ({error.strerror})") from error
    if b"\0" in content:
        return [os.fsdecode(entry) for entry in content.split(b"\0") if entry]
    lines = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [os.fsdecode(line) for line in lines if line.strip() and not line.startswith(b"#")]


def _expanded(inputs: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The inputs with what patterns match in their place."""
    for entry in (os.fspath(path) for path in inputs):
        matches = []
        if glob.has_magic(entry) and not os.path.lexists(entry):
            matches = sorted(glob.glob(entry, recursive=True))
        yield from matches or [entry]


def _in_folder(
    folder: Path, out_dir: Path, include: Sequence[str], exclude: Sequence[str]
) -> Iterator[tuple[Path, str]]:
    """Audio files below a folder in a fixed order, with their names relative to it and without ending."""
    results = out_dir.resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() not in AUDIO_ENDINGS or hidden or not path.is_file():
            continue
        if (include and not _matches(relative, include)) or _matches(relative, exclude):
            continue
        if results != folder.resolve() and path.resolve().is_relative_to(results):
            continue
        yield path, relative.with_suffix("").as_posix()


def _matches(relative: Path, patterns: Sequence[str]) -> bool:
    whole = PurePosixPath(relative.as_posix())
    names = [str(whole), whole.name, *(str(parent) for parent in whole.parents if parent.name)]
    return any(
        fnmatch.fnmatchcase(name.casefold(), pattern.rstrip("/").casefold())
        for name in names
        for pattern in patterns
    )
