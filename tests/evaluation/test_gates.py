"""The gates tell a model that uses its latents from one that does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sepvae.data.corpora import scan
from sepvae.data.excerpts import Excerpt, excerpts
from sepvae.evaluation.gates import DROPPED, SoloTable, gate_methods, reference_methods, verdicts
from sepvae.evaluation.oracles import Spectra, source_powers
from sepvae.models.separation import MaskNet, SeparationVAE
from sepvae.signal import metrics

PRESENT = ("drums", "bass", "other")


@pytest.fixture(scope="module")
def excerpt(songs, taught_model: SeparationVAE) -> Excerpt:
    config = taught_model.config
    return next(excerpts(scan(songs).songs[1], config.sources, config.sample_rate, max_seconds=10))


@pytest.fixture(scope="module")
def gained(excerpt: Excerpt, taught_model: SeparationVAE) -> dict[str, float]:
    """Mean improvement of every gate on one excerpt, and of the model."""
    spectra = Spectra.of(excerpt, taught_model)
    methods = reference_methods(None) | gate_methods(taught_model)
    with torch.inference_mode():
        estimates = {name: list(method(taught_model, spectra)) for name, method in methods.items()}
        X = taught_model.separate_frames(spectra.X[None])[0]
        estimates["model"] = [taught_model.stft.inverse(X, spectra.length).numpy()]
    return {name: float(np.mean([gain(excerpt, x) for x in found])) for name, found in estimates.items()}


def gain(excerpt: Excerpt, estimates: np.ndarray) -> float:
    found = excerpt.score(estimates)
    return float(np.mean([metrics.summarise(found[source]).si_sdr_improvement for source in PRESENT]))


def test_wrong_latents_destroy_the_separation_of_a_model_that_has_learned(gained: dict[str, float]) -> None:
    assert gained["model"] > 8
    assert gained["z permuted"] < gained["model"] - 3
    assert gained["z from the prior"] < gained["model"] - 3


def test_refined_codes_are_closer_to_the_sources(gained: dict[str, float]) -> None:
    assert gained["VAE oracle, refined codes"] > gained["VAE oracle, all levels"] + 0.1


def test_no_gate_is_above_the_oracles(gained: dict[str, float]) -> None:
    ceiling = gained["oracle variance mask"]
    assert all(score <= ceiling for name, score in gained.items() if not name.startswith("oracle PSM"))


def test_a_mask_net_has_no_gates_on_latents(small_config) -> None:
    names = gate_methods(MaskNet(small_config))
    assert names
    assert all(name.startswith("oracle") for name in names)


def test_own_vaes_win_where_each_expects_its_source(songs, excerpt: Excerpt, small_config) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SeparationVAE(small_config).eval()
    table = SoloTable(small_config.sources)
    with torch.inference_mode():
        P = source_powers(model, Spectra.of(excerpt, model))  # [K, 2, N, T]
        for k, vae in enumerate(model.vaes.values()):
            mean = P[k].mean((0, 2))
            level = (0.01 * mean / mean.mean().clamp(min=1e-9) + 1e-5).log()
            vae.scale.mean.copy_(level.reshape(vae.scale.mean.shape))
        table.add(model, excerpt)
    found = table.summary(frame_rate=62.5)
    assert list(found["elbo_nats_per_bin"]) == list(small_config.sources)
    assert all(list(row) == list(small_config.sources) for row in found["elbo_nats_per_bin"].values())
    assert all(np.isnan(value) for value in found["elbo_nats_per_bin"]["vocals"].values())
    assert found["own_vae_is_best"] == dict.fromkeys(PRESENT, True)
    assert found["classification_rate"] == dict.fromkeys(PRESENT, 1.0)
    assert set(found["rate_kbit_s"]) == set(DROPPED)
    for source in PRESENT:
        full, coarser, coarsest = (found["rate_kbit_s"][name][source] for name in DROPPED)
        assert full > coarser > coarsest > 0


def test_the_elbo_table_does_not_depend_on_the_level_of_the_solos(excerpt: Excerpt, taught_model) -> None:
    found = []
    for level in (1.0, 3.0):
        table = SoloTable(excerpt.sources)
        with torch.inference_mode():
            table.add(taught_model, dataclasses.replace(excerpt, references=excerpt.references * level))
        found.append(table.summary(62.5)["elbo_nats_per_bin"]["other"]["other"])
    assert found[0] == pytest.approx(found[1], rel=0.01)  # a few more frames are active when it is louder


def test_verdicts_say_what_was_wanted() -> None:
    scores = {
        "model": 5.0, "static EQ": 2.0, "mask net": 5.5, "z permuted": -3.0, "oracle variance mask": 15.0,
        "VAE oracle, all levels": 14.5, "VAE swapped, all levels": 13.5,
        "VAE oracle, without the finest level": 13.0, "VAE swapped, without the finest level": 2.0,
    }  # fmt: skip
    found = verdicts(scores, {"mean_classification_rate": 0.5, "own_vae_is_best": {"a": True, "b": False}})
    assert found["above static EQ"] == {
        "value": 3.0, "wanted": 2.0, "passed": True, "meaning": "model - static EQ, dB"
    }  # fmt: skip
    assert {name: gate["passed"] for name, gate in found.items()} == {
        "above static EQ": True,
        "VAE swapped, all levels": False,
        "VAE swapped, without the finest level": True,
        "VAE oracle": False,  # at the rate at which VAEs differ it is 2 dB under the mask
        "own-source ELBO": False,
        "own-source clips": False,
        "mask net": False,
        "z permuted": True,
    }
    assert found["VAE oracle"]["value"] == pytest.approx(-2.0)
