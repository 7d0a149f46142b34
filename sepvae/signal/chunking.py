"""Filtering a stream in the STFT domain chunk by chunk, with the result of filtering it as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sepvae.errors import SepvaeError, ShapeError
from sepvae.signal.stft import STFT


class ChunkedFilter:
    """Splits blocks of a signal into `outputs` signals by a function of its STFT.

    Frames lie on one hop grid from the first sample of the stream, whatever the blocks. The function sees
    chunks of frames with context on both sides, and only the core of each chunk is used, so chunks differ
    from the whole by no more than rounding, as long as an output frame depends on no frame further away than
    the context. Memory does not grow with the length of the stream.

    Args:
        stft: transform of the signal.
        estimate: takes the STFT of a chunk `[C, F, T]`, the slice of its core frames, and the frame of the stream that
            it begins with; gives for each output in turn the STFT of the core, in blocks of frames `[C, F, t]`. A chunk
            that does not fit into the device's memory comes again in shorter ones.
        outputs: K > 0.
        core_frames: frames of a chunk's core, rounded up to a multiple of `multiple`.
        context_frames: frames on each side that an estimate may depend on, rounded up likewise.
        multiple: chunks start at multiples of this many frames, as strided networks need it.
    """

    def __init__(
        self,
        stft: STFT,
        estimate: Callable[[Tensor, slice, int], Iterable[Iterable[Tensor]]],
        outputs: int,
        *,
        core_frames: int,
        context_frames: int,
        multiple: int = 1,
    ) -> None:
        if min(outputs, core_frames, multiple) < 1 or context_frames < 0:
            raise ShapeError("outputs, core_frames and multiple must be > 0, context_frames >= 0")
        self._stft, self._estimate, self._outputs = stft, estimate, outputs
        self._multiple = multiple
        self._core = -(-core_frames // multiple) * multiple
        self._context = -(-context_frames // multiple) * multiple
        self._pending: list[Tensor] = []
        self._length = 0  # samples pushed
        self._first_block = 0  # hop-sized block that the pending samples start with
        self._frame = 0  # first frame of the next core
        self._tail: Tensor | None = None  # last synthesised samples, still incomplete

    @property
    def core_frames(self) -> int:
        """Frames of a chunk's core: fewer than asked for after the device ran out of memory."""
        return self._core

    @property
    def latency(self) -> int:
        """Largest number of samples that have gone in and not yet come out."""
        return (self._core + self._context + self._stft.overlap - 1) * self._stft.hop_length

    def push(self, block: Tensor) -> Tensor:
        """Take in samples and return what is ready.

        Shape: block `[C, n]` -> `[K, C, m]`, m may be 0.
        """
        self._pending.append(block)
        self._length += block.shape[-1]
        parts = self._run_full()
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, -1) if parts else self._nothing(block)

    def finish(self) -> Tensor:
        """Return the rest; nothing can be pushed afterwards.

        Raises:
            SepvaeError: the device has too little memory even for the shortest chunk, here and in `push`.
        """
        if self._length == 0:
            return self._nothing(self._pending[0] if self._pending else torch.zeros(1, 0))
        parts: list[Tensor] = []
        end = self._stft.frames(self._length)
        while True:
            parts += self._run_full()
            start = max(0, self._frame - self._stft.overlap + 1) * self._stft.hop_length
            try:
                parts.append(self._run(end, end)[..., : self._length - start])
                return torch.cat(parts, -1)
            except RuntimeError as error:
                self._shorten(error)

    def _run_full(self) -> list[Tensor]:
        """Run all chunks whose core and context are there, shorter ones where memory does not suffice."""
        parts = []
        while (self._frame + self._core + self._context) * self._stft.hop_length <= self._length:
            end = self._frame + self._core
            try:
                parts.append(self._run(end, end + self._context))
            except RuntimeError as error:
                self._shorten(error)
        return parts

    def _shorten(self, error: RuntimeError) -> None:
        """Halve the chunks, if it was memory that lacked; any other error is raised again."""
        if not _out_of_memory(error):
            raise error
        if self._core <= self._multiple:
            raise SepvaeError("the device has too little memory even for the shortest chunk") from error
        self._core = max(self._multiple, self._core // 2 // self._multiple * self._multiple)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _nothing(self, like: Tensor) -> Tensor:
        return like.new_zeros(self._outputs, like.shape[0], 0)

    def _run(self, core_end: int, end: int) -> Tensor:
        """Estimate the frames up to `core_end` from those up to `end`; return what is complete."""
        hop, edge = self._stft.hop_length, self._stft.overlap - 1
        start = max(0, self._frame - self._context)
        samples = torch.cat(self._pending, -1) if len(self._pending) > 1 else self._pending[0]
        X = self._stft(samples[:, : (end - self._first_block) * hop])
        X = X[..., start - self._first_block : end - self._first_block]  # [C, F, end - start]
        core = slice(self._frame - start, core_end - start)
        out = samples.new_zeros(self._outputs, len(samples), (core_end - self._frame + edge) * hop)
        for one, blocks in zip(out, self._estimate(X, core, start), strict=True):
            self._stft.overlap_add(blocks, one)
        if self._tail is not None:
            out[..., : edge * hop] += self._tail
        complete = (core_end - self._frame) * hop
        skipped = min(complete, max(0, edge - self._frame) * hop)  # before the first sample of the stream
        keep = max(0, core_end - self._context - edge)  # first block that the next chunk needs
        tail, pending = out[..., complete:].clone(), samples[:, (keep - self._first_block) * hop :].clone()
        # From here on nothing can fail: until now the chunk could have been tried again.
        self._tail, self._pending = tail, [pending]
        self._first_block, self._frame = keep, core_end
        return out[..., skipped:complete]


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left; only CUDA has an error of its own for it."""
    return any(phrase in str(error).lower() for phrase in ("out of memory", "can't allocate memory"))
