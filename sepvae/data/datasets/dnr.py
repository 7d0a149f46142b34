"""Divide and Remaster v2: one-minute mixtures of speech, music and sound effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepvae.data.datasets.base import Archive, Dataset, Problem, RawTrack, folders_of, locate
from sepvae.errors import DataError

SPLITS = {"tr": "train", "cv": "valid", "tt": "test"}
COUNTS = {"tr": 3406, "cv": 487, "tt": 973}
FILES = {"speech": "speech", "music": "music", "effects": "sfx"}
PIECES = 11
PIECE_MD5 = (
    "c4d200e054e2b80b82bdaf70bd9927a2",
    "f5ad60624a69c1760de6289a0e4f391a",
    "41cd14f12b90a6347afac1e3fad8506a",
    "cf5ec720d68f90ef461fe1713118913b",
    "8f56a37b39ce65df6aca66fc07159d77",
    "b6d4bc7a2592bf09e5985beb2492cbd9",
)
"""Published sums of the first pieces; those of the others were not at hand."""


@dataclass(frozen=True)
class DnR(Dataset):
    """DnR v2: `{tr,cv,tt}/<id>/{mix,speech,music,sfx}.wav`, mono."""

    name = "dnr"
    title = "Divide and Remaster v2, speech, music and effects (81 h)"
    licence = "CC BY 4.0; the recordings come from LibriSpeech, FMA and FSD50K"
    credit = "Petermann, Wichern, Wang & Le Roux 2022, doi:10.5281/zenodo.6949108"
    homepage = "https://zenodo.org/records/6949108"
    size = "116 GB in eleven pieces"
    sample_rate = 44100
    channels = 1
    archives = (
        Archive(
            tuple(f"https://zenodo.org/records/6949108/files/dnr_v2.tar.gz.{i:02d}" for i in range(PIECES)),
            "dnr_v2.tar.gz",
            tuple(f"md5:{digest}" for digest in PIECE_MD5),
        ),
    )

    def tracks(self, root: Path) -> list[RawTrack]:
        base = locate(root, *SPLITS, inside=("dnr_v2",))
        tracks = []
        for part, split in SPLITS.items():
            for folder in folders_of(base / part) if (base / part).is_dir() else ():
                files = {source: folder / f"{file}.wav" for source, file in FILES.items()}
                tracks.append(RawTrack.of_files(split, folder.name, files))
        if not tracks:
            raise DataError(f"expected {{tr,cv,tt}}/<id>/{{speech,music,sfx}}.wav under {root}")
        return tracks

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        return tuple(FILES)

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        base = locate(root, *SPLITS, inside=("dnr_v2",))
        for part, wanted in COUNTS.items():
            found = sum(track.split == SPLITS[part] for track in tracks)
            if found != wanted:
                yield Problem("missing", base / part, f"{found} mixtures of {wanted}")
