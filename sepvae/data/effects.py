"""What a mixing desk does to one stem: filters, saturation, compression, width, echo, reverb, ducking.

Every function takes and returns float32 audio, `[L]` or `[C, L]` at 44.1 kHz where it does not say otherwise, and keeps
its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from sepvae.data.corpora import SAMPLE_RATE


def low_pass(audio: np.ndarray, cutoff_hz: float, order: int = 2) -> np.ndarray:
    """Butterworth low-pass; a cutoff above 0.45 of the rate is lowered to it."""
    sos = butter(order, min(cutoff_hz, 0.45 * SAMPLE_RATE), "lowpass", fs=SAMPLE_RATE, output="sos")
    return sosfilt(sos, audio, axis=-1).astype(np.float32)


def high_pass(audio: np.ndarray, cutoff_hz: float, order: int = 2) -> np.ndarray:
    """Butterworth high-pass."""
    sos = butter(order, cutoff_hz, "highpass", fs=SAMPLE_RATE, output="sos")
    return sosfilt(sos, audio, axis=-1).astype(np.float32)


def shelf(audio: np.ndarray, corner_hz: float, gain_db: float, *, high: bool) -> np.ndarray:
    """Boost or cut everything above (`high`) or below a corner.

    Source:
        R. Bristow-Johnson, Audio EQ Cookbook, shelving filters with slope 1.
    """
    a = 10 ** (gain_db / 40)
    w = 2 * np.pi * corner_hz / SAMPLE_RATE
    alpha, c = np.sin(w) / np.sqrt(2) * 2 * np.sqrt(a), np.cos(w) * (1 if high else -1)
    p, m = a + 1, a - 1
    sign = -1 if high else 1
    b = np.array([a * (p + m * c + alpha), sign * 2 * a * (m + p * c), a * (p + m * c - alpha)])
    d = np.array([p - m * c + alpha, -sign * 2 * (m - p * c), p - m * c - alpha])
    return sosfilt(np.concatenate([b, d])[None] / d[0], audio, axis=-1).astype(np.float32)


def tilt(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """Turn the spectrum around about 800 Hz: lows down by half the gain, highs up by half of it."""
    audio = shelf(audio, 250.0, -gain_db / 2, high=False)
    return shelf(audio, 2500.0, gain_db / 2, high=True)


def rms(audio: np.ndarray) -> float:
    """Root of the mean square over all channels of the part that is not silent (blocks within 30 dB of the loudest)."""
    usable = audio.shape[-1] // 2048 * 2048
    if usable == 0:
        return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    blocks = np.square(audio[..., :usable]).reshape(*audio.shape[:-1], -1, 2048)
    power = blocks.mean(axis=-1).reshape(-1, usable // 2048).mean(axis=0)  # blocks
    active = power[power >= 1e-3 * power.max()]
    return float(np.sqrt(active.mean()))


def active_rms_db(audio: np.ndarray, block: int = 4410) -> float:
    """RMS in dB of the channels' mean, over the blocks that are at most 30 dB below the loudest; -inf for silence.

    Shape:
        audio: [C, L]
    """
    count = max(1, audio.shape[1] // block)
    power = np.array([np.mean(part**2) for part in np.array_split(audio.mean(0), count)])
    active = power[power >= 1e-3 * power.max()]
    return float(10 * np.log10(active.mean())) if active.mean() > 0 else -np.inf


def at_level(audio: np.ndarray, level_db: float, block: int = 4410) -> np.ndarray:
    """Bring a sound to an active RMS in dBFS (`active_rms_db`, blocks as there); silence stays.

    Shape:
        [C, L] -> [C, L]
    """
    now_db = active_rms_db(audio, block)
    return audio * np.float32(10 ** ((level_db - now_db) / 20)) if np.isfinite(now_db) else audio


def mixed_at(stems: Mapping[str, np.ndarray], level_db: float, peak: float) -> dict[str, np.ndarray]:
    """Stems without their rumble, under one gain that brings their mix to an active RMS in dBFS, or to a peak if less.

    Shape:
        [C, L] each -> the same
    """
    stems = {source: high_pass(audio, 24.0) for source, audio in stems.items()}
    mix = np.sum(list(stems.values()), axis=0)
    gain = min(10 ** ((level_db - active_rms_db(mix)) / 20), peak / np.abs(mix).max())
    return {source: audio * np.float32(gain) for source, audio in stems.items()}


def saturate(audio: np.ndarray, drive_db: float) -> np.ndarray:
    """Drive a soft clipper; the RMS comes out as it went in.

    Args:
        audio: any sound; silence stays as it is.
        drive_db: RMS at which the sound enters the clipper, a tanh, relative to 0.3.
    """
    level = rms(audio)
    if level == 0:
        return audio
    out = np.tanh(audio * np.float32(0.3 * 10 ** (drive_db / 20) / level))
    return out * np.float32(level / rms(out))


def compress(
    audio: np.ndarray, amount: float, release_s: float = 0.12, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Even out the level: amount 0 leaves it, 1 brings every block to the same level.

    Args:
        audio: [L] or [C, L].
        amount: 0 to 1.
        release_s: time constant in seconds, > 0.
        sample_rate: hertz.
    """
    block = 256
    count = -(-audio.shape[-1] // block)
    padded = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, count * block - audio.shape[-1])])
    power = np.square(padded).reshape(-1, count, block).mean(axis=(0, 2))  # blocks
    pole = np.exp(-block / (release_s * sample_rate))
    smooth = np.maximum(lfilter([1 - pole], [1, -pole], power), 0.3 * power)
    level = np.sqrt(np.maximum(smooth, 1e-4 * max(smooth.max(), 1e-12)))
    gain = level ** (-amount)
    gain *= np.sqrt(np.average(power)) / max(np.sqrt(np.average(power * gain**2)), 1e-12)
    positions = np.arange(audio.shape[-1])
    return audio * np.interp(positions, np.arange(count) * block + block / 2, gain).astype(np.float32)


def pan(audio: np.ndarray, position: float) -> np.ndarray:
    """Place mono audio between left (-1) and right (1) with constant power.

    Shape:
        audio: [L] -> [2, L]
    """
    angle = (position + 1) * np.pi / 4
    return np.stack([audio * np.float32(np.cos(angle)), audio * np.float32(np.sin(angle))]) * np.float32(
        np.sqrt(2)
    )


def widen(audio: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Add a side signal made of short, differently delayed copies of the middle.

    Shape:
        audio: [2, L]
    """
    middle = audio.mean(axis=0)
    response = np.zeros(1200, np.float32)
    taps = rng.integers(150, 1200, 6)
    response[taps] = rng.choice([-1.0, 1.0], 6) / np.sqrt(6)
    side = high_pass(oaconvolve(middle, response)[: middle.size].astype(np.float32), 150.0)
    return audio + np.float32(amount) * np.stack([side, -side])


def echo(audio: np.ndarray, delay_s: float, feedback: float, wet: float) -> np.ndarray:
    """Repeat the sound, each time darker and softer.

    Args:
        audio: the dry sound.
        delay_s: seconds between two repetitions, > 0.
        feedback: factor on the level from one to the next, in [0, 1).
        wet: level of the first, relative to the dry sound.
    """
    shift = max(1, round(delay_s * SAMPLE_RATE))
    out, copy = audio.copy(), audio
    gain = wet
    while gain > 0.03 and shift < audio.shape[-1]:
        copy = low_pass(copy, 4000.0, 1)
        out[..., shift:] += np.float32(gain) * copy[..., : audio.shape[-1] - shift]
        shift, gain = shift + round(delay_s * SAMPLE_RATE), gain * feedback
    return out


def reverb(audio: np.ndarray, seconds: float, wet: float, rng: np.random.Generator) -> np.ndarray:
    """Convolve with exponentially decaying noise, a new one per channel.

    Args:
        audio: [2, L].
        seconds: time in which it falls by 60 dB, > 0.
        wet: RMS of the reverberation over that of the dry sound, >= 0.
        rng: draws the noise.
    """
    length = max(64, int(seconds * SAMPLE_RATE))
    time = np.arange(length) / SAMPLE_RATE
    noise = rng.standard_normal((2, length)) * np.exp(-6.9 * time / seconds)
    noise = high_pass(low_pass(noise, rng.uniform(2500, 9000), 1), 180.0, 1)
    noise = np.pad(noise, ((0, 0), (int(rng.uniform(0, 0.03) * SAMPLE_RATE), 0)))
    tail = oaconvolve(audio, noise, axes=-1)[..., : audio.shape[-1]].astype(np.float32)
    level = rms(tail)
    return audio + tail * np.float32(wet * rms(audio) / level) if level > 0 else audio


def duck(audio: np.ndarray, times: Sequence[float], depth: float, release_s: float) -> np.ndarray:
    """Pull the level down at each time (a side chain from the kick) and let it recover.

    Args:
        audio: what is ducked.
        times: seconds.
        depth: 0 leaves the level, 1 brings it to zero.
        release_s: seconds until it has recovered.
    """
    gain = np.ones(audio.shape[-1], np.float32)
    count = int(release_s * SAMPLE_RATE)
    dip = 1 - np.float32(depth) * np.cos(np.linspace(0, np.pi / 2, count)).astype(np.float32) ** 2
    for time in times:
        start = int(time * SAMPLE_RATE)
        part = gain[start : start + count]
        np.minimum(part, dip[: part.size], out=part)
    return audio * gain


def guitar_amp(audio: np.ndarray, drive_db: float, rng: np.random.Generator) -> np.ndarray:
    """A distorting amplifier and the narrow band of a guitar cabinet."""
    audio = saturate(high_pass(audio, 120.0, 1), drive_db)
    audio = low_pass(audio, rng.uniform(3500, 6000), 4)
    return shelf(high_pass(audio, 75.0), rng.uniform(1500, 2500), rng.uniform(0, 5), high=True)


def telephone(audio: np.ndarray, drive_db: float) -> np.ndarray:
    """The narrow and distorted band of a telephone or a megaphone; the RMS comes out as it went in."""
    level = rms(audio)
    out = saturate(low_pass(high_pass(audio, 400.0, 4), 3200.0, 4), drive_db)
    return out * np.float32(level / rms(out)) if level > 0 else out


def double(audio: np.ndarray, delay_s: float, cents: float, rng: np.random.Generator) -> np.ndarray:
    """Another take of a voice: later, its pitch and its timing wandering slowly about those of the first.

    Args:
        audio: [L].
        delay_s: mean delay, > 0.
        cents: about how far the pitch strays.
        rng: draws the wandering.
    """
    positions = np.arange(audio.size)
    knots = np.arange(0, audio.size + SAMPLE_RATE, SAMPLE_RATE // 4)  # four a second
    stray = lfilter([0.3], [1, -0.7], rng.standard_normal(knots.size)) * 0.25 * cents / 1731 * 2.5
    delay = np.interp(positions, knots, np.clip(delay_s + stray, 0.25 * delay_s, None)) * SAMPLE_RATE
    return map_coordinates(audio, [positions - delay], order=3, mode="constant").astype(np.float32)
