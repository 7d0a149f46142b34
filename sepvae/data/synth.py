"""Instruments computed from nothing: each turns notes into mono audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import soxr
from scipy.signal import butter, lfilter, sosfilt

from sepvae.data.corpora import SAMPLE_RATE

FADE_S = 0.003
BLENDED_FILTERS = 5
"""Fixed low-passes of which a moving one is made."""


@dataclass(frozen=True)
class Note:
    """A note: start and duration in seconds, pitch in MIDI numbers, velocity 0 to 1."""

    start: float
    duration: float
    pitch: float
    velocity: float


class Instrument(Protocol):
    """Something that plays notes."""

    def play(self, notes: Sequence[Note], length: int) -> np.ndarray:
        """Notes to mono float32 audio [L]."""


def hertz(pitch: float | np.ndarray) -> float | np.ndarray:
    """The frequency of a MIDI pitch in hertz; of an array, that of each."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def play_each(tone: Callable[[float, float], np.ndarray], notes: Sequence[Note], length: int) -> np.ndarray:
    """Lay down one tone per note; tones of the same pitch and (to 20 ms) duration are computed once.

    Args:
        tone: makes `[n]` from a MIDI pitch and seconds.
        notes: what to play, in any order.
        length: samples of the result.

    Shape:
        -> [L], L = length
    """
    out = np.zeros(length, np.float32)
    known: dict[tuple[float, int], np.ndarray] = {}
    for note in notes:
        key = (note.pitch, max(1, round(note.duration / 0.02)))
        if key not in known:
            known[key] = tone(note.pitch, key[1] * 0.02)
        start = max(0, round(note.start * SAMPLE_RATE))
        part = out[start : start + known[key].size]
        part += known[key][: part.size] * np.float32(note.velocity)
    return out


def saw(cycles: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A sawtooth whose jumps are rounded so that little of it aliases.

    Args:
        cycles: phase in cycles, not wrapped.
        step: phase advance per sample.

    Shape:
        both [L] -> [L]

    Source:
        Välimäki & Huovilainen 2007, polynomial band-limited step.
    """
    phase = (cycles % 1.0).astype(np.float32)
    out = 2 * phase - 1
    late, early = np.flatnonzero(phase < step), np.flatnonzero(phase > 1 - step)
    t = phase[late] / step[late]
    out[late] -= 2 * t - t * t - 1
    t = (phase[early] - 1) / step[early]
    out[early] -= t * t + 2 * t + 1
    return out


def oscillate(kind: str, cycles: np.ndarray, step: np.ndarray, width: float = 0.5) -> np.ndarray:
    """One of "sine", "triangle", "saw", "pulse" at a phase in cycles; `width` is the pulse's, a share of its period.

    Shape:
        cycles and step as of `saw` -> [L]

    Raises:
        ValueError: another kind of wave.
    """
    if kind == "sine":
        return np.sin(2 * np.pi * (cycles % 1.0)).astype(np.float32)
    if kind == "triangle":
        return (4 * np.abs(cycles % 1.0 - 0.5) - 1).astype(np.float32)
    if kind == "saw":
        return saw(cycles, step)
    if kind == "pulse":
        return saw(cycles, step) - saw(cycles + width, step)
    raise ValueError(f"unknown wave {kind}")


def sweep_low_pass(audio: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """A fourth-order low-pass whose cutoff moves: a blend of fixed ones.

    Args:
        audio: [L].
        octaves: log2 of the cutoff in hertz, [L].
    """
    octaves = np.clip(octaves, np.log2(30.0), np.log2(16000.0))
    low, high = float(octaves.min()), float(octaves.max())
    count = BLENDED_FILTERS if high - low > 0.05 else 1
    grid = np.linspace(low, high, count)
    out = np.zeros_like(audio)
    for centre in grid:
        sos = butter(4, 2.0**centre, "lowpass", fs=SAMPLE_RATE, output="sos")
        part = sosfilt(sos, audio).astype(np.float32)
        if count > 1:
            part *= np.maximum(0, 1 - np.abs(octaves - centre) * ((count - 1) / (high - low))).astype(
                np.float32
            )
        out += part
    return out


@dataclass(frozen=True)
class Envelope:
    """Attack, decay, sustain, release: seconds, and a level 0 to 1 for the sustain."""

    attack_s: float = 0.005
    decay_s: float = 0.3
    sustain: float = 0.7
    release_s: float = 0.05

    def shape(self, duration: float, total: int) -> np.ndarray:
        """The envelope of a note held for some seconds, over `total` samples, faded to nothing at its end."""
        time = np.arange(total, dtype=np.float32) / SAMPLE_RATE
        level = self.sustain + (1 - self.sustain) * np.exp(
            -np.maximum(time - self.attack_s, 0) / self.decay_s
        )
        level *= np.minimum(time / max(self.attack_s, 1e-4), 1)
        level *= np.exp(-np.maximum(time - duration, 0) * (5 / max(self.release_s, 1e-3)))
        fade = min(total, int(FADE_S * SAMPLE_RATE))
        level[total - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        return level.astype(np.float32)


@dataclass(frozen=True)
class Wave:
    """One oscillator of a synthesizer."""

    kind: str = "saw"
    detune_cents: float = 0.0
    octave: int = 0
    level: float = 1.0
    width: float = 0.5


@dataclass(frozen=True)
class Analog:
    """Oscillators through a low-pass filter with an envelope, one voice (with glide) or one per note.

    Args:
        waves: the oscillators.
        amplitude: the loudness envelope.
        cutoff_octaves: where the filter rests, in octaves above the note; 20 is open.
        sweep_octaves: how far the envelope opens it.
        sweep_s: how fast that falls off.
        glide_s: time constant with which a single voice slides, 0 for none.
        drop: (semitones, seconds) by which a note starts too high, as an 808 does.
        vibrato: (hertz, semitones).
        poly: whether notes overlap.
    """

    waves: tuple[Wave, ...] = (Wave(),)
    amplitude: Envelope = field(default_factory=Envelope)
    cutoff_octaves: float = 20.0
    sweep_octaves: float = 0.0
    sweep_s: float = 0.2
    glide_s: float = 0.0
    drop: tuple[float, float] = (0.0, 0.05)
    vibrato: tuple[float, float] = (5.0, 0.0)
    poly: bool = False

    def play(self, notes: Sequence[Note], length: int) -> np.ndarray:
        """Notes to mono audio [L]."""
        if self.poly:
            return play_each(self._tone, notes, length)
        return self._voice(sorted(notes, key=lambda note: note.start), length)

    def _tone(self, pitch: float, duration: float) -> np.ndarray:
        total = round((duration + self.amplitude.release_s) * SAMPLE_RATE)
        return self._voice([Note(0.0, duration, pitch, 1.0)], total)

    def _voice(self, notes: Sequence[Note], length: int) -> np.ndarray:
        pitch, level, since = np.zeros(length), np.zeros(length, np.float32), np.full(length, 9.0, np.float32)
        if not notes:
            return level
        starts = [round(note.start * SAMPLE_RATE) for note in notes] + [length]
        pitch[: max(starts[0], 0)] = notes[0].pitch
        for note, start, following in zip(notes, starts, starts[1:], strict=False):
            following = min(following, length)
            if start >= following:
                continue
            pitch[start:following] = note.pitch
            since[start:following] = np.arange(following - start, dtype=np.float32) / SAMPLE_RATE
            total = min(following - start, round((note.duration + self.amplitude.release_s) * SAMPLE_RATE))
            level[start : start + total] = note.velocity * self.amplitude.shape(note.duration, total)
        key = pitch
        if self.glide_s > 0:
            pole = np.exp(-1 / (self.glide_s * SAMPLE_RATE))
            pitch = lfilter([1 - pole], [1, -pole], pitch, zi=[pitch[0] * pole])[0]
        if self.drop[0]:
            pitch = pitch + self.drop[0] * np.exp(-since / self.drop[1])
        if self.vibrato[1]:
            time = np.arange(length) / SAMPLE_RATE
            pitch = pitch + self.vibrato[1] * np.sin(2 * np.pi * self.vibrato[0] * time) * np.minimum(
                since / 0.4, 1
            )
        step = hertz(pitch) / SAMPLE_RATE
        out = np.zeros(length, np.float32)
        for index, wave in enumerate(self.waves):
            own = step * 2.0 ** (wave.octave + wave.detune_cents / 1200)
            cycles = np.cumsum(own) + 0.37 * index
            out += np.float32(wave.level) * oscillate(wave.kind, cycles, own.astype(np.float32), wave.width)
        if self.cutoff_octaves < 12:
            cutoff = (
                np.log2(hertz(key)) + self.cutoff_octaves + self.sweep_octaves * np.exp(-since / self.sweep_s)
            )
            out = sweep_low_pass(out, cutoff)
        return out * level


@dataclass(frozen=True)
class FM:
    """Two-operator frequency modulation, one tone per note: electric pianos, bells, hard basses.

    Args:
        ratio: frequency of the modulator over that of the carrier.
        index: depth of the modulation at the onset, in radians.
        index_decay_s: how fast it falls off.
        amplitude: the loudness envelope.
    """

    ratio: float = 1.0
    index: float = 2.0
    index_decay_s: float = 0.3
    amplitude: Envelope = field(default_factory=Envelope)

    def play(self, notes: Sequence[Note], length: int) -> np.ndarray:
        """Notes to mono audio [L]."""
        return play_each(self._tone, notes, length)

    def _tone(self, pitch: float, duration: float) -> np.ndarray:
        total = round((duration + self.amplitude.release_s) * SAMPLE_RATE)
        time = np.arange(total) / SAMPLE_RATE
        angle = 2 * np.pi * hertz(pitch) * time
        depth = self.index * np.exp(-time / self.index_decay_s)
        tone = np.sin(angle + depth * np.sin(self.ratio * angle)).astype(np.float32)
        return tone * self.amplitude.shape(duration, total)


@dataclass(frozen=True)
class Organ:
    """Drawbars: a sum of steady sines at given multiples of the pitch, with a tremolo."""

    drawbars: tuple[tuple[float, float], ...] = ((0.5, 0.6), (1.0, 1.0), (1.5, 0.5), (2.0, 0.6), (4.0, 0.3))
    tremolo_hz: float = 6.0
    tremolo: float = 0.15
    amplitude: Envelope = field(default_factory=lambda: Envelope(0.004, 1.0, 1.0, 0.04))

    def play(self, notes: Sequence[Note], length: int) -> np.ndarray:
        """Notes to mono audio [L]."""
        out = play_each(self._tone, notes, length)
        time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
        return out * (1 + self.tremolo * np.sin(2 * np.pi * self.tremolo_hz * time)).astype(np.float32)

    def _tone(self, pitch: float, duration: float) -> np.ndarray:
        total = round((duration + self.amplitude.release_s) * SAMPLE_RATE)
        angle = 2 * np.pi * hertz(pitch) * np.arange(total) / SAMPLE_RATE
        tone = np.sum([level * np.sin(multiple * angle) for multiple, level in self.drawbars], axis=0)
        return tone.astype(np.float32) * self.amplitude.shape(duration, total)


@dataclass(frozen=True)
class Pluck:
    """A plucked string (Karplus-Strong): noise that runs round a delay line and a two-point average.

    Args:
        ring_s: time in which the string falls by 60 dB.
        brightness: 0 (picked softly) to 1.
        position: where along the string it is picked, 0 to 0.5.
        amplitude: what the hand does to it; a short release damps the string.
        seed: of the noise.

    Source:
        Jaffe & Smith 1983.
    """

    ring_s: float = 2.0
    brightness: float = 0.6
    position: float = 0.2
    amplitude: Envelope = field(default_factory=lambda: Envelope(0.001, 1.0, 1.0, 0.08))
    seed: int = 0

    def play(self, notes: Sequence[Note], length: int) -> np.ndarray:
        """Notes to mono audio [L]."""
        return play_each(self._tone, notes, length)

    def _tone(self, pitch: float, duration: float) -> np.ndarray:
        total = round((duration + self.amplitude.release_s) * SAMPLE_RATE)
        period = SAMPLE_RATE / float(hertz(pitch)) - 0.5
        whole = int(period)
        part = period - whole
        rng = np.random.default_rng([self.seed, round(pitch)])
        burst = np.zeros(total, np.float32)
        burst[:whole] = rng.uniform(-1, 1, whole)[:total]
        pole = 1 - self.brightness
        burst = lfilter([1 - pole], [1, -pole], burst)
        shift = max(1, int(self.position * whole))
        burst[shift:] -= burst[:-shift].copy()
        loss = 0.001 ** (period / SAMPLE_RATE / self.ring_s)
        loop = np.zeros(whole + 3)
        loop[0] = 1.0
        loop[whole : whole + 3] -= loss * np.convolve([1 - part, part], [0.5, 0.5])
        tone = lfilter([1.0], loop, burst)
        return (tone * self.amplitude.shape(duration, total)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class OneShot:
    """A recorded note, played at other pitches by resampling.

    Args:
        sample: mono audio [L].
        pitch: the pitch that it was recorded at.
        amplitude: what is laid over it.
    """

    sample: np.ndarray
    pitch: float
    amplitude: Envelope = field(default_factory=lambda: Envelope(0.001, 1.0, 1.0, 0.06))

    def play(self, notes: Sequence[Note], length: int) -> np.ndarray:
        """Notes to mono audio [L]."""
        return play_each(self._tone, notes, length)

    def _tone(self, pitch: float, duration: float) -> np.ndarray:
        ratio = 2.0 ** ((pitch - self.pitch) / 12)
        tone = soxr.resample(self.sample, SAMPLE_RATE * ratio, SAMPLE_RATE, quality="HQ").astype(np.float32)
        total = min(tone.size, round((duration + self.amplitude.release_s) * SAMPLE_RATE))
        return tone[:total] * self.amplitude.shape(duration, total)
