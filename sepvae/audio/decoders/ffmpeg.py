"""Decoding by ffmpeg's libraries through PyAV."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError, PatchWelcomeError
from numpy.typing import NDArray

from sepvae.audio.chunks import wav_format
from sepvae.audio.containers import ac3_frame_bytes, only_tags, scan_ogg
from sepvae.audio.decoders.base import BLOCK_FRAMES, FAILURES, AudioInfo, is_burst, reason
from sepvae.audio.patches import Patch, PatchedFile
from sepvae.audio.phrases import UNCLOSED, cut_short, undecodable
from sepvae.audio.surround import MASK_FIELD, mask_of

_MAX_GAP_S = 600  # a longer one is no damage but a false timestamp
_SKIP_MANUAL = 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL

_AV_DEPTHS = {"s16": "PCM_16", "u8": "PCM_16", "flt": "FLOAT", "dbl": "FLOAT"}
_AV_LOSSLESS = frozenset(("flac", "alac", "ape", "shorten", "tak", "tta", "wavpack"))

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,m4a,matroska,webm,mov,mp4,mj2,3gp,3g2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv"
)
"""ffmpeg's demuxers for files that hold audio themselves: none that reads a list of other files or addresses."""

OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
"""How every file is opened."""

# fmt: off
_TIMED = frozenset((
    "aiff", "ape", "asf", "au", "caf", "flac", "flv", "matroska", "mov", "mpc", "tak", "tta", "w64", "wav", "wv",
))  # demuxers whose length can be trusted; others only guess it, or tell the position of the last byte that is there
# fmt: on


def begins_before_zero(path: Path, samples: int) -> bool:
    """Whether the sound of a file begins more than so many samples before its time zero, as after a cut by copying."""
    try:
        with av.open(f"file:{path}", "r", container_options=OPTIONS, metadata_errors="replace") as container:
            stream = container.streams.audio[0]
            first = next(container.demux(stream))
    except (*FAILURES, IndexError, StopIteration):
        return False
    if first.pts is None or stream.time_base is None:
        return False
    return first.pts * stream.time_base * stream.codec_context.sample_rate < -samples


def _unmatched(codec: str, sample_rate: int) -> int:
    """Samples of the first frame of WMA: a half that no earlier one completes, so that they are no sound yet."""
    if codec not in ("wmav1", "wmav2"):
        return 0
    if sample_rate <= 16_000:
        return 512
    return 1024 if sample_rate <= (32_000 if codec == "wmav1" else 22_050) else 2048


def read_channel_mask(path: Path, channels: int) -> int | None:
    """Speakers of so many channels of a file, as in its `AudioInfo`."""
    try:
        with av.open(f"file:{path}", "r", container_options=OPTIONS, metadata_errors="replace") as container:
            stream = container.streams.audio[0]
            context = stream.codec_context
            same = context is not None and context.channels == channels
            return _channel_mask(container, stream) if same else None
    except (*FAILURES, IndexError):
        return None


def _channel_mask(container: InputContainer, stream: AudioStream) -> int | None:
    if stream.codec_context.name == "flac":
        told = re.fullmatch(r"\s*0x([0-9a-fA-F]{1,8})\s*", container.metadata.get(MASK_FIELD, ""))
        if told is not None:  # which ffmpeg does not believe if it is 0, or has too few bits
            return int(told[1], 16)
    return mask_of([channel.name for channel in stream.layout.channels])


class AvDecoder:
    """ffmpeg's libraries, which go on after damage; the timestamps tell how much is missing there.

    Args:
        path: the file.
        skip: samples per channel to leave out at the beginning, which have been read otherwise.
        patches: other bytes to read in some places.

    Raises:
        FFmpegError: no demuxer or decoder takes it.
        ValueError: it holds no audio.
    """

    def __init__(self, path: Path, skip: int = 0, patches: Sequence[Patch] = ()) -> None:
        self._path = path
        self._opened = ExitStack()
        try:
            source: str | PatchedFile = f"file:{path}"
            if patches:
                source = PatchedFile(self._opened.enter_context(path.open("rb")), patches)
            self._container = self._opened.enter_context(
                av.open(source, "r", container_options=OPTIONS, metadata_errors="replace")
            )
            if not self._container.streams.audio:
                raise ValueError("it holds no audio")
            self._stream = self._container.streams.audio[0]
            context = self._stream.codec_context
            if context is not None and not (context.sample_rate and context.channels):
                raise ValueError("its audio has no sample rate or no channels")
            if context is None or context.format is None:
                raise ValueError("its audio is in a format that is not known")
            if self._stream.codec_context.name in _AV_LOSSLESS:  # a wrong checksum is an error, not a click
                self._stream.codec_context.options = {"err_detect": "crccheck+explode"}
            name = self._stream.codec_context.name
            self._unmatched = _unmatched(name, self._stream.codec_context.sample_rate)
            if self._unmatched:  # else the first samples that can be decoded are left out too
                self._stream.codec_context.flags2 |= _SKIP_MANUAL
            self._lossless = name.startswith("pcm_") or name in _AV_LOSSLESS
            self._ogg = scan_ogg(path) if self._container.format.name == "ogg" else None
            self.info = self._describe()
            kind = self._container.format.name.split(",")[0]
            # The last packet of FLAC in CAF counts as a whole one.
            timed = kind in _TIMED and (kind, name) != ("caf", "flac")
            self._trusted = self.info.frames if timed else None
        except BaseException:
            self._opened.close()
            raise
        self._skip = skip or self._unmatched
        self._placed = -self._unmatched  # samples that have got their place
        self._silent = self._holes = 0
        self._first_fault: int | None = None
        self._stopped: str | None = None
        self._last_packet: tuple[int, int] | None = None  # its time and length
        self._frame_length = 1024
        self._parts = self._trimmed()

    def _describe(self) -> AudioInfo:
        context = self._stream.codec_context
        depth = (
            _AV_DEPTHS.get(context.format.name.removesuffix("p"), "PCM_24") if self._lossless else "PCM_24"
        )
        if context.name.startswith("pcm_s32"):
            depth = "FLOAT"
        wav = wav_format(self._path)
        if wav is not None and wav.channel_mask is not None:
            mask: int | None = wav.channel_mask  # ffmpeg keeps none that has too few or too many bits
        else:
            mask = _channel_mask(self._container, self._stream)
        return AudioInfo(context.sample_rate, context.channels, self._promised(), depth, mask)

    def _promised(self) -> int | None:
        """Samples per channel by the header."""
        stream, rate = self._stream, self._stream.codec_context.sample_rate
        tag = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", ""))  # Matroska
        if tag is not None:
            end_s = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
            begin_s = (stream.start_time or 0) * (stream.time_base or 0)  # later than the picture's, perhaps
            return round((end_s - max(0.0, float(begin_s))) * rate)
        if stream.duration is not None and stream.time_base is not None:
            return round(stream.duration * stream.time_base * rate)
        if self._container.duration is not None and not self._container.streams.video:
            return round(self._container.duration / 1e6 * rate)  # microseconds
        return None

    def _frames(self) -> Iterator[Any]:
        """All frames of audio that can be decoded."""
        packets = self._container.demux(self._stream)
        plain = self._stream.codec_context.name.startswith("pcm_")
        ac3 = self._container.format.name in ("ac3", "eac3")
        end = 0  # of the last packet in the file
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                whole = self._trusted is not None and self._placed >= self._trusted
                if self._ogg is not None and self._ogg.chained and isinstance(error, PatchWelcomeError):
                    self._stopped = self._changes()
                elif not (whole and only_tags(self._path, end)):
                    self._stopped = undecodable(self._placed, self.info.sample_rate, reason(error))
                return
            if packet is None:
                return
            if packet.size and packet.pts is not None and packet.duration is not None:
                self._last_packet = packet.pts, packet.duration
            end = max(end, (packet.pos or 0) + packet.size)
            if ac3 and packet.size < (ac3_frame_bytes(bytes(packet)) or 0):  # its decoder says nothing
                self._fault()
            try:
                frames = packet.decode()
            except (FFmpegError, ValueError):  # ValueError: a frame of a kind that PyAV does not know
                self._fault()
                continue
            for frame in frames:
                if (
                    frame.sample_rate != self.info.sample_rate
                    or frame.layout.nb_channels != self.info.channels
                ):
                    self._stopped = self._changes()
                    return
                if packet.is_corrupt and not plain:  # the last one of plain samples is only short
                    self._fault()
                yield frame

    def _changes(self) -> str:
        at_s = self._placed / self.info.sample_rate
        return f"changes its sample rate or channels at {at_s:.2f} s: what follows is left out"

    def _timeline(self) -> Iterator[NDArray[np.float32]]:
        """Samples of all frames `[n, C]`, with silence for what is missing between them."""
        # Converts the sample format only. Not to planes: PyAV counts those of eight channels beyond their end.
        to_float = av.AudioResampler(format="flt")
        due = self._position(self._stream.start_time, self._stream.time_base)  # of the next frame, in samples
        frames, following = self._frames(), None
        while (frame := following or next(frames, None)) is not None:
            following = None
            length = self._frame_length = max(frame.samples, 1)
            at = self._position(frame.pts, frame.time_base)
            # Less is the rounding of timestamps; a decoder may leave out its first samples.
            if at is not None and due is not None and 4 * (at - due) >= 3 * length and self._begun():
                following = next(frames, None)
                then = following and self._position(following.pts, following.time_base)
                if then is None or 4 * (then - at) >= length:  # else it has the timestamp of the next frame
                    yield from self._silence(at - due, length)
            due = due if at is None else at
            for part in to_float.resample(frame):
                samples = part.to_ndarray().reshape(-1, self.info.channels).astype(np.float32, copy=False)
                if not self._lossless and is_burst(samples):
                    self._fault()
                    self._holes += 1
                    self._silent += len(samples)
                    samples = np.zeros_like(samples)
                self._placed += len(samples)
                yield samples
            due = None if due is None else due + length

    def _begun(self) -> bool:
        """Whether there was a frame, or damage in the place of one."""
        return self._placed > -self._unmatched or self._first_fault is not None

    def _position(self, time: int | None, time_base: Fraction | None) -> int | None:
        """A timestamp in samples."""
        return None if time is None or time_base is None else round(time * time_base * self.info.sample_rate)

    def _silence(self, gap: int, frame_length: int) -> Iterator[NDArray[np.float32]]:
        """Silence for samples that are missing: whole frames, if it could be that many."""
        rate = self.info.sample_rate
        whole = round(gap / frame_length) * frame_length
        gap = whole if abs(gap - whole) <= 2e-3 * rate else gap  # some containers count in milliseconds
        limit = _MAX_GAP_S * rate if self.info.frames is None else self.info.frames + rate - self._placed
        self._fault()
        if gap > min(limit, _MAX_GAP_S * rate):
            return
        self._holes += 1
        self._silent += gap
        self._placed += gap
        for start in range(0, gap, BLOCK_FRAMES):
            yield np.zeros((min(BLOCK_FRAMES, gap - start), self.info.channels), np.float32)

    def _trimmed(self) -> Iterator[NDArray[np.float32]]:
        """The timeline without `skip` and without the padding of the last frame, where its length is told."""
        held: deque[NDArray[np.float32]] = deque()  # the last two frames
        given = 0
        for samples in self._timeline():
            left_out = min(self._skip, len(samples))
            self._skip -= left_out
            given += left_out
            held.append(samples[left_out:])
            if len(held) > 2:
                given += len(held[0])
                yield held.popleft()
        end = self._last_sample()
        for samples in held:
            yield samples if end is None or end <= given else samples[: end - given]
            given += len(samples)

    def _last_sample(self) -> int | None:
        """Where the audio of an mp4 file ends within its last frame; None where it does not say."""
        promised, rate = self.info.frames, self.info.sample_rate
        if promised is None or not self._container.format.name.startswith("mov"):
            return None
        time_base = self._stream.time_base
        if self._last_packet is not None and time_base is not None:
            begin, length = (round(time * time_base * rate) for time in self._last_packet)
            if 0 < length < self._frame_length:  # else the edit list tells, but in its own, coarser unit
                return begin + length
        for unit in (600, 1000):
            if round(round(promised * unit / rate) * rate / unit) == promised:
                return promised + rate // unit
        return promised

    def _fault(self) -> None:
        if self._first_fault is None:
            self._first_fault = max(0, self._placed)

    def read(self) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        count = 0
        for part in self._parts:
            parts.append(part)
            count += len(part)
            if count >= BLOCK_FRAMES:
                break
        return np.concatenate(parts) if parts else np.zeros((0, self.info.channels), dtype=np.float32)

    def loss(self) -> str | None:
        phrases = []
        rate = self.info.sample_rate
        if self._silent:
            places = "1 place" if self._holes == 1 else f"{self._holes} places"
            phrases.append(
                f"damaged: {self._silent / rate:.3f} s in {places} cannot be decoded and are silent, the first "
                f"at {(self._first_fault or 0) / rate:.2f} s"
            )
        elif self._first_fault is not None and self._first_fault < self._placed:
            phrases.append(f"damaged: parts cannot be decoded, the first at {self._first_fault / rate:.2f} s")
        if self._stopped is not None:
            phrases.append(self._stopped)
        exact = self._lossless and self._container.format.name.startswith("matroska")
        slack = rate // 200 if exact else rate // 10  # that one counts in milliseconds, others in frames
        slack = max(0, slack - self._unmatched)
        if self._trusted is not None and self._placed < self._trusted - slack:
            phrases.append(cut_short(self._placed, self._trusted, rate))
        elif self._first_fault is not None and self._first_fault >= self._placed:
            phrases.append("its last part is damaged and cannot be decoded")
        if self._ogg is not None and not self._ogg.closed:
            phrases.append(UNCLOSED)
        if self._ogg is not None and self._ogg.damaged and not phrases:
            phrases.append("damaged: a part of it, or its end, is missing")
        return "; ".join(phrases) or None

    def close(self) -> None:
        self._opened.close()
