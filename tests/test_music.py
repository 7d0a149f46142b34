"""What the bundled model `music` must be able to do on a song that it never heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae import Separator
from sepvae.signal.metrics import score_track

ASSETS = Path(__file__).parent / "assets"
SOURCES = ("drums", "bass", "other")
FLOOR_DB = 6.0


@pytest.fixture(scope="module")
def references() -> dict[str, np.ndarray]:
    """Ten seconds of the instrumental example song's stems [2, L]."""
    return {name: soundfile.read(ASSETS / f"{name}.ogg", dtype="float32")[0].T for name in SOURCES}


@pytest.fixture(scope="module")
def estimates(references: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    mix = np.sum(list(references.values()), axis=0)
    return Separator.from_pretrained("music", "cpu", precision="float32").separate(mix, 44100)


def test_every_source_improves_and_their_mean_by_the_floor(
    references: dict[str, np.ndarray], estimates: dict[str, np.ndarray]
) -> None:
    mix = np.sum(list(references.values()), axis=0)
    scores = score_track(estimates, references, mix, 44100)
    gains = {source: scores[source].si_sdr_improvement for source in SOURCES}
    assert min(gains.values()) > 0, gains
    assert np.mean(list(gains.values())) > FLOOR_DB, gains


def test_a_song_without_singing_leaves_the_vocals_quiet(
    references: dict[str, np.ndarray], estimates: dict[str, np.ndarray]
) -> None:
    mix = np.sum(list(references.values()), axis=0)
    below_db = 10 * np.log10(np.square(mix).mean() / np.square(estimates["vocals"]).mean())
    assert below_db > 15


def test_the_stems_add_up(references: dict[str, np.ndarray], estimates: dict[str, np.ndarray]) -> None:
    mix = np.sum(list(references.values()), axis=0)
    np.testing.assert_allclose(np.sum(list(estimates.values()), axis=0), mix, atol=1e-5)  # float32 rounding
