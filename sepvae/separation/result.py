"""What became of one input file: the facts, the remarks on them, and what reading the stems back says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sepvae.audio import AudioInfo
from sepvae.audio.encoding import Encoding
from sepvae.audio.surround import is_standard
from sepvae.audio.verify import SumError, sum_error
from sepvae.errors import SepvaeError
from sepvae.separation.provenance import Earlier, sha256_of


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


def remarks(gain: float, info: AudioInfo, encoding: Encoding, earlier: Earlier | None) -> tuple[str, ...]:
    """What should be known about a result, one line each."""
    notes = []
    if earlier is not None and earlier.there:
        notes.append("an earlier result, incomplete or of another model or settings, was replaced")
    if gain < 1:
        notes.append(f"all stems lowered by {-20 * np.log10(gain):.2f} dB, since one would exceed full scale")
    file_rate = encoding.rate_for(info.sample_rate)
    if file_rate != info.sample_rate:
        notes.append(f"written at {file_rate} Hz, since {encoding.name} has no {info.sample_rate} Hz")
    if not encoding.tells_speakers and not is_standard(info.channel_mask, info.channels):
        notes.append(
            f"{encoding.name} cannot tell which speakers the channels belong to: players will take them for others"
        )
    if encoding.container == "OGG" and info.channels >= 6:  # the last but two, in wav's order the fourth
        notes.append(f"{encoding.name} takes channel 4 for that of a subwoofer and keeps its low notes only")
    return tuple(notes)


def file_hashes(paths: Mapping[str, Path]) -> dict[str, str]:
    """Hash of each stem's file."""
    return {stem: sha256_of(path) for stem, path in paths.items()}


def verified(done: SeparatedFile, whole: bool) -> SeparatedFile:
    """Read a result back; what goes wrong there is a warning, since the files are complete."""
    try:
        error = sum_error(done.input, done.outputs.values(), done.gain) if whole else None
        return replace(done, output_sha256=file_hashes(done.outputs), sum_error=error)
    except SepvaeError as failure:
        return replace(done, warnings=(*done.warnings, f"could not be verified: {failure}"))
