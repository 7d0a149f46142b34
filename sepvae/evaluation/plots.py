"""Pictures of separations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sepvae.errors import OutputError
from sepvae.signal.stft import STFT

_RANGE_DB = 80.0
_LOW_HZ = 30.0
_ROWS = 300


def spectrograms(
    path: str | Path,
    title: str,
    sources: Sequence[str],
    estimates: np.ndarray,
    references: np.ndarray,
    sample_rate: int,
) -> None:
    """Draw the mixture and every source, the truth above the estimate, on one scale of colours.

    Args:
        path: the picture to write, its format by its extension.
        title: written on top.
        sources: names of the sources.
        estimates: estimated audio.
        references: true audio.
        sample_rate: Hz.

    Shape:
        estimates and references: `[K, C, L]`

    Raises:
        OutputError: it cannot be written.
    """
    rows = [np.concatenate([signals.sum(0)[None], signals]).mean(1) for signals in (references, estimates)]
    levels = [[_level_db(signal, sample_rate) for signal in row] for row in rows]
    top = max(float(levels[0][0].max()), -_RANGE_DB)
    figure = Figure(figsize=(3.2 * (len(sources) + 1), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(sources) + 1, sharex=True, sharey=True, squeeze=False)
    names = [["mixture", *sources], ["sum of estimates", *(f"{source}, estimate" for source in sources)]]
    for row in range(2):
        for column in range(len(sources) + 1):
            _draw(
                axes[row, column],
                levels[row][column],
                names[row][column],
                top,
                sample_rate,
                rows[0].shape[-1],
            )
    figure.suptitle(title)
    figure.supxlabel("s")
    figure.supylabel("Hz")
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _draw(axis: Axes, level_db: np.ndarray, name: str, top: float, sample_rate: int, length: int) -> None:
    """One spectrogram `[F, T]`, its bins picked evenly along the logarithm of frequency."""
    nyquist = sample_rate / 2
    rows = np.geomspace(_LOW_HZ / nyquist, 1, _ROWS) * (level_db.shape[0] - 1)
    axis.imshow(
        level_db[np.round(rows).astype(int)],
        origin="lower",
        aspect="auto",
        extent=(0, length / sample_rate, np.log10(_LOW_HZ), np.log10(nyquist)),
        vmin=top - _RANGE_DB,
        vmax=top,
        cmap="magma",
    )
    ticks = [hertz for hertz in (100, 1000, 10000) if hertz < nyquist]
    axis.set_yticks(np.log10(ticks), [str(hertz) for hertz in ticks])
    axis.set_title(name, fontsize="small")


def _level_db(signal: np.ndarray, sample_rate: int) -> np.ndarray:
    """Level of the spectrogram with windows of about 0.1 s: `[L]` -> `[F, T]`."""
    n_fft = 2 ** round(np.log2(sample_rate * 0.1))
    X = STFT(n_fft, n_fft // 4)(torch.from_numpy(signal))
    return 20 * np.log10(X.abs().numpy() + 1e-7)
