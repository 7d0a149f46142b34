"""Scores that travel with a model: from a report into its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepvae import checkpoint

COMPARED = {
    "model": "si_sdr_improvement_db",
    "static EQ": "static_eq_db",
    "oracle variance mask": "oracle_mask_db",
}
"""Method of a report -> field of a card's score, SI-SDR improvement in dB per source and their mean."""


def score_entry(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of one evaluated dataset, from the report of `evaluate`."""
    entry: dict[str, Any] = {"set": report["dataset"], "protocol": report["protocol"]}
    for method, field in COMPARED.items():
        if method in report["methods"]:
            found = report["methods"][method]
            by_source = {
                source: values["si_sdr_improvement"]
                for source, values in found["sources"].items()
                if values["si_sdr_improvement"] is not None
            }
            entry[field] = {**by_source, "mean": found["mean"]["si_sdr_improvement"]}
    entry["tracks"] = len(report["methods"]["model"]["tracks"])
    if "bss_eval" in report:
        sources = {**report["bss_eval"]["sources"], "mean": report["bss_eval"]["mean"]}
        entry["sdr_db"] = {source: values["sdr"] for source, values in sources.items()}
    return entry


def into_card(folder: str | Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write the scores of a report into the card of the model that it was taken from, in place of earlier ones.

    Returns:
        The new card.

    Raises:
        CheckpointError: the folder holds no sound model.
        OutputError: it cannot be written.
    """
    model, card = checkpoint.load(folder)
    entry = score_entry(report)
    others = [score for score in card.get("scores", []) if score["set"] != entry["set"]]
    card = {**card, "scores": [*others, entry]}
    return checkpoint.save(
        folder,
        model,
        card,
        storage_dtype=checkpoint.stored_dtype(card),
        compact=card["weights"].get("compact", False),
    )
