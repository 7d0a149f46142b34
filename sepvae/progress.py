"""How far a separation has come, how long it will still take, and how its caller stops it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from sepvae.errors import CancelledError


class Progress(float):
    """The fraction that is done, from 0 to 1, which also knows how long the rest will take.

    Attributes:
        seconds_left: estimate from the pace so far; None until the first chunk is done.
    """

    seconds_left: float | None

    def __new__(cls, fraction: float, seconds_left: float | None = None) -> Progress:
        progress = super().__new__(cls, fraction)
        progress.seconds_left = seconds_left
        return progress


ALMOST = 0.99
"""The most that is told before all is done, outputs with their names included."""

OnProgress = Callable[[Progress], object]
"""Takes the progress every second or two of audio; returning False (nothing else) stops the work.

A call may have to wait for a chunk of the separator's `segment_s`, which is computed in one step; shorter ones answer
sooner.
"""


class Meter:
    """Turns fractions into `Progress`, hands them on, and raises where the receiver wants no more.

    Args:
        receiver: is given the progress. What it raises itself passes through.
    """

    def __init__(self, receiver: OnProgress | None) -> None:
        self._receiver, self._started = receiver, time.monotonic()

    def __call__(self, fraction: float) -> None:
        """Tell the receiver how much is done; 1 is kept for `finish`.

        Raises:
            CancelledError: it returned False.
        """
        fraction = min(fraction, ALMOST)
        answer = self._tell(fraction)
        if isinstance(answer, bool | np.bool_) and not answer:
            raise CancelledError(f"cancelled by its caller after {100 * fraction:.0f} %")

    def finish(self) -> None:
        """Tell the receiver that all is done; there is nothing left to cancel, whatever it returns."""
        self._tell(1.0)

    def _tell(self, fraction: float) -> object:
        if self._receiver is None:
            return None
        elapsed = time.monotonic() - self._started
        left = elapsed * (1 - fraction) / fraction if fraction > 0 else None
        return self._receiver(Progress(fraction, left))
