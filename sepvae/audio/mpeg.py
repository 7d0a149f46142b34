"""MPEG audio files (MP1, MP2, MP3) by their frames: what is missing, and the file as if nothing but that were wrong."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

from sepvae.audio.containers import after_tags, before_tags, tag_bytes
from sepvae.audio.patches import Patch

# kbit/s by MPEG version 1 or not, then by layer
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
USUAL_PADDING = 2 * 1152 + 529
"""Samples at most, of the encoder at both ends and the decoder, where no header counts them."""
_MAX_CANDIDATES = (
    1 << 18
)  # places in all where a frame is looked for, so that a hostile file costs no more than seconds
_MAX_SILENT_BYTES = 1 << 24  # so much of a gap is filled with silence at the most
_PART_BYTES = 1 << 20


@dataclass(frozen=True)
class Gap:
    """A stretch of bytes, no tag and not only zeros, in which there is no frame.

    Args:
        begin, end: where it lies.
        frame: number of whole frames before it.
        lost: frames that lay there, by its length.
    """

    begin: int
    end: int
    frame: int
    lost: int = 0


@dataclass(frozen=True)
class MpegScan:
    """What the frames of an MPEG audio file say.

    Args:
        frames: whole frames of audio.
        frame_samples: samples per channel in each.
        end: position of the end, tags apart.
        promised: frames that the file's Xing header counts; None without one.
        gaps: where no frames are but should be; the last one may reach to the end.
        ends_within: the last frame is incomplete.
        filled: there are zeros or gaps between or after the frames.
        patches: they make of the file one without tags, zeros and gaps, with silent frames for those that are lost.
        padding: samples at both ends together that are not the recording's, at most.
    """

    frames: int
    frame_samples: int
    end: int
    promised: int | None = None
    gaps: tuple[Gap, ...] = ()
    ends_within: bool = False
    filled: bool = False
    patches: tuple[Patch, ...] = ()
    padding: int = USUAL_PADDING

    @property
    def lost(self) -> int:
        """Frames in the gaps."""
        return sum(gap.lost for gap in self.gaps)

    @property
    def trailing(self) -> int:
        """Bytes of a gap that no frame follows."""
        return self.end - self.gaps[-1].begin if self.gaps and self.gaps[-1].end == self.end else 0


def scan_mpeg(path: Path) -> MpegScan | None:
    """Walk over the frames of an MPEG audio file; None where no two of them follow each other."""
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        first, _ = _next_frame(data, after_tags(data), before_tags(data), None, _MAX_CANDIDATES)
        return None if first is None else _Walk(data, first).scan()


class _Walk:
    """One walk over the frames of one kind, from the first one on."""

    def __init__(self, data: mmap.mmap, first: int) -> None:
        self.data, self.first, self.end = data, first, before_tags(data)
        self.head = data[first : first + 4]
        found = _frame(self.head)
        assert found is not None
        self.frame_samples = found[1]
        self.layer = 4 - (self.head[1] >> 1 & 3)

    def scan(self) -> MpegScan:
        data, end, kind = self.data, self.end, _kind(self.head)
        lengths: dict[bytes, int] = {}  # a frame's first bytes tell its length
        candidates_left = _MAX_CANDIDATES
        at, frames, last = self.first, 0, self.first
        gaps: list[Gap] = []
        before: dict[int, int] = {}  # where the frame before a gap begins
        patches: list[Patch] = []
        ends_within = filled = False
        while at < end:
            head = data[at : at + 4]
            length = lengths.get(head)
            if length is None:
                frame = _frame(head)
                lengths[head] = length = frame[0] if frame is not None and _kind(head) == kind else 0
            if length:
                if at + length > end:
                    ends_within = True
                    break
                frames, last = frames + 1, at
                at += length
                continue
            if tag := tag_bytes(data, at):
                patches.append(Patch(at, min(at + tag, len(data))))
                at += tag
                continue
            following, tried = _next_frame(data, at, end, kind, candidates_left)
            candidates_left -= tried
            stray, filled = end if following is None else following, True
            if _only_zeros(data, at, stray):  # some writers fill up with them
                patches.append(Patch(at, stray))
            else:
                before[at] = last
                gaps.append(Gap(at, stray, frames))
            at = stray
        counted, promised, missing = self._counts(frames, whole=not gaps)
        lost = self._lost(gaps, frames, missing)
        gaps = [replace(gap, lost=count) for gap, count in zip(gaps, lost, strict=True)]
        for gap, limit in zip(gaps, [*(gap.begin for gap in gaps[1:]), end], strict=False):
            patches += self._mended(gap, before[gap.begin], limit)
        return MpegScan(
            frames=counted,
            frame_samples=self.frame_samples,
            end=end,
            promised=promised,
            gaps=tuple(gaps),
            ends_within=ends_within,
            filled=filled,
            patches=tuple(sorted(set(patches), key=lambda patch: patch.begin)),
            padding=max(USUAL_PADDING, _declared_padding(data[self.first : self.first + 256])),
        )

    def _counts(self, frames: int, *, whole: bool) -> tuple[int, int | None, int | None]:
        """Frames of audio of those that are there, how many the Xing header promises, and how many gaps have taken."""
        header = _xing_header(self.data[self.first : self.first + 256])
        if header is None:
            return frames, None, None
        counted, (promised, promised_bytes) = frames - 1, header
        there = 0 < promised_bytes <= self.end - self.first
        if promised == frames and there and whole:
            promised = counted  # some writers count the header's own frame; no byte is missing
        return counted, promised or None, max(0, promised - counted) if promised and there else None

    def _lost(self, gaps: Sequence[Gap], frames: int, missing: int | None) -> list[int]:
        """How many frames lay in each of the gaps that others follow.

        Args:
            frames: that are there.
            missing: how many lay in all gaps together; None to guess it by the mean length of those that are there.
        """
        apart = sum(gap.end - gap.begin for gap in gaps)
        sizes = [min(gap.end - gap.begin, _MAX_SILENT_BYTES) if gap.end < self.end else 0 for gap in gaps]
        guess = round(sum(sizes) * frames / max(self.end - self.first - apart, 1))
        missing = guess if missing is None else min(missing, 10 * guess + 1)  # bitrates differ by so much
        shares = [missing * done // max(sum(sizes), 1) for done in accumulate(sizes, initial=0)]
        return [after - before for before, after in pairwise(shares)]

    def _mended(self, gap: Gap, last: int, limit: int) -> list[Patch]:
        """Silent frames in the place of a gap; the frames beside it that cannot be decoded without it are muted.

        Args:
            last: where the frame before the gap begins.
            limit: where the next gap begins.
        """
        silent = self._silent_frame((gap.end - gap.begin) / gap.lost) * gap.lost if gap.lost else b""
        patches = [Patch(gap.begin, gap.end, silent)]
        if gap.end >= self.end:
            return patches
        if gap.lost and gap.frame:  # the gap began within it
            patches.append(self._muted(last))
        if self.layer != 3:
            return patches
        at, there = gap.end, 0  # bytes of sound since the gap, which later frames refer back to
        while (frame := _frame(self.data[at : at + 3])) is not None and at + frame[0] <= limit:
            side = self._side_info(at)
            reach = int.from_bytes(self.data[side : side + 2], "big") >> (7 if self._first_version else 8)
            if reach <= there:
                break
            patches.append(self._muted(at))
            there += frame[0] - (side - at) - self._side_bytes(at)
            at += frame[0]
        return patches

    def _silent_frame(self, size: float) -> bytes:
        """A silent frame of about so many bytes: ffmpeg's libraries compare the file's size with the header's."""
        plain = bytes([self.head[0], self.head[1] | 1])  # | 1: no checksum
        frames = []
        for bitrate in range(1, 15):
            head = plain + bytes([bitrate << 4 | self.head[2] & 0x0F, self.head[3]])
            found = _frame(head)
            assert found is not None
            frames.append(head.ljust(found[0], b"\0"))
        return min(frames, key=lambda frame: abs(len(frame) - size))

    def _muted(self, at: int) -> Patch:
        """A frame without sound of its own; in layer 3 the bytes that later ones refer back to stay."""
        if self.layer != 3:
            frame = _frame(self.data[at : at + 3])
            assert frame is not None
            return Patch(at + 4, at + frame[0], bytes(frame[0] - 4))
        side = self._side_info(at)
        return Patch(side, side + self._side_bytes(at), bytes(self._side_bytes(at)))

    @property
    def _first_version(self) -> bool:
        return self.head[1] >> 3 & 3 == 3

    def _side_info(self, at: int) -> int:
        """Where the side information of a frame begins: after its header and perhaps a checksum."""
        return at + (4 if self.data[at + 1] & 1 else 6)

    def _side_bytes(self, at: int) -> int:
        mono = self.data[at + 3] >> 6 == 3
        return (17 if mono else 32) if self._first_version else (9 if mono else 17)


def _only_zeros(data: mmap.mmap, begin: int, end: int) -> bool:
    return not any(
        data[at : min(end, at + _PART_BYTES)].strip(b"\0") for at in range(begin, end, _PART_BYTES)
    )


def _frame(head: bytes) -> tuple[int, int] | None:
    """Bytes and samples per channel of the frame that begins with these three bytes or more."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 1 <= bitrate <= 14 or rate == 3:  # a free bitrate tells no length
        return None
    hertz = _RATES[version][rate]
    bits = _BITRATES[version == 3, layer][bitrate - 1] * 1000
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    if layer == 1:
        return (12 * bits // hertz + padding) * 4, samples
    return samples // 8 * bits // hertz + padding, samples


def _kind(head: bytes) -> tuple[int, int, bool]:
    """Version and layer, rate, and whether it is mono: what never changes from frame to frame within a file."""
    return head[1] & 0xFE, head[2] & 0x0C, head[3:4] >= b"\xc0"


def _next_frame(
    data: mmap.mmap, start: int, end: int, kind: tuple[int, int, bool] | None, most: int
) -> tuple[int | None, int]:
    """Position of the next frame (of a kind) that another one, or the end, follows, and how many places were tried."""
    at = data.find(b"\xff", start, end)
    tried = 0
    while at >= 0 and tried < most:
        tried += 1
        head = data[at : at + 4]
        frame = _frame(head)
        if frame is not None and kind in (None, _kind(head)):
            following = data[at + frame[0] : at + frame[0] + 4]
            if at + frame[0] == end or (_frame(following) is not None and _kind(following) == _kind(head)):
                return at, tried
        at = data.find(b"\xff", at + 1, end)
    return None, tried


def _xing_at(frame: bytes) -> int | None:
    """Where the Xing header in the first frame begins; None if there is none."""
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    return None if at < 0 or len(frame) < at + 16 else at


def _xing_header(frame: bytes) -> tuple[int, int] | None:
    """Frames and bytes of the stream that a Xing header counts, 0 where it does not say; None if the frame is none."""
    at = _xing_at(frame)
    if at is None:
        return None
    flags = frame[at + 7]
    counts = [int.from_bytes(frame[begin : begin + 4], "big") for begin in (at + 8, at + 12)]
    return counts[0] if flags & 1 else 0, counts[flags & 1] if flags & 2 else 0


def _declared_padding(frame: bytes) -> int:
    """Samples before and after the recording that the LAME part of a Xing header counts; 0 without one."""
    at = _xing_at(frame)
    if at is None:
        return 0
    fields = zip((4, 4, 100, 4), range(4), strict=True)  # frames, bytes, a table of contents, the quality
    at += 8 + sum(size for size, bit in fields if frame[at + 7] >> bit & 1)
    if frame[at : at + 4] not in (b"LAME", b"Lavf", b"Lavc", b"GOGO"):
        return 0
    both = int.from_bytes(frame[at + 21 : at + 24], "big")
    return (both >> 12) + (both & 0xFFF)
