"""Slakh2100: 2100 songs rendered from MIDI, a recording per instrument, grouped here by instrument class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepvae.data.datasets.base import (
    Archive,
    Dataset,
    Problem,
    RawTrack,
    StemFile,
    check_names,
    file_of,
    folders_of,
)
from sepvae.errors import DataError

SPLITS = {"train": "train", "validation": "valid", "test": "test"}
"""Folders of the redux version; the duplicates in its folder `omitted` are left out."""
COUNTS = {"train": 1289, "validation": 270, "test": 151}
FOUR = {"Bass": "bass", "Drums": "drums", "Guitar": "guitar", "Piano": "piano"}


@dataclass(frozen=True)
class Slakh(Dataset):
    """Slakh2100: `{train,validation,test}/TrackXXXXX/{metadata.yaml,stems/SXX.flac}`.

    Args:
        grouping: `four` takes bass, drums, guitar and piano alone, as the published scores do; `rest` adds `other`
            for all else; `class` makes a source of every instrument class.
        map: `Class=source` pairs that change the grouping, for instance `Organ=piano,Strings=strings`.
    """

    name = "slakh2100"
    title = "Slakh2100 (redux), 1710 rendered songs (115 h)"
    licence = "CC BY 4.0"
    credit = "Manilow, Wichern, Seetharaman & Le Roux 2019, doi:10.5281/zenodo.4599666"
    homepage = "https://zenodo.org/records/4599666"
    size = "104 GB as a tar file"
    sample_rate = 44100
    channels = 1
    archives = (
        Archive(
            ("https://zenodo.org/records/4599666/files/slakh2100_flac_redux.tar.gz",),
            "slakh2100_flac_redux.tar.gz",
            ("md5:f4b71b6c45ac9b506f59788456b3f0c4",),
        ),
    )

    grouping: str = "four"
    map: tuple[str, ...] = ()

    def tracks(self, root: Path) -> list[RawTrack]:
        if self.grouping not in ("four", "rest", "class"):
            raise DataError(f"grouping is four, rest or class, found {self.grouping!r}")
        mapping = self._mapping()
        tracks = [
            track
            for split, folder in self._songs(root)
            if (track := self._track(SPLITS[split], folder, mapping)) is not None
        ]
        if not tracks:
            raise DataError(f"expected {{train,validation,test}}/TrackXXXXX/metadata.yaml under {root}")
        check_names(tracks)
        return tracks

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        names = super().sources(tracks)
        return tuple(sorted(names, key=lambda name: (name == "other", name)))

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        songs = list(self._songs(root))
        for split, wanted in COUNTS.items():
            found = sum(name == split for name, _ in songs)
            if found != wanted:
                yield Problem("missing", self._base(root) / split, f"{found} songs of {wanted}")

    def _base(self, root: Path) -> Path:
        inside = root / "slakh2100_flac_redux"
        return inside if inside.is_dir() else root

    def _songs(self, root: Path) -> Iterator[tuple[str, Path]]:
        """Split and folder of every song; without split folders, the split follows from the song's number."""
        base = self._base(root)
        for split in SPLITS:
            if (base / split).is_dir():
                for folder in folders_of(base / split):
                    yield split, folder
        for folder in folders_of(base):
            number = folder.name.removeprefix("Track")
            if number.isdigit():
                yield (
                    "train" if int(number) <= 1500 else "validation" if int(number) <= 1875 else "test",
                    folder,
                )

    def _mapping(self) -> dict[str, str]:
        pairs = [item.partition("=") for item in self.map]
        if wrong := [name for name, equals, source in pairs if not (name and equals and source)]:
            raise DataError(f"map takes Class=source, found {wrong[0]!r}")
        return {name.strip(): source.strip() for name, _, source in pairs}

    def _source(self, instrument: Mapping[str, Any], mapping: Mapping[str, str]) -> str | None:
        """Name of the source that an instrument belongs to, if any."""
        kind = "Drums" if instrument.get("is_drum") else str(instrument.get("inst_class", "Other"))
        if kind in mapping:
            return mapping[kind]
        if self.grouping == "class":
            return kind.lower().replace(" ", "_").replace("(", "").replace(")", "")
        return FOUR.get(kind, "other" if self.grouping == "rest" else None)

    def _track(self, split: str, folder: Path, mapping: Mapping[str, str]) -> RawTrack | None:
        import yaml

        path = folder / "metadata.yaml"
        if not path.is_file():
            return RawTrack(split, folder.name, {}, missing=(path,)) if (folder / "stems").is_dir() else None
        try:
            instruments = yaml.safe_load(path.read_text(encoding="utf-8"))["stems"]
            listed = sorted((str(name), dict(about)) for name, about in instruments.items())
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error
        parts: dict[str, list[StemFile]] = defaultdict(list)
        missing = []
        for name, about in listed:
            source = self._source(about, mapping)
            if source is None or not about.get("audio_rendered", True):
                continue
            file = file_of(folder / "stems", name, (".flac", ".wav"))
            if file is None:
                missing.append(folder / "stems" / f"{name}.flac")
            else:
                parts[source].append(StemFile(file))
        found = {source: tuple(files) for source, files in sorted(parts.items())}
        return RawTrack(split, folder.name, found, missing=tuple(missing))
