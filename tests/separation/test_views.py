"""A signal that the network hears faster or slower comes back in its own time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from sepvae.models.separation import SeparationVAE
from sepvae.separation.quality import Quality
from sepvae.separation.views import MeanOfViews, View
from sepvae.separator import Separator


def view(model: SeparationVAE, sample_rate: int, channels: int, speed: float) -> View:
    return View(model, sample_rate, channels, speed, segment_s=0.2, quality=Quality())


def in_blocks(separate: View | MeanOfViews, signal: np.ndarray, size: int) -> np.ndarray:
    parts = [separate.push(signal[:, i : i + size]) for i in range(0, signal.shape[1], size)]
    return np.concatenate([*parts, separate.finish()], axis=-1)


def noise_below(hertz: float, sample_rate: int, length: int, rng: np.random.Generator) -> np.ndarray:
    low_pass = butter(8, hertz, fs=sample_rate, output="sos")
    return sosfiltfilt(low_pass, rng.standard_normal((2, length))).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [44100, 48000, 16000])
@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_the_stems_of_a_view_add_up_to_the_signal_in_its_own_time(
    tiny_model: SeparationVAE, rng: np.random.Generator, sample_rate: int, speed: float
) -> None:
    signal = noise_below(5000, sample_rate, sample_rate + 7, rng)
    total = in_blocks(view(tiny_model, sample_rate, 2, speed), signal, 3000).sum(0)
    assert abs(total.shape[1] - signal.shape[1]) <= 1
    inner = slice(1000, sample_rate - 1000)
    assert np.abs(total[:, inner] - signal[:, inner]).max() < 1e-3 * np.abs(signal).max()


def test_a_faster_view_reaches_less_high(tiny_model: SeparationVAE) -> None:
    slow, plain, fast = (view(tiny_model, 44100, 2, speed).reach_hz for speed in (0.8, 1.0, 1.25))
    assert (slow, plain, fast) == pytest.approx((22050 / 0.8, 22050, 22050 / 1.25))


@pytest.mark.parametrize("sample_rate", [44100, 16000, 96000])
@pytest.mark.parametrize("speed", [0.7, 0.89, 1.0, 1.12, 1.6])
def test_no_sample_waits_longer_than_the_latency(
    tiny_model: SeparationVAE, sample_rate: int, speed: float
) -> None:
    one, block = view(tiny_model, sample_rate, 2, speed), np.zeros((2, 400), np.float32)
    given = returned = 0
    for _ in range(sample_rate * 2 // 400):
        given += 400
        returned += one.push(block).shape[-1]
        assert given - returned <= one.latency_s * sample_rate + 400


@pytest.mark.parametrize("size", [500, 20000, 10**6])
def test_the_mean_of_views_does_not_depend_on_the_blocks(
    stirred_model: SeparationVAE, rng: np.random.Generator, size: int
) -> None:
    signal = noise_below(5000, 44100, 30011, rng)
    speeds = (0.8, 1.0, 1.1)
    alone = [in_blocks(view(stirred_model, 44100, 2, speed), signal, 10**6) for speed in speeds]
    length = min(stems.shape[-1] for stems in alone)
    together = in_blocks(MeanOfViews([view(stirred_model, 44100, 2, s) for s in speeds]), signal, size)
    expected = np.mean([stems[..., :length] for stems in alone], axis=0)
    np.testing.assert_allclose(together[..., :length], expected, atol=2e-5)


def test_rates_at_the_ends_of_what_is_allowed_can_be_separated(tiny_model: SeparationVAE) -> None:
    quality = Quality(speeds=(0.5, 2.0))
    separator = Separator(tiny_model, "cpu", precision="float32", quality=quality)
    for sample_rate in (1000, 1_536_000):
        signal = np.linspace(-0.5, 0.5, 3001, dtype=np.float32)[None]
        stems = separator.separate(signal, sample_rate)
        np.testing.assert_allclose(sum(stems.values()), signal, atol=1e-6)
