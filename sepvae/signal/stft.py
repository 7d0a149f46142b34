"""Short-time Fourier transform on a global hop grid, with an exact inverse for every length from one sample up."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae.errors import ShapeError

CPU_BLOCK_FRAMES = 64
"""Frames that a CPU transforms at a time: few enough for its cache, which takes a third of the time."""


class STFT(nn.Module):
    """Hann-windowed STFT whose frame `t` covers the samples `[t * hop - (n_fft - hop), t * hop + hop)`.

    The signal counts as zero outside its ends, so every sample lies under all windows that reach it, and a part of
    a signal that starts on the hop grid has the same inner frames as the whole: what chunked separation needs.
    The window is scaled so that white noise of variance `s` has `E|X|^2 = s` in every bin.

    Args:
        n_fft: window and FFT length in samples, a multiple of `hop_length`, at least twice as long.
        hop_length: samples between frames, > 0.
    """

    window: Tensor
    synthesis_window: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        if hop_length < 1 or n_fft % hop_length or n_fft < 2 * hop_length:
            raise ShapeError(f"n_fft must be a multiple (>= 2) of hop_length, found {n_fft} and {hop_length}")
        self.n_fft, self.hop_length = n_fft, hop_length
        self.overlap = n_fft // hop_length
        # Tables are real ones on the meta device too, where torch would load sympy to shape them.
        window = torch.hann_window(n_fft, periodic=True, dtype=torch.float64, device="cpu")
        window = window / window.square().sum().sqrt()
        overlapped = window.square().reshape(self.overlap, hop_length).sum(0)
        self.register_buffer("window", window.float(), persistent=False)
        synthesis = window / overlapped.repeat(self.overlap)
        self.register_buffer("synthesis_window", synthesis.float(), persistent=False)

    def stretched(self, hop_length: int) -> STFT:
        """The same transform with another hop, its window as much longer or shorter; a tone is as strong in both.

        Args:
            hop_length: samples between frames, > 0.
        """
        other = STFT(self.overlap * hop_length, hop_length).to(self.window.device)
        gain = math.sqrt(self.hop_length / hop_length)
        other.window.mul_(gain)
        other.synthesis_window.div_(gain)
        return other

    def frames(self, length: int) -> int:
        """Number of frames of a signal of `length` samples."""
        return -(-length // self.hop_length) + self.overlap - 1

    def forward(self, x: Tensor) -> Tensor:
        """Analyse a signal.

        Shape: x `[..., L]`, L >= 1 -> complex `[..., F, T]`, F = n_fft / 2 + 1, T = ceil(L / hop) + n_fft / hop - 1.

        Raises:
            ShapeError: no sample.
        """
        length = x.shape[-1]
        if length < 1:
            raise ShapeError("a signal needs at least one sample, found none")
        edge = self.n_fft - self.hop_length
        padded = functional.pad(x, (edge, edge + -length % self.hop_length))
        frames = padded.unfold(-1, self.n_fft, self.hop_length)  # [..., T, n_fft]
        X = x.new_empty(*frames.shape[:-1], self.n_fft // 2 + 1, dtype=x.dtype.to_complex())  # [..., T, F]
        count = block_frames(x)
        for first in range(0, frames.shape[-2], count):
            block = slice(first, first + count)
            X[..., block, :] = torch.fft.rfft(frames[..., block, :] * self.window)
        return X.transpose(-1, -2)

    def overlap_add(self, blocks: Iterable[Tensor], out: Tensor) -> Tensor:
        """Synthesise frames, the samples before the first frame's last hop included.

        Args:
            blocks: the STFT in blocks of any number of frames, one after another; see `in_blocks`.
            out: zeros to add to.

        Shape: blocks `[..., F, t]`, T frames in all, out `[..., (T + n_fft / hop - 1) * hop]` -> out, from the first
        sample that frame 0 covers. Only samples under all their windows are complete.
        """
        hops = out.unflatten(-1, (-1, self.hop_length))  # [..., T + R - 1, hop]
        first = 0
        for X in blocks:
            frames = torch.fft.irfft(X.transpose(-1, -2), n=self.n_fft).mul_(self.synthesis_window)
            frames = frames.unflatten(-1, (self.overlap, self.hop_length))  # [..., t, R, hop]
            count = frames.shape[-3]
            for shift in range(first, first + self.overlap):
                hops[..., shift : shift + count, :] += frames[..., shift - first, :]
            first += count
        return out

    def inverse(self, X: Tensor, length: int) -> Tensor:
        """Synthesise the signal of `length` samples whose STFT is `X`.

        Shape: X `[..., F, T]` -> `[..., L]`, T = frames(length).

        Raises:
            ShapeError: X is no STFT of this length.
        """
        if X.shape[-2] != self.n_fft // 2 + 1 or X.shape[-1] != self.frames(length):
            expected = f"[..., {self.n_fft // 2 + 1}, {self.frames(length)}]"
            raise ShapeError(f"an STFT of {length} samples has the shape {expected}, found {list(X.shape)}")
        edge = self.n_fft - self.hop_length
        out = X.real.new_zeros(*X.shape[:-2], X.shape[-1] * self.hop_length + edge)
        return self.overlap_add(in_blocks(X), out)[..., edge : edge + length]


def block_frames(x: Tensor) -> int:
    """How many frames to transform at a time on the tensor's device."""
    return CPU_BLOCK_FRAMES if x.device.type == "cpu" else 1 << 30


def in_blocks(X: Tensor) -> tuple[Tensor, ...]:
    """Views of `block_frames` frames each, the last one maybe shorter.

    Shape: X `[..., F, T]` -> `[..., F, t]` each.
    """
    return X.split(block_frames(X), -1)
