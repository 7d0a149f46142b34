"""What level and tone alone give: one fixed filter per source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepvae.data import corpora
from sepvae.errors import DataError
from sepvae.signal import wiener
from sepvae.signal.stft import STFT

_CLIPS = 12
_CLIP_S = 6.0


@dataclass(frozen=True)
class StaticEQ:
    """The Wiener filter of the sources' mean spectra: the floor that a separation model must stand clear of.

    Attributes:
        sources: names of the sources.
        power: mean power of each source per STFT bin.

    Shape:
        power: `[K, F]`
    """

    sources: tuple[str, ...]
    power: np.ndarray

    @classmethod
    def measure(cls, dataset: str | Path, sources: Sequence[str], stft: STFT, sample_rate: int) -> StaticEQ:
        """Measure the mean spectra on twelve evenly spaced clips of 6 s of every song of a dataset.

        Every song counts alike: its powers are divided by their sum over sources and bins. Solos do not
        count, since they say nothing about levels in a mixture.

        Args:
            dataset: folder in the stems layout.
            sources: names of the sources.
            stft: whose bins are meant.
            sample_rate: the rate that the STFT is for, in Hz.

        Raises:
            DataError: there is no song in the dataset.
        """
        songs = corpora.scan(dataset, sources).songs
        if not songs:
            raise DataError(f"no song with two or more stems under {dataset}")
        total = np.zeros((len(sources), stft.n_fft // 2 + 1))
        for song in songs:
            power = np.stack([_mean_power(song, source, stft, sample_rate) for source in sources])  # [K, F]
            total += power / max(power.sum(), np.finfo(float).tiny)
        return cls(tuple(sources), total / len(songs))

    def masks(self) -> Tensor:
        """Gain of every source in every bin: `[K, 1, F, 1]`, summing to one over K."""
        power = torch.from_numpy(np.maximum(self.power, np.finfo(np.float32).tiny)).float()
        return wiener.masks(power.log()[None], floor=float(np.finfo(np.float32).tiny))[0, :, None, :, None]


def _mean_power(song: corpora.Track, source: str, stft: STFT, sample_rate: int) -> np.ndarray:
    """Mean power per bin of one stem over clips and channels, zero where the song lacks it: `[F]`."""
    total = np.zeros(stft.n_fft // 2 + 1)
    if source not in song.files:
        return total
    frames = min(round(_CLIP_S * song.sample_rate), song.frames)
    starts = np.linspace(0, song.frames - frames, _CLIPS).astype(int)
    for start in starts:
        audio, rate = corpora.read_audio(song.files[source], start=int(start), frames=frames)  # [2, L]
        X = stft(torch.from_numpy(corpora.resample(audio, rate, sample_rate)).to(stft.window.device))
        total += X.abs().square().mean((0, 2)).double().cpu().numpy()  # [F]
    return total / len(starts)
