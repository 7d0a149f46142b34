"""How a stem was made, written into its file, so that a later run knows what is done already.

It is a line of JSON in a tag of every stem (`software` in wav, `SEPVAE` elsewhere), and not a file beside them: it
cannot get lost or fall behind, needs no lock between processes, and fits every output template.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile

from sepvae.audio.chunks import ends_early
from sepvae.audio.decoders.base import native
from sepvae.audio.tags import read_tags
from sepvae.errors import AudioFileError

_MADE_BY = "sepvae"


@dataclass(frozen=True)
class Origin:
    """What decides the content of one input's stems.

    Args:
        input_sha256: hash of the input file.
        model_sha256: hash of the model's weights.
        settings: everything else that could change a byte, as plain JSON values.
    """

    input_sha256: str
    model_sha256: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What a file says about its making beyond its origin.

    Args:
        stem: its name.
        frames: samples per channel in the file.
        gain: factor that all stems of the input share.
        loss: what the input lacked.
    """

    stem: str
    frames: int
    gain: float = 1.0
    loss: str | None = None


@dataclass(frozen=True)
class Earlier:
    """What is there under the names of the outputs to be written.

    Args:
        there: paths that are taken.
        complete: all outputs are there, whole, and of the same origin.
        foreign: why they must not be replaced unless asked for; None where they may.
        gain, loss: of the complete result.
    """

    there: tuple[Path, ...]
    complete: bool = False
    foreign: str | None = None
    gain: float = 1.0
    loss: str | None = None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash of a file's content.

    Raises:
        AudioFileError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read ({error.strerror})") from error


def describe(origin: Origin, result: Result, program: str) -> str:
    """One line of JSON for the tag of a stem."""
    return json.dumps({_MADE_BY: program, **asdict(result), **asdict(origin)}, separators=(",", ":"))


def look_for(paths: Mapping[str, Path], origin: Origin) -> Earlier:
    """Find out what an earlier run has left under the names of the outputs.

    Args:
        paths: of the outputs, by stem.
        origin: of the outputs to be written.
    """
    there = {stem: path for stem, path in paths.items() if os.path.lexists(path)}
    wanted = json.loads(json.dumps(asdict(origin)))
    found: dict[str, dict[str, Any]] = {}
    unknown: list[Path] = []
    same = True
    for stem, path in there.items():
        made = read_provenance(path)
        if made is None:
            unknown.append(path)
            continue
        if made.get("input_sha256") != origin.input_sha256:
            return Earlier(tuple(there.values()), foreign=f"{path}: exists and is a stem of another input")
        found[stem] = made
        same = same and isinstance(made.get("gain", 1.0), int | float)
        same = same and {key: made.get(key) for key in wanted} == wanted and made.get("stem") == stem
    if unknown and not (found and all(map(_is_cut, unknown))):  # the record stands at the end of a wav
        why = f"{unknown[0]}: exists and has no record of sepvae"
        return Earlier(tuple(there.values()), foreign=why)
    if unknown or not same or len(there) < len(paths):
        return Earlier(tuple(there.values()))
    whole = all(_is_whole(path, found[stem].get("frames")) for stem, path in there.items())
    any_stem = next(iter(found.values()))
    return Earlier(
        tuple(there.values()), whole, gain=float(any_stem.get("gain", 1.0)), loss=any_stem.get("loss")
    )


def read_provenance(path: Path) -> dict[str, Any] | None:
    """What a stem tells about its making; None for a file that is none."""
    if not path.is_file():
        return None
    try:
        made = json.loads(read_tags(path).provenance or "null")
    except (ValueError, RecursionError):
        return None
    return made if isinstance(made, dict) and _MADE_BY in made else None


def _is_cut(path: Path) -> bool:
    """Whether a file is empty, or shorter than its header says."""
    try:
        return path.stat().st_size == 0 or ends_early(path)
    except OSError:
        return False


def _is_whole(path: Path, frames: object) -> bool:
    """Whether a file has all its samples, the last one included."""
    try:
        with soundfile.SoundFile(native(path)) as file:
            if not isinstance(frames, int) or frames < 1 or file.frames < frames:
                return False
            file.seek(file.frames - 1)
            return len(file.read(1)) == 1
    except (RuntimeError, OSError, ValueError):
        return False
