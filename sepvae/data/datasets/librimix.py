"""LibriMix: two or three speakers of LibriSpeech in noise from WHAM, as its scripts write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepvae.data.datasets.base import Archive, Dataset, Problem, RawTrack, audio_files
from sepvae.errors import DataError

SPLITS = {
    "train-360": "train",
    "train-100": "train",
    "train": "train",
    "dev": "valid",
    "val": "valid",
    "test": "test",
}
COUNTS = {
    2: {"train-100": 13900, "train-360": 50800, "dev": 3000, "test": 3000},
    3: {"train-100": 9300, "train-360": 33900, "dev": 3000, "test": 3000},
}


@dataclass(frozen=True)
class LibriMix(Dataset):
    """LibriMix: `Libri{2,3}Mix/wav{8k,16k}/{min,max}/{train-100,train-360,dev,test}/{s1,s2,s3,noise}/<id>.wav`, mono.

    Args:
        speakers: 1 (speech and noise: the first speaker alone), 2 or 3.
        noise: whether the noise is a source; without it the mixtures are clean.
        mode: `min` or `max`, how the scripts brought the speakers to one length.
        train: training sets to take, of train-100 and train-360.
    """

    name = "librimix"
    title = "LibriMix, one to three speakers in noise (train-100: 58 h of two speakers)"
    licence = "CC BY 4.0 (LibriSpeech); noise CC BY-NC 4.0 (WHAM)"
    credit = "Cosentino, Pariente, Cornell, Deleforge & Vincent 2020, arXiv:2005.11262"
    homepage = "https://github.com/JorisCos/LibriMix"
    size = "made by its own scripts from 80 GB; up to 430 GB; MiniLibriMix 0.6 GB"
    sample_rate = 16000
    channels = 1
    archives = (Archive(("https://zenodo.org/records/3871592/files/MiniLibriMix.zip",), "MiniLibriMix.zip"),)

    speakers: int = 2
    noise: bool = True
    mode: str = "min"
    train: tuple[str, ...] = ("train-100",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.speakers not in (1, 2, 3):
            raise DataError(f"speakers is 1, 2 or 3, found {self.speakers}")
        if self.mode not in ("min", "max"):
            raise DataError(f"mode is min or max, found {self.mode!r}")

    def tracks(self, root: Path) -> list[RawTrack]:
        base = self._base(root)
        tracks: list[RawTrack] = []
        for part, split in SPLITS.items():
            if (base / part).is_dir() and (not part.startswith("train-") or part in self.train):
                tracks += self._part(base / part, split)
        if not tracks:
            raise DataError(f"expected {{train-100,dev,test}}/{{s1,s2,noise}}/<id>.wav under {base}")
        return tracks

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        return tuple(self._files())

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        base = self._base(root)
        if "MiniLibriMix" in base.parts:
            return
        for part, wanted in COUNTS[max(self.speakers, 2)].items():
            if part.startswith("train-") and part not in self.train:
                continue
            folder = base / part / "s1"
            found = len(audio_files(folder)) if folder.is_dir() else 0
            if found != wanted:
                yield Problem("missing", base / part, f"{found} mixtures of {wanted}")

    def _files(self) -> dict[str, str]:
        """Source -> folder of its files."""
        if self.speakers == 1:
            voices = {"speech": "s1"}
        else:
            voices = {f"speaker{i}": f"s{i}" for i in range(1, self.speakers + 1)}
        return {**voices, "noise": "noise"} if self.noise or self.speakers == 1 else voices

    def _base(self, root: Path) -> Path:
        """The folder that holds the sets; the higher of the two rates where both were made."""
        speakers = max(self.speakers, 2)
        bases = (root / f"Libri{speakers}Mix", root)
        for base in (
            *(b / r / self.mode for b in bases for r in ("wav16k", "wav8k")),
            root / "MiniLibriMix",
            root,
        ):
            if any((base / part).is_dir() for part in SPLITS):
                return base
        raise DataError(
            f"expected Libri{speakers}Mix/wav16k/{self.mode}/{{train-100,dev,test}} or MiniLibriMix under {root}"
        )

    def _part(self, folder: Path, split: str) -> Iterator[RawTrack]:
        names = sorted({path.stem for kind in self._files().values() for path in audio_files(folder / kind)})
        for name in names:
            files = {source: folder / kind / f"{name}.wav" for source, kind in self._files().items()}
            yield RawTrack.of_files(split, name, files)
