"""Commands that compute: what they stand on is loaded undisturbed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


class ComputingCommand(click.Command):
    """A command that needs torch, which is loaded after the options are read and before anything is done.

    While torch loads numpy it drops what a signal's handler raises, so signals wait until both are there.
    """

    def invoke(self, ctx: click.Context) -> Any:
        with signals_wait():
            import numpy  # noqa: F401
            import torch  # noqa: F401
        return super().invoke(ctx)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let the signals that end a program take effect afterwards, unless they are ignored anyway."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets them
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    came: list[int] = []
    for number in before:
        signal.signal(number, lambda received, _: came.append(received))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
