"""A file of which some parts read as something else, for decoders that would stumble over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Patch:
    """What takes the place of the bytes from `begin` to `end`."""

    begin: int
    end: int
    content: bytes = b""


class PatchedFile:
    """A file as decoders take it, with other bytes in some places.

    Args:
        file: the file, which stays open.
        patches: in order, none within another.
    """

    def __init__(self, file: BinaryIO, patches: Sequence[Patch]) -> None:
        begins = [0, *(patch.end for patch in patches)]
        ends = [*(patch.begin for patch in patches), file.seek(0, os.SEEK_END)]
        contents = [*(patch.content for patch in patches), b""]
        self._parts: list[tuple[int, int, bytes]] = list(zip(begins, ends, contents, strict=True))
        self._file, self._at = file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = sum(end - begin + len(content) for begin, end, content in self._parts)
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        """Up to so many bytes; fewer where a part ends."""
        at = self._at
        for begin, end, content in self._parts:
            length = end - begin
            if at < length:
                self._file.seek(begin + at)
                data = self._file.read(min(size, length - at))
            elif at < length + len(content):
                data = content[at - length : at - length + size]
            else:
                at -= length + len(content)
                continue
            self._at += len(data)
            return data
        return b""
