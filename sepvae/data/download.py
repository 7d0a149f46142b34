"""`sepvae data prepare NAME --download ROOT`: fetch a dataset's archives and unpack them."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import IO, BinaryIO

from sepvae.data.datasets.base import Archive, Dataset
from sepvae.download import download
from sepvae.errors import DataError

ARCHIVES = "archives"
"""Folder under the root that keeps what was fetched; it may be deleted once all is unpacked."""
OnFileBytes = Callable[[str, int, int | None], None]
"""Called with the name of a file, the bytes that are there, and those of the whole file."""


def fetch(
    dataset: Dataset, root: str | Path, *, progress: OnFileBytes = lambda name, done, total: None
) -> Path:
    """Download and unpack a dataset; what is there already is kept, what was interrupted goes on.

    Args:
        dataset: one with public archives.
        root: folder for it.
        progress: called while bytes arrive.

    Raises:
        DataError: the dataset has no public address, or an archive is damaged.
        DownloadError: an archive cannot be fetched, or is not the published one.
    """
    root = Path(root)
    if not dataset.archives:
        where = f": {dataset.homepage}" if dataset.homepage else ""
        raise DataError(f"{dataset.name} has no public address to download from{where}")
    for archive in dataset.archives:
        done = root / ARCHIVES / f".{archive.name}.unpacked"
        if not done.is_file():
            pieces = fetch_archive(archive, root / ARCHIVES, progress)
            unpack(pieces, root / archive.folder)
            done.touch()
    return root


def fetch_archive(archive: Archive, folder: Path, progress: OnFileBytes) -> list[Path]:
    """Download all pieces of an archive; their paths in order."""
    split = len(archive.url) > 1
    paths = []
    for index, (url, checksum) in enumerate(zip_longest(archive.url, archive.checksums)):
        name = f"{archive.name}.{index:02d}" if split else archive.name

        def report(done: int, total: int | None, name: str = name) -> None:
            progress(name, done, total)

        paths.append(download(url, folder / name, checksum=checksum, progress=report))
    return paths


def unpack(pieces: Sequence[Path], folder: Path) -> None:
    """Unpack a zip or tar file, given in one or more pieces; nothing is written outside the folder.

    Raises:
        DataError: neither zip nor tar, damaged, or with names that lead out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if len(pieces) == 1 and zipfile.is_zipfile(pieces[0]):
            _unzip(pieces[0], folder)
            return
        with (
            io.BufferedReader(_Chained(pieces)) as whole,
            tarfile.open(fileobj=whole, mode="r|*") as archive,
        ):
            _untar(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"cannot unpack {pieces[0]}: {error}") from error


def _untar(archive: tarfile.TarFile, folder: Path) -> None:
    for member in archive:
        if member.isfile() and (source := archive.extractfile(member)) is not None:
            _extract(source, member.name, folder)


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not stat.S_ISLNK(member.external_attr >> 16) and not member.is_dir():
                _extract(archive.open(member), member.filename, folder)


def _extract(source: IO[bytes], name: str, folder: Path) -> None:
    """Write one file of an archive, which must lie in the folder; links are nowhere followed or made."""
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of the folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


class _Chained(io.RawIOBase):
    """Files one after the other, as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        while True:
            if self._file is None:
                if not self._paths:
                    return 0
                self._file = self._paths.pop(0).open("rb")
            if count := self._file.readinto(buffer):  # type: ignore[attr-defined]
                return int(count)
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()
