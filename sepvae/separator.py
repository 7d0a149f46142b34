"""The separator: a model on a device, applied to arrays and to files."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepvae import __version__, checkpoint, pretrained
from sepvae.audio import BLOCK_FRAMES, MAX_CHANNELS, AudioReader
from sepvae.encoding import Encoding, choose_encoding
from sepvae.errors import OutputError, SepvaeError, ShapeError
from sepvae.models.separation import SeparationModel
from sepvae.outputs import TEMPLATE, StemFiles, output_paths
from sepvae.progress import Meter, OnProgress
from sepvae.provenance import Earlier, Origin, Result, describe, look_for, sha256_of
from sepvae.quality import Quality, choose
from sepvae.resample import check_rate
from sepvae.selection import Presence, Selection
from sepvae.stdio import WavStream
from sepvae.streaming import SeparationStream
from sepvae.tags import Tags, read_tags
from sepvae.verify import SumError, sum_error

if TYPE_CHECKING:
    from typing import Self

logger = logging.getLogger(__name__)

SEGMENT_S = 12.0
"""Default length of a chunk: longer ones spend less on context, and more memory."""

EXISTING = ("fail", "skip", "overwrite")

Audio = TypeVar("Audio", NDArray[Any], Tensor)


@dataclass(frozen=True)
class SeparatedFile:
    """What became of one input file; iterates over the written paths.

    Args:
        input: the file.
        outputs: path of each stem.
        skipped: the same stems were there already and have been left alone.
        input_sha256: hash of the file.
        sample_rate, channels, frames: of the input, and of the outputs unless a warning says otherwise; frames
            are 0 if it was skipped.
        subtype: sample format of the outputs.
        output_rate: sample rate of the outputs.
        gain: factor on all stems that kept the loudest at full scale; 1 unless it was beyond.
        residual_db: energy that the model did not reach and that went to its residual source, relative to the
            input.
        seconds: wall-clock time that it took.
        loss: what the file promised but lacks; None for a whole one.
        warnings: what else should be known, one line each.
        output_sha256: hash of each stem's file; empty unless verified.
        sum_error: how far the stems that were read back are from adding up to the input; None unless verified,
            or if they are not meant to.
    """

    input: Path
    outputs: dict[str, Path]
    skipped: bool = False
    input_sha256: str = ""
    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    subtype: str = ""
    output_rate: int = 0
    gain: float = 1.0
    residual_db: float | None = None
    seconds: float = 0.0
    loss: str | None = None
    warnings: tuple[str, ...] = ()
    output_sha256: Mapping[str, str] = field(default_factory=dict)
    sum_error: SumError | None = None

    def __iter__(self) -> Iterator[Path]:
        return iter(self.outputs.values())


class Separator:
    """Separates arrays and files into stems with one model.

    It keeps no state between calls, so several threads may share one.

    Args:
        model: separation model.
        device: auto, cpu, cuda, mps, or any name that torch knows.
        precision: auto, float32 or bfloat16, the type that the network computes in; auto takes bfloat16 where
            the device is fast in it. Variances and masks are float32 always.
        segment_s: length of the chunks that the model sees, in seconds, > 0.
        quality: what is done beyond the plain Wiener filter; None for nothing.
        model_sha256: hash of the weights' file; by default one of the weights themselves.

    Raises:
        SepvaeError: the device is not there, or the precision is unknown.
    """

    def __init__(
        self,
        model: SeparationModel,
        device: str = "auto",
        *,
        precision: str = "auto",
        segment_s: float = SEGMENT_S,
        quality: Quality | None = None,
        model_sha256: str | None = None,
    ) -> None:
        self.device = _find_device(device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.segment_s = segment_s
        self.quality = quality or Quality()
        self._autocast = _autocast_dtype(precision, self.device)
        self._model_sha256 = model_sha256
        self.stream(model.config.sample_rate, 1)  # shows now whether segment_s fits

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "music",
        device: str = "auto",
        *,
        precision: str = "auto",
        segment_s: float = SEGMENT_S,
        quality: str = "balanced",
        refine: int | None = None,
    ) -> Self:
        """Load a bundled model by name, or any checkpoint by its folder.

        Args:
            name: bundled model or folder.
            device, precision, segment_s: as in the constructor.
            quality: fast, balanced or best; the model's card may say what they mean for it.
            refine: steps of refinement instead of those of `quality`, 0 to 1000.

        Raises:
            ShapeError: unknown quality, or refine out of its range.
            CheckpointError: there is none, or it is damaged.
        """
        model, card = checkpoint.load(pretrained.find(os.fspath(name)))
        sha256 = card["weights"]["sha256"]
        chosen = choose(quality, card, refine)
        return cls(
            model, device, precision=precision, segment_s=segment_s, quality=chosen, model_sha256=sha256
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems."""
        return self.model.config.sources

    @property
    def model_sha256(self) -> str:
        """Hash of the model's weights."""
        if self._model_sha256 is None:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
            self._model_sha256 = digest.hexdigest()
        return self._model_sha256

    @property
    def precision(self) -> str:
        """Type that the network computes in."""
        return "float32" if self._autocast is None else str(self._autocast).removeprefix("torch.")

    def stream(
        self,
        sample_rate: int,
        channels: int,
        *,
        segment_s: float | None = None,
        present: Sequence[str] | None = None,
    ) -> SeparationStream:
        """Return a stream that takes blocks of a signal and gives back stems as they get ready.

        Args:
            sample_rate: in Hz.
            channels: > 0.
            segment_s: length of its chunks, > 0; shorter ones lower the latency and cost more computing. None
                takes the separator's.
            present: names of the sources that the signal has, as in `separate`; None for all.
        """
        return SeparationStream(
            self.model,
            sample_rate,
            channels,
            segment_s=self.segment_s if segment_s is None else segment_s,
            autocast=self._autocast,
            quality=self.quality,
            presence=self.presence(present),
        )

    def separate(
        self,
        audio: Audio,
        sample_rate: int,
        *,
        present: Sequence[str] | None = None,
        progress: OnProgress | None = None,
    ) -> dict[str, Audio]:
        """Separate a signal, or a batch of signals one after another.

        Args:
            audio: float samples, full scale 1; never changed.
            sample_rate: in Hz.
            present: names of the sources that the recording is known to have; the stems of the others are silent.
                None for all. Where the model's residual source is absent, the first one named takes its part.
            progress: called with the `Progress`, a number from 0 to 1 with `seconds_left`; what it raises passes
                through, and returning False cancels.

        Shape: audio `[B, C, L]`, `[C, L]` or `[L]`, numpy or torch -> for each stem the same kind, type, shape
            and device.

        Returns:
            The stems by name; they add up to `audio`.

        Raises:
            ShapeError: wrong rank, type, rate or size, NaN or infinite samples, or an unknown source.
            CancelledError: `progress` returned False.
        """
        report = Meter(progress)
        if isinstance(audio, Tensor):
            dtype = audio.dtype
            wide = audio.detach().float() if dtype == torch.bfloat16 else audio.detach()
            stems = self._separate(wide.cpu().numpy(), sample_rate, present, report)
            return {name: torch.from_numpy(stem).to(audio.device, dtype) for name, stem in stems.items()}
        return self._separate(audio, sample_rate, present, report)

    def _separate(
        self, audio: NDArray[Any], sample_rate: int, present: Sequence[str] | None, report: Meter
    ) -> dict[str, NDArray[Any]]:
        if not isinstance(audio, np.ndarray) or not np.issubdtype(audio.dtype, np.floating):
            found = audio.dtype if isinstance(audio, np.ndarray) else type(audio).__name__
            raise ShapeError(f"expected an array of float samples, found {found}")
        if not 1 <= audio.ndim <= 3 or audio.size == 0:
            raise ShapeError(f"expected samples [B, C, L], [C, L] or [L], found {list(audio.shape)}")
        batch = audio.reshape((1,) * (3 - audio.ndim) + audio.shape)
        _, channels, length = batch.shape
        if channels > MAX_CHANNELS:
            raise ShapeError(f"expected at most {MAX_CHANNELS} channels [C, L], found {list(audio.shape)}")
        if not np.isfinite(batch).all():
            raise ShapeError("the samples hold NaN or infinite values")
        check_rate(sample_rate)
        stems = np.empty((len(self.sources), *batch.shape), audio.dtype)
        for index, signal in enumerate(batch):
            stream = self.stream(sample_rate, channels, present=present)
            done = 0
            for start in range(0, length + BLOCK_FRAMES, BLOCK_FRAMES):
                block = signal[:, start : start + BLOCK_FRAMES]
                out = stream.push(block) if start < length else stream.finish()
                stems[:, index, :, done : done + out.shape[-1]] = out
                done += out.shape[-1]
                report((index + done / length) / len(batch))
            for remark in stream.remarks:
                logger.warning(remark)
        return {name: stem.reshape(audio.shape) for name, stem in zip(self.sources, stems, strict=True)}

    def separate_file(
        self,
        path: str | os.PathLike[str],
        out_dir: str | os.PathLike[str] = "separated",
        *,
        stems: Sequence[str] | None = None,
        two_stems: str | None = None,
        present: Sequence[str] | None = None,
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
            AudioFileError: the input cannot be read, or not to its end.
            OutputError: an output cannot be written, must not be replaced, or would leave the folder.
            ShapeError: an unknown stem.
        """
        started, report = time.monotonic(), Meter(progress)
        presence = self.presence(present)
        selection = self.select(stems, two_stems, present)
        source = Path(path)
        paths = output_paths(
            out_dir, template, source.stem if track is None else track, selection.names, format
        )
        _check_existing(source, paths, existing)
        with AudioReader(source) as reader:
            info = reader.info
            encoding, subtype = choose_encoding(format, subtype, info.depth, info.channels)
            origin = self._origin(source, selection, presence, encoding, subtype)
            common = SeparatedFile(
                source,
                paths,
                input_sha256=origin.input_sha256,
                sample_rate=info.sample_rate,
                channels=info.channels,
                subtype=subtype,
                output_rate=encoding.rate_for(info.sample_rate),
            )
            earlier = look_for(paths, origin) if existing == "skip" else None
            if earlier is not None and earlier.complete:
                hashes = _hashes(paths) if verify else {}
                return replace(
                    common, skipped=True, gain=earlier.gain, loss=earlier.loss, output_sha256=hashes
                )
            if earlier is not None and earlier.foreign is not None:
                raise OutputError(f"{earlier.foreign} (the option existing allows overwrite)")
            stream = self.stream(info.sample_rate, info.channels, present=present)
            with StemFiles(
                paths, encoding, subtype, info.sample_rate, info.channels, absorber=selection.absorber
            ) as files:
                for block in self._stems(reader, stream, selection, report=lambda x: report(0.9 * x)):
                    files.write(block)
                recording = read_tags(source)

                def tags(stem: str, gain: float, frames: int) -> Tags:
                    result = Result(stem, frames, gain, reader.loss)
                    return recording.for_stem(stem, describe(origin, result, __version__))

                gain = files.commit(lambda fraction: report(0.9 + 0.1 * fraction), tags)
        done = replace(
            common,
            frames=reader.frames_read,
            gain=gain,
            residual_db=stream.residual_db,
            loss=reader.loss,
            warnings=(*_remarks(gain, info.sample_rate, encoding, earlier), *stream.remarks),
        )
        if verify:
            done = _verified(done, whole=selection.whole)
        report(1.0)
        for note in ([done.loss] if done.loss else []) + list(done.warnings):
            logger.warning("%s: %s", source, note)
        return replace(done, seconds=time.monotonic() - started)

    def separate_to(
        self,
        path: str | os.PathLike[str],
        file: BinaryIO,
        *,
        stem: str,
        present: Sequence[str] | None = None,
        progress: OnProgress | None = None,
    ) -> SeparatedFile:
        """Separate a file and write one stem, block by block, as a wav of float samples.

        Args:
            path: input in any format that soundfile or PyAV reads.
            file: where to write; a pipe will do.
            stem: name of a source, or `no_<source>` for all but one.
            present: names of the sources that the recording has, as in `separate`; None for all.
            progress: called with the `Progress`, a number from 0 to 1 with `seconds_left`; what it raises passes
                through, and returning False cancels.

        Raises:
            AudioFileError: the input cannot be read, or not to its end.
            OutputError: the stem cannot be written.
            ShapeError: an unknown stem.
        """
        started, report = time.monotonic(), Meter(progress)
        selection = self.select([stem], present=present)
        with AudioReader(path) as reader:
            info = reader.info
            stream = self.stream(info.sample_rate, info.channels, present=present)
            wav = WavStream(file, info.sample_rate, info.channels)
            for block in self._stems(reader, stream, selection, report):
                wav.write(block[0])
            wav.finish()
        report(1.0)
        return SeparatedFile(
            Path(path),
            outputs={},
            input_sha256=sha256_of(path),
            sample_rate=info.sample_rate,
            channels=info.channels,
            frames=reader.frames_read,
            subtype="FLOAT",
            output_rate=info.sample_rate,
            residual_db=stream.residual_db,
            seconds=time.monotonic() - started,
            loss=reader.loss,
        )

    def presence(self, present: Sequence[str] | None = None) -> Presence:
        """Return which sources a recording has.

        Raises:
            ShapeError: an unknown name.
        """
        return Presence(self.sources, self.model.config.residual_source, present)

    def select(
        self,
        stems: Sequence[str] | None = None,
        two_stems: str | None = None,
        present: Sequence[str] | None = None,
    ) -> Selection:
        """Return which stems to give.

        Raises:
            ShapeError: an unknown name, or stems and two_stems at once.
        """
        return Selection(self.sources, self.presence(present).residual_source, stems, two_stems)

    def _stems(
        self,
        reader: AudioReader,
        stream: SeparationStream,
        selection: Selection,
        report: Callable[[float], None],
    ) -> Iterator[NDArray[np.float32]]:
        """The chosen stems of a whole file, [len(names), C, n] at a time."""
        for block in reader.blocks():
            yield selection.pick(stream.push(block))
            if reader.info.frames:
                report(min(1.0, reader.frames_read / reader.info.frames))
        yield selection.pick(stream.finish())

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


def _check_existing(source: Path, paths: Mapping[str, Path], existing: str) -> None:
    """Raise where outputs are in the way of the input, or of an option that leaves no choice."""
    if existing not in EXISTING:
        raise OutputError(f"existing must be one of {', '.join(EXISTING)}, found {existing!r}")
    for path in paths.values():
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise OutputError(f"{path}: this output would overwrite its input")
        if existing == "fail" and os.path.lexists(path):
            raise OutputError(f"{path}: exists already (the option existing allows overwrite or skip)")


def _remarks(gain: float, sample_rate: int, encoding: Encoding, earlier: Earlier | None) -> tuple[str, ...]:
    """What should be known about a result, one line each."""
    notes = []
    if earlier is not None and earlier.there:
        notes.append("an earlier result, incomplete or of another model or settings, was replaced")
    if gain < 1:
        notes.append(f"all stems lowered by {-20 * np.log10(gain):.2f} dB, since one would exceed full scale")
    file_rate = encoding.rate_for(sample_rate)
    if file_rate != sample_rate:
        notes.append(f"written at {file_rate} Hz, since {encoding.name} has no {sample_rate} Hz")
    return tuple(notes)


def _hashes(paths: Mapping[str, Path]) -> dict[str, str]:
    return {stem: sha256_of(path) for stem, path in paths.items()}


def _verified(done: SeparatedFile, whole: bool) -> SeparatedFile:
    """Read a result back; what goes wrong there is a warning, since the files are complete."""
    try:
        error = sum_error(done.input, done.outputs.values(), done.gain) if whole else None
        return replace(done, output_sha256=_hashes(done.outputs), sum_error=error)
    except SepvaeError as failure:
        return replace(done, warnings=(*done.warnings, f"could not be verified: {failure}"))


def _find_device(name: str) -> torch.device:
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # torch asserts that CUDA was compiled in
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SepvaeError(f"device {name!r} cannot be used ({reason})") from error
    return device


def _autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    if precision not in ("auto", "float32", "bfloat16"):
        raise SepvaeError(f"precision must be auto, float32 or bfloat16, found {precision!r}")
    fast = precision == "bfloat16" or (precision == "auto" and _fast_bfloat16(device))
    return torch.bfloat16 if fast else None


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; an old torch that cannot tell counts as no."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
