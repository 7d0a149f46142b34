"""Anybody's own recordings: a folder per track with a file per source, or a folder per source with anything in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepvae.audio import AUDIO_ENDINGS
from sepvae.data.corpora import MIXTURES
from sepvae.data.datasets.base import (
    SPLITS,
    Dataset,
    Problem,
    RawTrack,
    StemFile,
    audio_files,
    check_names,
    folders_of,
    held_out,
)
from sepvae.errors import DataError


class _OwnRecordings(Dataset):
    """What holds for anybody's own recordings, whatever their layout."""

    licence = "that of the recordings"
    credit = ""
    homepage = ""
    size = "any"
    sample_rate = 44100
    channels = 2


@dataclass(frozen=True)
class Stems(_OwnRecordings):
    """Any folder `<track>/<source>.<ext>`, with or without `train`, `valid` and `test` above the tracks.

    Args:
        only: sources to take; none takes all. What is left out is not in the mixture either.
        rest: name of a source made of what a track's `mixture` file has beyond its sources; empty makes none.
        valid: share of the tracks kept for validation where no split is given, in [0, 1); of those with several
            sources, if there are any, since a solo has nothing to separate.
    """

    name = "stems"
    title = "A folder of tracks, each with one audio file per source"

    only: tuple[str, ...] = ()
    rest: str = ""
    valid: float = 0.1

    def tracks(self, root: Path) -> list[RawTrack]:
        splits, folders = _layout(root)
        if splits:
            found = {
                folder: self._track(split.name, folder) for split in splits for folder in folders_of(split)
            }
        else:
            found = {folder: self._track("train", folder) for folder in folders.values()}
            several = [folder.name for folder, track in found.items() if track and len(track.stems) > 1]
            names = held_out(several or [folder.name for folder, track in found.items() if track], self.valid)
            for name in names:
                found[folders[name]] = self._track("valid", folders[name])
        kept = [track for track in found.values() if track is not None]
        unknown = sorted(set(self.only) - set(self.sources(kept)))
        if unknown and (known := _stem_names(found)):
            raise DataError(f"only: no track has {unknown[0]!r}, they have {', '.join(known)}")
        if not kept:
            deeper = next((f"; {problem.where}: {problem.what}" for problem in self.expected(root, ())), "")
            raise DataError(
                f"expected <track>/<source>.<wav|flac|mp3|...> under {root}, "
                f"or such tracks in {', '.join(SPLITS)} there{deeper}"
            )
        check_names(kept)
        sources = set(self.sources(kept))
        for folder, track in found.items():
            _check_others(folder, sources - set(track.stems if track is not None else ()))
        return kept

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        names = super().sources(tracks)
        return tuple(sorted(names, key=lambda name: (name == (self.rest or "other"), name)))

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        splits, folders = _layout(root)
        for split in splits:
            if audio_files(split):
                yield Problem("note", split, "audio beside the folders of its tracks, left out")
        for folder in [folder for split in splits for folder in folders_of(split)] or folders.values():
            if not audio_files(folder) and audio_files(folder, deep=True):
                yield Problem("note", folder, "no audio directly in it, audio lies deeper, left out")

    def _track(self, split: str, folder: Path) -> RawTrack | None:
        stems: dict[str, list[StemFile]] = defaultdict(list)
        mixture = None
        for path in audio_files(folder):
            source = path.stem
            if source.lower() in MIXTURES:
                mixture = path
            elif not self.only or source in self.only:
                stems[source].append(StemFile(path))
        if twice := next((parts for parts in stems.values() if len(parts) > 1), None):
            raise DataError(f"two files for one stem: {twice[0].path} and {twice[1].path.name}")
        solo = len(stems) == 1 and mixture is None
        if self.rest and mixture is not None:
            subtract = [StemFile(part.path, gain=-1.0) for parts in stems.values() for part in parts]
            stems[self.rest] += [StemFile(mixture), *subtract]
        if not stems:
            return None
        return RawTrack(
            split, slug(folder.name), {source: tuple(parts) for source, parts in stems.items()}, solo
        )


@dataclass(frozen=True)
class Solos(_OwnRecordings):
    """Any folder `<source>/**`: recordings of one source each, which need not belong together.

    What is kept for validation is mixed there: the first recording of each source, the second of each, and so on.

    Args:
        valid: share of each source's recordings kept for validation, in [0, 1).
    """

    name = "solos"
    title = "A folder per source, with recordings of that source alone"
    together = False

    valid: float = 0.1

    def tracks(self, root: Path) -> list[RawTrack]:
        tracks = []
        kept: dict[str, list[StemFile]] = {}
        named: dict[str, Path] = {}
        for folder in folders_of(root):
            source = folder.name
            paths = {}
            for path in audio_files(folder, deep=True):
                name = slug(str(path.relative_to(folder)))
                paths[name] = path
                same = named.setdefault(f"{source}-{name}", path)
                if same != path:
                    raise DataError(f"two recordings would have one name, {source}-{name}: {same} and {path}")
            held = held_out(paths, self.valid)
            tracks += [
                RawTrack("train", f"{source}-{name}", {source: (StemFile(path),)}, solo=True)
                for name, path in paths.items()
                if name not in held
            ]
            if held:
                kept[source] = [StemFile(paths[name]) for name in sorted(held)]
        if not tracks:
            raise DataError(f"expected <source>/<anything>.<wav|flac|mp3|...> under {root}")
        check_names(tracks)
        for index in range(max(map(len, kept.values()), default=0)):
            stems = {source: (parts[index % len(parts)],) for source, parts in kept.items()}
            tracks.append(RawTrack("valid", f"mixture-{index:04d}", stems))
        return tracks


def _layout(root: Path) -> tuple[list[Path], dict[str, Path]]:
    """Folders of splits, which have tracks in them, and those of tracks, by name; there are no more than one kind.

    Raises:
        DataError: there are both.
    """
    folders = {folder.name: folder for folder in folders_of(root)}
    splits = [
        folders.pop(split)
        for split in SPLITS
        if split in folders and any(audio_files(track, deep=True) for track in folders_of(folders[split]))
    ]
    beside = [folder for folder in folders.values() if audio_files(folder, deep=True)]
    if splits and beside:
        raise DataError(
            f"{splits[0]} holds tracks of a split, but {beside[0]} lies beside it: "
            f"move every track into {', '.join(SPLITS)}, or none"
        )
    return splits, folders


def _stem_names(folders: Iterable[Path]) -> list[str]:
    """Names of all stems in some folders of tracks."""
    names = {path.stem for folder in folders for path in audio_files(folder)}
    return sorted(name for name in names if name.lower() not in MIXTURES)


def _check_others(folder: Path, silent: set[str]) -> None:
    """Refuse a file that is named like a source which would be silent, and not like audio."""
    for path in sorted(folder.iterdir()):
        if path.stem in silent and path.is_file() and path.suffix.lower() not in AUDIO_ENDINGS:
            raise DataError(f"{path} is named like a source of other tracks, but its ending is none of audio")


def slug(text: str) -> str:
    """A name for a folder from any path: separators become dashes, a leading dot goes."""
    return re.sub(r"[/\\]+", "-", text).lstrip(".") or "track"
