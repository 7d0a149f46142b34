"""The trained models that come with the package: finding one by name, and a table of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepvae.card import CARD_FILE, read_card
from sepvae.errors import CheckpointError
from sepvae.remote import fetch, is_address
from sepvae.resources import resource_dir

_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")


@dataclass(frozen=True)
class ModelRow:
    """One line of the table of models.

    Attributes:
        name: what `-m` takes.
        sources: the stems that it puts out.
        sample_rate: in hertz.
        parameters: number of trained numbers.
        size_bytes: size of the weights' file.
        scores: name of a test set -> mean SI-SDR improvement in dB over its sources.
        data: names of what it was trained on.
        licence: of the weights.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate: int
    parameters: int
    size_bytes: int
    scores: dict[str, float]
    data: tuple[str, ...]
    licence: str


def find(name: str | os.PathLike[str]) -> Path:
    """Folder of a model.

    Args:
        name: name of a bundled model (lower case, such as `music`), the path of a checkpoint folder, or the http(s)
            address of one (see `sepvae.remote`). A bundled name wins over a folder of the same name, which `./name`
            reaches.

    Raises:
        CheckpointError: neither a bundled model nor a folder with a card.
        DownloadError: nothing can be fetched from the address.
    """
    name = os.fspath(name)
    if is_address(name):
        return fetch(name)
    root = resource_dir("pretrained")
    places = [root / name, Path(name)] if _NAME.fullmatch(name) else [Path(name)]
    for folder in places:
        try:
            if (folder / CARD_FILE).is_file():
                return folder
        except (OSError, ValueError):  # too long for a file name, or with a null byte in it
            continue
    known = ", ".join(sorted(path.parent.name for path in root.glob(f"*/{CARD_FILE}"))) or "none"
    raise CheckpointError(f"no model {name!r}: expected a checkpoint folder or a bundled name ({known})")


def available() -> list[dict[str, Any]]:
    """Cards of the bundled models, ordered by name; each has its folder's name as `name`."""
    folders = sorted(path.parent for path in resource_dir("pretrained").glob(f"*/{CARD_FILE}"))
    return [{**read_card(folder), "name": folder.name} for folder in folders]


def model_row(card: Mapping[str, Any]) -> ModelRow:
    """Gather what the table of models shows about one card."""
    weights = card["weights"]
    return ModelRow(
        name=card.get("name", ""),
        sources=tuple(card.get("sources", ())),
        sample_rate=card.get("sample_rate", 0),
        parameters=weights.get("parameters", 0),
        size_bytes=weights["bytes"],
        scores={score["set"]: score["si_sdr_improvement_db"]["mean"] for score in card.get("scores", ())},
        data=tuple(entry["name"] for entry in card.get("data", ())),
        licence=card.get("licence", ""),
    )
