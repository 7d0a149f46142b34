"""The separator: a model on a device, applied to arrays and to files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sepvae import __version__
from sepvae.audio import AudioReader
from sepvae.audio.encoding import Encoding, choose_encoding
from sepvae.audio.outputs import TEMPLATE, StemFiles, output_paths, track_of
from sepvae.audio.stdio import WavStream
from sepvae.audio.tags import Tags, read_tags
from sepvae.errors import NonFiniteError, OutputError
from sepvae.progress import Meter, OnProgress
from sepvae.separation.arrays import SEGMENT_S, ArraySeparator
from sepvae.separation.destination import EXISTING, Destination
from sepvae.separation.provenance import Origin, Result, describe, sha256_of
from sepvae.separation.result import SeparatedFile, file_hashes, remarks, verified
from sepvae.separation.selection import Presence, Selection, listed
from sepvae.separation.streaming import SeparationStream

logger = logging.getLogger(__name__)

__all__ = ["EXISTING", "SEGMENT_S", "SeparatedFile", "Separator"]


class Separator(ArraySeparator):
    """Separates arrays and files into stems with one model.

    It keeps no state between calls, so several threads may share one. Its constructor is that of an
    `ArraySeparator`; most often it is made by `from_pretrained`.
    """

    def separate_file(
        self,
        path: str | os.PathLike[str],
        out_dir: str | os.PathLike[str] = "separated",
        *,
        stems: Iterable[str] | None = None,
        two_stems: str | None = None,
        present: Iterable[str] | None = None,
        format: str = "wav",
        subtype: str | None = None,
        existing: str = "skip",
        template: str = TEMPLATE,
        track: str | None = None,
        verify: bool = False,
        progress: OnProgress | None = None,
    ) -> SeparatedFile:
        """Separate a file into one file per stem, which appear together when all are complete.

        Args:
            path: input in any format that soundfile or PyAV reads.
            out_dir: output folder, made if it is missing.
            stems: names of the stems to write, sources or `no_<source>` for all but one; None for all sources.
            two_stems: write this stem and `no_<stem>`, the exact rest.
            present: names of the sources that the recording has, as in `separate`; None for all.
            format: wav, flac, mp3, ogg or opus.
            subtype: PCM_16, PCM_24 or FLOAT for wav and flac; None keeps the input's depth, 24 bit for lossy
                inputs.
            existing: what to do where outputs are there already. `skip` leaves a complete result of the same
                input, model and settings alone, replaces one of the same input, and refuses to touch anything
                else; `overwrite` replaces whatever is there; `fail` refuses.
            template: path of an output inside `out_dir`, with the fields `{track}`, `{stem}` and `{ext}`.
            track: name of the input in the template; its file name without ending by default.
            verify: read the stems back, hash them, and measure how exactly they add up.
            progress: called with the `Progress`, a number from 0 to 1 with `seconds_left`; what it raises passes
                through, and returning False cancels.

        Raises:
            AudioFileError: the input cannot be read at all; of one that is damaged or cut short, `loss` says so.
            NonFiniteError: the model gave numbers that are not finite.
            CancelledError: `progress` returned False.
            OutputError: an output cannot be written, must not be replaced, or would leave the folder.
            OptionError: an unknown stem or source.
        """
        started, report = time.monotonic(), Meter(progress)
        present = None if present is None else listed(present)
        selection = self.select(stems, two_stems, present)
        source = Path(path)
        with AudioReader(source) as reader:
            track = track_of(source) if track is None else track
            paths = output_paths(out_dir, template, track, selection.names, format)
            destination = Destination(source, paths, existing)
            destination.check()
            info = reader.info
            encoding, subtype = _encoding_for(reader, format, subtype)
            origin = self._origin(source, selection, self.presence(present), encoding, subtype)
            common = SeparatedFile(
                source,
                paths,
                input_sha256=origin.input_sha256,
                sample_rate=info.sample_rate,
                channels=info.channels,
                subtype=subtype,
                output_rate=encoding.rate_for(info.sample_rate),
            )
            earlier = destination.earlier(origin)
            if earlier is not None and earlier.complete:
                hashes = file_hashes(paths) if verify else {}
                return replace(
                    common, skipped=True, gain=earlier.gain, loss=earlier.loss, output_sha256=hashes
                )
            stream = self.stream(info.sample_rate, info.channels, present=present)
            with StemFiles(
                paths,
                encoding,
                subtype,
                info.sample_rate,
                info.channels,
                absorber=selection.absorber,
                channel_mask=info.channel_mask,
            ) as files:
                check = partial(destination.check_again, origin)
                gain = self._write_stems(files, reader, stream, selection, origin, report, check)
        done = replace(
            common,
            frames=reader.frames_read,
            gain=gain,
            residual_db=stream.residual_db,
            loss=reader.loss,
            warnings=(*remarks(gain, info, encoding, earlier), *stream.remarks),
        )
        if verify:
            done = verified(done, whole=selection.whole)
        report.finish()
        _log_remarks(done)
        return replace(done, seconds=time.monotonic() - started)

    def _write_stems(
        self,
        files: StemFiles,
        reader: AudioReader,
        stream: SeparationStream,
        selection: Selection,
        origin: Origin,
        report: Callable[[float], None],
        check: Callable[[], None],
    ) -> float:
        """Write the chosen stems of a whole file, with its tags and their origin; returns their common gain."""
        recording = read_tags(reader.path)
        for stems in self._stems(reader, stream, report=lambda x: report(0.9 * x)):
            # Stems that a later run may add get the same gain.
            peak = max(float(stems.max()), -float(stems.min())) if stems.size else 0.0
            files.write(selection.pick(stems), peak)

        def tags(stem: str, gain: float, frames: int) -> Tags:
            result = Result(stem, frames, gain, reader.loss)
            return recording.for_stem(stem, describe(origin, result, __version__))

        return files.commit(lambda fraction: report(0.9 + 0.1 * fraction), tags, check)

    def separate_to(
        self,
        path: str | os.PathLike[str],
        file: BinaryIO,
        *,
        stem: str,
        present: Iterable[str] | None = None,
        progress: OnProgress | None = None,
    ) -> SeparatedFile:
        """Separate a file and write one stem, block by block, as a wav of float samples.

        Args:
            path: input in any format that soundfile or PyAV reads.
            file: where to write, open in binary mode; a pipe will do.
            stem: name of a source, or `no_<source>` for all but one.
            present: names of the sources that the recording has, as in `separate`; None for all.
            progress: as in `separate_file`.

        Raises: as `separate_file`.
        """
        started, report = time.monotonic(), Meter(progress)
        present = None if present is None else listed(present)
        selection = self.select([stem], present=present)
        source = Path(path)
        with AudioReader(source) as reader:
            info = reader.info
            input_sha256 = sha256_of(source)  # now, since it may be gone when all is read
            stream = self.stream(info.sample_rate, info.channels, present=present)
            wav = WavStream(file, info.sample_rate, info.channels)
            for stems in self._stems(reader, stream, report):
                wav.write(selection.pick(stems)[0])
            wav.finish()
        report.finish()
        done = SeparatedFile(
            source,
            outputs={},
            input_sha256=input_sha256,
            sample_rate=info.sample_rate,
            channels=info.channels,
            frames=reader.frames_read,
            subtype="FLOAT",
            output_rate=info.sample_rate,
            residual_db=stream.residual_db,
            loss=reader.loss,
            warnings=stream.remarks,
        )
        _log_remarks(done)
        return replace(done, seconds=time.monotonic() - started)

    def select(
        self,
        stems: Iterable[str] | None = None,
        two_stems: str | None = None,
        present: Iterable[str] | None = None,
    ) -> Selection:
        """Return which stems to give.

        Raises:
            OptionError: an unknown name, or stems and two_stems at once.
        """
        return Selection(self.sources, self.presence(present).residual_source, stems, two_stems)

    def _stems(
        self,
        reader: AudioReader,
        stream: SeparationStream,
        report: Callable[[float], None],
    ) -> Iterator[NDArray[np.float32]]:
        """All stems of a whole file, [K, C, n] at a time."""
        done, promised = 0, reader.info.frames
        try:
            for block in reader.blocks():
                stems = stream.push(block)
                yield stems
                done += stems.shape[-1]
                report(min(1.0, done / promised) if promised else 0.0)
            yield stream.finish()
        except NonFiniteError as error:
            raise NonFiniteError(f"{reader.path}: {error}") from None

    def _origin(
        self, source: Path, selection: Selection, presence: Presence, encoding: Encoding, subtype: str
    ) -> Origin:
        settings: dict[str, Any] = {
            "stems": list(selection.names),
            "format": encoding.name,
            "subtype": subtype,
            "device": self.device.type,
            "precision": self.precision,
            "segment_s": self.segment_s,
            "quality": self.quality.plain(),
        }
        if not presence.complete:
            settings |= {"present": list(presence.names), "residual_source": presence.residual_source}
        return Origin(sha256_of(source), self.model_sha256, settings)


def _encoding_for(reader: AudioReader, format: str, subtype: str | None) -> tuple[Encoding, str]:
    """Format and sample format of a file's stems; an error names the file."""
    info = reader.info
    try:
        return choose_encoding(format, subtype, info.depth, info.channels, info.sample_rate)
    except OutputError as error:
        raise OutputError(f"{reader.path}: {error}") from None


def _log_remarks(done: SeparatedFile) -> None:
    for note in ([done.loss] if done.loss else []) + list(done.warnings):
        logger.warning("%s: %s", done.input, note)
