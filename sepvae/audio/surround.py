"""Which speakers channels belong to, and their order in Vorbis and Opus, which is not that of all other formats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Vorbis I specification, section 4.3.9, which RFC 7845 takes over for Opus. Three channels, for instance, are left,
# centre, right there, and left, right, centre in wav.
_WAV_IN_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}

# fmt: off
_SPEAKERS = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # in the order of the bits of an extensible wav header's channel mask; names as ffmpeg's
# fmt: on

STANDARD_MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
"""Speakers by the number of channels, where a format has no other way to tell them: those of Vorbis and Opus."""

MASK_FIELD = "WAVEFORMATEXTENSIBLE_CHANNEL_MASK"
"""Name of the Vorbis comment of FLAC files that tells the mask."""


def mask_of(speakers: Sequence[str]) -> int | None:
    """The channel mask of these speakers; None where they do not stand in its order, or one of them has no bit."""
    if not set(speakers) <= set(_SPEAKERS):
        return None
    bits = [_SPEAKERS.index(name) for name in speakers]
    return sum(1 << bit for bit in bits) if bits == sorted(set(bits)) else None


def is_standard(mask: int | None, channels: int) -> bool:
    """Whether a reader that knows nothing but the number of channels takes them for the right speakers."""
    unassigned = mask == 0 and channels <= 2  # which everybody plays as mono or stereo
    return mask is None or mask == STANDARD_MASKS.get(channels) or unassigned


def from_vorbis(channels: int) -> list[int]:
    """Where each channel of wav stands among those of a Vorbis stream."""
    return list(_WAV_IN_VORBIS.get(channels, range(channels)))


def to_vorbis(channels: int) -> list[int]:
    """Where each channel of a Vorbis stream stands among those of wav."""
    return np.argsort(from_vorbis(channels)).tolist()
