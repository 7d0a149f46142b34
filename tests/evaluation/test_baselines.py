"""The static EQ is the Wiener filter of mean spectra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sepvae.data.corpora import write_track
from sepvae.errors import DataError
from sepvae.evaluation.baselines import StaticEQ
from sepvae.signal.stft import STFT

RATE = 8000
SOURCES = ("drums", "bass")


@pytest.fixture
def stft() -> STFT:
    return STFT(128, 32)


@pytest.fixture
def dataset(tmp_path: Path, rng: np.random.Generator) -> Path:
    """White drums and bass at powers of 4 to 1 in a loud song, of 3 to 2 in a soft one, and a loud solo."""
    for name, level, ratio in (("loud", 0.1, 4), ("soft", 0.003, 1.5)):
        noise = rng.standard_normal((2, 2, 20 * RATE)) * level
        write_track(tmp_path / name, {"drums": noise[0], "bass": noise[1] / ratio**0.5}, RATE, {})
    write_track(tmp_path / "solo", {"bass": rng.standard_normal((2, 20 * RATE)) * 0.2}, RATE, {})
    return tmp_path


def test_gains_are_the_share_of_each_source_in_songs_of_any_level(dataset: Path, stft: STFT) -> None:
    M = StaticEQ.measure(dataset, SOURCES, stft, RATE).masks()
    assert M.shape == (2, 1, 65, 1)
    torch.testing.assert_close(M.sum(0), torch.ones(1, 65, 1))
    torch.testing.assert_close(M[0, 0, :, 0], torch.full((65,), 0.7), atol=0.02, rtol=0)  # clips of noise


def test_a_source_that_no_song_has_gets_nothing(dataset: Path, stft: STFT) -> None:
    M = StaticEQ.measure(dataset, (*SOURCES, "vocals"), stft, RATE).masks()
    assert M[2].max() < 1e-6


def test_measuring_twice_gives_the_same(dataset: Path, stft: STFT) -> None:
    a, b = (StaticEQ.measure(dataset, SOURCES, stft, RATE).power for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_a_set_of_solos_gives_no_levels(tmp_path: Path, stft: STFT) -> None:
    write_track(tmp_path / "solo", {"bass": np.full((2, 999), 0.1)}, RATE, {})
    with pytest.raises(DataError, match="no song"):
        StaticEQ.measure(tmp_path, SOURCES, stft, RATE)
