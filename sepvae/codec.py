"""Latents of a stem in a small file: rounded to steps of the encoder's own uncertainty, then entropy-coded."""

from __future__ import annotations

import json
import lzma
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepvae.atomic import write_whole
from sepvae.audio.resample import check_rate
from sepvae.errors import AudioFileError, OptionError, OutputError, ShapeError
from sepvae.generation import latent_shapes
from sepvae.models.vae import FRAME_MULTIPLE, VAEConfig

MAGIC = b"sepvae-latents-1\n"
STEP = 2.0
"""Default step of the rounding, in standard deviations of the posterior: finer ones lower no error."""
MAX_HEADER_BYTES = 1 << 20
MAX_FRAMES = 1 << 24
MAX_SAMPLES = 1 << 36

_MAX_LEVEL = 32767

# Nothing but digital silence shrinks this far, and there is no need for hours of it.
_BOMB_RATIO, _BOMB_BYTES = 1000, 1 << 28

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True)
class CodedStem:
    """A stem as whole numbers.

    Attributes:
        source: the source whose autoencoder coded it.
        weights: sha256 of the weights, which must be the same for decoding.
        sample_rate, channels, samples: of the stem.
        frames: STFT frames at the model's rate, a multiple of 8.
        levels: rounded latents, coarsest level first, then pan; None for one that is left out.
        steps: per level the size of a step in every channel; None where the level is left out.

    Shape: levels `[D, F, T]`, int; steps `[D]`.
    """

    source: str
    weights: str
    sample_rate: int
    channels: int
    samples: int
    frames: int
    levels: tuple[NDArray[np.int16] | None, ...]
    steps: tuple[NDArray[np.float32] | None, ...]

    @property
    def latents(self) -> list[Tensor | None]:
        """The latents in the shape that decoders take, `[1, D, F, T]` each."""
        return [
            None if level is None or step is None else torch.from_numpy(level * step[:, None, None])[None]
            for level, step in zip(self.levels, self.steps, strict=True)
        ]


def quantise(
    means: list[Tensor], spreads: list[Tensor], *, step: float = STEP, drop: int = 0
) -> tuple[tuple[NDArray[np.int16] | None, ...], tuple[NDArray[np.float32] | None, ...]]:
    """Round latents; the steps of each channel follow its posterior's spread.

    Args:
        means, spreads: of the posterior, coarsest level first, then the pan latent.
        step: in root-mean-square standard deviations of a channel, > 0.
        drop: how many of the finest levels to leave out; the decoder puts their prior's mean there.

    Shape: `[1, D, F, T]` -> levels `[D, F, T]` and steps `[D]`.

    Raises:
        OptionError: the step is too small for 16 bits, or out of its range, or too much is dropped.
    """
    ladder = len(means) - 1
    if not 0 < step < math.inf or not 0 <= drop < ladder:
        raise OptionError(
            f"expected a step > 0 and fewer than {ladder} levels to drop, found {step} and {drop}"
        )
    levels: list[NDArray[np.int16] | None] = []
    steps: list[NDArray[np.float32] | None] = []
    least = 0.0  # step that 16 bits need
    for index, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
        if ladder - drop <= index < ladder:
            levels.append(None)
            steps.append(None)
            continue
        units = spread[0].square().mean((1, 2)).sqrt().clamp(min=1e-4)  # [D]
        sizes = step * units
        rounded = torch.round(mean[0] / sizes[:, None, None])
        if rounded.abs().max() > _MAX_LEVEL:
            least = max(least, float((mean[0].abs().amax((1, 2)) / units).max()) / _MAX_LEVEL)
            continue
        levels.append(rounded.cpu().numpy().astype(np.int16))
        steps.append(sizes.cpu().numpy().astype(np.float32))
    if least > 0:
        digit = 10.0 ** (math.floor(math.log10(least)) - 1)
        raise OptionError(
            f"a step of {step:g} is too fine for 16 bits, {math.ceil(least / digit) * digit:.2g} is not"
        )
    return tuple(levels), tuple(steps)


def write(path: str | os.PathLike[str], coded: CodedStem) -> int:
    """Write a coded stem; the file appears when it is complete.

    Returns:
        Its size in bytes.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    header = {
        "source": coded.source,
        "weights": coded.weights,
        "sample_rate": coded.sample_rate,
        "channels": coded.channels,
        "samples": coded.samples,
        "frames": coded.frames,
        "steps": [None if step is None else step.tolist() for step in coded.steps],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    payload = b"".join(_planes(level) for level in coded.levels if level is not None)
    packed = lzma.compress(payload, lzma.FORMAT_RAW, filters=_FILTERS)
    data = MAGIC + len(text).to_bytes(4, "little") + text + packed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    return len(data)


def read(path: str | os.PathLike[str], config: VAEConfig) -> CodedStem:
    """Read a coded stem.

    Args:
        config: shape of the autoencoders that are to decode it.

    Raises:
        AudioFileError: missing, damaged, or not made by such an autoencoder.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read ({error.strerror})") from error
    if not data.startswith(MAGIC):
        raise AudioFileError(f"{path}: no latents that `sepvae encode` has written")
    try:
        return _parse(data[len(MAGIC) :], config)
    except (
        ShapeError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
        lzma.LZMAError,
    ) as error:
        raise AudioFileError(f"{path}: damaged, or made by another kind of model ({error})") from error


def _parse(data: bytes, config: VAEConfig) -> CodedStem:
    """A coded stem from all bytes behind the magic ones; whatever is wrong with them is an error of some kind."""
    size = int.from_bytes(data[:4], "little")
    if size > MAX_HEADER_BYTES or len(data) < 4 + size:
        raise ValueError("its header is cut off")
    header: dict[str, Any] = json.loads(data[4 : 4 + size])
    counts = _counts(header)
    shapes = latent_shapes(config, counts["frames"])
    steps = _steps(header, shapes)
    kept = [shape for step, shape in zip(steps, shapes, strict=True) if step is not None]
    expected = 2 * sum(math.prod(shape) for shape in kept)
    if expected > max(_BOMB_BYTES, _BOMB_RATIO * len(data)):
        raise ValueError(f"{len(data)} bytes cannot hold {counts['frames']} frames")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    payload = unpacker.decompress(data[4 + size :], max_length=expected + 1)
    if len(payload) != expected:
        raise ValueError("other frames")
    if unpacker.unused_data:
        raise ValueError("other bytes follow")
    levels: list[NDArray[np.int16] | None] = []
    position = 0
    for step, shape in zip(steps, shapes, strict=True):
        length = 0 if step is None else 2 * math.prod(shape)
        levels.append(None if step is None else _whole(payload[position : position + length], shape))
        position += length
    return CodedStem(
        source=str(header["source"]),
        weights=str(header["weights"]),
        levels=tuple(levels),
        steps=steps,
        **counts,
    )


def _counts(header: dict[str, Any]) -> dict[str, int]:
    """Rate, channels, samples and frames of a header, if a stem can have them."""
    counts = {name: int(header[name]) for name in ("sample_rate", "channels", "samples", "frames")}
    check_rate(counts["sample_rate"])
    if not 0 < counts["frames"] <= MAX_FRAMES or counts["frames"] % FRAME_MULTIPLE:
        raise ValueError("an impossible number of frames")
    if counts["channels"] not in (1, 2) or not 0 < counts["samples"] <= MAX_SAMPLES:
        raise ValueError("an impossible length or number of channels")
    return counts


def _steps(
    header: dict[str, Any], shapes: Sequence[tuple[int, int, int]]
) -> tuple[NDArray[np.float32] | None, ...]:
    """Steps of every level of a header, if they are those of latents of these shapes."""
    steps = tuple(None if step is None else np.asarray(step, np.float32) for step in header["steps"])
    if len(steps) != len(shapes):
        raise ValueError("other levels")
    for step, (channels, _, _) in zip(steps, shapes, strict=True):
        if step is not None and (step.shape != (channels,) or not np.isfinite(step).all()):
            raise ValueError("other channels")
    if steps[0] is None:
        raise ValueError("its coarsest level is left out")
    return steps


def _planes(level: NDArray[np.int16]) -> bytes:
    """Low bytes, then high bytes, of numbers folded so that small ones of both signs are small."""
    folded = ((level.astype(np.int32) << 1) ^ (level.astype(np.int32) >> 31)).astype(np.uint16)
    return (folded & 255).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()


def _whole(data: bytes, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Undo `_planes`."""
    planes = np.frombuffer(data, np.uint8).reshape(2, *shape).astype(np.int32)
    folded = planes[0] | planes[1] << 8
    return ((folded >> 1) ^ -(folded & 1)).astype(np.int16)
