"""Block-wise writing of audio files under a temporary name, renamed only when they are complete."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from sepvae.atomic import PartialFile
from sepvae.audio.decoders.base import native
from sepvae.audio.headers import finish_file
from sepvae.audio.surround import STANDARD_MASKS, to_vorbis
from sepvae.audio.tags import NO_TAGS, Tags
from sepvae.errors import OutputError

_OGG_FRAMES = 4096  # libsndfile's Vorbis encoder keeps a whole write on the stack
_BITS = {"PCM_16": 16, "PCM_24": 24}
LOSSLESS = (*_BITS, "FLOAT")
"""Sample formats that give back what was written, up to rounding."""


@dataclass(frozen=True)
class Encoding:
    """A file format that results can be written in.

    Args:
        name: the format, which is also the file name's ending.
        container: soundfile's name of the container.
        subtypes: soundfile's names of the sample formats, the only one for lossy codecs.
        rates: sample rates that the codec has, ascending; empty when it has all up to `max_rate`.
        max_rate: the highest that it has, where `rates` is empty; None for no bound. Lossy ones are resampled to it.
        max_channels: > 0.
        tells_speakers: a file can say which speakers its channels belong to.
        options: further arguments of `soundfile.SoundFile`.
    """

    name: str
    container: str
    subtypes: tuple[str, ...]
    rates: tuple[int, ...] = ()
    max_rate: int | None = None
    max_channels: int = 64
    tells_speakers: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def lossy(self) -> bool:
        """Whether the samples that are read back differ from those written by more than rounding."""
        return self.subtypes[0] not in LOSSLESS

    def rate_for(self, sample_rate: int) -> int:
        """Return the codec's rate for a signal: its own, else the next higher one, else the highest."""
        if not self.rates:
            return sample_rate if self.max_rate is None else min(sample_rate, self.max_rate)
        if sample_rate in self.rates:
            return sample_rate
        return next((rate for rate in self.rates if rate > sample_rate), self.rates[-1])


_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        Encoding("wav", "RF64", ("PCM_16", "PCM_24", "FLOAT"), tells_speakers=True),
        Encoding("flac", "FLAC", ("PCM_16", "PCM_24"), max_rate=655_350, max_channels=8, tells_speakers=True),
        Encoding(
            "mp3",
            "MP3",
            ("MPEG_LAYER_III",),
            _MPEG_RATES,
            max_channels=2,
            options={"bitrate_mode": "VARIABLE", "compression_level": 0.0},  # about 250 kbit/s in stereo
        ),
        Encoding(
            "ogg",
            "OGG",
            ("VORBIS",),
            max_rate=192_000,  # libvorbis crashes above 200 kHz
            max_channels=8,
            options={"compression_level": 0.3},
        ),
        Encoding(
            "opus",
            "OGG",
            ("OPUS",),
            (8000, 12000, 16000, 24000, 48000),
            max_channels=8,
            options={"compression_level": 0.5},
        ),
    )
}


def check_format(name: str) -> None:
    """Refuse the name of a format that is not written here.

    Raises:
        OutputError: it is.
    """
    if name not in ENCODINGS:
        raise OutputError(f"unknown output format {name!r}, expected one of {', '.join(ENCODINGS)}")


def choose_encoding(
    name: str, subtype: str | None, depth: str, channels: int, sample_rate: int
) -> tuple[Encoding, str]:
    """Return a format and its sample format for a result.

    Args:
        name: wav, flac, mp3, ogg or opus.
        subtype: PCM_16, PCM_24 or FLOAT; None takes the input's own, or the deepest that the format has.
        depth: subtype that holds the input's samples without loss.
        channels, sample_rate: of the signal.

    Raises:
        OutputError: the format does not exist or cannot hold this.
    """
    check_format(name)
    encoding = ENCODINGS[name]
    if channels > encoding.max_channels:
        raise OutputError(
            f"{name} holds at most {encoding.max_channels} channels, the input has {channels}: use wav"
        )
    if not encoding.lossy and encoding.rate_for(sample_rate) != sample_rate:
        raise OutputError(
            f"{name} holds at most {encoding.max_rate} Hz, the input has {sample_rate}: use wav"
        )
    if encoding.lossy:
        if subtype is not None:
            raise OutputError(f"{name} has no sample format to choose, found {subtype}")
        return encoding, encoding.subtypes[0]
    if subtype is None:
        return encoding, depth if depth in encoding.subtypes else encoding.subtypes[-1]
    if subtype not in encoding.subtypes:
        raise OutputError(f"{name} files hold {' or '.join(encoding.subtypes)}, found {subtype}")
    return encoding, subtype


def quantise(
    stems: NDArray[np.float32], subtype: str, gain: float = 1.0, absorber: int | None = None
) -> NDArray[np.int16] | NDArray[np.int32]:
    """Round stems to an integer sample format so that their sum is the rounded sum of the stems.

    The rounding errors of all stems are taken up by one of them, and by the others only where that one is at
    full scale.

    Args:
        stems: samples, full scale is 1.
        subtype: PCM_16 or PCM_24.
        gain: factor on all stems.
        absorber: stem that takes up the errors; None rounds each stem by itself.

    Shape: stems `[K, C, n]` -> `[K, C, n]` as soundfile takes them: 16 bits, or 24 left-justified in 32.
    """
    bits = _BITS[subtype]
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    scaled = stems.astype(np.float64)
    scaled *= gain * (1 << (bits - 1))
    total = scaled.sum(axis=0)
    steps = np.rint(scaled, out=scaled).clip(low, high)
    if absorber is not None:
        missing = np.rint(total) - steps.sum(axis=0)
        for k in (absorber, *(k for k in range(len(steps)) if k != absorber)):
            corrected = np.clip(steps[k] + missing, low, high)
            missing -= corrected - steps[k]
            steps[k] = corrected
            if not missing.any():
                break
    return steps.astype(np.int16) if bits == 16 else steps.astype(np.int32) << (32 - bits)


class AudioWriter:
    """Writes one file under a temporary name beside its final one.

    Call `finish`, then `publish`; `discard` at any time before leaves nothing behind.

    Args:
        path: final name; the folder must exist.
        encoding: the file format.
        subtype: one of the format's sample formats.
        sample_rate: in Hz, one that the format has.
        channels: > 0.
        channel_mask: their speakers, in order, as in an extensible wav header; 0 for none, None where they are not
            known.

    Attributes:
        frames: samples per channel so far.

    Raises:
        OutputError: the file cannot be written, here and in every method.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        subtype: str,
        sample_rate: int,
        channels: int,
        channel_mask: int | None = None,
    ) -> None:
        self.path = path
        ordinary = channels <= 2 and channel_mask == STANDARD_MASKS[channels]
        self._channel_mask = None if ordinary else channel_mask
        self._encoding = encoding
        self.frames = 0
        try:
            self._partial = PartialFile(path)
        except OSError as error:
            raise self._error(error) from error
        try:
            self._file = soundfile.SoundFile(
                native(self._partial.temporary),
                "w",
                sample_rate,
                channels,
                subtype=subtype,
                format=encoding.container,
                **encoding.options,
            )
        except (RuntimeError, OSError, ValueError) as error:
            self._partial.discard()
            raise self._error(error) from error
        except BaseException:  # a signal
            self._partial.discard()
            raise

    def write(self, block: NDArray[Any]) -> None:
        """Append samples: float, or integers as `quantise` gives them.

        Shape: block `[C, n]`.
        """
        self.frames += block.shape[1]
        step = block.shape[1] or 1
        if self._encoding.container == "OGG":
            block, step = block[to_vorbis(len(block))], _OGG_FRAMES
        try:
            for start in range(0, block.shape[1], step):
                self._file.write(np.ascontiguousarray(block[:, start : start + step].T))
        except (RuntimeError, OSError, AssertionError) as error:  # soundfile asserts that all was written
            raise self._error(error) from error

    def finish(self, tags: Tags = NO_TAGS) -> None:
        """Close the file, give it its tags, check that it is complete, and bring it to the disk."""
        try:
            self._file.close()
            finish_file(self._partial.temporary, self._encoding.container, tags, self._channel_mask)
            stored = soundfile.info(native(self._partial.temporary)).frames
            if stored < self.frames:
                raise OutputError(f"{self.path}: only {stored} of {self.frames} samples reached the disk")
            self._partial.sync()
        except (RuntimeError, OSError, AssertionError, ValueError) as error:
            raise self._error(error) from error

    def publish(self) -> None:
        """Give the finished file its final name, replacing what had it."""
        try:
            self._partial.publish()
        except OSError as error:
            raise self._error(error) from error

    def discard(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(RuntimeError):  # a full disk shows here once more
            self._file.close()
        self._partial.discard()

    def _error(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error) or "not all samples could be written"
        if reason.endswith("System error."):  # libsndfile does not say which
            folder = self.path.parent
            reason = (
                "no permission" if folder.is_dir() and not os.access(folder, os.W_OK) else "disk full or gone"
            )
        return OutputError(f"{self.path}: cannot be written ({reason.rstrip('.')})")
