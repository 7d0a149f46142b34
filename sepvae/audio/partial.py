"""Files in the making: under a temporary name until they are complete, and gone when their maker is."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nobody can delete a file that is open
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".sepvae-", ".part"


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
            self.temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
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


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it is there complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = PartialFile(path)
    try:
        with partial.temporary.open("wb") as file:
            file.write(content)
        partial.sync()
        partial.publish()
    finally:
        partial.discard()


def sweep(folder: Path) -> None:
    """Remove what killed processes have left unfinished in a folder; what is still being made stays."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
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
