"""MUSDB18: 150 songs in vocals, drums, bass and other; as folders of WAV, or as containers of five streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepvae.data.datasets.base import Archive, Dataset, Problem, RawTrack, StemFile, folders_of, locate
from sepvae.errors import DataError

SOURCES = ("vocals", "drums", "bass", "other")
VALIDATION = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)
"""The 14 training songs that the field validates on."""

TRAIN_SONGS, TEST_SONGS = 100, 50


class _Musdb(Dataset):
    """What both forms share: the songs, the sources and the splits."""

    licence = (
        "for research only; most songs CC BY-NC-SA 4.0 or similar, see the list that comes with the data"
    )
    sample_rate = 44100
    channels = 2

    def songs(self, folder: Path) -> Iterator[RawTrack]:
        """The songs of `train` or `test`."""
        raise NotImplementedError

    def tracks(self, root: Path) -> list[RawTrack]:
        base = self._base(root)
        tracks = []
        for part in ("train", "test"):
            for song in self.songs(base / part) if (base / part).is_dir() else ():
                split = "valid" if part == "train" and song.name in VALIDATION else part
                tracks.append(dataclasses.replace(song, split=split))
        if not tracks:
            raise DataError(f"no song of {self.name} under {base}")
        return tracks

    def _base(self, root: Path) -> Path:
        return locate(root, "train", "test", inside=("musdb18hq", "musdb18"))

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        return SOURCES

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        base = self._base(root)
        names = {track.name for track in tracks}
        for song in VALIDATION:
            if song not in names:
                yield Problem("missing", base / "train" / song, "validation song")
        for part, wanted in (("train", TRAIN_SONGS), ("test", TEST_SONGS)):
            found = sum((track.split == "test") == (part == "test") for track in tracks)
            if found != wanted:
                yield Problem("missing", base / part, f"{found} songs of {wanted}")


@dataclass(frozen=True)
class Musdb18HQ(_Musdb):
    """MUSDB18-HQ: `{train,test}/<song>/{mixture,vocals,drums,bass,other}.wav`."""

    name = "musdb18hq"
    title = "MUSDB18-HQ, 150 songs (10 h), uncompressed"
    credit = "Rafii, Liutkus, Stöter, Mimilakis & Bittner 2019, doi:10.5281/zenodo.3338373"
    homepage = "https://zenodo.org/records/3338373"
    size = "22.7 GB as a zip file, 30 GB unpacked"
    archives = (
        Archive(
            ("https://zenodo.org/records/3338373/files/musdb18hq.zip",),
            "musdb18hq.zip",
            ("sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",),
        ),
    )

    def songs(self, folder: Path) -> Iterator[RawTrack]:
        for song in folders_of(folder):
            files = {source: song / f"{source}.wav" for source in SOURCES}
            yield RawTrack.of_files("train", song.name, files)


@dataclass(frozen=True)
class Musdb18(_Musdb):
    """MUSDB18: `{train,test}/<song>.stem.mp4`, each with the AAC streams mixture, drums, bass, other, vocals."""

    name = "musdb18"
    title = "MUSDB18, 150 songs (10 h), AAC at 256 kb/s"
    credit = "Rafii, Liutkus, Stöter, Mimilakis & Bittner 2017, doi:10.5281/zenodo.1117372"
    homepage = "https://zenodo.org/records/1117372"
    size = "4.7 GB as a zip file, 5.3 GB unpacked"
    archives = (Archive(("https://zenodo.org/records/1117372/files/musdb18.zip",), "musdb18.zip"),)
    STREAMS = ("mixture", "drums", "bass", "other", "vocals")

    def songs(self, folder: Path) -> Iterator[RawTrack]:
        ending = ".stem.mp4"
        for path in sorted(folder.glob(f"*{ending}")):
            stems = {source: (StemFile(path, self.STREAMS.index(source)),) for source in SOURCES}
            yield RawTrack("train", path.name.removesuffix(ending), stems)
