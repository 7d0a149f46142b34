"""Checkpoints: a folder with `model.safetensors` (plain tensors, nothing unpickled) and `card.json`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sepvae.atomic import draft_folder, publish_folder, write_whole
from sepvae.audio.resample import MAX_RATE, MIN_RATE
from sepvae.card import (
    CARD_FILE,
    FORMAT_VERSION,
    SOURCE_NAME,
    WEIGHTS_FILE,
    WHAT_A_NAME_HAS,
    check_card,
    read_card,
)
from sepvae.errors import CheckpointError, OutputError
from sepvae.models.build import build, config_dict
from sepvae.models.separation import SeparationModel

MAX_WEIGHT_BYTES = 1 << 33
LARGE_MATRIX = 200_000
"""Elements from which on a matrix is stored in eight bits if a checkpoint is to be compact."""
# Sizes that the shapes of the weights do not bound, although memory and time grow with them.
_RANGES = {
    "sample_rate": (MIN_RATE, MAX_RATE),
    "n_fft": (2, 1 << 16),
    "hop_length": (1, 1 << 15),
    "trunk_blocks": (0, 32),
}
_MAX_SOURCES, _MAX_OVERLAP = 32, 32


def save(
    folder: str | os.PathLike[str],
    model: SeparationModel,
    card: Mapping[str, Any],
    *,
    storage_dtype: torch.dtype = torch.float32,
    compact: bool = False,
) -> dict[str, Any]:
    """Write a checkpoint folder at once: it is there complete or not at all, an older one is replaced.

    Args:
        folder: the folder to write; an existing one must hold nothing but a checkpoint.
        model: any model that `sepvae.models.build` knows.
        card: what only the caller knows: `name`, `description`, `training`, `data`, `scores`, `licence`, ...;
            what the model itself tells (config, sources, rate, STFT, hash, sizes) is filled in.
        storage_dtype: `torch.bfloat16` halves the file; vectors (biases, scales) stay float32.
        compact: store matrices of `LARGE_MATRIX` elements or more as float8 (e4m3), with an error 30 dB below them.
            The model computes in float32 all the same, with the rounded weights.

    Returns:
        The card as written.

    Raises:
        CheckpointError: a weight is not finite, or the card is incomplete.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    state = {name: _stored(tensor, storage_dtype, compact) for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        _check_finite(name, tensor, folder)
    weights = safetensors.torch.save(state)
    full = {**card, **_facts(model), "format_version": FORMAT_VERSION}
    full["weights"] = {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(storage_dtype).removeprefix("torch."),
        "compact": compact,
    }
    check_card(full, folder)
    try:
        text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: the card cannot be written as JSON ({error})") from error
    _write_folder(folder, {WEIGHTS_FILE: weights, CARD_FILE: text.encode()})
    return read_card(folder)


def load(
    folder: str | os.PathLike[str], map_location: str | torch.device = "cpu"
) -> tuple[SeparationModel, dict[str, Any]]:
    """Rebuild the model of a checkpoint folder, in float32 and in evaluation mode.

    Args:
        folder: a folder that `save` wrote.
        map_location: device to put the model on.

    Returns:
        The model and its card.

    Raises:
        CheckpointError: anything missing, damaged, of an unknown class, or unfit for the model of the card.
    """
    folder = Path(folder)
    card = read_card(folder)
    state = _read_weights(folder / WEIGHTS_FILE, card["weights"])
    _check_fit(_build(card["model"], folder, device="meta"), state, folder)
    model = _build(card["model"], folder, device="cpu").float()  # whatever torch's default type is
    model.load_state_dict(state)
    return model.eval().to(map_location), card


def stored_dtype(card: Mapping[str, Any]) -> torch.dtype:
    """Type that holds the matrices of a checkpoint as its file does, by its card: float32 unless that says bfloat16."""
    return torch.bfloat16 if card["weights"].get("dtype") == "bfloat16" else torch.float32


def _build(config: dict[str, Any], folder: Path, device: str) -> SeparationModel:
    """Build the model of a card on a device; on `meta` it has shapes only, whatever sizes the card claims."""
    try:
        check_values(config)
        with torch.device(device):
            return build(config)
    except Exception as error:
        # What a strange value leads to cannot be foreseen, and is always the card's fault.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"{folder}: its card describes no model that can be built ({reason})"
        ) from error


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse names that no stem can have, and what would cost much memory or time before the weights are looked at.

    Raises:
        CheckpointError: naming the value of a model's configuration that cannot be.
    """
    for name, (low, high) in _RANGES.items():
        values = config.get(name, low)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int) and not low <= value <= high:
                raise CheckpointError(f"{name} must lie between {low} and {high}, found {value}")
    n_fft, hop_length = config.get("n_fft", 2), config.get("hop_length", 1)
    if isinstance(n_fft, int) and isinstance(hop_length, int) and n_fft > _MAX_OVERLAP * hop_length:
        raise CheckpointError(
            f"more than {_MAX_OVERLAP} frames overlap: n_fft {n_fft}, hop_length {hop_length}"
        )
    sources = config.get("sources", [])
    if isinstance(sources, list) and len(sources) > _MAX_SOURCES:
        raise CheckpointError(f"expected at most {_MAX_SOURCES} sources, found {len(sources)}")
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, str) and not SOURCE_NAME.fullmatch(source):
            raise CheckpointError(f"{source!r:.80} cannot be the name of a source: {WHAT_A_NAME_HAS}")


def _read_weights(path: Path, declared: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of a file whose size and hash are the declared ones."""
    try:
        size = path.stat().st_size
        if size != declared["bytes"]:
            raise CheckpointError(f"{path}: expected {declared['bytes']} bytes, found {size}")
        if not path.is_file() or size > MAX_WEIGHT_BYTES:
            raise CheckpointError(f"{path}: not a regular file of at most {MAX_WEIGHT_BYTES} bytes")
        with path.open("rb") as file:
            data = file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != declared["sha256"]:
        raise CheckpointError(
            f"{path}: damaged or replaced, its sha256 differs from that in {CARD_FILE}; fetch the model folder again"
        )
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{path}: no safetensors file ({reason})") from error


def _check_fit(model: SeparationModel, state: Mapping[str, Tensor], folder: Path) -> None:
    """Compare names, shapes, kinds and finiteness of the stored tensors with what the model wants."""
    wanted = model.state_dict()
    if missing := wanted.keys() - state.keys():
        raise CheckpointError(f"{folder}: {len(missing)} tensors are missing, the first {min(missing)!r}")
    if unknown := state.keys() - wanted.keys():
        raise CheckpointError(f"{folder}: {len(unknown)} tensors are unknown, the first {min(unknown)!r}")
    for name, tensor in state.items():
        expected = wanted[name]
        if tensor.shape != expected.shape:
            raise CheckpointError(
                f"{folder}: {name} has the shape {list(tensor.shape)}, expected {list(expected.shape)}"
            )
        if tensor.is_floating_point() != expected.is_floating_point() or tensor.is_complex():
            raise CheckpointError(f"{folder}: {name} is {tensor.dtype}, expected {expected.dtype}")
        _check_finite(name, tensor, folder)


def _check_finite(name: str, tensor: Tensor, folder: Path) -> None:
    """Refuse a tensor with NaN or infinite values."""
    if tensor.is_floating_point() and not tensor.float().isfinite().all():
        raise CheckpointError(f"{folder}: {name} holds NaN or infinite values")


def _stored(tensor: Tensor, dtype: torch.dtype, compact: bool) -> Tensor:
    """A tensor as it goes into the file: on the CPU, contiguous, a copy, matrices in the storage type."""
    cast = tensor.is_floating_point() and tensor.ndim > 1
    if cast and compact and tensor.numel() >= LARGE_MATRIX:
        dtype = torch.float8_e4m3fn
    return tensor.detach().to("cpu", dtype if cast else tensor.dtype, copy=True).contiguous()


def _facts(model: SeparationModel) -> dict[str, Any]:
    """The fields of a card that the model itself tells."""
    config = model.config
    return {
        "model": config_dict(model),
        "sources": list(config.sources),
        "sample_rate": config.sample_rate,
        "stft": {"n_fft": config.n_fft, "hop_length": config.hop_length, "window": "hann"},
    }


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files, all at once, in the place of an older checkpoint."""
    try:
        if folder.exists() and (strangers := {entry.name for entry in folder.iterdir()} - files.keys()):
            raise OutputError(f"{folder}: holds {min(strangers)!r}, so it is not replaced by a checkpoint")
        with draft_folder(folder) as draft:
            for name, content in files.items():
                write_whole(draft / name, content)
            publish_folder(draft, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
