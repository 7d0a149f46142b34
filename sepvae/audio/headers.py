"""The finishing touch on written files: tags, final headers, and nothing of chance, so same samples give same bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sepvae.audio.containers import ogg_checksum
from sepvae.audio.surround import STANDARD_MASKS
from sepvae.audio.tags import NO_TAGS, Tags, flac_picture, id3, riff_chunks, vorbis_comment

RIFF_LIMIT = 1 << 32
"""Bytes that a wav header of 32 bits can count; a longer file is RF64."""

_COPY_BYTES = 1 << 22
_FLAC_COMMENT, _FLAC_PICTURE = 4, 6
_OGG_CONTINUED = 1


def finish_file(path: Path, container: str, tags: Tags, channel_mask: int | None = None) -> None:
    """Give a file that libsndfile has closed its tags and final header.

    Args:
        path: the file, which is changed in place.
        container: soundfile's name of it: RF64 (becomes a plain wav where it fits), FLAC, MP3 or OGG.
        tags: what to write into it.
        channel_mask: speakers of the channels as in an extensible wav header, for wav and FLAC, the only ones that
            can tell them; None where they are not known, or those of mono and stereo.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it is not what libsndfile should have written.
    """
    finish: dict[str, Callable[[BinaryIO, Tags], None]] = {
        "RF64": partial(_finish_wav, channel_mask=channel_mask),
        "FLAC": partial(_finish_flac, channel_mask=channel_mask),
        "MP3": _finish_mp3,
        "OGG": _finish_ogg,
    }
    with path.open("r+b") as file:
        finish[container](file, tags)


def riff_header(fmt: bytes, data_bytes: int, riff_bytes: int, fill_to: int = 0) -> bytes:
    """Everything of a wav file before its samples.

    Args:
        fmt: content of its `fmt ` chunk.
        data_bytes: size of the samples.
        riff_bytes: size of the file without its first eight bytes.
        fill_to: length of the header, reached by a chunk that is ignored; 0 for the shortest.
    """
    chunks = (
        struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + struct.pack("<4sI", b"fmt ", len(fmt)) + fmt
    )
    tag, _, _, _, align, _ = struct.unpack_from("<HHIIHH", fmt)
    if tag != 1:  # anything but integers tells the number of its frames
        chunks += struct.pack("<4sII", b"fact", 4, min(data_bytes // align, RIFF_LIMIT - 1))
    fill = fill_to - len(chunks) - 16
    if fill >= 0:
        chunks += struct.pack("<4sI", b"JUNK", fill) + bytes(fill)
    return chunks + struct.pack("<4sI", b"data", data_bytes)


def _finish_wav(file: BinaryIO, tags: Tags, channel_mask: int | None) -> None:
    head = file.read(4096)
    if head[:4] != b"RF64" or head[12:16] != b"ds64":
        raise ValueError("no RF64 file")
    fmt, fmt_at, at = b"", 0, 12
    while head[at : at + 4] != b"data":
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"fmt ":
            fmt_at = at + 8
            fmt = _with_speakers(head[fmt_at : fmt_at + size], channel_mask)
        at += 8 + size
        if at >= len(head):
            raise ValueError("no samples in an RF64 file")
    data_bytes, frames = struct.unpack_from("<QQ", head, 28)
    data_at = at + 8
    file.truncate(data_at + data_bytes)
    file.seek(data_at + data_bytes)
    file.write(bytes(data_bytes % 2) + riff_chunks(tags))
    riff_bytes = file.tell() - 8
    file.seek(0)
    if riff_bytes < RIFF_LIMIT:
        fmt = _plain_format(fmt) if channel_mask is None else fmt
        file.write(riff_header(fmt, data_bytes, riff_bytes, fill_to=data_at))
    else:
        file.write(
            struct.pack(
                "<4sI4s4sIQQQ", b"RF64", RIFF_LIMIT - 1, b"WAVE", b"ds64", 28, riff_bytes, data_bytes, frames
            )
        )
        file.seek(fmt_at)
        file.write(fmt)


def _with_speakers(fmt: bytes, channel_mask: int | None) -> bytes:
    """An extensible format with this mask, or that of the speakers which players assume for more than two channels."""
    channels = int.from_bytes(fmt[2:4], "little")
    if len(fmt) < 40 or (channel_mask is None and channels <= 2):
        return fmt
    mask = STANDARD_MASKS.get(channels, 0) if channel_mask is None else channel_mask
    return fmt[:20] + struct.pack("<I", mask) + fmt[24:]


def _plain_format(fmt: bytes) -> bytes:
    """The format that every reader knows, for up to two channels; more keep the extensible one."""
    channels = int.from_bytes(fmt[2:4], "little")
    if len(fmt) < 40 or channels > 2:
        return fmt
    return fmt[24:26] + fmt[2:16]  # the sub-format's number is the plain tag


def _finish_flac(file: BinaryIO, tags: Tags, channel_mask: int | None) -> None:
    if tags == NO_TAGS and channel_mask is None:
        return
    if file.read(4) != b"fLaC":
        raise ValueError("no FLAC file")
    blocks: list[tuple[int, bytes]] = []
    last = False
    while not last:
        head = file.read(4)
        last = bool(head[0] & 0x80)
        blocks.append((head[0] & 0x7F, file.read(int.from_bytes(head[1:4], "big"))))
    end = file.tell()
    vendor = next((_vendor(content) for kind, content in blocks if kind == _FLAC_COMMENT), "")
    blocks = [block for block in blocks if block[0] != _FLAC_COMMENT]
    blocks.append((_FLAC_COMMENT, vorbis_comment(vendor, tags, picture=False, channel_mask=channel_mask)))
    if tags.cover:
        blocks.append((_FLAC_PICTURE, flac_picture(tags)))
    content = b"".join(
        bytes([kind | (0x80 if index == len(blocks) - 1 else 0)]) + len(block).to_bytes(3, "big") + block
        for index, (kind, block) in enumerate(blocks)
    )
    _replace(file, 4, end, content)


def _finish_mp3(file: BinaryIO, tags: Tags) -> None:
    _replace(file, 0, 0, id3(tags))


def _finish_ogg(file: BinaryIO, tags: Tags) -> None:
    if tags != NO_TAGS:
        _replace_ogg_comment(file, tags)
    start = number = 0
    while page := _ogg_page(file, start):
        plain = page[:14] + bytes(4) + struct.pack("<I", number) + bytes(4) + page[26:]  # serial number 0
        file.seek(start)
        file.write(plain[:22] + struct.pack("<I", ogg_checksum(plain)))
        start += len(page)
        number += 1


def _replace_ogg_comment(file: BinaryIO, tags: Tags) -> None:
    first = _ogg_page(file, 0)
    opus = b"OpusHead" in first
    packets, end = [b""], len(first)
    while len(packets) <= (1 if opus else 2):  # an Opus stream has one more header, a Vorbis stream two
        page = _ogg_page(file, end)
        if not page:
            raise ValueError("an Ogg file ends within its header")
        lacing = page[27 : 27 + page[26]]
        at = 27 + len(lacing)
        for size in lacing:
            packets[-1] += page[at : at + size]
            at += size
            if size < 255:
                packets.append(b"")
        end += len(page)
    mark, tail = (b"OpusTags", b"") if opus else (b"\3vorbis", b"\1")
    vendor = _vendor(packets[0][len(mark) :])
    packets[0] = mark + vorbis_comment(vendor, tags, picture=True) + tail
    _replace(file, len(first), end, b"".join(_ogg_pages(packets[:-1])))


def _ogg_page(file: BinaryIO, start: int) -> bytes:
    """The page at a position; nothing at the end."""
    file.seek(start)
    header = file.read(27)
    if len(header) < 27 or header[:4] != b"OggS":
        return b""
    lacing = file.read(header[26])
    return header + lacing + file.read(sum(lacing))


def _ogg_pages(packets: list[bytes]) -> Iterator[bytes]:
    """Pages of header packets; their numbers and checksums are still to be set."""
    lacing = [size for packet in packets for size in (*[255] * (len(packet) // 255), len(packet) % 255)]
    body, at = b"".join(packets), 0
    for start in range(0, len(lacing), 255):
        sizes = lacing[start : start + 255]
        continued = _OGG_CONTINUED if start and lacing[start - 1] == 255 else 0
        granule = 0 if min(sizes) < 255 else (1 << 64) - 1  # no packet ends here
        header = struct.pack("<4sBBQIIIB", b"OggS", 0, continued, granule, 0, 0, 0, len(sizes))
        yield header + bytes(sizes) + body[at : at + sum(sizes)]
        at += sum(sizes)


def _vendor(comment: bytes) -> str:
    """Name of the encoder in a Vorbis comment."""
    size = int.from_bytes(comment[:4], "little")
    return comment[4 : 4 + size].decode("utf-8", "replace")


def _replace(file: BinaryIO, start: int, end: int, content: bytes) -> None:
    """Put other bytes, fewer or more, in the place of those from `start` to `end`."""
    shift = len(content) - (end - start)
    size = file.seek(0, 2)
    steps = range(end, size, _COPY_BYTES)
    for at in reversed(steps) if shift > 0 else steps if shift else ():
        file.seek(at)
        block = file.read(min(_COPY_BYTES, size - at))
        file.seek(at + shift)
        file.write(block)
    file.truncate(size + shift)
    file.seek(start)
    file.write(content)
