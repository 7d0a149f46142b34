"""Validation during training takes the same scores as a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sepvae.data import corpora
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.signal import metrics
from sepvae.training.validation import validation_scores

RATE = 8000


@pytest.fixture
def model(tiny_config: SeparationConfig) -> SeparationVAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SeparationVAE(dataclasses.replace(tiny_config, sample_rate=RATE))


@pytest.fixture
def songs(tmp_path: Path, rng: np.random.Generator) -> tuple[corpora.Track, ...]:
    """One song: drums alone for 10 s, then drums and bass for 20 s."""
    drums = rng.uniform(-0.2, 0.2, (2, 30 * RATE))
    bass = rng.uniform(-0.2, 0.2, (2, 30 * RATE)).cumsum(axis=1) * 0.02
    bass[:, : 10 * RATE] = 0
    corpora.write_track(tmp_path / "song", {"drums": drums, "bass": bass}, RATE, {})
    return corpora.scan(tmp_path).songs


def test_scores_are_those_of_the_first_windows_in_which_two_sources_sound(
    model: SeparationVAE, songs: tuple[corpora.Track, ...]
) -> None:
    found = validation_scores(model, songs, seconds=5)
    stems = corpora.read_stems(songs[0], RATE)
    mix = torch.from_numpy(sum(stems.values()))[None]
    with torch.inference_mode():
        whole = model.stft.inverse(model.separate_frames(model.stft(mix)), mix.shape[-1])[0]
    window = slice(10 * RATE, 20 * RATE)
    expected = {}
    for k, source in enumerate(model.config.sources):
        if source in stems:
            estimate, reference = (x[:, window] for x in (whole[k].numpy(), stems[source]))
            score = metrics.score_track({source: estimate}, {source: reference}, mix[0, :, window], RATE)
            expected[source] = score[source].si_sdr_improvement
    assert found == pytest.approx(expected, abs=1e-3)  # the part is separated with its context, not the whole


def test_the_model_is_left_in_its_mode(model: SeparationVAE, songs: tuple[corpora.Track, ...]) -> None:
    for mode in (True, False):
        model.train(mode)
        validation_scores(model, songs, seconds=1)
        assert model.training is mode


def test_a_set_without_sound_has_no_scores(model: SeparationVAE) -> None:
    assert validation_scores(model, [], seconds=1) == {}
