"""Decoding by libsndfile through soundfile, which PyAV helps out where libsndfile falls short."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from sepvae.audio.chunks import WavFormat, unfilled_sizes, wav_format
from sepvae.audio.containers import OggScan, flac_uncounted, scan_ogg
from sepvae.audio.decoders.base import (
    BLOCK_FRAMES,
    FAILURES,
    AudioInfo,
    is_burst,
    native,
    reason,
)
from sepvae.audio.decoders.ffmpeg import AvDecoder, begins_before_zero, read_channel_mask
from sepvae.audio.mpeg import MpegScan, scan_mpeg
from sepvae.audio.patches import PatchedFile
from sepvae.audio.phrases import GUESSED, UNCLOSED, cut_short, undecodable
from sepvae.audio.surround import from_vorbis
from sepvae.errors import AudioFileError

_FRAME = 1152
_VORBIS_BLOCK = 8192  # samples of the longest; the first one overlaps with nothing, so it begins before zero

# soundfile's subtypes by the depth that a result of the same quality has
_DEPTHS = {
    "PCM_S8": "PCM_16",
    "PCM_U8": "PCM_16",
    "PCM_16": "PCM_16",
    "ALAC_16": "PCM_16",
    "PCM_24": "PCM_24",
    "ALAC_20": "PCM_24",
    "ALAC_24": "PCM_24",
    "PCM_32": "FLOAT",
    "ALAC_32": "FLOAT",
    "FLOAT": "FLOAT",
    "DOUBLE": "FLOAT",
}


class _Unseekable(soundfile.SoundFile):
    """Reads without seeking to where it stands after every block, which makes MP3 decoders lose the thread."""

    def seekable(self) -> bool:
        return False


class SoundfileDecoder:
    """libsndfile; where it gives up or would pass over damage without a word, PyAV goes on.

    Args:
        path: the file.

    Raises:
        AudioFileError: libsndfile would guess what its samples are.
        RuntimeError: libsndfile cannot open it.
        ValueError: it would not read all of it as it is.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._rescue: AvDecoder | None = None
        self._stopped: str | None = None
        self._ogg: OggScan | None = None
        self._mpeg: MpegScan | None = None
        self._plain: BinaryIO | None = None
        self._burst_at: int | None = None
        self._file = file = _Unseekable(native(path))
        frames: int | None = file.frames if file.frames < 1 << 62 else None
        try:
            wav = wav_format(path)
            if is_guess(file.extra_info, wav):
                raise AudioFileError(f"{path}: {GUESSED}")
            if file.format == "FLAC" and (patch := flac_uncounted(path)) is not None:
                file.close()  # reads all there are where the header counts none
                self._plain = path.open("rb")
                self._file = file = _Unseekable(PatchedFile(self._plain, [patch]))
            elif file.format in ("VOC", "W64"):
                raise ValueError("libsndfile takes later blocks or chunks with their headers for sound")
            elif file.format == "RAW":
                raise ValueError(
                    "libsndfile takes any bytes for sound if the name ends in .au, .gsm, .snd or .vox"
                )
            elif file.format == "OGG":
                self._ogg = ogg = scan_ogg(path)
                # libsndfile takes damage for the end and a second part for none, forgets the pre-skip midway, and
                # of what begins before zero leaves out as much at the end
                if ogg is not None and (
                    ogg.damaged or ogg.chained or ogg.midway or begins_before_zero(path, _VORBIS_BLOCK)
                ):
                    self._rescue = AvDecoder(path)
                    frames = None
            elif frames == 0:  # a recorder that crashed leaves a header without a length
                with suppress(*FAILURES):
                    self._rescue = AvDecoder(path, patches=unfilled_sizes(path))
                    frames = self._rescue.info.frames
            elif file.format == "MP3":
                self._mpeg = scan_mpeg(path)
                if self._mpeg is not None and _stops_early(file.frames, self._mpeg):
                    self._rescue = AvDecoder(path, patches=self._mpeg.patches)
                    frames = (self._mpeg.frames + self._mpeg.lost) * self._mpeg.frame_samples
            if file.subtype.startswith("MPEG") and self._mpeg is None:  # in a wav, or of a free bitrate
                frames = None  # a guess
        except BaseException:
            self._close_file()
            raise
        self._lossy = file.subtype.startswith("MPEG") or file.subtype in ("VORBIS", "OPUS")
        self.info = AudioInfo(
            file.samplerate,
            file.channels,
            frames,
            _DEPTHS.get(file.subtype, "PCM_24"),
            _channel_mask(path, file) if wav is None else wav.channel_mask,
        )
        if self._rescue is not None:
            self.info = replace(self._rescue.info, frames=frames)  # libsndfile may halve an Opus file's rate

    def read(self) -> NDArray[np.float32]:
        block = self._next_block()
        if self._lossy and self._rescue is None and is_burst(block):
            self._mute_bursts(block)
        self._read += len(block)
        return block

    def _mute_bursts(self, block: NDArray[np.float32]) -> None:
        """Silence in the place of what only damage makes so loud, a frame of a codec at a time."""
        for start in range(0, len(block), _FRAME):
            if is_burst(block[start : start + _FRAME]):
                block[start : start + _FRAME] = 0
                if self._burst_at is None:
                    self._burst_at = self._read + start

    def _next_block(self) -> NDArray[np.float32]:
        if self._rescue is not None:
            return self._rescue.read()
        try:
            block = self._file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
            return block[:, from_vorbis(self.info.channels)] if self._ogg and self._ogg.surround else block
        except FAILURES as error:
            if self._file.format == "FLAC" or self._file.subtype.startswith("MPEG"):
                self._rescue = AvDecoder(self._path, skip=self._read)
                found = self._rescue.info
                if (found.sample_rate, found.channels) == (self.info.sample_rate, self.info.channels):
                    return self._rescue.read()
                self._rescue.close()
                self._rescue = None
            if not self._read:
                raise
            self._stopped = undecodable(self._read, self.info.sample_rate, reason(error))
            return np.zeros((0, self.info.channels), np.float32)

    def loss(self) -> str | None:
        phrases = [self._stopped]
        if self._burst_at is not None:
            at_s = self._burst_at / self.info.sample_rate
            phrases.append(f"damaged: parts far beyond full scale are silent, the first at {at_s:.2f} s")
        if self._rescue is not None:
            phrases.append(self._rescue.loss())
        elif self._mpeg is None and self._stopped is None:
            promised = self.info.frames or 0
            if self._read < promised:
                phrases.append(cut_short(self._read, promised, self.info.sample_rate))
        if self._mpeg is not None:
            phrases += _mpeg_faults(self._mpeg, self._read, self.info.sample_rate)
        if self._ogg is not None and not self._ogg.closed and self._rescue is None:
            phrases.append(UNCLOSED)
        return "; ".join(phrase for phrase in phrases if phrase) or None

    def _close_file(self) -> None:
        self._file.close()
        if self._plain is not None:
            self._plain.close()

    def close(self) -> None:
        self._close_file()
        if self._rescue is not None:
            self._rescue.close()


def _channel_mask(path: Path, file: soundfile.SoundFile) -> int | None:
    """Speakers of the channels as a file tells them that is no wav."""
    if file.subtype.startswith("ALAC"):  # ffmpeg gives its channels in another order
        return None
    return read_channel_mask(path, file.channels)


def is_guess(extra_info: str, wav: WavFormat | None) -> bool:
    """Whether libsndfile guesses what the samples of a file are, by what it tells about it and by its format."""
    return "Ambiguous information" in extra_info or (wav is not None and wav.contradictory)


def _stops_early(frames: int, scan: MpegScan) -> bool:
    """Whether libsndfile stops where the first of several files ends, at other bytes, or where it guesses the end."""
    if scan.gaps:
        return True
    if scan.promised is not None:
        return scan.frames > scan.promised
    return scan.filled or frames < scan.frames * scan.frame_samples - scan.padding - scan.frame_samples


def _mpeg_faults(scan: MpegScan, frames_read: int, sample_rate: int) -> list[str]:
    """What is wrong with an MPEG file by its frames."""
    samples, promised = scan.frames * scan.frame_samples, (scan.promised or 0) * scan.frame_samples
    faults = []
    if gaps := scan.gaps[:-1] if scan.trailing else scan.gaps:
        places = "1 place" if len(gaps) == 1 else f"{len(gaps)} places"
        what = f"damaged: about {scan.lost * scan.frame_samples / sample_rate:.2f} s in {places} are silent"
        if not scan.lost:
            what = f"damaged in {places}"
        faults.append(f"{what}, the first at about {gaps[0].frame * scan.frame_samples / sample_rate:.2f} s")
    if scan.trailing:
        faults.append(f"its last {scan.trailing} bytes are damaged or do not belong to it, and are left out")
    if faults:
        return faults
    if samples < promised:
        return [cut_short(samples, promised, sample_rate)]
    if scan.ends_within:
        return [f"ends within a frame: up to {1000 * scan.frame_samples / sample_rate:.0f} ms are missing"]
    if frames_read < samples - scan.padding - scan.frame_samples:
        return [cut_short(frames_read, samples, sample_rate)]
    return []
