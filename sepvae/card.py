"""The card of a checkpoint: its model, training, data, scores, licence and the hash of its weights."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from sepvae.errors import CheckpointError

FORMAT_VERSION = 1
CARD_FILE = "card.json"
WEIGHTS_FILE = "model.safetensors"
MAX_CARD_BYTES = 1 << 20
SOURCE_NAME = re.compile(r"\w[\w +-]{0,63}")
"""A source's name, which is that of a file and of a module."""
WHAT_A_NAME_HAS = "expected letters, digits, spaces, _, + and -"
REQUIRED: dict[str, type] = {"format_version": int, "model": dict, "weights": dict}
OPTIONAL: dict[str, type] = {
    "name": str,
    "description": str,
    "sources": list,
    "sample_rate": int,
    "stft": dict,
    "training": dict,
    "data": list,
    "scores": list,
    "quality": dict,
    "licence": str,
}


HISTORY = ("init", "mean_of")
"""Fields of a training that hold the trainings before it."""


def without_history(training: dict[str, Any]) -> dict[str, Any]:
    """A training with no more than hash and steps of the models that it started from."""
    short = dict(training)
    for key in HISTORY:
        if isinstance(training.get(key), list):
            entries = [each for each in training[key] if isinstance(each, dict)]
            short[key] = [{k: each[k] for k in ("sha256", "steps") if k in each} for each in entries]
    return short


def check_card(card: object, where: str | Path) -> dict[str, Any]:
    """Make sure that a card has the fields that loading relies on, each of its type.

    Args:
        card: what the JSON file held.
        where: what to call it in an error.

    Raises:
        CheckpointError: naming the first field that is missing or of the wrong type.
    """
    if not isinstance(card, dict):
        raise CheckpointError(f"{where}: expected a JSON object, found {type(card).__name__}")
    version = card.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: format version {version} is newer than {FORMAT_VERSION}, the newest read here"
        )
    for field, kind in (REQUIRED | OPTIONAL).items():
        if field not in card and field in REQUIRED:
            raise CheckpointError(f"{where}: the field {field!r} is missing")
        if field in card and (not isinstance(card[field], kind) or isinstance(card[field], bool)):
            found = type(card[field]).__name__
            raise CheckpointError(f"{where}: {field!r} must be of type {kind.__name__}, found {found}")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{where}: unknown format version {version}")
    weights = card["weights"]
    if not isinstance(weights.get("sha256"), str) or not isinstance(weights.get("bytes"), int):
        raise CheckpointError(f"{where}: 'weights' must hold 'sha256' (text) and 'bytes' (a whole number)")
    return card


def read_card(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check `card.json` of a checkpoint folder.

    Raises:
        CheckpointError: the folder or the card is missing, too large, no JSON or incomplete.
    """
    folder = Path(folder)
    path = folder / CARD_FILE
    try:
        if path.exists() and not path.is_file():  # a device or a pipe has no end
            raise CheckpointError(f"{path}: not a regular file")
        with path.open("rb") as file:
            text = file.read(MAX_CARD_BYTES + 1)
        if len(text) > MAX_CARD_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_CARD_BYTES} bytes, so no card of a model")
        card = json.loads(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such checkpoint folder") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path}: cannot be read as a card ({reason})") from error
    return check_card(card, path)
