"""Spoken digits, FSDD and Speech Commands, mixed in pairs as Karamatli, Cemgil & Kirbiz 2019 did."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from itertools import cycle as endlessly
from pathlib import Path

import numpy as np

from sepvae.data.datasets.base import (
    Archive,
    Dataset,
    Problem,
    RawTrack,
    StemFile,
    audio_files,
    folders_of,
    locate,
    read,
)
from sepvae.errors import DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLIP_S = 1.0
CLIP_RMS = 0.067
"""Level of a clip over its whole second before it is mixed."""
PER_MIXTURE = 2
TESTED = 5
"""Recordings of each digit and speaker in the official test set of FSDD, the first ones."""


def centred(audio: np.ndarray, length: int) -> np.ndarray:
    """Bring a clip to a length, the same amount added or cut at both ends.

    Shape:
        `[C, L]` -> `[C, length]`
    """
    start = (length - audio.shape[1]) // 2
    if start < 0:
        return audio[:, -start : length - start]
    return np.pad(audio, ((0, 0), (start, length - audio.shape[1] - start)))


@dataclass(frozen=True)
class Clip:
    """One recording of one digit."""

    digit: str
    split: str
    name: str
    path: Path


class _Digits(Dataset):
    """Solos for training; for validation and test, every pair of different digits in turn, each clip used in turn.

    Source: Karamatli, Cemgil & Kirbiz 2019, section IV: clips centred in one second, brought to one RMS, halved and
    added. Which clips meet differs: theirs are drawn, these follow from the names of the files.
    """

    sample_rate = 8000
    channels = 1
    together = False

    mixtures: int

    def clips(self, root: Path) -> list[Clip]:
        raise NotImplementedError

    def tracks(self, root: Path) -> list[RawTrack]:
        by_split: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
        for clip in self.clips(root):
            by_split[clip.split][clip.digit].append(clip)
        tracks = [
            RawTrack("train", f"{digit}-{clip.name}", {digit: (StemFile(clip.path),)}, solo=True)
            for digit in DIGITS
            for clip in by_split["train"][digit]
        ]
        for split in ("valid", "test"):
            tracks += self._pairs(split, by_split[split])
        return tracks

    def _pairs(self, split: str, clips: dict[str, list[Clip]]) -> Iterator[RawTrack]:
        digits = [digit for digit in DIGITS if clips[digit]]
        pairs = list(combinations(digits, PER_MIXTURE))
        turns = {digit: endlessly(_shuffled(clips[digit])) for digit in digits}
        for index, pair in enumerate(islice(endlessly(pairs), self.mixtures if pairs else 0)):
            stems = {digit: (StemFile(next(turns[digit]).path),) for digit in pair}
            yield RawTrack(split, f"{index:05d}-{'-'.join(pair)}", stems)

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        return DIGITS

    def render(self, track: RawTrack, sample_rate: int, channels: int) -> dict[str, np.ndarray]:
        """Each clip centred in its second, at the one level."""
        stems = {}
        for source, (file,) in track.stems.items():
            audio = centred(read(file, sample_rate, channels), round(CLIP_S * sample_rate))
            rms = float(np.sqrt(np.mean(audio**2)))
            if rms == 0:
                raise DataError(f"{file.path}: nothing but silence")
            stems[source] = (audio * (CLIP_RMS / rms / PER_MIXTURE)).astype(np.float32)
        return stems

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        there = {source for track in tracks if track.split == "train" for source in track.stems}
        for digit in DIGITS:
            if digit not in there:
                yield Problem("missing", root, f"no training clip of the digit {digit}")


def _shuffled(clips: Sequence[Clip]) -> list[Clip]:
    """An order that has nothing to do with the speakers, the same everywhere."""
    return sorted(clips, key=lambda clip: hashlib.sha256(clip.name.encode()).digest())


@dataclass(frozen=True)
class FSDD(_Digits):
    """Free Spoken Digit Dataset: `recordings/<digit>_<speaker>_<index>.wav`, mono, 8 kHz.

    Args:
        hold_out: a speaker kept for the test alone; empty takes the official split, indices 0 to 4.
        valid: recordings of each digit and speaker that are kept for validation.
        mixtures: mixtures of the validation and of the test set.
    """

    name = "fsdd"
    title = "Free Spoken Digit Dataset, 6 speakers, 3000 clips"
    licence = "CC BY-SA 4.0"
    credit = "Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset"
    homepage = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    size = "16 MB as a zip file"
    archives = (
        Archive(
            ("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",),
            "fsdd.zip",
        ),
    )

    hold_out: str = ""
    valid: int = 5
    mixtures: int = 450

    def clips(self, root: Path) -> list[Clip]:
        inside = ("free-spoken-digit-dataset-1.0.10", "free-spoken-digit-dataset", "fsdd")
        folder = locate(root, "recordings", inside=inside) / "recordings" if not _has_clips(root) else root
        clips = []
        for path in audio_files(folder):
            match = re.fullmatch(r"([0-9])_(.+)_([0-9]+)", path.stem)
            if match:
                digit, speaker, index = DIGITS[int(match[1])], match[2], int(match[3])
                clips.append(Clip(digit, self._split(speaker, index), f"{speaker}-{index}", path))
        if not clips:
            raise DataError(f"expected <digit>_<speaker>_<index>.wav under {folder}")
        if self.hold_out and not any(clip.split == "test" for clip in clips):
            raise DataError(f"no clip of the speaker {self.hold_out!r} under {folder}")
        return clips

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        yield from super().expected(root, tracks)
        if (found := len(self.clips(root))) < 3000:
            yield Problem("missing", root, f"{found} clips of 3000")

    def _split(self, speaker: str, index: int) -> str:
        tested = 0 if self.hold_out else TESTED
        if speaker == self.hold_out or index < tested:
            return "test"
        return "valid" if index < tested + self.valid else "train"


def _has_clips(folder: Path) -> bool:
    return any(re.fullmatch(r"[0-9]_.+_[0-9]+", path.stem) for path in audio_files(folder))


@dataclass(frozen=True)
class SpeechCommands(_Digits):
    """Speech Commands v0.02, the ten digits of it (SC09): `<word>/<speaker>_nohash_<n>.wav`, mono, 16 kHz.

    Args:
        mixtures: mixtures of the validation and of the test set.
    """

    name = "speech_commands"
    title = "Speech Commands v0.02, its ten digits, 38908 clips"
    licence = "CC BY 4.0"
    credit = "Warden 2018, arXiv:1804.03209"
    homepage = "https://www.tensorflow.org/datasets/catalog/speech_commands"
    size = "2.3 GB as a tar file"
    archives = (
        Archive(
            ("http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",),
            "speech_commands_v0.02.tar.gz",
            ("sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",),
            folder="speech_commands_v0.02",
        ),
    )

    mixtures: int = 2250

    def clips(self, root: Path) -> list[Clip]:
        base = locate(root, *DIGITS, inside=("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"))
        lists = {
            split: _listed(base / f"{name}_list.txt")
            for split, name in (("valid", "validation"), ("test", "testing"))
        }
        clips = []
        for folder in folders_of(base):
            if folder.name in DIGITS:
                for path in audio_files(folder):
                    key = f"{folder.name}/{path.name}"
                    split = next((split for split, names in lists.items() if key in names), "train")
                    clips.append(Clip(folder.name, split, path.stem, path))
        return clips

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        yield from super().expected(root, tracks)
        base = locate(root, *DIGITS, inside=("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"))
        for name in ("validation", "testing"):
            if not (base / f"{name}_list.txt").is_file():
                yield Problem("missing", base / f"{name}_list.txt", "list of the split")


def _listed(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()
