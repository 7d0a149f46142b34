"""A model on a device, applied to arrays."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepvae import checkpoint, pretrained
from sepvae.audio import BLOCK_FRAMES, MAX_CHANNELS
from sepvae.audio.resample import check_rate
from sepvae.errors import OptionError, ShapeError
from sepvae.models.device import autocast_dtype, find_device
from sepvae.models.separation import SeparationModel
from sepvae.progress import Meter, OnProgress
from sepvae.separation.quality import Quality, choose
from sepvae.separation.selection import Presence, listed
from sepvae.separation.streaming import SeparationStream

if TYPE_CHECKING:
    from typing import Self

logger = logging.getLogger(__name__)

SEGMENT_S = 36.0
"""Default length of a chunk: longer ones spend less on context, and more memory."""

_TENSOR_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Audio = TypeVar("Audio", NDArray[Any], Tensor)


class ArraySeparator:
    """Separates arrays into stems with one model.

    It keeps no state between calls, so several threads may share one.

    Args:
        model: separation model; it is itself frozen, set to evaluation and moved to the device, since a copy would
            take its memory again.
        device: auto, cpu, cuda, mps, or any name that torch knows.
        precision: auto, float32 or bfloat16, the type that the network computes in; auto takes bfloat16 where
            the device is fast in it. Variances and masks are float32 always.
        segment_s: length of the chunks that the model sees, in seconds, > 0.
        quality: what is done beyond the plain Wiener filter; None for nothing.
        model_sha256: hash of the weights' file; by default one of the weights themselves.

    Raises:
        OptionError: no model, the device is not there, or the precision is unknown.
    """

    def __init__(
        self,
        model: SeparationModel,
        device: str = "auto",
        *,
        precision: str = "auto",
        segment_s: float = SEGMENT_S,
        quality: Quality | None = None,
        model_sha256: str | None = None,
    ) -> None:
        if not isinstance(model, SeparationModel):
            raise OptionError(
                f"expected a model, found {type(model).__name__}: from_pretrained loads one by its name"
            )
        self.device = find_device(device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.segment_s = segment_s
        self.quality = quality or Quality()
        self._autocast = autocast_dtype(precision, self.device)
        self._model_sha256 = model_sha256
        self.stream(model.config.sample_rate, 1)  # shows now whether segment_s fits

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "music",
        device: str = "auto",
        *,
        precision: str = "auto",
        segment_s: float = SEGMENT_S,
        quality: str = "balanced",
        refine: int | None = None,
    ) -> Self:
        """Load a bundled model by name, or any checkpoint by its folder or address.

        Args:
            name: bundled model, folder, or http(s) address of a folder or archive, which is fetched once.
            device, precision, segment_s: as in the constructor.
            quality: fast, balanced or best; the model's card may say what they mean for it.
            refine: steps of refinement instead of those of `quality`, 0 to 1000.

        Raises:
            OptionError: unknown quality, device or precision, or refine out of its range.
            CheckpointError: there is none, or it is damaged.
            DownloadError: it cannot be fetched.
        """
        model, card = checkpoint.load(pretrained.find(os.fspath(name)))
        sha256 = card["weights"]["sha256"]
        chosen = choose(quality, card, refine)
        return cls(
            model, device, precision=precision, segment_s=segment_s, quality=chosen, model_sha256=sha256
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems."""
        return self.model.config.sources

    @property
    def model_sha256(self) -> str:
        """Hash of the model's weights."""
        if self._model_sha256 is None:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
            self._model_sha256 = digest.hexdigest()
        return self._model_sha256

    @property
    def precision(self) -> str:
        """Type that the network computes in."""
        return "float32" if self._autocast is None else str(self._autocast).removeprefix("torch.")

    def presence(self, present: Iterable[str] | None = None) -> Presence:
        """Return which sources a recording has.

        Raises:
            OptionError: an unknown name.
        """
        return Presence(self.sources, self.model.config.residual_source, present)

    def stream(
        self,
        sample_rate: int,
        channels: int,
        *,
        segment_s: float | None = None,
        present: Iterable[str] | None = None,
    ) -> SeparationStream:
        """Return a stream that takes blocks of a signal and gives back stems as they get ready.

        Args:
            sample_rate: in Hz.
            channels: > 0.
            segment_s: length of its chunks, > 0; shorter ones lower the latency and cost more computing. None
                takes the separator's.
            present: names of the sources that the signal has, as in `separate`; None for all.

        Raises:
            ShapeError: a rate, number of channels or segment out of its range.
            OptionError: an unknown source.
        """
        return SeparationStream(
            self.model,
            sample_rate,
            channels,
            segment_s=self.segment_s if segment_s is None else segment_s,
            autocast=self._autocast,
            quality=self.quality,
            presence=self.presence(present),
        )

    def separate(
        self,
        audio: Audio,
        sample_rate: int,
        *,
        present: Iterable[str] | None = None,
        progress: OnProgress | None = None,
    ) -> dict[str, Audio]:
        """Separate a signal, or a batch of signals one after another.

        Args:
            audio: float samples, full scale 1; never changed.
            sample_rate: in Hz.
            present: names of the sources that the recording is known to have; the stems of the others are silent.
                None for all. Where the model's residual source is absent, the first one named takes its part.
            progress: called with the `Progress`, a number from 0 to 1 with `seconds_left`; what it raises passes
                through, and returning False cancels.

        Shape: audio `[B, C, L]`, `[C, L]` or `[L]`, numpy or torch -> for each stem the same kind, type, shape
            and device.

        Returns:
            The stems by name; they add up to `audio`.

        Raises:
            ShapeError: wrong rank, type, rate or size, NaN or infinite samples.
            OptionError: an unknown source.
            NonFiniteError: the model gave numbers that are not finite.
            CancelledError: `progress` returned False.
        """
        report = Meter(progress)
        present = None if present is None else listed(present)
        if isinstance(audio, Tensor):
            dtype = audio.dtype
            if (
                audio.is_nested
                or audio.layout != torch.strided
                or audio.is_meta
                or dtype not in _TENSOR_TYPES
            ):
                raise ShapeError(f"expected a dense tensor of float samples, found {dtype}, {audio.layout}")
            wide = audio.detach().float() if dtype == torch.bfloat16 else audio.detach()
            stems = self._separate(wide.cpu().resolve_neg().numpy(), sample_rate, present, report)
            return {name: torch.from_numpy(stem).to(audio.device, dtype) for name, stem in stems.items()}
        return self._separate(audio, sample_rate, present, report)

    def _separate(
        self, audio: NDArray[Any], sample_rate: int, present: Iterable[str] | None, report: Meter
    ) -> dict[str, NDArray[Any]]:
        if not isinstance(audio, np.ndarray) or not np.issubdtype(audio.dtype, np.floating):
            found = audio.dtype if isinstance(audio, np.ndarray) else type(audio).__name__
            raise ShapeError(
                f"expected an array of float samples, full scale 1 (16-bit integers divided by 32768), found {found}"
            )
        if isinstance(audio, np.ma.MaskedArray):
            raise ShapeError("expected an array without a mask")
        if not 1 <= audio.ndim <= 3 or audio.size == 0:
            raise ShapeError(f"expected samples [B, C, L], [C, L] or [L], found {list(audio.shape)}")
        batch = np.asarray(audio).reshape((1,) * (3 - audio.ndim) + audio.shape)
        _, channels, length = batch.shape
        if channels > MAX_CHANNELS:
            raise ShapeError(f"expected at most {MAX_CHANNELS} channels [C, L], found {list(audio.shape)}")
        if not np.isfinite(batch).all():
            raise ShapeError("the samples hold NaN or infinite values")
        sample_rate = check_rate(sample_rate)
        stems = {source: np.empty(batch.shape, audio.dtype) for source in self.sources}
        for index, signal in enumerate(batch):
            stream = self.stream(sample_rate, channels, present=present)
            done = 0
            for start in range(0, length + BLOCK_FRAMES, BLOCK_FRAMES):
                block = signal[:, start : start + BLOCK_FRAMES]
                out = stream.push(block) if start < length else stream.finish()
                for stem, part in zip(stems.values(), out, strict=True):
                    stem[index, :, done : done + out.shape[-1]] = part
                done += out.shape[-1]
                report((index + done / length) / len(batch))
            for remark in stream.remarks:
                logger.warning(remark)
        report.finish()
        return {name: stem.reshape(audio.shape) for name, stem in stems.items()}
