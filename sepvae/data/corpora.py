"""The stems layout: one folder per track, one audio file per source; read by `scan`, written by `write_track`."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from sepvae.atomic import draft_folder
from sepvae.audio import AUDIO_ENDINGS
from sepvae.audio.chunks import wav_format
from sepvae.audio.decoders.base import FAILURES
from sepvae.audio.decoders.libsndfile import is_guess
from sepvae.audio.phrases import GUESSED
from sepvae.errors import DataError

SOURCES = ("vocals", "drums", "bass", "other")
SAMPLE_RATE = 44100
"""Rate of all music that is made here, hertz."""
EXTENSIONS = (".wav", ".flac", ".opus", ".ogg", ".mp3")
MIXTURES = ("mixture", "mix", "master")
"""Names of files that are no source, in any case."""
INFO_NAME, MANIFEST_NAME = "track.json", "manifest.json"
"""Files that say how a track was made, and how a prepared set."""
FULL_SCALE = 32767


@dataclass(frozen=True)
class Track:
    """One folder of aligned stems.

    Args:
        name: the folder's name.
        folder: where it lies.
        files: source -> audio file; a source that is not in it is silent.
        frames: length of the longest stem in samples at the files' rate.
        sample_rate: the files' rate in hertz.
        solo: whether it holds one source on its own rather than a whole song.
    """

    name: str
    folder: Path
    files: Mapping[str, Path]
    frames: int
    sample_rate: int
    solo: bool

    @property
    def seconds(self) -> float:
        """The track's length in seconds."""
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class TrackSet:
    """The tracks under one root folder, in order of their names.

    Args:
        root: the folder.
        sources: names of the stems that were looked for.
        tracks: those that have at least one of them.
    """

    root: Path
    sources: tuple[str, ...]
    tracks: tuple[Track, ...]

    @property
    def songs(self) -> tuple[Track, ...]:
        """The tracks that are not solos."""
        return tuple(track for track in self.tracks if not track.solo)

    def with_source(self, source: str) -> tuple[Track, ...]:
        """The tracks, solos too, in which this source has a file."""
        return tuple(track for track in self.tracks if source in track.files)

    def __len__(self) -> int:
        return len(self.tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks)


def scan(root: str | Path, sources: Sequence[str] = SOURCES) -> TrackSet:
    """List the tracks under a root folder; files and folders whose name starts with a dot are left alone.

    Args:
        root: folder that holds one folder per track.
        sources: names of the stems to look for; other files are ignored.

    Returns:
        At least one track.

    Raises:
        DataError: no such folder, no track in it, a file that is unreadable or of a kind that is not read here, one
            whose name differs from that of a source only in case, or stems of one track at different rates.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no such dataset folder: {root}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    tracks = [track for folder in folders if (track := _scan_track(folder, sources)) is not None]
    if not tracks:
        raise DataError(f"no track with any of {', '.join(sources)} under {root}")
    return TrackSet(root, tuple(sources), tuple(tracks))


def stem_names(root: str | Path) -> set[str]:
    """Names of all stems that the tracks under a root folder have, mixtures left out."""
    return {
        path.stem
        for folder in Path(root).iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for path in folder.iterdir()
        if path.suffix in EXTENSIONS and not path.name.startswith(".") and path.stem.lower() not in MIXTURES
    }


def file_info(path: Path) -> Any:
    """What soundfile says about a file, from its header.

    Raises:
        DataError: it cannot be read, or only by guessing.
    """
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    _refuse_guess(path, info)
    return info


def _refuse_guess(path: str | Path, opened: Any) -> None:
    """Refuse a file of which soundfile has guessed what its samples are."""
    if is_guess(opened.extra_info, wav_format(Path(path))):
        raise DataError(f"cannot read {path}: {GUESSED}")


def _scan_track(folder: Path, sources: Sequence[str]) -> Track | None:
    files: dict[str, Path] = {}
    names = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    for source in sources:
        found = [folder / name for extension in EXTENSIONS if (name := f"{source}{extension}") in names]
        if len(found) > 1:
            raise DataError(f"two files for one stem: {found[0]} and {found[1].name}")
        if found:
            files[source] = found[0]
    by_folded = {source.casefold(): source for source in sources}
    for name in sorted(names):
        source, ending = os.path.splitext(name)
        if ending.lower() not in AUDIO_ENDINGS:
            continue
        if (like := by_folded.get(source.casefold(), source)) != source:
            raise DataError(f"{folder / name}: its name differs from that of the source {like} only in case")
        if source in sources and source not in files:
            raise DataError(
                f"{folder / name}: files of a set end in {', '.join(EXTENSIONS)}; "
                "sepvae data prepare stems makes a set of others"
            )
    if not files:
        return None
    frames, rates = 0, {}
    for path in files.values():
        info = file_info(path)
        if info.frames <= 0:
            raise DataError(f"no audio in {path}")
        frames = max(frames, info.frames)
        rates[path] = info.samplerate
        if len(set(rates.values())) > 1:
            raise DataError(
                f"{path} is at {info.samplerate} Hz, its neighbours are not: {rates[next(iter(rates))]} Hz"
            )
    solo = bool(read_info(folder).get("solo", len(files) == 1))
    return Track(folder.name, folder, files, frames, info.samplerate, solo)


def read_info(folder: str | Path) -> dict:
    """What a track's `track.json` says, or nothing if it has none.

    Raises:
        DataError: the file is no JSON object.
    """
    path = Path(folder) / INFO_NAME
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(info, dict):
        raise DataError(f"expected a JSON object in {path}")
    return info


def read_audio(path: str | Path, *, start: int = 0, frames: int | None = None) -> tuple[np.ndarray, int]:
    """Read one stem file, or a part of it, as stereo; mono is doubled, a third channel and more are refused.

    Args:
        path: the audio file.
        start: first sample, at the file's rate.
        frames: how many samples; what lies past the end of the file is zero. None reads to the end.

    Returns:
        float32 audio and its rate in hertz.

    Shape:
        -> [2, L]

    Raises:
        DataError: unreadable or only by guessing, NaN or infinite, or more than two channels.
    """
    try:
        if (mapped := _mapped(path)) is not None:
            samples, rate = mapped
            stop = len(samples) if frames is None else start + frames
            audio = samples[start:stop].T * np.float32(1 / 32768)  # [C, L]
        else:
            audio, rate = _decoded(path, start, frames)
            if not np.isfinite(audio).all():
                raise DataError(f"{path} holds NaN or infinite samples")
    except (soundfile.SoundFileError, OSError, RuntimeError, struct.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if audio.shape[0] > 2:
        raise DataError(f"expected one or two channels in {path}, found {audio.shape[0]}")
    if audio.shape[0] == 1:
        audio = np.repeat(audio, 2, axis=0)  # [2, L]
    if frames is not None and audio.shape[1] < frames:
        audio = np.pad(audio, ((0, 0), (0, frames - audio.shape[1])))
    return np.ascontiguousarray(audio), rate


def _decoded(path: str | Path, start: int, frames: int | None) -> tuple[np.ndarray, int]:
    """A part of any file that libsndfile reads, or of telephone prompts in G.722, `[C, L]`, and its rate."""
    if Path(path).suffix == ".g722":
        audio, rate = _g722(path)
        return audio[:, start : None if frames is None else start + frames], rate
    with soundfile.SoundFile(str(path)) as file:
        _refuse_guess(path, file)
        if start:
            file.seek(min(start, file.frames))
        audio = file.read(-1 if frames is None else frames, dtype="float32", always_2d=True)
        return audio.T, file.samplerate


def _g722(path: str | Path) -> tuple[np.ndarray, int]:
    """A whole file of G.722, which has no header, `[C, L]`, and its rate."""
    import av

    try:
        with av.open(str(path), format="g722") as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
            rate = container.streams.audio[0].rate
    except FAILURES as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not frames:
        raise DataError(f"cannot read {path}: it holds no audio")
    return np.concatenate(frames, axis=1).astype(np.float32) / np.float32(32768), rate


def _mapped(path: str | Path) -> tuple[np.ndarray, int] | None:
    """Samples of a whole 16-bit WAV file as a memory map, `[L, C]`, and their rate; None for any other file.

    A map costs less than half of what libsndfile does, and only the part that is looked at is read.
    """
    if not str(path).lower().endswith(".wav"):
        return None
    with open(path, "rb") as file:
        head = file.read(1 << 12)
        size = os.fstat(file.fileno()).st_size
        at, shape = 12, (0, 0, 0)
        while head[:4] == b"RIFF" and head[8:12] == b"WAVE" and at + 8 <= len(head):
            name, length = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
            at += 8
            if name == b"fmt ":
                shape = struct.unpack_from("<HHI", head, at)  # kind, channels, rate
                if shape[0] != 1 or struct.unpack_from("<H", head, at + 14)[0] != 16:
                    return None
            elif name == b"data":
                channels = shape[1]
                if not channels or not length or length % (2 * channels) or at + length > size:
                    return None
                samples = np.memmap(file, "<i2", "r", offset=at, shape=(length // (2 * channels), channels))
                return samples, shape[2]
            at += length + length % 2
    return None


def read_stems(track: Track, sample_rate: int) -> dict[str, np.ndarray]:
    """Read all stems of a track as stereo at one rate, padded with silence to one length.

    Shape:
        -> source -> [2, L]

    Raises:
        DataError: an unreadable file.
    """
    return pad_together(
        {source: resample(*read_audio(path), sample_rate) for source, path in track.files.items()}
    )


def pad_together(stems: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All stems padded at the end to the length of the longest: source -> `[C, L]`."""
    length = max(audio.shape[1] for audio in stems.values())
    return {source: np.pad(audio, ((0, 0), (0, length - audio.shape[1]))) for source, audio in stems.items()}


def resample(audio: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample [C, L] with soxr at its very high quality."""
    if rate == new_rate:
        return audio
    return soxr.resample(audio.T, rate, new_rate, quality="VHQ").T.astype(np.float32)


def headroom(stems: Mapping[str, np.ndarray], peak: float = 0.999) -> float:
    """The common gain <= 1 under which neither a stem `[C, L]` nor the sum of the stems exceeds a peak."""
    largest = max(float(np.abs(audio).max()) for audio in (*stems.values(), sum(stems.values())))
    return min(1.0, peak / largest) if largest > 0 else 1.0


def write_track(
    folder: str | Path, stems: Mapping[str, np.ndarray], sample_rate: int, info: Mapping
) -> float:
    """Write a whole track folder at once: 16-bit WAV files and `track.json`.

    The folder appears under its name only when it is complete; a stem that is all zero gets no file.

    Args:
        folder: the new track folder.
        stems: source -> float audio [1, L] or [2, L], all of one shape.
        sample_rate: their rate in hertz.
        info: what `track.json` says beside the gain.

    Returns:
        The common gain that was needed so that nothing clips.

    Raises:
        DataError: all stems are silent, not finite, or of different shapes.
    """
    folder = Path(folder)
    stems = {source: audio for source, audio in stems.items() if np.any(audio)}
    if not stems:
        raise DataError(f"nothing but silence for {folder.name}")
    if len({audio.shape for audio in stems.values()}) > 1:
        raise DataError(f"stems of different shapes for {folder.name}")
    if not all(np.isfinite(audio).all() for audio in stems.values()):
        raise DataError(f"stems that are not finite for {folder.name}")
    gain = headroom(stems)
    with draft_folder(folder) as draft:
        for source, audio in stems.items():
            samples = np.round(audio.T * (gain * FULL_SCALE)).astype(np.int16)  # [L, C]
            with (draft / f"{source}.wav").open("wb") as file:  # by name, soundfile would wait for the disk
                soundfile.write(file, samples, sample_rate, subtype="PCM_16", format="WAV")
        text = json.dumps({**info, "gain": gain}, indent=1, sort_keys=True)
        (draft / INFO_NAME).write_text(text + "\n", encoding="utf-8")
        try:
            os.replace(draft, folder)
        except OSError:
            if not folder.is_dir():  # else another run made the same track meanwhile
                raise
    return gain
