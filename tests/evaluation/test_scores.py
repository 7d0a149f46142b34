"""Scores go from a report into the card, and the weights stay as they are."""

from pathlib import Path

from sepvae import checkpoint
from sepvae.evaluation.scores import into_card
from sepvae.models.separation import SeparationVAE


def report(dataset: str, model: float) -> dict:
    def method(value: float) -> dict:
        scores = {"vocals": {"si_sdr_improvement": value}, "bass": {"si_sdr_improvement": None}}
        return {"sources": scores, "mean": {"si_sdr_improvement": value}, "tracks": {"song": {}}}

    methods = {"model": method(model), "static EQ": method(1.0), "oracle variance mask": method(12.0)}
    return {"dataset": dataset, "protocol": {"window_s": 10.0}, "methods": methods}


def test_a_new_score_replaces_the_one_of_the_same_set(tiny_model: SeparationVAE, tmp_path: Path) -> None:
    before = checkpoint.save(tmp_path / "model", tiny_model, {"name": "tiny"})
    into_card(tmp_path / "model", report("one", 5.0))
    into_card(tmp_path / "model", report("two", 6.0))
    card = into_card(tmp_path / "model", report("one", 7.0))
    assert [(score["set"], score["si_sdr_improvement_db"]) for score in card["scores"]] == [
        ("two", {"vocals": 6.0, "mean": 6.0}),
        ("one", {"vocals": 7.0, "mean": 7.0}),
    ]
    assert card["scores"][0]["oracle_mask_db"]["mean"] == 12.0
    assert card["weights"] == before["weights"]
    assert card["name"] == "tiny"


def test_a_compact_model_stays_compact(tiny_model: SeparationVAE, tmp_path: Path) -> None:
    before = checkpoint.save(tmp_path / "model", tiny_model, {"name": "tiny"}, compact=True)
    assert into_card(tmp_path / "model", report("one", 5.0))["weights"] == before["weights"]
    assert before["weights"]["compact"]
