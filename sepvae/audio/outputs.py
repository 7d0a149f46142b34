"""The files of one input's stems: their names, and writing them so that all appear together or none."""

from __future__ import annotations

import os
import string
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sepvae.atomic import is_unfinished, locked, restored_on_failure, sweep, sync_folder
from sepvae.audio.encoding import ENCODINGS, AudioWriter, Encoding, check_format, quantise
from sepvae.audio.reader import BLOCK_FRAMES
from sepvae.audio.resample import Resampler
from sepvae.audio.tags import NO_TAGS, Tags
from sepvae.errors import OutputError

TEMPLATE = "{track}/{stem}.{ext}"
_FIELDS = {"track", "stem", "ext"}
_MAX_NAME_BYTES = 255


def output_paths(
    folder: str | os.PathLike[str], template: str, track: str, stems: Iterable[str], ext: str
) -> dict[str, Path]:
    """Names of the files of one input's stems.

    Args:
        folder: output folder.
        template: path inside it, with the fields `{track}`, `{stem}` and `{ext}`.
        track: name of the input; a `/` in it makes a folder.
        stems: names of the stems.
        ext: ending of the file names.

    Returns:
        One path for each stem, all different.

    Raises:
        OutputError: the format is unknown, the template is wrong, or a path would leave the folder.
    """
    check_format(ext)
    try:
        parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise OutputError(f"template {template!r}: {error}") from None
    plain = all(name in _FIELDS and not spec and not conversion for _, name, spec, conversion in parsed)
    if not plain or "stem" not in {name for _, name, _, _ in parsed}:
        known = ", ".join(f"{{{name}}}" for name in sorted(_FIELDS))
        raise OutputError(f"template {template!r}: needs {{stem}}, and may have no other fields than {known}")
    root = Path(folder)
    paths = {}
    for stem in stems:
        relative = Path(template.format(track=track, stem=stem, ext=ext))
        path = root / relative
        if not _storable(str(path)):
            raise OutputError(f"{str(path)!r}: has a character that a file name cannot have")
        outside = relative.is_absolute() or ".." in relative.parts or not relative.parts
        if outside or not _real(path).is_relative_to(_real(root)):  # a link may lead out
            raise OutputError(f"{path}: lies outside the output folder {root}")
        if is_unfinished(relative.name):
            raise OutputError(
                f"{path}: such a name marks a file that is not finished, and would be swept away"
            )
        if relative.suffix[1:].lower() in ENCODINGS.keys() - {ext}:
            raise OutputError(f"{path}: the name ends like another format than {ext}")
        if max(len(os.fsencode(part)) for part in relative.parts) > _MAX_NAME_BYTES:
            raise OutputError(f"{path}: longer than the {_MAX_NAME_BYTES} bytes that a file name can have")
        paths[stem] = path
    return paths


def track_of(path: Path) -> str:
    """Name of an input in the template: its file name without the ending, unless dots alone would be left."""
    return path.stem if path.stem.strip(".") else path.name


def _storable(name: str) -> bool:
    """Whether the system has bytes for all characters of a name, none of them null."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _real(path: Path) -> Path:
    """Where links lead; unlike `Path.resolve`, without an error where they lead in a circle."""
    return Path(os.path.realpath(path))


class StemFiles:
    """Writes the stems of one input to temporary files and renames them when all are complete.

    Use it as a context manager: without `commit`, nothing stays behind. Integer and lossy formats go through
    an unnamed scratch file of float samples first, since the gain that keeps the loudest stem below full
    scale is known at the end only; integer samples are rounded so that the sum of the stems is the rounded
    sum.

    Args:
        paths: file of each stem, in the order of the samples.
        encoding: format of the files.
        subtype: sample format.
        sample_rate: of the stems, in Hz; resampled where the format lacks it.
        channels: > 0.
        absorber: stem that takes up the rounding errors; None where the stems do not add up to anything.
        channel_mask: speakers of the channels, as in an `AudioInfo`.

    Raises:
        OutputError: something cannot be written, here and in every method.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        encoding: Encoding,
        subtype: str,
        sample_rate: int,
        channels: int,
        *,
        absorber: str | None = None,
        channel_mask: int | None = None,
    ) -> None:
        self._paths, self._encoding, self._subtype = dict(paths), encoding, subtype
        self._rate, self._file_rate = sample_rate, encoding.rate_for(sample_rate)
        self._channels, self._channel_mask = channels, channel_mask
        self._absorber = None if absorber is None else list(paths).index(absorber)
        self._peak = 0.0
        self._blocks: list[int] = []  # their lengths
        self._cleanup = ExitStack()
        try:
            for path in self._paths.values():
                self._make_folder(path.parent)
            self._check_places()
            self._writers = [self._open(path) for path in self._paths.values()]
            self._scratch = None if subtype == "FLOAT" else self._open_scratch()
        except BaseException:
            self._cleanup.close()
            raise

    def __enter__(self) -> StemFiles:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cleanup.close()

    def write(self, stems: NDArray[np.float32], peak: float = 0.0) -> None:
        """Append samples.

        Args:
            stems: of the outputs.
            peak: largest sample of other stems that must fit with the same gain, >= 0.

        Shape: stems `[K, C, n]`.
        """
        self._peak = max(self._peak, peak)
        for start in range(0, stems.shape[-1], BLOCK_FRAMES):
            block = stems[..., start : start + BLOCK_FRAMES]
            if self._scratch is None:
                self._write_files(list(block))
                continue
            self._blocks.append(block.shape[-1])
            self._peak = max(self._peak, float(block.max()), -float(block.min()))
            try:
                self._scratch.write(np.ascontiguousarray(block, dtype=np.float32).tobytes())
            except OSError as error:
                raise self._error(error) from error

    def commit(
        self,
        progress: Callable[[float], None] = lambda fraction: None,
        tags: Callable[[str, float, int], Tags] = lambda stem, gain, frames: NO_TAGS,
        check: Callable[[], object] = lambda: None,
    ) -> float:
        """Finish all files and give them their final names.

        Args:
            progress: called with the fraction of the encoding that is done.
            tags: gives the tags of a stem from its name, the gain and the samples per channel in the file.
            check: raises where something has come under these names that must not be replaced; called last, while
                no other process publishes stems here.

        Returns:
            The gain on all stems that keeps the loudest at full scale; 1 unless it was beyond.
        """
        gain = 1.0
        if self._scratch is not None:
            gain = 1.0 if self._peak <= 1.0 else 1.0 / self._peak
            self._encode(self._scratch, gain, progress)
        finished = [
            tags(stem, gain, writer.frames) for stem, writer in zip(self._paths, self._writers, strict=True)
        ]
        with ThreadPoolExecutor(len(self._writers)) as pool:
            list(pool.map(AudioWriter.finish, self._writers, finished))
        folders = sorted({path.parent.resolve() for path in self._paths.values()})
        with ExitStack() as locks:
            for folder in folders:
                locks.enter_context(locked(folder))
            self._check_places()
            check()
            with ExitStack() as former:
                for path in self._paths.values():
                    former.enter_context(restored_on_failure(path))
                for writer in self._writers:
                    writer.publish()
        for folder in folders:
            sync_folder(folder)
        self._cleanup.pop_all()  # the folders stay
        if self._scratch is not None:
            self._scratch.close()
        return gain

    def _encode(self, scratch: IO[bytes], gain: float, progress: Callable[[float], None]) -> None:
        shape = len(self._writers), self._channels
        resamplers = [Resampler(self._rate, self._file_rate, self._channels) for _ in self._writers]
        done, total = 0, sum(self._blocks)
        try:
            scratch.seek(0)
            for length in self._blocks:
                data = scratch.read(4 * shape[0] * shape[1] * length)
                stems = np.frombuffer(data, np.float32).reshape(*shape, length)
                if self._encoding.lossy:
                    self._write_files(
                        [r.push(s * np.float32(gain)) for r, s in zip(resamplers, stems, strict=True)]
                    )
                else:
                    self._write_files(list(quantise(stems, self._subtype, gain, self._absorber)))
                done += length
                progress(done / total)
            if self._encoding.lossy:
                self._write_files([resampler.finish() for resampler in resamplers])
        except OSError as error:
            raise self._error(error) from error

    def _write_files(self, stems: Sequence[NDArray[Any]]) -> None:
        """Write one block of every stem; encoders run side by side, since libsndfile leaves Python alone."""
        with ThreadPoolExecutor(len(self._writers)) as pool:
            list(pool.map(AudioWriter.write, self._writers, stems))

    def _make_folder(self, folder: Path) -> None:
        try:
            missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                self._cleanup.callback(_remove_if_empty, path)
            if not missing:
                _sweep_once(folder.resolve())
        except OSError as error:
            raise OutputError(f"{folder}: the output folder cannot be made ({error.strerror})") from error

    def _check_places(self) -> None:
        """Raise where a folder has the name of a file, since no file can replace it."""
        for path in self._paths.values():
            if path.is_dir() and not path.is_symlink():
                raise OutputError(f"{path}: cannot be written (is a folder)")

    def _open(self, path: Path) -> AudioWriter:
        writer = AudioWriter(
            path, self._encoding, self._subtype, self._file_rate, self._channels, self._channel_mask
        )
        self._cleanup.callback(writer.discard)
        return writer

    def _open_scratch(self) -> IO[bytes]:
        folder = next(iter(self._paths.values())).parent
        try:
            return self._cleanup.enter_context(tempfile.TemporaryFile(dir=folder))
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> OutputError:
        folder = next(iter(self._paths.values())).parent
        return OutputError(f"{folder}: cannot be written ({error.strerror})")


@lru_cache(maxsize=100_000)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
