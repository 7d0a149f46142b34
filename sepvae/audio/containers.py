"""What the bytes of Ogg, FLAC and AC-3 files and of tags say; decoders keep it to themselves."""

from __future__ import annotations

import mmap
import struct
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sepvae.audio.patches import Patch

_BOS, _EOS = 2, 4  # flags of the first and the last page of a logical stream
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_OGG_HEADER = struct.Struct("<4sBBqIIIB")  # mark, version, flags, granule, serial, number, checksum, segments
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_SEARCH_BYTES = 1 << 20  # so many are looked at, so that a hostile file costs no more than seconds
_MAX_FAULTS = 1000


@dataclass(frozen=True)
class OggScan:
    """What the pages of an Ogg file say.

    Args:
        damaged: a checksum is wrong, a page is missing, or other bytes stand between pages.
        chained: another stream begins after the first one.
        closed: the file ends with the mark of a last page.
        surround: its channels have the places of speakers, in the order of Vorbis.
        midway: its first audio lies later than at zero, as in what was recorded from a radio station.
    """

    damaged: bool
    chained: bool
    closed: bool
    surround: bool = False
    midway: bool = False


def ogg_checksum(page: bytes) -> int:
    """CRC-32 of an Ogg page (RFC 3533): zlib's polynomial, most significant bit first, no inversions."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def scan_ogg(path: Path) -> OggScan | None:
    """Check all pages of an Ogg file; None for a file that does not begin as one."""
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        if data[:4] != b"OggS":
            return None
        damaged = chained = surround = midway = False
        numbers: dict[int, int] = {}  # of the last page of each stream that is still open
        audio_began = opus = False  # the latter until the first page of audio in Opus has come
        at = faults = 0
        while at < len(data):
            if faults > _MAX_FAULTS:
                return OggScan(damaged=True, chained=chained, closed=False, surround=surround)
            page = _ogg_page(data, at)
            if page is None:
                following = data.find(b"OggS", at + 1)
                if following < 0:  # after a last page such bytes harm nothing
                    break
                damaged, at, faults = True, following, faults + 1
                continue
            _, _, flags, granule, serial, number, _, _ = _OGG_HEADER.unpack_from(page)
            if flags & _BOS:
                chained = chained or audio_began
                surround = surround or _is_surround(page)
                opus = not chained and b"OpusHead" in page
            else:
                audio_began = True
                damaged = damaged or numbers.get(serial) != number - 1
                if opus and granule > 0:
                    midway, opus = granule > _opus_samples(page), False
            if flags & _EOS:
                numbers.pop(serial, None)
            else:
                numbers[serial] = number
            at += len(page)
        return OggScan(damaged, chained, closed=not numbers, surround=surround, midway=midway)


def _is_surround(first_page: bytes) -> bool:
    """Whether a stream's channels stand in the order of Vorbis: always in Vorbis, in Opus with channel mapping 1."""
    packet = first_page[_OGG_HEADER.size + first_page[26] :]
    return packet[:7] == b"\x01vorbis" or (packet[:8] == b"OpusHead" and packet[18:19] == b"\x01")


def _opus_samples(page: bytes) -> int:
    """Samples at 48 kHz of the packets that end on a page of Opus (RFC 6716, section 3.1)."""
    lacing = page[_OGG_HEADER.size : _OGG_HEADER.size + page[26]]
    at = begin = _OGG_HEADER.size + len(lacing)
    samples = 0
    for size in lacing:
        at += size
        if size == 255:  # the packet goes on
            continue
        if at == begin:
            continue
        config, code = page[begin] >> 3, page[begin] & 3
        if config < 12:
            length = (480, 960, 1920, 2880)[config & 3]
        else:
            length = (480, 960)[config & 1] if config < 16 else (120, 240, 480, 960)[config & 3]
        frames = page[begin + 1] & 63 if code == 3 and at > begin + 1 else 1 + (code > 0)
        samples += length * frames
        begin = at
    return samples


def _ogg_page(data: mmap.mmap, at: int) -> bytes | None:
    """The page that begins at a position; None if there is no sound one."""
    header = data[at : at + _OGG_HEADER.size]
    if len(header) < _OGG_HEADER.size or header[:4] != b"OggS":
        return None
    body_at = at + _OGG_HEADER.size + header[26]
    lacing = data[at + _OGG_HEADER.size : body_at]
    end = body_at + sum(lacing)
    if end > len(data):
        return None
    page = data[at:end]
    stored = int.from_bytes(page[22:26], "little")
    return page if ogg_checksum(page[:22] + bytes(4) + page[26:]) == stored else None


def flac_uncounted(path: Path) -> Patch | None:
    """What makes the header of a FLAC file count no samples, in 36 bits of it; None for another file."""
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        begin = after_tags(data)
        at = begin + 21
        if data[begin : begin + 4] != b"fLaC" or len(data) < at + 5:
            return None
        return Patch(at, at + 5, bytes([data[at] & 0xF0, 0, 0, 0, 0]))


def ac3_frame_bytes(head: bytes) -> int | None:
    """Bytes of the AC-3 or E-AC-3 frame that begins with these six bytes or more; None if none does.

    Source:
        ETSI TS 102 366, sections 4.4.1 and E.1.3.1.
    """
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * (1 + int.from_bytes(head[2:4], "big") % 2048)
    rate, size = head[4] >> 6, head[4] & 63
    if rate == 3 or size // 2 >= len(_AC3_KBPS):
        return None
    words = _AC3_KBPS[size // 2] * 96_000 // (48_000, 44_100, 32_000)[rate]
    return 2 * (words + (size % 2 if rate == 1 else 0))


def tag_bytes(data: mmap.mmap, at: int) -> int:
    """Length of the tag that begins at a position (ID3v2, ID3v1, APE, Lyrics3); 0 for none."""
    head = data[at : at + 16]
    if head[:3] == b"ID3" and len(head) > 9:  # seven bits in each byte of the size
        size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG":
        return 227 if head[:4] == b"TAG+" else 128
    if head[:8] == b"APETAGEX" and len(head) == 16:
        return 32 + int.from_bytes(head[12:16], "little")
    if head[:11] == b"LYRICSBEGIN":
        ends = [data.find(mark, at, at + _SEARCH_BYTES) for mark in (b"LYRICS200", b"LYRICSEND")]
        return max(0, max(ends) + 9 - at)
    return 0


def only_tags(path: Path, at: int) -> bool:
    """Whether a file holds nothing but tags and zeros from a position on."""
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        begin, end = after_tags(data, at), before_tags(data)
        return end - begin <= _SEARCH_BYTES and not data[begin:end].strip(b"\0")


def after_tags(data: mmap.mmap, at: int = 0) -> int:
    """Where the tags that begin at a position end."""
    while tag := tag_bytes(data, at):
        at += tag
    return at


def before_tags(data: mmap.mmap) -> int:
    """Where the tags at the end (ID3v1, APE) begin."""
    end = len(data)
    if end >= 128 and data[end - 128 : end - 125] == b"TAG":
        end -= 128
    if end >= 32 and data[end - 32 : end - 24] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", data, end - 20)
        end = max(0, end - size - (32 if flags >> 31 else 0))
    return end
