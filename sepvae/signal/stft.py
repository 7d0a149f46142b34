"""Short-time Fourier transform on a global hop grid, with an exact inverse for every length from one sample up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae.errors import ShapeError


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
        return torch.fft.rfft(frames * self.window, dim=-1).transpose(-1, -2)  # [..., F, T]

    def overlap_add(self, X: Tensor) -> Tensor:
        """Synthesise frames, the samples before the first frame's last hop included.

        Shape: X `[..., F, T]` -> `[..., (T + n_fft / hop - 1) * hop]`, from the first sample that frame 0 covers.
        Only samples under all their windows are complete.
        """
        frames = torch.fft.irfft(X.transpose(-1, -2), n=self.n_fft, dim=-1).mul_(self.synthesis_window)
        frames = frames.unflatten(-1, (self.overlap, self.hop_length))  # [..., T, R, hop]
        count = frames.shape[-3]
        out = frames.new_zeros(*frames.shape[:-3], count + self.overlap - 1, self.hop_length)
        for shift in range(self.overlap):
            out[..., shift : shift + count, :] += frames[..., shift, :]
        return out.flatten(-2)

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
        return self.overlap_add(X)[..., edge : edge + length]
