"""Whole files into arrays, one stream of a container with several included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from sepvae.audio import AudioReader
from sepvae.audio.chunks import ends_early
from sepvae.audio.decoders.base import FAILURES
from sepvae.errors import AudioFileError, DataError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer


def decode(path: Path, stream: int | None = None) -> tuple[np.ndarray, int]:
    """Read a file from beginning to end.

    Args:
        path: in any format that soundfile or ffmpeg's libraries read.
        stream: index among the audio streams of a container; None where there is but one.

    Returns:
        float32 audio and its rate in hertz.

    Shape:
        -> `[C, L]`

    Raises:
        DataError: missing, damaged, cut short, not finite, or without such a stream.
    """
    if stream is not None:
        return _decode_stream(path, stream)
    try:
        with AudioReader(path) as reader:
            blocks = list(reader.blocks())
            if reader.loss:
                raise DataError(f"{path}: {reader.loss}")
    except AudioFileError as error:
        raise DataError(str(error)) from error
    return np.concatenate(blocks, axis=1), reader.info.sample_rate


def _decode_stream(path: Path, index: int) -> tuple[np.ndarray, int]:
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _stream(container, path, index)
            resampler = av.AudioResampler(format="fltp")  # converts the sample format only
            blocks = [
                part.to_ndarray() for frame in container.decode(stream) for part in resampler.resample(frame)
            ]
            rate = stream.codec_context.sample_rate
    except FAILURES as error:
        raise DataError(f"{path}: cannot be decoded ({type(error).__name__})") from error
    if not blocks:
        raise DataError(f"{path}: stream {index} holds no audio")
    audio = np.concatenate(blocks, axis=1).astype(np.float32, copy=False)
    if not np.isfinite(audio).all():
        raise DataError(f"{path}: stream {index} holds NaN or infinite samples")
    return audio, rate


def _stream(container: InputContainer, path: Path, index: int) -> AudioStream:
    streams = container.streams.audio
    if index >= len(streams):
        raise DataError(f"{path}: has {len(streams)} audio streams, number {index} is wanted")
    if streams[index].codec_context is None:
        raise DataError(f"{path}: stream {index} is in a format that is not known")
    return streams[index]


def probe(path: Path, stream: int | None = None) -> tuple[int, int, int | None]:
    """Rate, channels and frames (None where the header does not say) of a file, without decoding it.

    Raises:
        DataError: missing, empty, or not audio.
    """
    if stream is None:
        try:
            with AudioReader(path) as reader:
                return reader.info.sample_rate, reader.info.channels, reader.info.frames
        except AudioFileError as error:
            raise DataError(str(error)) from error
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            chosen = _stream(container, path, stream)
            context = chosen.codec_context
            length = None
            if chosen.duration is not None and chosen.time_base is not None:
                length = round(chosen.duration * chosen.time_base * context.sample_rate)
            return context.sample_rate, context.channels, length
    except FAILURES as error:
        raise DataError(f"{path}: cannot be opened ({type(error).__name__})") from error


def is_cut_short(path: Path) -> bool:
    """Whether a file is shorter than its header says, found without decoding it; False where that cannot be told."""
    try:
        if ends_early(path):
            return True
        with soundfile.SoundFile(str(path)) as file:
            file.seek(max(file.frames - 1, 0))
            return len(file.read(1)) == 0
    except soundfile.SoundFileError:
        return path.suffix.lower() in (".flac", ".ogg", ".opus")
    except OSError:
        return True
