"""Files and folders that appear complete or not at all: made under a temporary name beside their final one.

What a killed process leaves of a file is known by its name and its lock, and `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where nobody can delete a file that is open
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".sepvae-", ".part"
_DRAFT = re.compile(r"\.(.+)\.(new-[0-9a-f]{8}|[0-9a-f]{8}\.old)")


class PartialFile:
    """A new file under a temporary name beside its final one.

    A lock tells other processes that its maker lives; it ends with the process, even with one that was
    killed.

    Args:
        path: final name; the folder must exist.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self.temporary = _temporary_name(path)
            self._lock = os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            try:
                if _try_lock(self._lock) and self.temporary.exists():
                    break
            except OSError:  # a file system without locks, where `sweep` removes nothing
                break
            os.close(self._lock)  # swept away in the moment between

    def sync(self) -> None:
        """Bring the file to the disk."""
        os.fsync(self._lock)

    def publish(self) -> None:
        """Give the file its final name, replacing what had it."""
        if fcntl is None:  # Windows, where a file that is open cannot be renamed either
            self._close()
        os.replace(self.temporary, self.path)
        self._close()

    def discard(self) -> None:
        """Remove the file, unless it has been published."""
        self._close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()

    def _close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing; it gets its name, replacing what had it, when the block ends without an error.

    Raises:
        OSError: it cannot be written.
    """
    partial = PartialFile(path)
    try:
        with partial.temporary.open("wb") as file:
            yield file
        partial.sync()
        partial.publish()
    finally:
        partial.discard()


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it is there complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def restored_on_failure(path: Path) -> Iterator[None]:
    """Let a block put a file in the place of another; if it fails, the other is there again, or none if none was.

    Where the system has no hard links, a file that was replaced stays so.
    """
    aside = _temporary_name(path)
    there = os.path.lexists(path)
    if there:
        with contextlib.suppress(OSError, NotImplementedError):
            os.link(path, aside, follow_symlinks=False)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if there:
                os.replace(aside, path)
            else:
                path.unlink()
        raise
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside a path, to be filled and renamed to it within the block; a failure leaves nothing of it.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new-{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(parent: Path, name: str | None = None) -> None:
    """Remove what killed processes have left of folders that were being made or replaced.

    Args:
        parent: where they lie.
        name: final name of the one that is meant; None for all.
    """
    for entry in parent.iterdir() if parent.is_dir() else ():
        draft = _DRAFT.fullmatch(entry.name)
        if draft is not None and name in (None, draft[1]):
            shutil.rmtree(entry, ignore_errors=True)


def publish_folder(draft: Path, path: Path) -> None:
    """Give a draft its final name; a folder that had it is removed afterwards, and has it again if this fails.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    try:
        if path.exists():
            path.rename(aside)
        draft.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(aside, ignore_errors=True)  # where somebody else's folder took the name meanwhile
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Let one thread of one process at a time into the block; the others wait, where the system has locks.

    Args:
        lock: a file that stands for what the block works on; it is made, and stays.

    Raises:
        OSError: it cannot be made.
    """
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one thread of one process at a time into the block, where the system can lock a folder; leaves nothing."""
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is one that somebody is still writing, or has left unfinished."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left unfinished in a folder; what is still being made stays."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if is_unfinished(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_orphaned(entry.path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_if_orphaned(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _try_lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock an open file; whether nobody else had it locked.

    Raises:
        OSError: the file system has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
