"""Block-wise reading of audio files: soundfile first, PyAV (ffmpeg's libraries) for what it cannot open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from sepvae.errors import AudioFileError, ShapeError
from sepvae.resample import check_rate

BLOCK_FRAMES = 1 << 16
"""Frames per block when reading: large enough to be fast, small enough to be held easily."""

MAX_CHANNELS = 64

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

# ffmpeg's demuxers for files that hold audio themselves: none that reads a list of other files or addresses
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,m4a,matroska,webm,mov,mp4,mj2,3gp,3g2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv"
)


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about itself.

    Args:
        sample_rate: in Hz.
        channels: > 0.
        frames: samples per channel as the header promises them; None where it does not say.
        depth: subtype that holds the samples without loss: PCM_16, PCM_24 (also for lossy codecs) or FLOAT.
    """

    sample_rate: int
    channels: int
    frames: int | None
    depth: str


class _Decoder(Protocol):
    info: AudioInfo

    def read(self) -> NDArray[np.float32]: ...  # [n, C], n = 0 at the end

    def loss(self, frames_read: int) -> str | None: ...

    def close(self) -> None: ...


class AudioReader:
    """Reads a file of audio in blocks.

    Use it as a context manager; `loss` says after the last block, in one phrase, what the file promised but
    lacks.

    Args:
        path: a regular file in any format that soundfile or PyAV reads.

    Raises:
        AudioFileError: missing, not a file, empty, not audio, damaged, or holding NaN or infinite samples.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.frames_read = 0
        self.loss: str | None = None
        self._decoder = _open(self.path)
        self.info = self._decoder.info
        try:
            check_rate(self.info.sample_rate)
            if not 1 <= self.info.channels <= MAX_CHANNELS:
                raise ShapeError(f"expected 1 to {MAX_CHANNELS} channels, found {self.info.channels}")
        except ShapeError as error:
            self._decoder.close()
            raise AudioFileError(f"{self.path}: {error}") from None

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._decoder.close()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples from beginning to end.

        Shape: each block `[C, n]`, n > 0.
        """
        rate = self.info.sample_rate
        while True:
            try:
                block = self._decoder.read()
            except (RuntimeError, OSError, ValueError) as error:
                at = f"beyond {self.frames_read / rate:.1f} s ({_reason(error)})"
                raise AudioFileError(f"{self.path}: damaged or cut short, cannot be decoded {at}") from error
            if len(block) == 0:
                break
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                at_s = (self.frames_read + int(np.argmin(finite))) / rate
                raise AudioFileError(f"{self.path}: holds NaN or infinite samples, the first at {at_s:.3f} s")
            self.frames_read += len(block)
            yield np.ascontiguousarray(block.T)
        if self.frames_read == 0:
            raise AudioFileError(f"{self.path}: holds no audio samples")
        self.loss = self._decoder.loss(self.frames_read)


def _open(path: Path) -> _Decoder:
    try:
        if not path.is_file():
            what = (
                "is a folder"
                if path.is_dir()
                else "is not a regular file"
                if path.exists()
                else "no such file"
            )
            raise AudioFileError(f"{path}: {what}")
        if path.stat().st_size == 0:
            raise AudioFileError(f"{path}: the file is empty")
        with path.open("rb"):
            pass
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _SoundfileDecoder(path)
    except (RuntimeError, TypeError, ValueError):  # TypeError: a headerless format by its ending
        pass
    try:
        return _AvDecoder(path)
    except (RuntimeError, OSError, ValueError) as error:
        reason = f" ({error})" if type(error) is ValueError else ""  # ffmpeg's own reasons say little here
        raise AudioFileError(f"{path}: not audio, or damaged beyond reading{reason}") from error


def _reason(error: Exception) -> str:
    """One short phrase of a library's error."""
    text = (getattr(error, "strerror", None) or str(error)).strip()  # PyAV's errors carry strerror too
    return re.sub(
        r"^Error( opening .*?)? ?: ", "", text.splitlines()[0] if text else type(error).__name__
    ).rstrip(".")


class _SoundfileDecoder:
    def __init__(self, path: Path) -> None:
        self._file = soundfile.SoundFile(os.fspath(path))
        file = self._file
        self.info = AudioInfo(
            file.samplerate, file.channels, file.frames, _DEPTHS.get(file.subtype, "PCM_24")
        )

    def read(self) -> NDArray[np.float32]:
        return self._file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)

    def loss(self, frames_read: int) -> str | None:
        if self._file.format == "MP3":
            promised = _mpeg_frames(Path(self._file.name), self.info.sample_rate)
        else:
            promised = max(self._file.frames, _declared_frames(self._file))
        if frames_read < promised:
            return _cut_short(frames_read, promised, self.info.sample_rate)
        if "ended unexpectedly" in self._file.extra_info or "lacks an end-of-stream" in self._file.extra_info:
            return "ends without the mark that closes such a file: its end may be missing"
        return None

    def close(self) -> None:
        self._file.close()


def _cut_short(frames_read: int, promised: int, sample_rate: int) -> str:
    found, expected = frames_read / sample_rate, promised / sample_rate
    return f"ends after {found:.2f} s of the {expected:.2f} s that its header promises"


def _declared_frames(file: soundfile.SoundFile) -> int:
    """Frames that a wav or aiff header declares; libsndfile corrects a false size but logs it."""
    match = re.search(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if match is None:
        return 0
    declared, actual = int(match[1]), int(match[2])
    if declared >= 0x7FFFF000 or actual <= 0:  # what writers to a pipe put in: size unknown
        return 0
    return round(file.frames * declared / actual)


def _mpeg_frames(path: Path, sample_rate: int) -> int:
    """Frames that an MPEG file has at the least by its Xing header; 0 without one, when lengths are guesses."""
    with path.open("rb") as file:
        head = file.read(10)
        tag_bytes = 0
        if head[:3] == b"ID3":  # its size has seven bits in each byte
            tag_bytes = 10 + sum(
                byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
            )
        file.seek(tag_bytes)
        head = file.read(4096)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or not head[at + 7 : at + 8] or not head[at + 7] & 1:
        return 0
    per_frame = 1152 if sample_rate >= 32000 else 576
    padding = 2 * 1152 + 529  # at most, of the encoder at both ends and the decoder
    return int.from_bytes(head[at + 8 : at + 12], "big") * per_frame - padding


class _AvDecoder:
    def __init__(self, path: Path) -> None:
        import av

        options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
        self._container = av.open(f"file:{path}", container_options=options)
        try:
            if not self._container.streams.audio:
                raise ValueError("it holds no audio")
            self._stream = self._container.streams.audio[0]
            self.info = self._describe()
        except BaseException:
            self._container.close()
            raise
        self._frames = self._decode()

    def _describe(self) -> AudioInfo:
        stream, context = self._stream, self._stream.codec_context
        if not context.sample_rate or not context.channels:
            raise ValueError("its audio has no sample rate or no channels")
        frames = None
        if stream.duration is not None and stream.time_base is not None:
            frames = round(stream.duration * stream.time_base * context.sample_rate)
        elif self._container.duration is not None and not self._container.streams.video:
            frames = round(self._container.duration / 1e6 * context.sample_rate)  # microseconds
        lossless = context.name.startswith("pcm_") or context.name in (
            "flac",
            "alac",
            "ape",
            "tak",
            "tta",
            "wavpack",
        )
        depth = "PCM_24"
        if lossless:
            depth = {"s16": "PCM_16", "u8": "PCM_16", "flt": "FLOAT", "dbl": "FLOAT"}.get(
                context.format.name.removesuffix("p"), "PCM_24"
            )
        return AudioInfo(context.sample_rate, context.channels, frames, depth)

    def _decode(self) -> Iterator[NDArray[np.float32]]:
        import av

        resampler = av.AudioResampler(format="fltp")  # converts the sample format only
        for frame in self._container.decode(self._stream):
            if frame.sample_rate != self.info.sample_rate or frame.layout.nb_channels != self.info.channels:
                raise ValueError("rate or channels change within the file")
            for converted in resampler.resample(frame):
                yield converted.to_ndarray().T.astype(np.float32, copy=False)  # [n, C]

    def read(self) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        count = 0
        for part in self._frames:
            parts.append(part)
            count += len(part)
            if count >= BLOCK_FRAMES:
                break
        return np.concatenate(parts) if parts else np.zeros((0, self.info.channels), dtype=np.float32)

    def loss(self, frames_read: int) -> str | None:
        promised, rate = self.info.frames, self.info.sample_rate
        if promised is not None and frames_read < promised - rate // 2:  # known to codec frames only
            return _cut_short(frames_read, promised, rate)
        return None

    def close(self) -> None:
        self._container.close()
