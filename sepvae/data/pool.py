"""Processes that make tracks side by side."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from sepvae.errors import SepvaeError


@contextmanager
def process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Some processes; when the block ends, whatever way, what has not begun is dropped.

    Args:
        jobs: how many, > 0.

    Raises:
        SepvaeError: one of them was killed.
    """
    pool = ProcessPoolExecutor(jobs)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise SepvaeError(
            "a worker process was killed, perhaps for lack of memory; the tracks that are complete are kept, "
            "the same command with fewer jobs goes on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
