"""What the headers of wav, aiff, w64, caf, au, voc and avi say about the size of their samples beside what is there."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from sepvae.audio.patches import Patch
from sepvae.audio.phrases import cut_short

_MAX_CHUNKS, _MAX_BLOCKS = 10_000, 1_000_000  # so that a hostile file costs no more than a moment
_STRAY_BYTES = 4096  # so many after the samples may be anything
_W64_RIFF = bytes.fromhex("72696666 2e91cf11 a5d628db 04c10000")
_SAMPLES = (b"data", b"SSND", b"BODY")
_FILES = (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b"caff", b".snd", b"dns.")
_NIST_FIELDS = (rb"sample_count", rb"channel_count", rb"sample_n_bytes")
# bytes before the samples in the kinds of blocks that hold some
_VOC_SKIPPED = {1: 2, 2: 0, 9: 12}
# bytes of such a chunk, or of those in such a file, before the first sample
_SKIPPED = {b"SSND": 8, b"caff": 4}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # tags of formats
_EXTENSIBLE_BYTES = 40


@dataclass(frozen=True)
class ChunkScan:
    """Sizes of a file's samples in bytes.

    Args:
        declared: what the header counts.
        there: what the file holds of it.
        beyond: what follows it and belongs to no chunk; 0 for nothing of note.
        mixed: other things are among the samples.
        broken: bytes that are no chunk stand between others.
    """

    declared: int
    there: int
    beyond: int = 0
    mixed: bool = False
    broken: bool = False

    def fault(self, frames_read: int, sample_rate: int) -> str | None:
        """In one phrase, what is wrong with a file of which so many samples per channel were read."""
        found_s = frames_read / sample_rate
        if self.mixed and self.there < self.declared:
            return (
                f"ends after {found_s:.2f} s, and its header promises {self.declared - self.there} more bytes"
            )
        if frames_read and self.there < self.declared:
            align: float = self.there // frames_read
            if self.there - align * frames_read >= align:  # compressed: bytes and samples do not match
                align = self.there / frames_read
            promised = int(self.declared // align)
            if promised > frames_read:
                return cut_short(frames_read, promised, sample_rate)
        if self.broken:
            return "damaged: a part of it is missing, and what follows may come early there"
        if self.beyond:
            return f"its header counts {found_s:.2f} s, and {self.beyond} more bytes after them are left out"
        return None


def scan_chunks(path: Path) -> ChunkScan | None:
    """Compare the declared size of the samples with the file's; None where the header does not tell it."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        head = file.read(40)
        if head[:4] in (b".snd", b"dns."):
            order: Literal["big", "little"] = "big" if head[:4] == b".snd" else "little"
            at, declared = int.from_bytes(head[4:8], order), _known(int.from_bytes(head[8:12], order))
            scan = _scan(at, declared, end)
            return None if scan is None else replace(scan, beyond=_stray(file, at + declared, end, odd=False))
        if head[:7] == b"NIST_1A":
            file.seek(0)
            text = file.read(1024)
            found = [re.search(rb"\n%s -i (\d{1,18})\n" % field, text) for field in _NIST_FIELDS]
            sizes = [int(match[1]) for match in found if match is not None]
            at = int(head[8:16]) if head[8:16].strip().isdigit() else 0
            return _scan(at, math.prod(sizes), end) if len(sizes) == len(found) else None
        if head[:19] == b"Creative Voice File":
            return _scan_voc(file, int.from_bytes(head[20:22], "little"), end)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            scan = _scan(16, _known(int.from_bytes(head[4:8], "little")) - 8, end)
            return None if scan is None else replace(scan, mixed=True, broken=_is_broken_avi(file, end))
        long_size = 0  # of RF64
        for name, at, size in _chunks(file, head):
            if name == b"ds64":
                file.seek(at + 8)
                long_size = int.from_bytes(file.read(8), "little")
            if name in _SAMPLES:
                skipped = _SKIPPED.get(name, _SKIPPED.get(head[:4], 0))
                declared = _known(long_size if long_size and size == 0xFFFFFFFF else size)
                scan = _scan(at + skipped, declared - skipped, end)
                if scan is None or head[:4] == b"riff":
                    return scan
                beyond = _stray(file, at + declared, end, odd=declared % 2 == 1)
                return replace(scan, beyond=beyond)
        return None


@dataclass(frozen=True)
class WavFormat:
    """What the `fmt ` chunk of a wav, RF64 or w64 file says about its samples.

    Args:
        tag: number of the format; of an extensible one, that of the sub-format.
        channels: number of channels.
        sample_rate: in Hz.
        byte_rate: bytes of one second.
        block_align: bytes of all channels at one time.
        bits: of one sample.
        channel_mask: speakers of the channels; None where the format is not extensible.
    """

    tag: int
    channels: int
    sample_rate: int
    byte_rate: int
    block_align: int
    bits: int
    channel_mask: int | None

    @property
    def contradictory(self) -> bool:
        """Whether samples of so many bits do not take the bytes that two other fields give them."""
        if self.tag not in (_PCM, _FLOAT) or not self.block_align or not self.bits:
            return False
        packed = self.channels * -(-self.bits // 8)
        return self.block_align != packed and self.byte_rate != self.sample_rate * packed


def wav_format(path: Path) -> WavFormat | None:
    """The format of the samples of a wav, RF64 or w64 file; None for another file, or a damaged one."""
    with path.open("rb") as file:
        head = file.read(40)
        order = ">" if head[:4] == b"RIFX" else "<"
        for name, at, size in _chunks(file, head):
            if name == b"fmt " and size >= 16:
                file.seek(at)
                fmt = file.read(min(size, _EXTENSIBLE_BYTES))
                if len(fmt) < 16:
                    return None
                tag, channels, rate, byte_rate, align, bits = struct.unpack_from(f"{order}HHIIHH", fmt)
                mask = None
                if tag == _EXTENSIBLE and len(fmt) == _EXTENSIBLE_BYTES:
                    mask, tag = struct.unpack_from(f"{order}IH", fmt, 20)
                return WavFormat(tag, channels, rate, byte_rate, align, bits, mask)
    return None


def ends_early(path: Path) -> bool:
    """Whether a file holds fewer bytes of samples than its header counts; False where the header does not tell."""
    scan = scan_chunks(path)
    return scan is not None and scan.there < scan.declared


def unfilled_sizes(path: Path) -> tuple[Patch, ...]:
    """What the header of an RF64, w64 or au file should say of its samples, where its writer never filled it in."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        head = file.read(40)
        if head[:4] in (b".snd", b"dns.") and int.from_bytes(head[8:12], "little") == 0:
            return (Patch(8, 12, b"\xff" * 4),)  # which stands for an unknown size
        size_at = 0  # of ds64
        for name, at, size in _chunks(file, head):
            if name == b"ds64":
                size_at = at + 8
            if name != b"data":
                continue
            if head[:16] == _W64_RIFF and (size == 0 or not _known(size)) and end > at:
                size_of_all = Patch(16, 24, end.to_bytes(8, "little"))
                return size_of_all, Patch(at - 8, at, (24 + end - at).to_bytes(8, "little"))
            if size_at and size == 0xFFFFFFFF and end > at:
                file.seek(size_at)
                if not _known(int.from_bytes(file.read(8), "little")):
                    sizes = (end - 8).to_bytes(8, "little") + (end - at).to_bytes(8, "little") + bytes(8)
                    return (Patch(size_at - 8, size_at + 16, sizes),)
            break
    return ()


def _scan(at: int, declared: int, end: int) -> ChunkScan | None:
    return ChunkScan(declared, min(declared, end - at)) if declared > 0 and end > at else None


def _is_broken_avi(file: BinaryIO, end: int) -> bool:
    """Whether the chain of chunks breaks before the end of the file."""
    at = 0
    for _ in range(_MAX_BLOCKS):
        file.seek(at)
        head = file.read(12)
        if len(head) < 8:
            return False
        name, kind = head[:4], head[8:]
        if not all(0x20 <= byte < 0x7F for byte in name):
            file.seek(at)  # zeros fill some files up
            return any(part.strip(b"\0") for part in iter(partial(file.read, 1 << 20), b""))
        size = int.from_bytes(head[4:8], "little")
        inside = name == b"RIFF" or (name == b"LIST" and kind in (b"movi", b"rec "))
        at += 12 if inside else 8 + size + size % 2
        if at > end + 1:
            return True
    return False


def _scan_voc(file: BinaryIO, at: int, end: int) -> ChunkScan | None:
    """Add up the blocks of samples of a voc file."""
    declared = there = 0
    for _ in range(_MAX_BLOCKS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[0] == 0:
            break
        size, skipped = int.from_bytes(head[1:], "little"), _VOC_SKIPPED.get(head[0])
        if skipped is not None:
            declared += size - skipped
            there += min(size, end - at - 4) - skipped
        at += 4 + size
    return ChunkScan(declared, there) if there > 0 else None


def _known(size: int) -> int:
    """A size; 0 for those that writers put in before they know it."""
    return 0 if size % (1 << 31) >= 0x7FFFF000 or size == 1 << 31 or size >= 1 << 62 else size


def _chunks(file: BinaryIO, head: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, position and size of the chunks of a wav, aiff, w64 or caf file."""
    if head[:4] in _FILES[:5]:
        at, name_bytes, size_bytes, padded = 12, 4, 4, 2
    elif head[:16] == _W64_RIFF:
        at, name_bytes, size_bytes, padded = 40, 16, 8, 8
    elif head[:4] == b"caff":
        at, name_bytes, size_bytes, padded = 8, 4, 8, 1
    else:
        return
    order: Literal["big", "little"] = "big" if head[:4] in (b"RIFX", b"FORM", b"caff") else "little"
    end = os.fstat(file.fileno()).st_size
    for _ in range(_MAX_CHUNKS):
        if at + name_bytes + size_bytes > end:
            return
        file.seek(at)
        header = file.read(name_bytes + size_bytes)
        size = int.from_bytes(header[name_bytes:], order)
        if name_bytes == 16:  # which counts its header
            size = max(0, size - 24)
        yield header[:4], at + len(header), size
        at += len(header) + size + -size % padded


def _stray(file: BinaryIO, at: int, end: int, odd: bool) -> int:
    """Number of bytes after samples of an even or odd size, if they are not few, zeros, or further chunks."""
    if end - at <= _STRAY_BYTES:
        return 0
    file.seek(at)
    rest = file.read(1 << 16)
    chunk = _is_name(rest[:4]) or (odd and _is_name(rest[1:5]))  # some leave out the padding
    return end - at if rest.strip(b"\0") and not chunk else 0


def _is_name(name: bytes) -> bool:
    """Whether these bytes could be the name of a chunk that may follow the samples."""
    return name not in (*_SAMPLES, *_FILES) and all(0x20 <= byte < 0x7F for byte in name)
