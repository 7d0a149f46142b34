"""Fixed windows of held-out songs, for the scores taken while training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepvae.data.corpora import Track, read_audio, scan
from sepvae.errors import DataError
from sepvae.signal.metrics import ACTIVE_DB, WINDOW_S


class ValidationWindows(Dataset[tuple[str, Tensor, list[int]]]):
    """Windows in which at least two sources sound, spread evenly over the songs of a dataset.

    They last 10 s, or as long as the longest song where that is less; with one source, all in which it sounds count.

    Args:
        root: dataset in the stems layout.
        sources: names of the K sources.
        sample_rate: rate of all files, hertz.
        windows: windows per dataset, >= 0.

    Shape: item -> name of the set, sources `[K, 2, L]`, indices of the sources that sound in the window.

    Raises:
        DataError: a file has another rate.
    """

    def __init__(self, root: str | Path, sources: Sequence[str], sample_rate: int, windows: int) -> None:
        self.name, self.sources = Path(root).name, tuple(sources)
        track_set = scan(root, sources)
        songs = track_set.songs if len(sources) > 1 else track_set.tracks
        self.length = min(int(WINDOW_S * sample_rate), max((song.frames for song in songs), default=0))
        wrong = [song.name for song in songs if song.sample_rate != sample_rate]
        if wrong:
            raise DataError(f"validation needs files at {sample_rate} Hz, {wrong[0]} has another rate")
        per_song = -(-windows // max(len(songs), 1))
        places = (
            (song, int((i + 0.5) / per_song * max(song.frames - self.length, 0)))
            for i in range(per_song)
            for song in songs
        )
        enough = min(2, len(self.sources))
        sounding = (place for place in places if len(self._read(*place)[1]) >= enough)
        self.places = list(islice(sounding, windows))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[str, Tensor, list[int]]:
        stems, active = self._read(*self.places[index])
        return self.name, torch.from_numpy(stems), active

    def _read(self, song: Track, start: int) -> tuple[np.ndarray, list[int]]:
        """Stems [K, 2, L] of a window, and the indices of those that sound."""
        stems = np.zeros((len(self.sources), 2, self.length), np.float32)
        for k, source in enumerate(self.sources):
            if source in song.files:
                stems[k] = read_audio(song.files[source], start=start, frames=self.length)[0]
        level = 10 * np.log10(np.mean(stems.mean(1) ** 2, axis=1) + 1e-12)
        return stems, [int(k) for k in np.flatnonzero(level > ACTIVE_DB)]
