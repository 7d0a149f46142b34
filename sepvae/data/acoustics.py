"""Simulated rooms, and steady noises made by formula, at one sampling rate."""

from __future__ import annotations

import numpy as np
from scipy.signal import oaconvolve

MAX_REFLECTIONS = 25


def room(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Impulse response of a random room with its direct sound at the first sample.

    Shape: `[L]`.

    Source:
        Image sources of pyroomacoustics (Scheibler, Bezzam & Dokmanic 2018).
    """
    import pyroomacoustics

    size = rng.uniform((3.0, 3.0, 2.4), (9.0, 7.0, 3.5))
    reverberation_s = float(rng.uniform(0.15, 0.7))
    absorption, order = pyroomacoustics.inverse_sabine(reverberation_s, size)
    walls = pyroomacoustics.Material(absorption)
    shoebox = pyroomacoustics.ShoeBox(
        size, fs=sample_rate, materials=walls, max_order=min(order, MAX_REFLECTIONS)
    )
    microphone = rng.uniform(0.5, size - 0.5)
    while True:
        speaker = rng.uniform(0.5, size - 0.5)
        if np.linalg.norm(speaker - microphone) > 0.3:
            break
    shoebox.add_source(speaker)
    shoebox.add_microphone(microphone)
    shoebox.compute_rir()
    response = np.asarray(shoebox.rir[0][0], np.float32)
    response = response[int(np.argmax(np.abs(response) > 0.3 * np.abs(response).max())) :]
    return response / np.abs(response[: sample_rate // 200]).max()


def in_room(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Sound as a room lets it be heard, cut to its own length: `[L]` -> `[L]`."""
    return oaconvolve(audio, response)[: audio.size].astype(np.float32)


def coloured_noise(count: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with a random slope of -9 to +3 dB an octave and a few resonances: `[L]`, RMS 1."""
    hertz = np.fft.rfftfreq(count, 1 / sample_rate)
    octaves = np.log2(np.maximum(hertz, 20) / 1000)
    gain_db = rng.uniform(-9, 3) * octaves
    for _ in range(rng.integers(0, 5)):
        centre, width, height = rng.uniform(-4, 3), rng.uniform(0.05, 1.0), rng.uniform(-10, 20)
        gain_db += height * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    spectrum = np.fft.rfft(rng.standard_normal(count)) * 10 ** (gain_db / 20)
    audio = np.fft.irfft(spectrum, count)
    return audio / np.sqrt(np.mean(audio**2))


def hum(count: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum, or the whine of a motor, with harmonics: `[L]`, RMS 1."""
    base_hz = float(rng.choice((50.0, 60.0, 100.0, 120.0, rng.uniform(40, 400))))
    time = np.arange(count) / sample_rate
    harmonics = np.arange(1, int(min(40, 0.46875 * sample_rate / base_hz)) + 1)
    amplitudes = harmonics ** -rng.uniform(0.3, 1.5) * rng.uniform(0.1, 1, harmonics.size)
    phases = rng.uniform(0, 2 * np.pi, harmonics.size)
    audio = np.zeros(count)
    for n, a, p in zip(harmonics, amplitudes, phases, strict=True):
        audio += a * np.sin(2 * np.pi * base_hz * n * time + p)
    return audio / np.sqrt(np.mean(audio**2))
