"""The input files of a batch, found from files, folders and patterns, and the names of their results."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from sepvae.audio import AUDIO_ENDINGS
from sepvae.audio.outputs import output_paths, track_of
from sepvae.errors import AudioFileError, OutputError, SepvaeError
from sepvae.separation.provenance import read_provenance, sha256_of

STDIN = "-"
"""What stands for standard input among the inputs."""


@dataclass(frozen=True)
class Job:
    """One input file of a batch.

    Args:
        path: the file.
        track: its name in the output template, different for every job.
        clash: the input that would have had the same name, where it was changed for that; None where it was not.
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
    on_result: Callable[[Path], None] = lambda path: None,
) -> list[Job]:
    """List the files that are meant by files, folders and patterns, each once.

    Folders are searched with all their sub-folders, which become part of the track's name; hidden files are
    left out. So are results of earlier runs: of folders and patterns that hold the output folder, all that
    is in there; otherwise the stems in it that sepvae has made, and those of another input even if they are
    named by themselves.

    Args:
        inputs: files, which need not exist, folders, and patterns such as `music/**/*.flac`; a pattern that is
            the name of a file means this file.
        out_dir: output folder.
        include: patterns of the files to take from folders, all by default. They are compared with the path
            below the folder, each of its folders, and the bare name, without regard to case.
        exclude: patterns of those to leave out.
        stdin: file that holds what came from standard input, which the input `-` means.
        on_result: called with every result of an earlier run that is left out.

    Raises:
        AudioFileError: an input has no name.
    """
    found: dict[str, tuple[Path, str, str]] = {}
    results: dict[str, Path] = {}
    for entry, folder in _expanded(inputs):
        if not entry:
            raise AudioFileError("'': no such file")
        if entry == STDIN and stdin is not None:
            found.setdefault(os.path.realpath(stdin), (stdin, "stdin", STDIN))
            continue
        if os.path.isdir(entry):
            folder = folder or Path(entry)
            files = list(_in_folder(Path(entry), include, exclude))
        else:
            path = Path(entry)
            path = path.absolute() if str(path) == STDIN else path  # libsndfile takes - for stdin
            files = [(path, track_of(path))]
        for path, track in files:
            if folder is not None and _is_result(path, folder, out_dir):
                results[os.path.realpath(path)] = path
            else:
                found.setdefault(os.path.realpath(path), (path, track, ""))
    for real in _stems_of_others({real: path for real, (path, *_) in found.items()}, out_dir):
        results[real] = found.pop(real)[0]
    for real, path in results.items():
        if real not in found:
            on_result(path)
    return _with_own_tracks(list(found.values()))


def _with_own_tracks(files: Sequence[tuple[Path, str, str]]) -> list[Job]:
    """Jobs of files with different tracks: those that would have the same one keep their endings or get a number.

    The endings depend on the names alone, so results keep their places when files are added to a folder.

    Args:
        files: path, wanted track, and name in messages ("" for the path) of each.
    """
    alike: dict[str, list[Path]] = {}
    for path, track, _ in files:
        alike.setdefault(track.casefold(), []).append(path)  # some file systems do not tell A from a
    taken = set(alike)
    owner: dict[str, Path] = {}
    jobs = []
    for path, wanted, name in files:
        clash: Path | None
        others = [other for other in alike[wanted.casefold()] if other != path]
        if others and all(other.suffix.casefold() != path.suffix.casefold() for other in others):
            wanted, clash = f"{wanted}{path.suffix}", others[0]
        else:
            clash = owner.get(wanted.casefold())
        track, number = wanted, 1
        while clash is not None and track.casefold() in taken:
            number += 1
            track = f"{wanted}-{number}"
        taken.add(track.casefold())
        owner[track.casefold()] = path
        jobs.append(Job(path, track, clash, name))
    return jobs


def read_input_list(file: IO[bytes]) -> list[str]:
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


def check_inputs_stay(
    jobs: Sequence[Job], out_dir: Path, template: str, stems: Sequence[str], ext: str
) -> None:
    """Raise where a stem of one input would overwrite another input.

    Args:
        jobs: all inputs of the batch.
        out_dir, template, stems, ext: what names the outputs, as in `output_paths`.

    Raises:
        OutputError: one would.
    """
    inputs = {key: job for job in jobs if (key := _identity(job.path)) is not None}
    for job, path in _outputs(jobs, out_dir, template, stems, ext):
        other = inputs.get(_identity(path) or (0, 0))
        if other is not None and other is not job:
            raise OutputError(f"{path}: this stem of {job} would overwrite the input {other}")


def check_report_apart(
    report: Path, jobs: Sequence[Job], out_dir: Path, template: str, stems: Sequence[str], ext: str
) -> None:
    """Raise where the report would overwrite a stem.

    Args:
        report: its file.
        jobs: all inputs of the batch.
        out_dir, template, stems, ext: what names the outputs, as in `output_paths`.

    Raises:
        OutputError: it would.
    """
    place = os.path.realpath(report)
    for job, path in _outputs(jobs, out_dir, template, stems, ext):
        if os.path.realpath(path).casefold() == place.casefold():
            raise OutputError(f"{report}: the report would overwrite a stem of {job}")


def _outputs(
    jobs: Sequence[Job], out_dir: Path, template: str, stems: Sequence[str], ext: str
) -> Iterator[tuple[Job, Path]]:
    """All outputs of a batch, with the input that each belongs to."""
    for job in jobs:
        with suppress(OutputError):  # said when its turn comes
            for path in output_paths(out_dir, template, job.track, stems, ext).values():
                yield job, path


def check_outputs_differ(jobs: Sequence[Job], template: str, stems: Sequence[str], ext: str) -> None:
    """Raise where stems of two inputs would have one name, as `song_no` and `song` may in `{track}_{stem}`.

    Args:
        jobs: all inputs of the batch.
        template, stems, ext: what names the outputs, as in `output_paths`.

    Raises:
        OutputError: two would.
    """
    owners: dict[str, Job] = {}
    for job in jobs:
        for stem in stems:
            path = os.path.normpath(template.format(track=job.track, stem=stem, ext=ext))
            other = owners.setdefault(path.casefold(), job)  # some file systems do not tell A from a
            if other is not job:
                raise OutputError(
                    f"template {template!r}: gives a stem of {job} and of {other} the name {path}"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever its name; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _expanded(inputs: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[str, Path | None]]:
    """The inputs with what patterns match in their place, and the folder that a pattern looks in."""
    for entry in (os.fspath(path) for path in inputs):
        matches = []
        if glob.has_magic(entry) and not os.path.lexists(entry):
            matches = sorted(glob.glob(entry, recursive=True))
        parts = itertools.takewhile(lambda part: not glob.has_magic(part), Path(entry).parts)
        folder = Path(*parts) if matches else None
        yield from ((match, folder) for match in matches or [entry])


def _is_result(path: Path, folder: Path, out_dir: str | os.PathLike[str]) -> bool:
    """Whether a file that was found below a folder is a result of an earlier run."""
    if not _lies_in(path, out_dir):
        return False
    return not _lies_in(folder, out_dir) or read_provenance(path) is not None


def _lies_in(path: Path, folder: str | os.PathLike[str]) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _stems_of_others(inputs: Mapping[str, Path], out_dir: str | os.PathLike[str]) -> list[str]:
    """The inputs in the output folder that are stems of other inputs, by their real paths."""
    made_from = {}
    for real, path in inputs.items():
        if _lies_in(path, out_dir) and (made := read_provenance(path)) is not None:
            made_from[real] = made.get("input_sha256")
    if not made_from:
        return []
    hashes = {}
    for real, path in inputs.items():
        try:
            hashes[real] = sha256_of(path)
        except AudioFileError:  # said when its turn comes
            continue
    return [
        real
        for real, origin in made_from.items()
        if any(sha256 == origin for other, sha256 in hashes.items() if other != real)
    ]


def _in_folder(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Audio files below a folder in a fixed order, with their names relative to it and without ending.

    What cannot be read is among them, folders and links to nothing too, so that it is told when its turn comes.
    """
    closed: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: closed.append(Path(error.filename)))
    files = [Path(root, name) for root, _, names in walk for name in names]
    for path in sorted([*files, *closed]):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if path in closed:
            if not _matches(relative, exclude):
                yield path, relative.as_posix() if relative.name else path.name
            continue
        if path.suffix.lower() not in AUDIO_ENDINGS or _is_special(path):
            continue
        if (include and not _matches(relative, include)) or _matches(relative, exclude):
            continue
        yield path, relative.with_suffix("").as_posix()


def _is_special(path: Path) -> bool:
    """Whether something is there that is no file, such as a pipe."""
    try:
        return path.exists() and not path.is_file()
    except OSError:  # not to be looked at, which is told when its turn comes
        return False


def _matches(relative: Path, patterns: Sequence[str]) -> bool:
    whole = PurePosixPath(relative.as_posix())
    names = [str(whole), whole.name, *(str(parent) for parent in whole.parents if parent.name)]
    return any(
        fnmatch.fnmatchcase(name.casefold(), pattern.rstrip("/").casefold())
        for name in names
        for pattern in patterns
    )
