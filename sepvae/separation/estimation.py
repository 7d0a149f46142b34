"""From the STFT of a stream's chunks to masks, each frame's variances computed once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sepvae.models.separation import SeparationModel, SeparationVAE
from sepvae.separation.quality import Quality
from sepvae.signal import gains, percussive, wiener

PERCUSSIVE_SOURCE = "drums"
EVERY = 4
"""Gains are fitted to the channels' mean in one frame of so many: they score the same, for an eighth of the work."""


class MaskStream:
    """Masks of the cores of successive chunks of one stream.

    Equalisers look farther than the network does. So the network runs ahead of the core, and what it gave is kept
    for the chunks to come; gains are fitted in windows on the stream's own grid of frames. That makes the masks
    independent of how the stream is cut into chunks, up to rounding.

    Args:
        model: separation model in evaluation mode.
        quality: what is done beyond the plain Wiener filter.
        autocast: data type that the network computes in; None for that of its weights.
        present: indices of the sources that are there, K' of the model's; None for all. The variances of the others
            are dropped, so masks and equalisers share the mixture among those that are left.
    """

    def __init__(
        self,
        model: SeparationModel,
        quality: Quality,
        autocast: torch.dtype | None = None,
        present: Sequence[int] | None = None,
    ) -> None:
        self._model, self._quality, self._autocast = model, quality, autocast
        self._present = slice(None) if present is None else list(present)
        self._told = torch.zeros(1, len(model.config.sources))
        self._told[:, self._present] = 1
        self._refines = refines(model, quality)
        self._drums = drums(model, quality, present)
        self._context = network_context(model, quality)
        self._basis = gains.equaliser(model.bands, model.config.sample_rate) if self._refines else None
        self._frame = self._before = 0  # first frame of the next core, and of the last
        self._kept: Tensor | None = None  # log-variances [K, 2, N, n] around it, and banded powers below
        self._power: Tensor | None = None  # [N, n], mean of the channels
        self._first = 0  # frame that these begin with
        self._gains: dict[int, Tensor] = {}  # log-gains [K, E] of windows

    def __call__(self, X: Tensor, core: slice) -> Tensor:
        """Masks of the core frames; chunks must come in order, each with `context_frames` around its core.

        Shape: X `[2, F, T]` -> `[K', 2, N, t]`.
        """
        self._before = self._frame
        start = self._frame - core.start  # frame that X begins with
        last = self._frame + core.stop - core.start
        if not self._refines:
            log_variance = self._log_variances(X, core)[0]
        else:
            self._extend(X, start, last)
            log_variance = self._equalised(self._frame, last)
        self._frame = last
        return wiener.masks(self._quality.sharpness * log_variance[None])[0]

    def rewind(self) -> None:
        """Forget the last chunk: it failed, and its first frames come again as a shorter one."""
        self._frame = self._before

    def _extend(self, X: Tensor, start: int, last: int) -> None:
        """Run the network on the frames that the windows of this core reach and that it has not seen yet."""
        known = start if self._kept is None else self._first + self._kept.shape[-1]
        end = min(start + X.shape[-1], last + 2 * gains.HALF_WINDOW)
        if end > known:
            begin = max(0, known - start - self._context)
            stop = min(X.shape[-1], end - start + self._context)
            fresh = slice(known - start - begin, end - start - begin)
            self._append(*self._log_variances(X[..., begin:stop], fresh), known)
        keep = max(0, gains.span(self._frame // gains.HALF_WINDOW)[0]) - self._first
        if keep > 0 and self._kept is not None and self._power is not None:
            self._kept, self._power = self._kept[..., keep:].clone(), self._power[..., keep:].clone()
            self._first += keep

    def _append(self, log_variance: Tensor, P: Tensor, first: int) -> None:
        if self._kept is None or self._power is None:
            self._kept, self._power, self._first = log_variance, P, first
        else:
            self._kept = torch.cat([self._kept, log_variance], -1)
            self._power = torch.cat([self._power, P], -1)

    def _equalised(self, first: int, last: int) -> Tensor:
        """Log-variances of some frames with the gains of the windows that reach them."""
        assert self._kept is not None
        assert self._basis is not None
        kept = self._kept[..., first - self._first : last - self._first]  # [K, 2, N, t]
        needed = gains.windows(first, last)
        self._gains = {w: g for w, g in self._gains.items() if w in needed}
        field = kept.new_zeros(kept.shape[0], *kept.shape[2:])  # log-gains [K, N, t]
        for window in needed:
            if window not in self._gains:
                self._gains[window] = self._fit(window)
            curve = self._gains[window] @ self._basis  # [K, N]
            start, stop = gains.span(window)
            start, stop = max(start, first), min(stop, last)
            fade = gains.crossfade(start, stop, window).to(kept.device)  # [t]
            field[..., start - first : stop - first].addcmul_(curve[..., None], fade)
        return kept + field.unsqueeze(1)

    def _fit(self, window: int) -> Tensor:
        """Log-gains of one window."""
        assert self._kept is not None
        assert self._power is not None
        assert self._basis is not None
        start, stop = gains.span(window)
        part = slice(max(0, start - self._first), max(0, stop - self._first), EVERY)
        V = torch.exp(self._kept[..., part]).mean(1)  # [K, N, t]
        P = self._power[:, part]
        points = (stop - start) // EVERY
        sizes = self._model.bands.sizes
        return gains.fit_gains(P, V, sizes, self._basis, steps=self._quality.refine, points=points)

    def _log_variances(self, X: Tensor, frames: slice) -> tuple[Tensor, Tensor]:
        """Log-variances and banded powers of some frames, the variances averaged over the levels that are heard."""
        levels_db, told = self._quality.levels_db, self._told.to(X.device)
        P, P_side = self._model.band_powers(X[None])  # [1, 2, N, T], [1, N, T]
        total = P.new_zeros(())
        for level_db in levels_db:
            gain = 10 ** (level_db / 10)
            with _autocast(X.device, self._autocast):
                found = self._model.log_variances_of(gain * P, gain * P_side, frames, told)
            total = total + found[0, self._present]
        if levels_db != (0.0,):
            mean_db = sum(levels_db) / len(levels_db)
            total = total / len(levels_db) - mean_db * math.log(10) / 10
        P = P[0].mean(0)  # [N, T]
        if self._drums is not None:
            total[self._drums] += self._quality.percussive * percussive.percussiveness(P)[..., frames]
        return total, P[..., frames]


def drums(model: SeparationModel, quality: Quality, present: Sequence[int] | None = None) -> int | None:
    """Place of the drums among the present sources, if they are there and evidence of hits counts."""
    sources = model.config.sources
    here = [sources[k] for k in (range(len(sources)) if present is None else present)]
    return here.index(PERCUSSIVE_SOURCE) if quality.percussive and PERCUSSIVE_SOURCE in here else None


def refines(model: SeparationModel, quality: Quality) -> bool:
    """Whether there are gains to fit: a mask network has no variances, only their ratios."""
    return quality.refine > 0 and isinstance(model, SeparationVAE)


def network_context(model: SeparationModel, quality: Quality) -> int:
    """Frames on each side that a frame's variances depend on, before gains are fitted."""
    reach = percussive.REACH if drums(model, quality) is not None else 0
    return max(model.context_frames, reach)


def context_frames(model: SeparationModel, quality: Quality) -> int:
    """Frames on each side of a core that its masks depend on."""
    around = 2 * gains.HALF_WINDOW if refines(model, quality) else 0
    return network_context(model, quality) + around


def _autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
