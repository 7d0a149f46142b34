"""Decoders of audio files: libsndfile through soundfile, ffmpeg's libraries through PyAV, one face for both.

A decoder gives what can be decoded and says afterwards what is missing. Where the format has timestamps or frame
numbers, silence stands in for what is damaged, so that all that follows keeps its place.
"""

from __future__ import annotations

from pathlib import Path

from sepvae.audio.chunks import unfilled_sizes
from sepvae.audio.decoders.base import Decoder
from sepvae.audio.decoders.ffmpeg import AvDecoder
from sepvae.audio.decoders.libsndfile import SoundfileDecoder


def open_decoder(path: Path) -> Decoder:
    """Open a regular file with the first library that reads all of it.

    Raises:
        FAILURES: no library can; a plain ValueError has a message of our own.
    """
    try:
        return SoundfileDecoder(path)
    except (RuntimeError, TypeError, ValueError):  # TypeError: a headerless format by its ending
        return AvDecoder(path, patches=unfilled_sizes(path))
