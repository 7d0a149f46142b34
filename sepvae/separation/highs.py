"""What lies above a model's reach, shared between its stems after the octave below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOP_S = 0.016
BAND = (0.5, 0.95)
"""Where the stems tell whose the highs are, relative to the highest frequency that the model reaches."""


class Highs:
    """Adds to every stem its share of what all stems together leave of the signal.

    A voice at 48 kHz that a model for 16 kHz has separated would end at 8 kHz, and be dull. Its highest octave at a
    moment tells whether the highs of that moment are the voice's: stem k gets the rest times |S_k| / sum_j |S_j|,
    the amplitudes those of this octave in frames of 32 ms, which fade into each other. The shares sum to one, so the
    stems still sum to the signal. Where no stem sounds the residual source gets it all.

    The frames lie on a grid that begins with the signal: blocks of any size give the same samples.

    Args:
        stems: their number K, > 0.
        channels: C, > 0.
        sample_rate: of the signal, in Hz.
        reach_hz: highest frequency that the model reaches, in Hz.
        residual: index of the residual source.
    """

    def __init__(self, stems: int, channels: int, sample_rate: int, reach_hz: float, residual: int) -> None:
        self._hop = round(HOP_S * sample_rate)
        self._residual_source = residual
        self._window = np.sin(np.pi * np.arange(2 * self._hop) / (2 * self._hop)) ** 2
        frequencies = np.fft.rfftfreq(2 * self._hop, 1 / sample_rate)
        self._band = (frequencies >= BAND[0] * reach_hz) & (frequencies <= BAND[1] * reach_hz)
        # both from a hop before what comes out next
        self._stems: NDArray[np.floating] = np.zeros((stems, channels, self._hop), np.float32)
        self._rest = np.zeros((channels, self._hop))

    @property
    def latency(self) -> int:
        """Samples that wait at the most."""
        return 2 * self._hop

    def push(
        self, stems: NDArray[np.floating], rest: NDArray[np.float64], last: bool
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Take in stems and what they leave of the signal.

        Returns:
            The stems that are ready, with their shares, and the residual source's share alone.

        Shape: stems `[K, C, n]`, rest `[C, n]` -> `[K, C, m]`, `[C, m]`.
        """
        self._stems = np.concatenate([self._stems.astype(stems.dtype), stems], axis=-1)
        self._rest = np.concatenate([self._rest, rest], axis=-1)
        ready = self._stems.shape[-1] - self._hop
        if last:
            missing = -ready % self._hop + self._hop
            self._stems = np.pad(self._stems, ((0, 0), (0, 0), (0, missing)))
            self._rest = np.pad(self._rest, ((0, 0), (0, missing)))
        hops = max(self._stems.shape[-1] // self._hop - 2, 0)
        if hops == 0:
            return self._stems[..., :0], self._rest[:, :0]
        length = hops * self._hop
        out = self._stems[..., self._hop : self._hop + length].copy()
        rest = self._rest[:, self._hop : self._hop + length]
        left = rest.copy()
        gains = self._gains(hops)
        for k in range(len(out)):
            if k != self._residual_source:
                part = (gains[k] * rest).astype(out.dtype)
                out[k] += part
                left -= part
        out[self._residual_source] = out[self._residual_source] + left
        self._stems, self._rest = self._stems[..., length:], self._rest[:, length:]
        return (out[..., :ready], left[:, :ready]) if last else (out, left)

    def _gains(self, hops: int) -> NDArray[np.float64]:
        """The stems' shares at each sample of the next hops, `[K, C, hops * hop]`."""
        frames = np.lib.stride_tricks.sliding_window_view(self._stems, 2 * self._hop, axis=-1)
        spectra = np.fft.rfft(frames[..., :: self._hop, :][..., : hops + 1, :] * self._window)
        level = np.sqrt((np.abs(spectra[..., self._band]) ** 2).sum(axis=-1))  # [K, C, hops + 1]
        total = level.sum(axis=0)
        silent = total < 1e-12
        shares = level / np.where(silent, 1.0, total)
        shares[self._residual_source][silent] = 1.0
        rising, falling = self._window[: self._hop], self._window[self._hop :]
        gains = shares[..., :-1, None] * falling + shares[..., 1:, None] * rising
        return gains.reshape(*shares.shape[:2], -1)
