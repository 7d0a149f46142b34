"""Commands that compute: what they stand on is loaded undisturbed."""

from __future__ import annotations

import signal
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
    """Let the signals that end a program take effect afterwards; on Windows, at once."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
