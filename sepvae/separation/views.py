"""A signal as the network hears it at one speed: its stems, in the time and at the rate of the signal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepvae.audio.resample import MAX_RATE, MIN_RATE, Resampler
from sepvae.models.device import inference
from sepvae.models.separation import SeparationModel
from sepvae.separation.estimation import MaskStream, mask_stream
from sepvae.separation.quality import Quality
from sepvae.signal.chunking import ChunkedFilter
from sepvae.signal.stft import in_blocks

_RESAMPLERS_HOLD = 1500  # samples at the lower of the two rates that one keeps at the most


class View:
    """Separates blocks of a signal that the network hears faster or slower than it is, pitch included.

    The samples are taken for those of another rate, resampled to the model's, separated, and brought back the same
    way, so that every sample stays in its place. Channels are separated in pairs, a single or last odd one as two
    equal channels.

    Args:
        model: separation model in evaluation mode.
        sample_rate: of the signal, in Hz.
        channels: of the signal, > 0.
        speed: of what the network hears, 1 for the signal as it is.
        segment_s: length of the chunks that the model sees, context apart, in seconds at that speed, > 0.
        quality: what is done beyond the plain Wiener filter.
        autocast: data type that the network computes in; None for that of its weights.
        present: indices of the K' sources that are there; None for all K of the model's.
    """

    def __init__(
        self,
        model: SeparationModel,
        sample_rate: int,
        channels: int,
        speed: float,
        *,
        segment_s: float,
        quality: Quality,
        autocast: torch.dtype | None = None,
        present: Sequence[int] | None = None,
    ) -> None:
        config = model.config
        heard_rate = min(max(round(speed * sample_rate), MIN_RATE), MAX_RATE)
        self._model, self._channels, self._speed = model, channels, heard_rate / sample_rate
        self._sources = len(config.sources if present is None else present)  # K'
        self._rates = heard_rate, config.sample_rate
        self._to_model = Resampler(heard_rate, config.sample_rate, channels)
        self._from_model = Resampler(config.sample_rate, heard_rate, self._sources * channels)
        self._wanted_frames = math.ceil(segment_s * config.sample_rate / config.hop_length)
        self._filters = []
        for _ in range(-(-channels // 2)):
            masks = mask_stream(model, quality, autocast, present)
            chunks = ChunkedFilter(
                model.stft,
                partial(self._estimate, masks),
                self._sources,
                core_frames=self._wanted_frames,
                context_frames=masks.context_frames,
                multiple=model.frame_multiple,
            )
            self._filters.append(chunks)
        self._wanted_frames = self._filters[0].core_frames

    @property
    def latency_s(self) -> float:
        """Longest time from a sample's going in to its coming back, computing and the caller's block apart."""
        resampling = _RESAMPLERS_HOLD / min(self._rates) if self._rates[0] != self._rates[1] else 0.0
        return self._speed * (self._filters[0].latency / self._rates[1] + 2 * resampling)

    @property
    def reach_hz(self) -> float:
        """Highest frequency of the signal that the model hears."""
        return self._rates[1] / 2 / self._speed

    @property
    def shortened_s(self) -> tuple[float, float] | None:
        """Length of the chunks that the device's memory sufficed for, and of those wanted; None if they are equal."""
        frames = min(chunk.core_frames for chunk in self._filters)
        if frames == self._wanted_frames:
            return None
        hop_s = self._model.config.hop_length / self._rates[1]
        return frames * hop_s, self._wanted_frames * hop_s

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in samples and return the stems that are ready.

        Shape: block `[C, n]` -> `[K', C, m]`, m may be 0.
        """
        return self._separate(self._to_model.push(block), last=False)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the stems; their length as a whole may be one sample off that of the signal."""
        return self._separate(self._to_model.finish(), last=True)

    def _separate(self, block: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
        pairs = []
        device = self._model.stft.window.device
        with inference(device):
            for index, pair_filter in enumerate(self._filters):
                pair = block[2 * index : 2 * index + 2]
                x = torch.tensor(pair, device=device).expand(2, -1)
                out = pair_filter.push(x)
                if last:
                    out = torch.cat([out, pair_filter.finish()], dim=-1)
                pairs.append(out[:, : len(pair)].cpu().numpy())
        stems = pairs[0] if len(pairs) == 1 else np.concatenate(pairs, axis=1)  # [K', C, m]
        flat = self._from_model.push(stems.reshape(self._sources * self._channels, -1))
        if last:
            flat = np.concatenate([flat, self._from_model.finish()], axis=-1)
        return flat.reshape(self._sources, self._channels, -1)

    def _estimate(self, masks: MaskStream, X: Tensor, core: slice, start: int) -> Iterator[Iterator[Tensor]]:
        """STFTs of the core frames, one source after another and in blocks: all at once would fill the memory."""
        X_blocks = in_blocks(X[..., core])
        for M in masks(X, core, start):  # [2, N, t]
            yield map(self._model.bands.scale, X_blocks, in_blocks(M))


class MeanOfViews:
    """Stems as the mean over several views of one signal, which see its notes elsewhere and err differently.

    Args:
        views: one or more.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._views = list(views)
        self._ready: list[NDArray[np.float32]] = []  # of each view, what the slowest one does not have yet

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in samples and return the stems that all views have ready.

        Shape: block `[C, n]` -> `[K', C, m]`, m may be 0.
        """
        self._take([view.push(block) for view in self._views])
        return self._mean(min(stems.shape[-1] for stems in self._ready))

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the stems; their length as a whole may be one sample off that of the signal."""
        self._take([view.finish() for view in self._views])
        length = max(stems.shape[-1] for stems in self._ready)
        self._ready = [np.pad(s, ((0, 0), (0, 0), (0, length - s.shape[-1]))) for s in self._ready]
        return self._mean(length)

    def _take(self, found: list[NDArray[np.float32]]) -> None:
        if any(stems.shape[-1] for stems in self._ready):
            found = [np.concatenate(parts, axis=-1) for parts in zip(self._ready, found, strict=True)]
        self._ready = found

    def _mean(self, length: int) -> NDArray[np.float32]:
        """The mean of the first samples, which are taken away."""
        first = [stems[..., :length] for stems in self._ready]
        self._ready = [stems[..., length:] for stems in self._ready]
        return first[0] if len(first) == 1 else np.mean(first, axis=0)
