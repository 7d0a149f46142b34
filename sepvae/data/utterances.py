"""Speech taken apart for singing: pitch, envelope and aperiodicity of utterances, and where their syllables lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyworld
import soxr
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter1d
from scipy.signal import find_peaks

from sepvae.data.corpora import read_audio
from sepvae.errors import DataError

RATE = 16000
FRAME_S = 0.005
BINS = 513
LONGEST_S = 12.0
F0_RANGE_HZ = (65.0, 450.0)
VOWEL_DB = 5.0  # a vowel is what is at most this far under the peak of its syllable
ONSET, CODA = 24, 14  # longest consonants, in frames
SHORTEST = 8  # frames of voice
DRAWS = 12
SILENT = 1e-12


@dataclass(frozen=True)
class Syllable:
    """Frames of an utterance: consonants from `start`, the vowel from `vowel` to `coda`, consonants to `end`."""

    start: int
    vowel: int
    coda: int
    end: int


@dataclass(frozen=True)
class Utterance:
    """One utterance, a frame every `FRAME_S`.

    Args:
        f0: [T] in hertz, 0 where there is no voice.
        envelope: [T, BINS] log of the power spectrum's envelope.
        aperiodicity: [T, BINS] share of noise in the amplitude, 0 to 1.
        syllables: in order.
    """

    f0: np.ndarray
    envelope: np.ndarray
    aperiodicity: np.ndarray
    syllables: tuple[Syllable, ...]

    @property
    def pitch_hz(self) -> float:
        """The median of the voice."""
        return float(np.median(self.f0[self.f0 > 0]))


def find_syllables(voiced: np.ndarray, loudness_db: np.ndarray) -> tuple[Syllable, ...]:
    """Find the syllables: peaks of the loudness in the voiced stretches, and the consonants about them.

    Args:
        voiced: [T] whether there is voice.
        loudness_db: [T] in dB.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(np.int8), [0]])))
    spans: list[tuple[int, int, int]] = []  # start, peak, end
    for first, last in edges.reshape(-1, 2):
        if last - first < SHORTEST:
            continue
        inside = loudness_db[first:last]
        peaks = find_peaks(inside, prominence=2.0, distance=16)[0] + first
        peaks = peaks if peaks.size else np.array([first + int(inside.argmax())])
        cuts = [int(a + loudness_db[a:b].argmin()) for a, b in pairwise(peaks)]
        spans += zip([first, *cuts], peaks.tolist(), [*cuts, last], strict=True)
    found = []
    for index, (first, peak, last) in enumerate(spans):
        before = first - (spans[index - 1][2] if index else 0)
        after = (spans[index + 1][0] if index + 1 < len(spans) else voiced.size) - last
        loud = loudness_db[first:last] > loudness_db[peak] - VOWEL_DB
        quiet = np.flatnonzero(~loud) + first
        vowel = int(max([*(quiet[quiet < peak] + 1), first]))
        coda = int(min([*quiet[quiet > peak], last]))
        if coda - vowel < 4:
            vowel, coda = max(first, peak - 3), min(last, peak + 4)
        start = max(first - min(before - int(0.4 * before), ONSET), vowel - ONSET, 0)
        end = min(last + min(int(0.4 * after), CODA), coda + CODA)
        found.append(Syllable(int(start), int(vowel), int(coda), int(end)))
    return tuple(found)


def analyse(audio: np.ndarray, rate: int) -> Utterance:
    """Take an utterance apart.

    Args:
        audio: [L] speech.
        rate: its sample rate in hertz.

    Raises:
        DataError: there is no voice in it.
    """
    audio = np.ascontiguousarray(audio[: int(LONGEST_S * rate)], np.float64)
    if rate != RATE:
        audio = soxr.resample(audio, rate, RATE)
    level = np.sqrt(np.mean(audio**2))
    if level > 0:
        audio = 0.1 * audio / level
    low, high = F0_RANGE_HZ
    coarse, times = pyworld.dio(audio, RATE, f0_floor=low, f0_ceil=high, frame_period=1000 * FRAME_S)
    f0 = pyworld.stonemask(audio, coarse, times, RATE)
    voiced = binary_opening(binary_closing(f0 > 0, np.ones(4)), np.ones(SHORTEST))
    if not (voiced & (f0 > 0)).any():
        raise DataError("no voice in the speech")
    known = np.flatnonzero(f0 > 0)
    f0 = np.where(voiced, np.interp(np.arange(f0.size), known, f0[known]), 0.0)
    power = pyworld.cheaptrick(audio, f0, times, RATE)
    aperiodicity = pyworld.d4c(audio, f0, times, RATE)
    floor = 1.5 * np.percentile(power, 8, axis=0)
    power = np.maximum(power - floor, 0.03 * power)
    bins = slice(int(200 / RATE * 2 * (BINS - 1)), int(4000 / RATE * 2 * (BINS - 1)))
    loudness = gaussian_filter1d(10 * np.log10(power[:, bins].sum(axis=1) + SILENT), 4)
    return Utterance(
        f0.astype(np.float32),
        np.log(power + SILENT).astype(np.float32),
        aperiodicity.astype(np.float32),
        find_syllables(voiced, loudness),
    )


class Speech:
    """Recordings of some speakers, analysed when they are drawn.

    Args:
        files: each speaker's, at least one.
    """

    def __init__(self, files: Mapping[str, Sequence[Path]]) -> None:
        self.files = files

    @classmethod
    def of_folders(cls, folder: str | Path, speakers: Sequence[str]) -> Speech:
        """What the folders of some speakers hold as `.opus`.

        Raises:
            DataError: a speaker without recordings.
        """
        files = {name: sorted((Path(folder) / name).glob("*.opus")) for name in speakers}
        for name, recordings in files.items():
            if not recordings:
                raise DataError(f"no *.opus in {Path(folder) / name}")
        return cls(files)

    def draw(self, rng: np.random.Generator, syllables: int) -> tuple[str, list[Utterance]]:
        """Draw a speaker and utterances that have so many syllables together, or as many as a few utterances have.

        Raises:
            DataError: nothing with a voice was drawn.
        """
        speaker = str(rng.choice(sorted(self.files)))
        found: list[Utterance] = []
        for utterance in self._utterances(speaker, rng):
            found.append(utterance)
            if sum(len(each.syllables) for each in found) >= syllables:
                break
        if not found:
            raise DataError(f"no voice in the recordings of speaker {speaker}")
        return speaker, found

    def _utterances(self, speaker: str, rng: np.random.Generator) -> Iterator[Utterance]:
        files = self.files[speaker]
        for index in rng.permutation(len(files))[:DRAWS]:
            audio, rate = read_audio(files[index])
            try:
                utterance = analyse(audio.mean(axis=0), rate)
            except DataError:
                continue
            if utterance.syllables:
                yield utterance
