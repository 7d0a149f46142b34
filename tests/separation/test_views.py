"""A signal that the network hears faster or slower comes back in its own time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import soxr
import torch
from scipy.signal import butter, sosfiltfilt

from sepvae.models.separation import SeparationVAE
from sepvae.separation.quality import Quality
from sepvae.separation.views import MeanOfViews, View
from sepvae.separator import Separator

RATE = 44100


def stems_of(model: SeparationVAE, signal: np.ndarray, speed: float) -> np.ndarray:
    view = View(model, len(signal), speed, segment_s=0.2, quality=Quality())
    with torch.inference_mode():
        return view.finish(torch.from_numpy(signal)).numpy()


def mean_of_views(model: SeparationVAE, sample_rate: int, speeds: tuple[float, ...]) -> MeanOfViews:
    views = [View(model, 2, speed, segment_s=0.2, quality=Quality()) for speed in speeds]
    return MeanOfViews(views, sample_rate)


def in_blocks(separate: MeanOfViews, signal: np.ndarray, size: int) -> np.ndarray:
    parts = [separate.push(signal[:, i : i + size]) for i in range(0, signal.shape[1], size)]
    return np.concatenate([*parts, separate.finish()], axis=-1)


def noise_below(hertz: float, sample_rate: int, length: int, rng: np.random.Generator) -> np.ndarray:
    low_pass = butter(8, hertz, fs=sample_rate, output="sos")
    return sosfiltfilt(low_pass, rng.standard_normal((2, length))).astype(np.float32)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.0, 1.26, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_stems_of_a_view_add_up_to_the_signal_up_to_its_highest_frequency(
    stirred_model: SeparationVAE, rng: np.random.Generator, speed: float, channels: int
) -> None:
    signal = rng.standard_normal((channels, RATE + 7)).astype(np.float32)
    stems = stems_of(stirred_model, signal, speed)
    np.testing.assert_allclose(stems.sum(0), signal, atol=1e-5)


@pytest.mark.parametrize("speed", [0.75, 1.25])
def test_a_view_hears_what_the_plain_one_hears_of_the_signal_played_at_that_speed(
    stirred_model: SeparationVAE, rng: np.random.Generator, speed: float
) -> None:
    signal = 0.2 * noise_below(6000, RATE, RATE, rng)  # neither so soft nor so loud that its level is changed
    found = stems_of(stirred_model, signal, speed)
    played = soxr.resample(signal.T, round(speed * RATE), RATE, quality="VHQ").T
    stems = stems_of(stirred_model, np.ascontiguousarray(played), 1.0)
    expected = np.stack([soxr.resample(s.T, RATE, round(speed * RATE), quality="VHQ").T for s in stems])
    inner = slice(4000, RATE - 4000)
    error = np.square(found[..., inner] - expected[..., inner]).sum((1, 2))
    assert (error < 1e-5 * np.square(expected[..., inner]).sum((1, 2))).all()
    plain = stems_of(stirred_model, signal, 1.0)
    assert np.square(plain - found).sum() > 1e-3 * np.square(found).sum()


def test_above_what_a_faster_view_hears_a_stem_goes_on_with_the_share_of_the_highest_band(
    stirred_model: SeparationVAE, rng: np.random.Generator
) -> None:
    noise = rng.standard_normal((2, RATE)).astype(np.float32)
    stems = stems_of(stirred_model, noise, 2.0)
    level = np.square(np.abs(np.fft.rfft(stems))).sum(1)  # [K, bins of 1 Hz]
    shares = level / level.sum(0, keepdims=True)
    below, above = shares[:, 10500:11000].mean(1), shares[:, 12000:21000].mean(1)
    np.testing.assert_allclose(above, below, atol=0.05)
    assert below.max() < 0.9


@pytest.mark.parametrize("sample_rate", [44100, 48000, 16000])
@pytest.mark.parametrize("speeds", [(0.8,), (1.0,), (1.0, 1.25)])
def test_stems_come_back_at_the_rate_and_in_the_time_of_the_signal(
    tiny_model: SeparationVAE, rng: np.random.Generator, sample_rate: int, speeds: tuple[float, ...]
) -> None:
    signal = noise_below(5000, sample_rate, sample_rate + 7, rng)
    total = in_blocks(mean_of_views(tiny_model, sample_rate, speeds), signal, 3000).sum(0)
    assert abs(total.shape[1] - signal.shape[1]) <= 1
    inner = slice(1000, sample_rate - 1000)
    assert np.abs(total[:, inner] - signal[:, inner]).max() < 1e-3 * np.abs(signal).max()


@pytest.mark.parametrize("sample_rate", [44100, 16000, 96000])
@pytest.mark.parametrize("speeds", [(0.7,), (0.89, 1.0), (1.0,), (1.0, 1.12), (1.6,)])
def test_no_sample_waits_longer_than_the_latency(
    tiny_model: SeparationVAE, sample_rate: int, speeds: tuple[float, ...]
) -> None:
    views, block = mean_of_views(tiny_model, sample_rate, speeds), np.zeros((2, 400), np.float32)
    given = returned = 0
    for _ in range(sample_rate * 2 // 400):
        given += 400
        returned += views.push(block).shape[-1]
        assert given - returned <= views.latency_s * sample_rate + 400


@pytest.mark.parametrize("size", [500, 20000, 10**6])
def test_the_mean_of_views_does_not_depend_on_the_blocks(
    stirred_model: SeparationVAE, rng: np.random.Generator, size: int
) -> None:
    signal = (0.5 * rng.standard_normal((2, 30011))).astype(np.float32)
    speeds = (0.8, 1.0, 1.1)
    expected = np.mean([stems_of(stirred_model, signal, speed) for speed in speeds], axis=0)
    together = in_blocks(mean_of_views(stirred_model, RATE, speeds), signal, size)
    np.testing.assert_allclose(together, expected, atol=2e-5)


def test_what_waits_for_a_slower_view_is_not_copied_at_every_push(
    tiny_model: SeparationVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = mean_of_views(tiny_model, RATE, (0.8, 1.0, 1.2))
    views.push(np.zeros((2, 30 * 400), np.float32))
    copied = 0
    cat = torch.cat

    def counted(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
        nonlocal copied
        joined = cat(tensors, dim)
        copied += joined.numel() if len(joined.shape) == 3 and joined.shape[:2] == (4, 2) else 0
        return joined

    monkeypatch.setattr(torch, "cat", counted)
    returned = sum(views.push(np.zeros((2, 40), np.float32)).shape[-1] for _ in range(1000))
    assert (
        copied <= 3 * 4 * 2 * 2 * returned
    )  # three views, each sample once when it waits and once when it goes


def test_rates_at_the_ends_of_what_is_allowed_can_be_separated(tiny_model: SeparationVAE) -> None:
    quality = Quality(speeds=(0.5, 2.0))
    separator = Separator(tiny_model, "cpu", precision="float32", quality=quality)
    for sample_rate in (1000, 1_536_000):
        signal = np.linspace(-0.5, 0.5, 3001, dtype=np.float32)[None]
        stems = separator.separate(signal, sample_rate)
        np.testing.assert_allclose(sum(stems.values()), signal, atol=1e-6)
