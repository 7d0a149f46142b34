"""What every dataset reader says about its files; nothing here decodes more of them than it is asked to."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sepvae.audio import AUDIO_ENDINGS
from sepvae.card import SOURCE_NAME, WHAT_A_NAME_HAS
from sepvae.data.corpora import pad_together, resample
from sepvae.data.datasets.decode import decode
from sepvae.errors import DataError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class StemFile:
    """One file that a source is made of.

    Args:
        path: the audio file.
        stream: index of the audio stream within a container of several; None for the only one.
        gain: factor, -1 subtracts.
    """

    path: Path
    stream: int | None = None
    gain: float = 1.0


@dataclass(frozen=True)
class RawTrack:
    """One track of a dataset as its files lie on disk.

    Args:
        split: the set that it belongs to, mostly train, valid or test.
        name: unique within its split, fit for a folder.
        stems: source -> the files whose sum it is; a source that is not in it is silent.
        solo: whether it is one source on its own rather than a mixture.
        missing: files that the layout promises and that are not there.
    """

    split: str
    name: str
    stems: Mapping[str, tuple[StemFile, ...]]
    solo: bool = False
    missing: tuple[Path, ...] = ()

    @classmethod
    def of_files(cls, split: str, name: str, files: Mapping[str, Path]) -> RawTrack:
        """A track with one file per source, as far as they are there."""
        there = {source: (StemFile(path),) for source, path in files.items() if path.is_file()}
        missing = tuple(path for path in files.values() if not path.is_file())
        return cls(split, name, there, missing=missing)

    @property
    def files(self) -> tuple[StemFile, ...]:
        """All files, source by source."""
        return tuple(file for files in self.stems.values() for file in files)


@dataclass(frozen=True)
class Problem:
    """Something about a dataset on disk that is not as it should be.

    Args:
        kind: `missing`, `broken`, or `note` for what needs no repair.
        where: the file or folder.
        what: one phrase.
    """

    kind: str
    where: Path
    what: str


@dataclass(frozen=True)
class Archive:
    """A file that holds a dataset or a part of it.

    Args:
        url: its public address; several for a file that is split into pieces, in order.
        name: name to store it under.
        checksums: `md5:...` or `sha256:...` of each piece; empty where nobody published one.
        folder: sub-folder of the root to unpack into.
    """

    url: tuple[str, ...]
    name: str
    checksums: tuple[str, ...] = ()
    folder: str = ""


@dataclass(frozen=True)
class Dataset(ABC):
    """A public dataset or a kind of folder: where its files lie, and what it is called.

    The fields of a subclass are its options; they are part of what a prepared set is made with.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    credit: ClassVar[str]
    homepage: ClassVar[str]
    size: ClassVar[str]
    sample_rate: ClassVar[int]
    channels: ClassVar[int]
    archives: ClassVar[tuple[Archive, ...]] = ()
    together: ClassVar[bool] = True
    """Whether the files of a track were recorded together, so that they should be equally long."""

    def __post_init__(self) -> None:
        share = getattr(self, "valid", None)
        if isinstance(share, float) and not 0 <= share < 1:  # elsewhere it is a count
            raise DataError(f"option valid must be a share from 0 to below 1, found {share}")

    @abstractmethod
    def tracks(self, root: Path) -> list[RawTrack]:
        """The tracks under a root folder, in a fixed order.

        Raises:
            DataError: the folder does not have the layout.
        """

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        """Names of the sources, in the order of axis K."""
        return tuple(sorted({source for track in tracks for source in track.stems}))

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        """What the real dataset has and this folder lacks, beside the files of each track; notes on what is ignored."""
        yield from ()

    def render(self, track: RawTrack, sample_rate: int, channels: int) -> dict[str, np.ndarray]:
        """Decode a track: each source the sum of its files, all of one length.

        Shape:
            -> source -> `[C, L]`

        Raises:
            DataError: a file cannot be decoded.
        """
        stems = {
            source: total([read(file, sample_rate, channels) for file in files])
            for source, files in track.stems.items()
        }
        return pad_together(stems)

    def with_options(self, options: Mapping[str, str]) -> Dataset:
        """This dataset with options from text, as the command line gives them.

        Raises:
            DataError: an unknown option, or a value that does not fit.
        """
        fields = {field.name: field for field in dataclasses.fields(self)}
        values: dict[str, Any] = {}
        for name, text in options.items():
            if name not in fields:
                known = ", ".join(fields) or "none"
                raise DataError(f"{self.name} has no option {name!r} (known: {known})")
            values[name] = _value(text, getattr(self, name), name)
        return dataclasses.replace(self, **values)


def _value(text: str, like: Any, name: str) -> Any:
    """Text as a value of the same type as another."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, tuple):
            return tuple(item.strip() for item in text.split(",") if item.strip())
        return type(like)(text)
    except (ValueError, KeyError):
        raise DataError(f"option {name} is of type {type(like).__name__}, found {text!r}") from None


def read(file: StemFile, sample_rate: int, channels: int) -> np.ndarray:
    """A file at one rate and count of channels, times its gain: `[C, L]`."""
    audio, rate = decode(file.path, file.stream)
    return file.gain * to_channels(resample(audio, rate, sample_rate), channels)


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Mono doubled to stereo, or any count averaged to mono; the first two of more than two.

    Shape:
        `[C', L]` -> `[channels, L]`, channels 1 or 2
    """
    if channels == 1:
        return audio.mean(0, keepdims=True)
    return np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio[:2]


def total(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of recordings of different lengths, the shorter ones padded at the end: `[C, L]`."""
    out = np.zeros((len(parts[0]), max(part.shape[1] for part in parts)), np.float32)
    for part in parts:
        out[:, : part.shape[1]] += part
    return out


def folders_of(root: Path) -> list[Path]:
    """Folders right under a folder, hidden ones left out, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def audio_files(folder: Path, *, deep: bool = False) -> list[Path]:
    """Audio files in a folder, or also in those below it; hidden files and folders are left out."""
    found: list[Path] = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if deep and not name.startswith((".", "_")))
        found += [
            Path(path, name)
            for name in sorted(names)
            if Path(name).suffix.lower() in AUDIO_ENDINGS and not name.startswith(".")
        ]
    return found


def file_of(folder: Path, stem: str, extensions: Iterable[str] = (".wav", ".flac")) -> Path | None:
    """The file of this name without ending, in the first of the formats that it comes in."""
    return next((p for extension in extensions if (p := folder / f"{stem}{extension}").is_file()), None)


def check_names(tracks: Iterable[RawTrack]) -> None:
    """Refuse names that no model's source can have, and such as differ only in case.

    The latter are hardly meant apart, and some file systems mix them up.

    Raises:
        DataError: naming them, each with a file.
    """
    first: dict[str, tuple[str, Path]] = {}
    for track in tracks:
        for source, files in track.stems.items():
            if not SOURCE_NAME.fullmatch(source):
                raise DataError(
                    f"{source!r:.80} cannot be the name of a source: {WHAT_A_NAME_HAS}; {files[0].path}"
                )
            same, path = first.setdefault(source.casefold(), (source, files[0].path))
            if same != source:
                raise DataError(
                    f"two sources whose names differ only in case, {same} and {source}: "
                    f"{path} and {files[0].path}"
                )


def locate(root: Path, *markers: str, inside: Sequence[str] = ()) -> Path:
    """The folder that has at least one of the markers right under it: the root, or a folder in it of a usual name.

    Raises:
        DataError: neither has one.
    """
    for folder in (root, *(root / name for name in inside)):
        if any((folder / marker).exists() for marker in markers):
            return folder
    raise DataError(f"expected {' or '.join(markers)} under {root}")


def held_out(names: Iterable[str], share: float) -> set[str]:
    """The names that a data set without splits keeps for validation, at least one of two or more.

    Those with the smallest hashes, so that a name more or less changes one of them at most.
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(ordered[: held_out_count(len(ordered), share)])


def held_out_count(count: int, share: float) -> int:
    """How many of some tracks are a share of them: at least one of two or more, never all; none for a share of 0."""
    return min(max(round(share * count), 1), count - 1) if share > 0 else 0
