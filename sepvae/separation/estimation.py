"""From the STFT of a stream's chunks to masks, each frame's variances computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sepvae.models.separation import SeparationModel, SeparationVAE
from sepvae.separation.quality import Quality
from sepvae.signal import gains, hearing, percussive, wiener

PERCUSSIVE_SOURCE = "drums"
EVERY = 4
"""Gains are fitted to the channels' mean in one frame of so many: they score the same, for an eighth of the work."""


class Frames(NamedTuple):
    """What the network makes of some frames, and what it made it of.

    Shape: log_variance `[K', 2, N, n]`; power, banded, mean of the channels, `[N, n]`.
    """

    log_variance: Tensor
    power: Tensor


class Listener:
    """Log-variances of the sources in an STFT, as a quality wants them before gains are fitted.

    The network does not hear how soft a recording is, or that a channel is missing (`sepvae.signal.hearing`).

    Args:
        model: separation model in evaluation mode.
        quality: gives the levels that are heard, and the weight of evidence of hits.
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
        sources = model.config.sources
        self._model, self._quality, self._autocast = model, quality, autocast
        self._present = list(range(len(sources)) if present is None else present)
        self._told = torch.zeros(1, len(sources), dtype=torch.float32, device="cpu")
        self._told[:, self._present] = 1
        names = [sources[k] for k in self._present]
        hits = quality.percussive and PERCUSSIVE_SOURCE in names
        self._drums = names.index(PERCUSSIVE_SOURCE) if hits else None

    @property
    def context_frames(self) -> int:
        """Frames on each side that a frame's variances depend on, a multiple of the model's `frame_multiple`."""
        unit = self._model.frame_multiple
        around = self._model.context_frames + hearing.REACH
        if self._drums is not None:
            around = max(around, percussive.REACH)
        return -(-around // unit) * unit

    def __call__(self, X: Tensor, frames: slice) -> Frames:
        """Log-variances of some frames, the mean over the levels that are heard; the others are context.

        Shape: X `[2, F, T]`, its first frame a multiple of the model's `frame_multiple`.
        """
        model, levels_db, told = self._model, self._quality.levels_db, self._told.to(X.device)
        P, P_side = model.band_powers(X[None])  # [1, 2, N, T], [1, N, T]
        power = P[0].mean(0)  # [N, T]
        P, P_side, gain = hearing.heard(P[0], P_side[0], model.bands.sizes, model.config.n_fft)
        start = max(0, frames.start - model.context_frames) // model.frame_multiple * model.frame_multiple
        near = slice(start, frames.stop + model.context_frames)  # what the network looks at
        P, P_side = P[None, ..., near], P_side[None, ..., near]
        inner = slice(frames.start - start, frames.stop - start)
        total = P.new_zeros(())
        for level_db in levels_db:
            level = 10 ** (level_db / 10)
            with torch.autocast(X.device.type, self._autocast, enabled=self._autocast is not None):
                found = model.log_variances_within(level * P, level * P_side, frames=inner, present=told)
            total = total + found[0, self._present]
        mean_db = sum(levels_db) / len(levels_db)
        total = total / len(levels_db) - mean_db * math.log(10) / 10 - torch.log(gain[frames])
        if self._drums is not None:
            total[self._drums] += self._quality.percussive * percussive.percussiveness(power)[..., frames]
        return Frames(total, power[..., frames])


class MaskStream(Protocol):
    """Masks of the cores of successive chunks of one stream, the same however it is cut into chunks.

    A chunk that failed may come again in shorter ones.
    """

    @property
    def context_frames(self) -> int:
        """Frames on each side of a core that its masks depend on."""

    def __call__(self, X: Tensor, core: slice, start: int) -> Tensor:
        """Masks of the core of a chunk.

        Args:
            X: STFT of the chunk, with `context_frames` around its core.
            core: its core frames.
            start: frame of the stream that it begins with.

        Shape: X `[2, F, T]` -> `[K', 2, N, t]`.
        """


def mask_stream(
    model: SeparationModel,
    quality: Quality,
    autocast: torch.dtype | None = None,
    present: Sequence[int] | None = None,
) -> MaskStream:
    """Begin a stream; the arguments are those of `Listener`.

    A mask network has no variances, only their ratios, so no gains are fitted to them.
    """
    listener = Listener(model, quality, autocast, present)
    if quality.refine > 0 and isinstance(model, SeparationVAE):
        return EqualisedMasks(listener, model, quality)
    return PlainMasks(listener, quality)


class PlainMasks:
    """Masks straight from the network's variances."""

    def __init__(self, listener: Listener, quality: Quality) -> None:
        self._listener, self._sharpness = listener, quality.sharpness

    @property
    def context_frames(self) -> int:
        return self._listener.context_frames

    def __call__(self, X: Tensor, core: slice, start: int) -> Tensor:
        log_variance, _ = self._listener(X, core)
        return wiener.masks(self._sharpness * log_variance[None])[0]


class EqualisedMasks:
    """Masks from variances with an equaliser for each source, fitted to the mixture.

    Equalisers look farther than the network does. So the network runs ahead of the core, and what it gave is kept
    for the chunks to come; gains are fitted in windows on the stream's own grid of frames. That makes the masks
    independent of how the stream is cut into chunks, up to rounding.
    """

    def __init__(self, listener: Listener, model: SeparationModel, quality: Quality) -> None:
        self._listener, self._quality = listener, quality
        self._sizes = model.bands.sizes
        self._basis = gains.equaliser(model.bands, model.config.sample_rate)
        self._kept: Frames | None = None  # around the core
        self._first = 0  # frame that these begin with
        self._gains: dict[int, Tensor] = {}  # log-gains [K', E] of windows

    @property
    def context_frames(self) -> int:
        return self._listener.context_frames + 2 * gains.HALF_WINDOW

    def __call__(self, X: Tensor, core: slice, start: int) -> Tensor:
        first, last = start + core.start, start + core.stop
        kept = self._kept = self._extended(X, start, last)
        keep = max(0, gains.span(first // gains.HALF_WINDOW)[0]) - self._first
        if keep > 0:
            kept = Frames(kept.log_variance[..., keep:].clone(), kept.power[..., keep:].clone())
            self._kept, self._first = kept, self._first + keep
        log_variance = self._equalised(kept, first, last)
        return wiener.masks(self._quality.sharpness * log_variance[None])[0]

    def _extended(self, X: Tensor, start: int, last: int) -> Frames:
        """What is kept and, as far as the windows of this core reach, what follows it: the network sees that alone."""
        kept = self._kept
        known = start if kept is None else self._first + kept.power.shape[-1]
        end = min(start + X.shape[-1], last + 2 * gains.HALF_WINDOW)
        if kept is not None and end <= known:
            return kept
        context = self._listener.context_frames
        begin = max(0, known - start - context)
        stop = min(X.shape[-1], end - start + context)
        fresh = self._listener(X[..., begin:stop], slice(known - start - begin, end - start - begin))
        if kept is None:
            self._first = known
            return fresh
        return Frames(*(torch.cat(parts, -1) for parts in zip(kept, fresh, strict=True)))

    def _equalised(self, kept: Frames, first: int, last: int) -> Tensor:
        """Log-variances of some frames with the gains of the windows that reach them."""
        log_variance = kept.log_variance[..., first - self._first : last - self._first]  # [K', 2, N, t]
        needed = gains.windows(first, last)
        self._gains = {w: g for w, g in self._gains.items() if w in needed}
        field = log_variance.new_zeros(len(log_variance), *log_variance.shape[2:])  # log-gains [K', N, t]
        for window in needed:
            if window not in self._gains:
                self._gains[window] = self._fit(kept, window)
            curve = self._gains[window] @ self._basis  # [K', N]
            start, stop = gains.span(window)
            start, stop = max(start, first), min(stop, last)
            fade = gains.crossfade(start, stop, window).to(field.device)  # [t]
            field[..., start - first : stop - first].addcmul_(curve[..., None], fade)
        return log_variance + field.unsqueeze(1)

    def _fit(self, kept: Frames, window: int) -> Tensor:
        """Log-gains of one window, `[K', E]`."""
        start, stop = gains.span(window)
        part = slice(max(0, start - self._first), max(0, stop - self._first), EVERY)
        V = torch.exp(kept.log_variance[..., part]).mean(1)  # [K', N, t]
        return gains.fit_gains(
            kept.power[:, part],
            V,
            self._sizes,
            self._basis,
            steps=self._quality.refine,
            points=(stop - start) // EVERY,
        )
