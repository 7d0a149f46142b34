"""VoiceBank-DEMAND: read sentences, clean and in noise; the noise is what the noisy recording has beyond the clean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepvae.data.datasets.base import Archive, Dataset, Problem, RawTrack, StemFile, audio_files, read
from sepvae.errors import DataError

ADDRESS = "https://datashare.ed.ac.uk/bitstream/handle/10283/2791/"
ARCHIVES = {
    "clean_trainset_28spk_wav": "d2d5a45ec32f8fcbf201bde0447e20ba",
    "noisy_trainset_28spk_wav": "1fca9e8bafb8cd069f6653c6d92f9e9c",
    "clean_testset_wav": "34eb1c0ba7ef667e9b966866c542fc16",
    "noisy_testset_wav": "fb1b86caa31e8ba5b506c0c64da9aab5",
}
COUNTS = {"train": 11572, "test": 824}
FOLDERS = {
    "train": ("trainset_28spk_wav", "trainset_wav", "trainset_56spk_wav"),
    "test": ("testset_wav",),
}


@dataclass(frozen=True)
class VoiceBank(Dataset):
    """VoiceBank-DEMAND: `{clean,noisy}_{trainset_28spk,testset}_wav/<speaker>_<n>.wav`, mono.

    Args:
        speakers: those of the training set that are kept for validation.
    """

    name = "voicebank"
    title = "VoiceBank-DEMAND, 28 + 2 speakers in noise (10 h)"
    licence = "CC BY 4.0"
    credit = "Valentini-Botinhão 2017, doi:10.7488/ds/2117"
    homepage = "https://datashare.ed.ac.uk/handle/10283/2791"
    size = "5.4 GB in four zip files"
    sample_rate = 16000
    channels = 1
    archives = tuple(
        Archive((f"{ADDRESS}{name}.zip",), f"{name}.zip", (f"md5:{digest}",))
        for name, digest in ARCHIVES.items()
    )

    speakers: tuple[str, ...] = ("p226", "p287")

    def tracks(self, root: Path) -> list[RawTrack]:
        tracks = []
        for part in FOLDERS:
            folders = self._folders(root, part)
            if folders is None:
                continue
            clean, noisy = (
                {path.stem: path for path in audio_files(folder, deep=True)} for folder in folders
            )
            for name in sorted(clean | noisy):
                split = "valid" if part == "train" and name.split("_")[0] in self.speakers else part
                if name in clean and name in noisy:
                    stems = {
                        "speech": (StemFile(clean[name]),),
                        "noise": (StemFile(noisy[name]), StemFile(clean[name], gain=-1.0)),
                    }
                    tracks.append(RawTrack(split, name, stems))
                else:
                    lacking = folders[0] if name in noisy else folders[1]
                    tracks.append(RawTrack(split, name, {}, missing=(lacking / f"{name}.wav",)))
        if not tracks:
            raise DataError(
                f"expected {{clean,noisy}}_{{trainset_28spk,testset}}_wav/<speaker>_<n>.wav under {root}"
            )
        return tracks

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        return ("speech", "noise")

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        for part, wanted in COUNTS.items():
            found = sum((track.split == "test") == (part == "test") for track in tracks)
            folders = self._folders(root, part)
            if found != wanted and not (folders and "56spk" in folders[0].name):
                yield Problem("missing", root / f"clean_{FOLDERS[part][0]}", f"{found} sentences of {wanted}")

    def render(self, track: RawTrack, sample_rate: int, channels: int) -> dict[str, np.ndarray]:
        """Both recordings cut to the shorter one, so that the difference holds no speech at its end."""
        noisy_part, clean_part = track.stems["noise"]
        noisy = read(noisy_part, sample_rate, channels)
        clean = -read(clean_part, sample_rate, channels)
        length = min(noisy.shape[1], clean.shape[1])
        return {"speech": clean[:, :length], "noise": noisy[:, :length] - clean[:, :length]}

    def _folders(self, root: Path, part: str) -> tuple[Path, Path] | None:
        """Folders of the clean and of the noisy sentences."""
        for name in FOLDERS[part]:
            if (root / f"clean_{name}").is_dir() or (root / f"noisy_{name}").is_dir():
                return root / f"clean_{name}", root / f"noisy_{name}"
        return None
