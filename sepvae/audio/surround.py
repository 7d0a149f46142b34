"""The order of channels in Vorbis and Opus, which is not that of wav, flac and all other formats."""

from __future__ import annotations

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


def from_vorbis(channels: int) -> list[int]:
    """Where each channel of wav stands among those of a Vorbis stream."""
    return list(_WAV_IN_VORBIS.get(channels, range(channels)))


def to_vorbis(channels: int) -> list[int]:
    """Where each channel of a Vorbis stream stands among those of wav."""
    return np.argsort(from_vorbis(channels)).tolist()
