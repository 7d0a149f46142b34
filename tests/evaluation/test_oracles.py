"""Oracles bound what masks can do; the VAE oracle has a rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sepvae.data.corpora import scan
from sepvae.data.excerpts import Excerpt, excerpts
from sepvae.evaluation import oracles
from sepvae.evaluation.baselines import StaticEQ
from sepvae.evaluation.oracles import Spectra
from sepvae.models.separation import SeparationVAE
from sepvae.signal import metrics

PRESENT = ("drums", "bass", "other")


@pytest.fixture(scope="module")
def excerpt(songs, taught_model: SeparationVAE) -> Excerpt:
    config = taught_model.config
    return next(excerpts(scan(songs).songs[0], config.sources, config.sample_rate, max_seconds=10))


@pytest.fixture(scope="module")
def spectra(excerpt: Excerpt, taught_model: SeparationVAE) -> Spectra:
    return Spectra.of(excerpt, taught_model)


def scores(excerpt: Excerpt, model: SeparationVAE, spectra: Spectra, M: torch.Tensor) -> dict[str, float]:
    found = excerpt.score(oracles.synthesise(model, spectra, M))
    return {source: metrics.summarise(found[source]).si_sdr_improvement for source in PRESENT}


def test_the_oracle_mask_beats_the_static_eq_and_phase_sensitive_ones_beat_it(
    excerpt: Excerpt, spectra: Spectra, taught_model: SeparationVAE, songs
) -> None:
    config = taught_model.config
    equaliser = StaticEQ.measure(songs, config.sources, taught_model.stft, config.sample_rate)
    masks = {
        "static EQ": equaliser.masks(),
        "banded": oracles.banded_variance_masks(taught_model, spectra),
        "oracle": oracles.variance_masks(spectra),
        "clipped": oracles.phase_sensitive_masks(spectra, clipped=True),
        "phase-sensitive": oracles.phase_sensitive_masks(spectra, clipped=False),
    }
    found = {name: scores(excerpt, taught_model, spectra, M) for name, M in masks.items()}
    for source in PRESENT:
        assert found["static EQ"][source] < found["oracle"][source]
        assert found["banded"][source] < found["oracle"][source]
        assert found["oracle"][source] < found["clipped"][source] < found["phase-sensitive"][source]


def test_masks_add_up_to_one_so_stems_add_up_to_the_mixture(
    excerpt: Excerpt, spectra: Spectra, taught_model: SeparationVAE
) -> None:
    for M in (
        oracles.variance_masks(spectra),
        oracles.banded_variance_masks(taught_model, spectra),
        oracles.phase_sensitive_masks(spectra, clipped=False),
    ):
        estimates = oracles.synthesise(taught_model, spectra, M)
        np.testing.assert_allclose(estimates.sum(0), excerpt.mixture, atol=1e-5)


def test_no_real_mask_has_a_smaller_error_than_the_phase_sensitive_one(spectra: Spectra) -> None:
    M = oracles.phase_sensitive_masks(spectra, clipped=False)
    best = (spectra.X * M - spectra.S).abs().square().sum()
    for step in (-0.01, 0.01):
        assert (spectra.X * (M + step) - spectra.S).abs().square().sum() > best


def test_silence_gives_every_source_its_share_and_no_nan() -> None:
    silence = Spectra(
        torch.zeros(2, 5, 3, dtype=torch.complex64), torch.zeros(4, 2, 5, 3, dtype=torch.complex64), 9
    )
    torch.testing.assert_close(oracles.variance_masks(silence), torch.full((4, 2, 5, 3), 0.25))
    assert oracles.phase_sensitive_masks(silence, clipped=False).isfinite().all()


def test_the_nats_of_all_frames_are_the_kl_of_the_ladder(
    spectra: Spectra, taught_model: SeparationVAE
) -> None:
    vae = taught_model.source_vae("drums")
    P = oracles.source_powers(taught_model, spectra)[1]
    with torch.inference_mode():
        posterior = vae.encode(P[None])
        _, priors = vae.decode_with_priors(posterior.mean)
        expected = vae.kl(posterior, priors)[0]
        coded = oracles.code(vae, P)
    torch.testing.assert_close(coded.nats.sum(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(coded.log_variance, vae.decode(posterior.mean)[0])


def test_fewer_levels_cost_less_and_what_is_dropped_is_not_used(
    spectra: Spectra, taught_model: SeparationVAE, tiny_model: SeparationVAE
) -> None:
    P = oracles.source_powers(taught_model, spectra)[1]
    vae = tiny_model.source_vae("drums")
    with torch.inference_mode():
        before = [oracles.code(vae, P, dropped=dropped) for dropped in range(3)]
        totals = [float(coded.nats.sum()) for coded in before]
        assert totals[0] > totals[1] > totals[2] > 0
        vae.heads.heads[2].project.bias += 0.5  # the finest level's posterior
        after = [oracles.code(vae, P, dropped=dropped) for dropped in range(3)]
    assert not torch.allclose(after[0].log_variance, before[0].log_variance)
    for kept in (1, 2):
        torch.testing.assert_close(after[kept].log_variance, before[kept].log_variance)
        torch.testing.assert_close(after[kept].nats, before[kept].nats)


def test_draws_follow_their_seed(spectra: Spectra, taught_model: SeparationVAE) -> None:
    vae = taught_model.source_vae("bass")
    P = oracles.source_powers(taught_model, spectra)[2]
    with torch.inference_mode():
        a, b, c = (
            oracles.code(vae, P, generator=torch.Generator().manual_seed(seed)).log_variance
            for seed in (0, 0, 1)
        )
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_swaps_leave_no_source_in_its_place_and_use_every_other_vae(count: int) -> None:
    found = list(oracles.swaps(count))
    for k in range(count):
        assert sorted(order[k] for order in found) == [j for j in range(count) if j != k]


def test_rates_are_in_kilobits() -> None:
    nats = torch.full((10,), np.log(2) * 100)  # 100 bits a frame
    assert oracles.kbit_per_second(nats, frame_rate=40.0) == pytest.approx(4.0)


def test_frames_are_active_above_45_db_under_full_scale(taught_model: SeparationVAE) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4000)).astype(np.float32))
    for level_db, expected in ((-44, True), (-46, False)):
        frames = oracles.active_frames(taught_model.stft(noise * 10 ** (level_db / 20)).abs().square())
        share = float(frames[4:-4].float().mean())
        assert share > 0.9 if expected else share < 0.1
