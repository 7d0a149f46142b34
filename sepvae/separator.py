"""The separator: a model on a device, applied to arrays and to files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepvae import checkpoint, pretrained
from sepvae.audio import BLOCK_FRAMES, MAX_CHANNELS, AudioReader
from sepvae.encoding import choose_encoding
from sepvae.errors import OutputError, SepvaeError, ShapeError
from sepvae.models.separation import SeparationModel
from sepvae.outputs import TEMPLATE, StemFiles, output_paths
from sepvae.resample import check_rate
from sepvae.streaming import SeparationStream

if TYPE_CHECKING:
    from typing import Self

logger = logging.getLogger(__name__)

SEGMENT_S = 12.0
"""Default length of a chunk: longer ones spend less on context, and more memory."""

EXISTING = ("fail", "skip", "overwrite")

Audio = TypeVar("Audio", NDArray[Any], Tensor)
Progress = Callable[[float], None]


@dataclass(frozen=True)
class SeparatedFile:
    """What became of one input file; iterates over the written paths.

    Args:
        input: the file.
        outputs: path of each stem.
        skipped: all outputs were there already and have been left alone; the rest of the fields is unset.
        sample_rate, channels, frames: of the input, and of the outputs unless a warning says otherwise.
        subtype: sample format of the outputs.
        gain: factor on all stems that kept the loudest at full scale; 1 unless it was beyond.
        residual_db: energy that the model did not reach and that went to its residual source, relative to the
            input.
        seconds: wall-clock time that it took.
        loss: what the file promised but lacks; None for a whole one.
        warnings: what else should be known, one line each.
    """

    input: Path
    outputs: dict[str, Path]
    skipped: bool = False
    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    subtype: str = ""
    gain: float = 1.0
    residual_db: float | None = None
    seconds: float = 0.0
    loss: str | None = None
    warnings: tuple[str, ...] = ()

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
    ) -> None:
        self.device = _find_device(device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.segment_s = segment_s
        self._autocast = _autocast_dtype(precision, self.device)
        self.stream(model.config.sample_rate, 1)  # shows now whether segment_s fits

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "music",
        device: str = "auto",
        *,
        precision: str = "auto",
        segment_s: float = SEGMENT_S,
    ) -> Self:
        """Load a bundled model by name, or any checkpoint by its folder.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        model, _ = checkpoint.load(pretrained.find(os.fspath(name)))
        return cls(model, device, precision=precision, segment_s=segment_s)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems."""
        return self.model.config.sources

    @property
    def precision(self) -> str:
        """Type that the network computes in."""
        return "float32" if self._autocast is None else str(self._autocast).removeprefix("torch.")

    def stream(self, sample_rate: int, channels: int) -> SeparationStream:
        """Return a stream that takes blocks of a signal and gives back stems as they get ready."""
        return SeparationStream(
            self.model, sample_rate, channels, segment_s=self.segment_s, autocast=self._autocast
        )

    def separate(
        self, audio: Audio, sample_rate: int, *, progress: Progress = lambda fraction: None
    ) -> dict[str, Audio]:
        """Separate a signal.

        Args:
            audio: float samples, full scale 1; never changed.
            sample_rate: in Hz.
            progress: called with the fraction that is done, 1 at the end.

        Shape: audio `[C, L]` or `[L]`, numpy or torch -> for each stem the same kind, type, shape and device.

        Returns:
            The stems by name; they add up to `audio`.

        Raises:
            ShapeError: wrong rank, type, rate or size, or NaN or infinite samples.
        """
        if isinstance(audio, Tensor):
            dtype = audio.dtype
            wide = audio.detach().float() if dtype == torch.bfloat16 else audio.detach()
            stems = self._separate(wide.cpu().numpy(), sample_rate, progress)
            return {name: torch.from_numpy(stem).to(audio.device, dtype) for name, stem in stems.items()}
        return self._separate(audio, sample_rate, progress)

    def _separate(self, audio: NDArray[Any], sample_rate: int, progress: Progress) -> dict[str, NDArray[Any]]:
        if not isinstance(audio, np.ndarray) or not np.issubdtype(audio.dtype, np.floating):
            found = audio.dtype if isinstance(audio, np.ndarray) else type(audio).__name__
            raise ShapeError(f"expected an array of float samples, found {found}")
        if audio.ndim not in (1, 2) or audio.size == 0:
            raise ShapeError(f"expected samples [C, L] or [L], found {list(audio.shape)}")
        signal = audio if audio.ndim == 2 else audio[None]
        channels, length = signal.shape
        if channels > MAX_CHANNELS:
            raise ShapeError(f"expected at most {MAX_CHANNELS} channels [C, L], found {list(audio.shape)}")
        if not np.isfinite(signal).all():
            raise ShapeError("the samples hold NaN or infinite values")
        stream = self.stream(check_rate(sample_rate), channels)
        stems = [np.empty_like(signal, order="C") for _ in self.sources]
        done = 0
        for start in range(0, length + BLOCK_FRAMES, BLOCK_FRAMES):
            block = signal[:, start : start + BLOCK_FRAMES]
            out = stream.push(block) if start < length else stream.finish()
            for stem, part in zip(stems, out, strict=True):
                stem[:, done : done + part.shape[-1]] = part
            done += out.shape[-1]
            progress(done / length)
        return {name: stem.reshape(audio.shape) for name, stem in zip(self.sources, stems, strict=True)}

    def separate_file(
        self,
        path: str | os.PathLike[str],
        out_dir: str | os.PathLike[str] = "separated",
        *,
        stems: Sequence[str] | None = None,
        two_stems: str | None = None,
        format: str = "wav",
        subtype: str | None = None,
        existing: str = "fail",
        template: str = TEMPLATE,
        track: str | None = None,
        progress: Progress = lambda fraction: None,
    ) -> SeparatedFile:
        """Separate a file into one file per stem, which appear together when all are complete.

        Args:
            path: input in any format that soundfile or PyAV reads.
            out_dir: output folder, made if it is missing.
            stems: names of the stems to write; None for all.
            two_stems: write this stem and `no_<stem>`, the exact rest.
            format: wav, flac, mp3, ogg or opus.
            subtype: PCM_16, PCM_24 or FLOAT for wav and flac; None keeps the input's depth, 24 bit for lossy
                inputs.
            existing: what to do where outputs are there already: fail, skip (all of them there) or overwrite.
            template: path of an output inside `out_dir`, with the fields `{track}`, `{stem}` and `{ext}`.
            track: name of the input in the template; its file name without ending by default.
            progress: called with the fraction that is done, 1 at the end.

        Raises:
            AudioFileError: the input cannot be read, or not to its end.
            OutputError: an output cannot be written, exists, or would leave the folder.
            ShapeError: an unknown stem.
        """
        started = time.monotonic()
        names = self.output_names(stems, two_stems)
        source = Path(path)
        paths = output_paths(out_dir, template, source.stem if track is None else track, names, format)
        if _all_there(source, paths, existing):
            return SeparatedFile(source, paths, skipped=True)
        with AudioReader(source) as reader:
            info = reader.info
            encoding, subtype = choose_encoding(format, subtype, info.depth, info.channels)
            stream = self.stream(info.sample_rate, info.channels)
            with StemFiles(
                paths,
                encoding,
                subtype,
                info.sample_rate,
                info.channels,
                expected_frames=info.frames,
                absorber=names[-1] if two_stems else self._absorber(names),
            ) as files:
                for block in reader.blocks():
                    files.write(self._select(stream.push(block), names, two_stems))
                    if info.frames:
                        progress(0.9 * min(1.0, reader.frames_read / info.frames))
                files.write(self._select(stream.finish(), names, two_stems))
                gain = files.commit(lambda fraction: progress(0.9 + 0.1 * fraction))
        progress(1.0)
        notes = []
        if gain < 1:
            notes.append(
                f"all stems lowered by {-20 * np.log10(gain):.2f} dB, since one would exceed full scale"
            )
        file_rate = encoding.rate_for(info.sample_rate)
        if file_rate != info.sample_rate:
            notes.append(f"written at {file_rate} Hz, since {format} has no {info.sample_rate} Hz")
        for note in ([reader.loss] if reader.loss else []) + notes:
            logger.warning("%s: %s", source, note)
        return SeparatedFile(
            input=source,
            outputs=paths,
            sample_rate=info.sample_rate,
            channels=info.channels,
            frames=reader.frames_read,
            subtype=subtype,
            gain=gain,
            residual_db=stream.residual_db,
            seconds=time.monotonic() - started,
            loss=reader.loss,
            warnings=tuple(notes),
        )

    def output_names(self, stems: Sequence[str] | None, two_stems: str | None) -> list[str]:
        if stems is not None and two_stems is not None:
            raise ShapeError("choose either stems or two_stems")
        chosen = [two_stems] if two_stems is not None else list(self.sources if stems is None else stems)
        unknown = [name for name in chosen if name not in self.sources]
        if unknown or not chosen:
            found = ", ".join(map(repr, unknown)) or "none"
            raise ShapeError(f"expected stems among {', '.join(self.sources)}, found {found}")
        if two_stems is not None:
            return [two_stems, f"no_{two_stems}"]
        return [name for name in self.sources if name in chosen]

    def _absorber(self, names: Sequence[str]) -> str | None:
        """The stem that takes up rounding errors, if the stems add up to the input."""
        return self.model.config.residual_source if len(names) == len(self.sources) else None

    def _select(
        self, stems: NDArray[np.float32], names: Sequence[str], two_stems: str | None
    ) -> NDArray[np.float32]:
        """Reduce all stems to those to be written, [K, C, n] -> [len(names), C, n]."""
        if two_stems is None:
            return stems[[self.sources.index(name) for name in names]]
        one = self.sources.index(two_stems)
        rest = np.delete(stems, one, axis=0).sum(axis=0, dtype=np.float64)
        return np.stack([stems[one], rest.astype(np.float32)])


def _all_there(source: Path, paths: dict[str, Path], existing: str) -> bool:
    """Whether the outputs are to be left alone; raises where they are in the way."""
    if existing not in EXISTING:
        raise OutputError(f"existing must be one of {', '.join(EXISTING)}, found {existing!r}")
    for path in paths.values():
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise OutputError(f"{path}: this output would overwrite its input")
    there = [path for path in paths.values() if os.path.exists(path)]
    if there and existing == "fail":
        raise OutputError(f"{there[0]}: exists already (the option existing allows overwrite or skip)")
    return existing == "skip" and len(there) == len(paths)


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
