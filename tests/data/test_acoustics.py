"""Simulated rooms and noises made by formula."""

from __future__ import annotations

import numpy as np
import pytest

from sepvae.data.acoustics import coloured_noise, hum, in_room, room

SAMPLE_RATE = 16000


def test_a_room_starts_with_its_direct_sound_and_dies_away() -> None:
    response = room(SAMPLE_RATE, np.random.default_rng(1))
    assert np.abs(response[: SAMPLE_RATE // 200]).max() == pytest.approx(1)
    click = np.zeros(2 * SAMPLE_RATE, np.float32)
    click[100] = 1
    heard = in_room(click, response)
    assert np.abs(heard[:100]).max() < 1e-6
    assert np.sum(heard[SAMPLE_RATE:] ** 2) < 1e-3 * np.sum(heard**2)


def test_generated_noise_is_steady_and_of_unit_power() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for audio in (coloured_noise(SAMPLE_RATE, SAMPLE_RATE, rng), hum(SAMPLE_RATE, SAMPLE_RATE, rng)):
            assert np.isfinite(audio).all()
            assert np.mean(audio**2) == pytest.approx(1, rel=1e-3)
