"""A signal as the network hears it at several speeds: its stems, in the time and at the rate of the signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sepvae.audio.resample import Resampler
from sepvae.models.device import inference
from sepvae.models.separation import SeparationModel
from sepvae.separation.estimation import MaskStream, mask_stream
from sepvae.separation.quality import Quality
from sepvae.signal.bands import Bands
from sepvae.signal.chunking import ChunkedFilter
from sepvae.signal.stft import in_blocks

_RESAMPLERS_HOLD = 1500  # samples at the lower of the two rates that one keeps at the most


class View:
    """Separates blocks of a signal that the network hears faster or slower than it is, pitch included.

    Its STFT has windows and hops `speed` times as long as the model's, and the network takes the frames for those of
    its own: nothing is resampled. Of a faster view it hears the lowest bins; those above have the mask of the highest
    band that it hears. Channels are separated in pairs, a single or last odd one as two equal channels.

    Args:
        model: separation model in evaluation mode.
        channels: of the signal, > 0.
        speed: of what the network hears, 1 for the signal as it is; rounded to whole samples of the hop.
        segment_s: length of the chunks that the model sees, context apart, in seconds at that speed, > 0.
        quality: what is done beyond the plain Wiener filter.
        autocast: data type that the network computes in; None for that of its weights.
        present: indices of the K' sources that are there; None for all K of the model's.

    Attributes:
        sources: number K' of the stems.
        channels: of the signal.
        sample_rate: of the signal as it takes it, the model's.
        device: of its tensors.
    """

    def __init__(
        self,
        model: SeparationModel,
        channels: int,
        speed: float,
        *,
        segment_s: float,
        quality: Quality,
        autocast: torch.dtype | None = None,
        present: Sequence[int] | None = None,
    ) -> None:
        config = model.config
        self._model = model
        self.channels, self.sample_rate, self.device = channels, config.sample_rate, model.stft.window.device
        self.sources = len(config.sources if present is None else present)  # K'
        self._stft = model.stft.stretched(max(1, round(speed * config.hop_length)))
        bins = self._stft.n_fft // 2 + 1
        self._bands = Bands(bins, min(config.kept_bins, bins), config.band_width).to(self.device)
        self._filters = []
        for _ in range(-(-channels // 2)):
            masks = mask_stream(model, quality, autocast, present)
            chunks = ChunkedFilter(
                self._stft,
                partial(self._estimate, masks),
                self.sources,
                core_frames=math.ceil(segment_s * config.sample_rate / config.hop_length),
                context_frames=masks.context_frames,
                multiple=model.frame_multiple,
            )
            self._filters.append(chunks)
        self._wanted_frames = self._filters[0].core_frames

    @property
    def latency(self) -> int:
        """Largest number of samples that have gone in and not yet come back."""
        return self._filters[0].latency

    @property
    def shortened_s(self) -> tuple[float, float] | None:
        """Length of the chunks that the device's memory sufficed for, and of those wanted; None if they are equal."""
        frames = min(chunk.core_frames for chunk in self._filters)
        if frames == self._wanted_frames:
            return None
        hop_s = self._stft.hop_length / self.sample_rate
        return frames * hop_s, self._wanted_frames * hop_s

    def push(self, block: Tensor) -> Tensor:
        """Take in samples at the model's rate and return the stems that are ready.

        Shape: block `[C, n]` -> `[K', C, m]`, m may be 0.
        """
        return self._each(block, ChunkedFilter.push)

    def finish(self, block: Tensor) -> Tensor:
        """Take in the last samples and return the rest of the stems: as many in all as went in.

        Shape: as `push`.
        """
        return self._each(block, lambda chunks, pair: torch.cat([chunks.push(pair), chunks.finish()], -1))

    def _each(self, block: Tensor, run: Callable[[ChunkedFilter, Tensor], Tensor]) -> Tensor:
        """What the filter of every pair of channels makes of it."""
        pairs = block.split(2)
        stems = [
            run(f, pair.expand(2, -1))[:, : len(pair)] for f, pair in zip(self._filters, pairs, strict=True)
        ]
        return stems[0] if len(stems) == 1 else torch.cat(stems, 1)

    def _estimate(self, masks: MaskStream, X: Tensor, core: slice, start: int) -> Iterator[Iterator[Tensor]]:
        """STFTs of the core frames, one source after another and in blocks: all at once would fill the memory."""
        X_blocks = in_blocks(X[..., core])
        for M in masks(self._heard(X), core, start):  # [2, N, t]
            yield map(self._bands.scale, X_blocks, in_blocks(self._fitted(M)))

    def _heard(self, X: Tensor) -> Tensor:
        """An STFT of this view as one of the model's: `[2, F', T]` -> `[2, F, T]`."""
        missing = self._model.bands.n_bins - X.shape[-2]
        if missing <= 0:
            return X[:, : self._model.bands.n_bins]
        X = X.transpose(-1, -2)  # as an STFT lies in memory
        return functional.pad(X, (0, missing)).transpose(-1, -2)

    def _fitted(self, M: Tensor) -> Tensor:
        """Masks for the bands of this view's STFT: `[2, N, t]` -> `[2, N', t]`."""
        missing = self._bands.count - M.shape[-2]
        if missing <= 0:
            return M[:, : self._bands.count]
        return functional.pad(M, (0, 0, 0, missing), mode="replicate")


class MeanOfViews:
    """Stems as the mean over several views of one signal, which see its notes elsewhere and err differently.

    Args:
        views: one or more, of one model and for one number of channels.
        sample_rate: of the signal, in Hz.
    """

    def __init__(self, views: Sequence[View], sample_rate: int) -> None:
        self._views = list(views)
        self._device = views[0].device
        self._sources, self._channels = views[0].sources, views[0].channels  # K', C
        model_rate = views[0].sample_rate
        self._rates = sample_rate, model_rate
        self._to_model = Resampler(sample_rate, model_rate, self._channels)
        self._from_model = Resampler(model_rate, sample_rate, self._sources * self._channels)
        self._left: list[list[Tensor]] = [[] for _ in self._views]  # what the slowest one lacks, in parts

    @property
    def latency_s(self) -> float:
        """Longest time from a sample's going in to its coming back, computing and the caller's block apart."""
        resampling = _RESAMPLERS_HOLD / min(self._rates) if self._rates[0] != self._rates[1] else 0.0
        return max(view.latency for view in self._views) / self._rates[1] + 2 * resampling

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in samples and return the stems that all views have ready.

        Shape: block `[C, n]` -> `[K', C, m]`, m may be 0.
        """
        stems = self._mean(View.push, self._to_model.push(block))
        return self._shaped(self._from_model.push(stems))

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the stems; their length as a whole may be one sample off that of the signal."""
        stems = self._mean(View.finish, self._to_model.finish())
        return self._shaped(
            np.concatenate([self._from_model.push(stems), self._from_model.finish()], axis=-1)
        )

    def _mean(
        self, take: Callable[[View, Tensor], Tensor], block: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The mean of what all views have ready; what some have beyond that is kept: `[C, n]` -> `[K' * C, m]`."""
        with inference(self._device):
            x = torch.tensor(block, device=self._device)
            for parts, view in zip(self._left, self._views, strict=True):
                parts.append(take(view, x))
                if parts[-1].shape[-1] == 0:
                    parts.pop()
            length = min(sum(part.shape[-1] for part in parts) for parts in self._left)
            if length == 0:
                return np.zeros((self._sources * self._channels, 0), np.float32)
            stems = [parts[0] if len(parts) == 1 else torch.cat(parts, -1) for parts in self._left]
            self._left = [[one[..., length:].clone()] if one.shape[-1] > length else [] for one in stems]
            first, *others = (one[..., :length] for one in stems)
            mean = sum(others, start=first) / len(stems) if others else first
            return mean.flatten(0, 1).cpu().numpy()

    def _shaped(self, stems: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[K' * C, m]` -> `[K', C, m]`."""
        return stems.reshape(self._sources, self._channels, -1)
