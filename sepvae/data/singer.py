"""Sings: puts spoken syllables on notes and synthesises them at 44.1 kHz with the vocoder WORLD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyworld
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.synth import Note, hertz
from sepvae.data.utterances import BINS, FRAME_S, RATE, Syllable, Utterance

LEAD_S, TAIL_S = 0.2, 0.2
FFT = 1024
HELD_S = 0.4
EDGE_HZ = 6600.0  # speech is trusted up to here, what is above is made up
MOST_AIR_DB = -24.0  # a vowel's power above the edge, relative to that below
SILENT_LOG = -27.0
DB = np.log(10) / 10  # one dB in units of the logarithm of a power


@dataclass(frozen=True)
class Text:
    """The words of a phrase: syllables of one utterance."""

    utterance: Utterance
    syllables: tuple[Syllable, ...]


@dataclass(frozen=True)
class Singer:
    """A voice and its manners.

    Args:
        formant: factor on the frequencies of the envelope; above 1 is a shorter throat.
        breath: 0 is pressed, 0.5 as spoken, 1 whispered.
        tilt_db: brightness, dB from the lows to the highs.
        air_db: level of what is above `EDGE_HZ`.
        vibrato: rate in hertz and depth in semitones.
        glide_s: how long the pitch takes from note to note.
        scoop: semitones below the note at which some notes begin.
        jitter_cents: unsteadiness.
        even: 0 keeps the loudness of the spoken syllables, 1 makes them equal.
        tuned: pitch correction at its hardest: straight steps.
        robot: no noise in the voice.
        spoken: keep the melody of the speech about the note, for rap.
    """

    formant: float = 1.0
    breath: float = 0.4
    tilt_db: float = 0.0
    air_db: float = 0.0
    vibrato: tuple[float, float] = (5.5, 0.3)
    glide_s: float = 0.06
    scoop: float = 1.0
    jitter_cents: float = 5.0
    even: float = 0.8
    tuned: bool = False
    robot: bool = False
    spoken: bool = False


@dataclass(frozen=True)
class _Frames:
    """Where each frame of a phrase comes from."""

    source: np.ndarray  # frame of the utterance, -1 for silence
    voiced: np.ndarray
    gain_db: np.ndarray
    note: np.ndarray  # index of the note


def sing(
    notes: Sequence[Note], text: Text, singer: Singer, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Sing a phrase.

    Args:
        notes: in order, not overlapping.
        text: one syllable for each note; it starts again if there are fewer.
        singer: who sings.
        rng: draws scoops, vibrato and unsteadiness.

    Returns:
        When the audio starts, in seconds, and the audio, mono float32 [L].
    """
    start = notes[0].start - LEAD_S
    count = int(np.ceil((notes[-1].start + notes[-1].duration + TAIL_S - start) / FRAME_S))
    frames = _align(notes, text, singer, start, count, rng)
    pitch = _contour(notes, singer, start, count, rng)
    if singer.spoken:
        position = np.clip(np.round(frames.source).astype(int), 0, text.utterance.f0.size - 1)
        spoken = 12 * np.log2(np.maximum(text.utterance.f0[position], 1) / text.utterance.pitch_hz)
        pitch = pitch + np.where(frames.voiced, np.clip(spoken, -9, 9), 0)
    f0 = np.where(frames.voiced, hertz(pitch), 0.0)
    envelope, aperiodicity = _spectra(frames, text.utterance, singer)
    audio = pyworld.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, 1000 * FRAME_S)
    return start, audio.astype(np.float32)


def _align(
    notes: Sequence[Note], text: Text, singer: Singer, start: float, count: int, rng: np.random.Generator
) -> _Frames:
    """Vowels begin on their notes and last as long; consonants keep their length and come before."""
    source = np.full(count, -1.0)
    voiced = np.zeros(count, bool)
    gain_db = np.zeros(count)
    which = np.zeros(count, int)
    utterance = text.utterance
    syllables = [text.syllables[index % len(text.syllables)] for index in range(len(notes))]
    begins = [round((note.start - start) / FRAME_S) for note in notes]
    ends = [round((note.start + note.duration - start) / FRAME_S) for note in notes]
    onsets = [syllable.vowel - syllable.start for syllable in syllables]
    for index in range(1, len(notes)):
        onsets[index] = min(onsets[index], int(0.4 * (begins[index] - begins[index - 1])))
    onsets[0] = min(onsets[0], begins[0])
    spoken_db = [_loudness_db(utterance, syllable) for syllable in syllables]
    usual_db = float(np.median(spoken_db))
    for index, (syllable, note) in enumerate(zip(syllables, notes, strict=True)):
        begin, onset = begins[index], onsets[index]
        tied = index + 1 < len(notes) and begins[index + 1] - ends[index] < 12
        stop = begins[index + 1] - onsets[index + 1] if tied else min(ends[index] + 6, count)
        coda = min(syllable.end - syllable.coda, int(0.3 * (stop - begin)))
        close = stop - coda
        first, last = begin - onset, stop
        source[first:begin] = syllable.vowel - onset + np.arange(onset)
        source[begin:close] = _stretch(syllable.vowel, syllable.coda, close - begin, rng)
        source[close:stop] = syllable.coda + np.arange(coda)
        voiced[first:stop] = utterance.f0[source[first:stop].astype(int)] > 0
        voiced[begin:close] = True
        stray_db = float(np.clip(spoken_db[index] - usual_db, -10, 10))
        gain_db[first:last] = -usual_db - singer.even * stray_db + 24 * np.log10(note.velocity)
        if note.duration > HELD_S:
            gain_db[begin:close] += np.linspace(0, float(rng.uniform(-3, 1.5)), close - begin)
        if not tied:
            fade = min(10, stop - begin)
            gain_db[stop - fade : stop] += np.linspace(0, -24, fade)
        which[first:last] = index
    return _Frames(source, voiced, uniform_filter1d(gain_db, 3), which)


def _loudness_db(utterance: Utterance, syllable: Syllable) -> float:
    vowel = utterance.envelope[syllable.vowel : syllable.coda, 4:256]
    return float(10 * np.log10(np.exp(vowel).sum(axis=1).mean()))


def _stretch(first: int, last: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions between two frames: natural speed at both ends, and wandering in the middle for as long as it takes."""
    natural = last - first - 1
    if count <= natural or natural < 4:
        return np.linspace(first, max(first, last - 1), count)
    edge = int(0.35 * natural)
    middle = np.linspace(first + edge, last - 1 - edge, max(count - 2 * edge, 1))
    wander = lfilter([0.02], [1, -0.98], rng.standard_normal(middle.size)) * 10
    middle = np.clip(middle + wander, first + edge, max(last - 1 - edge, first + edge))
    head, tail = first + np.arange(edge), last - edge + np.arange(edge)
    return np.concatenate([head, middle, tail])[:count]


def _contour(
    notes: Sequence[Note], singer: Singer, start: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """The pitch of every frame, in semitones."""
    times = start + FRAME_S * np.arange(count)
    starts = np.array([note.start for note in notes])
    # the pitch moves just before the note, on its consonant
    glide = 0.0 if singer.tuned or singer.spoken else singer.glide_s
    index = np.clip(np.searchsorted(starts - 0.5 * glide, times, side="right") - 1, 0, None)
    pitch = np.array([note.pitch for note in notes])[index]
    if singer.tuned or singer.spoken:
        return pitch
    width = max(1, round(singer.glide_s / FRAME_S))
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(pitch, (width, width), mode="edge")
    pitch = np.convolve(padded, kernel / kernel.sum(), mode="same")[width : width + count]
    rate, depth = singer.vibrato
    for number, note in enumerate(notes):
        after = times - note.start
        inside = (after >= -0.03) & (after < note.duration)
        if rng.random() < (0.7 if number == 0 else 0.25):
            pitch[inside] -= singer.scoop * np.exp(-np.maximum(after[inside], 0) / 0.04)
        if note.duration > HELD_S:
            grown = np.clip((after[inside] - 0.25) / 0.3, 0, 1)
            swing = np.sin(2 * np.pi * rate * after[inside] + float(rng.uniform(0, 2 * np.pi)))
            pitch[inside] += depth * grown * swing
    shake = lfilter([0.35], [1, -0.65], rng.standard_normal(count))
    drift = lfilter([0.01], [1, -0.99], rng.standard_normal(count)) * 10
    return pitch + singer.jitter_cents / 100 * (0.8 * shake + 0.7 * drift)


@dataclass(frozen=True)
class _Shift:
    """Reads the spectra of speech, `BINS` of them, at the singer's bins below the edge, formants shifted."""

    left: np.ndarray  # bin of the speech on the left of each
    right_part: np.ndarray

    @classmethod
    def of(cls, hz: np.ndarray, formant: float) -> _Shift:
        """For these frequencies; above 1, `formant` moves what was at a frequency up by this factor."""
        position = np.minimum(hz / formant / (RATE / 2) * (BINS - 1), BINS - 2)
        left = position.astype(int)
        return cls(left, (position - left).astype(np.float32))

    def read(self, spectra: np.ndarray) -> np.ndarray:
        """`[T, BINS]` -> `[T, F]`."""
        return spectra[:, self.left] * (1 - self.right_part) + spectra[:, self.left + 1] * self.right_part


def _spectra(frames: _Frames, utterance: Utterance, singer: Singer) -> tuple[np.ndarray, np.ndarray]:
    """Power envelopes and aperiodicities for the synthesis, [T, FFT / 2 + 1] each, formants shifted."""
    known = np.clip(frames.source, 0, utterance.f0.size - 1)
    low = np.minimum(known.astype(int), utterance.f0.size - 2)
    part = (known - low)[:, None].astype(np.float32)
    logs = (1 - part) * utterance.envelope[low] + part * utterance.envelope[low + 1]
    noise = (1 - part) * utterance.aperiodicity[low] + part * utterance.aperiodicity[low + 1]
    hz = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    inner = hz < EDGE_HZ * singer.formant
    shift = _Shift.of(hz[inner], singer.formant)

    envelope = np.empty((known.size, hz.size), np.float64)
    envelope[:, inner] = shift.read(logs)
    envelope[:, ~inner] = _air_of_voice(envelope[:, inner], logs, hz[~inner], frames, singer)
    envelope = _levelled(envelope, hz, frames, singer)

    aperiodicity = np.ones_like(envelope)
    aperiodicity[:, inner] = _breath(shift.read(noise), hz[inner], frames, singer)
    return np.exp(np.maximum(envelope, SILENT_LOG)), np.clip(aperiodicity, 0.001, 1.0)


def _levelled(envelope: np.ndarray, hz: np.ndarray, frames: _Frames, singer: Singer) -> np.ndarray:
    """Log power `[T, F]` with the singer's brightness and the frames' gains; no consonant drowns the vowels."""
    bright = singer.tilt_db * DB * np.clip(np.log2(np.maximum(hz, 1) / 300) / 4, 0, 1)
    envelope = envelope + (bright + (frames.gain_db * DB)[:, None])
    loudness = np.log(np.exp(envelope).sum(axis=1))
    most = np.where(frames.voiced, 6.0, -3.0) * DB
    usual = np.median(loudness[frames.voiced]) if frames.voiced.any() else 0.0
    envelope -= np.maximum(loudness - usual - most, 0)[:, None]
    envelope[frames.source < 0] = SILENT_LOG
    return uniform_filter1d(envelope, 3, axis=0)  # no seam is sharper than three frames


def _breath(measured: np.ndarray, hz: np.ndarray, frames: _Frames, singer: Singer) -> np.ndarray:
    """Aperiodicity below the edge, `[T, F]`: what was measured, less noise in vowels, more with the singer's breath."""
    clean = np.clip(0.01 + (hz / 7000) ** 1.5, 0, 1)  # the noise of a vowel that is not breathy
    steady = frames.voiced[:, None] & (measured[:, :20].mean(axis=1, keepdims=True) < 0.9)
    power = 1.8 - 1.5 * singer.breath
    voice = np.where(steady, measured, np.minimum(measured, 0.3 + clean)) ** power
    voice = np.minimum(voice, (clean + 0.6 * singer.breath) ** power + 0.05)
    return np.where(frames.voiced[:, None], voice * (0.3 if singer.robot else 1.0), 1.0)


def _air_of_voice(
    inner: np.ndarray, logs: np.ndarray, hz: np.ndarray, frames: _Frames, singer: Singer
) -> np.ndarray:
    """Log power above the edge, `[T, F]`, bounded in vowels, since noisy speech must not hiss on.

    Args:
        inner: log power below the edge.
        logs: `[T, BINS]` log power of the speech.
        hz: `[F]`, from the edge on.
        frames: which of them are voiced.
        singer: where the edge lies, and the level.
    """
    air = _air(logs, hz / (EDGE_HZ * singer.formant), singer, frames.voiced)
    vowel_air = np.log(np.exp(air).sum(axis=1) / np.exp(inner).sum(axis=1))
    excess = np.where(frames.voiced, np.maximum(vowel_air - MOST_AIR_DB * DB, 0), 0)
    return air - excess[:, None]


def _air(logs: np.ndarray, octaves_ratio: np.ndarray, singer: Singer, voiced: np.ndarray) -> np.ndarray:
    """What a studio microphone hears above the band of the speech: it falls slowly in a hiss, fast in a vowel.

    Args:
        logs: [T, BINS] log power of the speech.
        octaves_ratio: [F] frequencies over the edge, >= 1.
        singer: its `air_db` is the level.
        voiced: [T].

    Shape:
        -> [T, F]
    """

    def band(low: float, high: float) -> np.ndarray:
        step = (BINS - 1) / (RATE / 2)
        return logs[:, int(low * step) : int(high * step)].mean(axis=1)

    anchor = band(5600, EDGE_HZ)
    hiss = 1 / (1 + np.exp(-(band(4000, EDGE_HZ) - band(300, 1500)) / DB / 4))
    hiss = np.where(voiced, np.minimum(hiss, 0.6), hiss)
    anchor = np.maximum(anchor, anchor + hiss * (band(4300, 5600) - anchor))
    octaves = np.log2(octaves_ratio)
    slope = -18 + 14 * hiss
    fall = slope[:, None] * octaves - 10 * np.maximum(octaves - 0.85, 0) - 60 * np.maximum(octaves - 1.4, 0)
    lift = singer.air_db * np.minimum(octaves / 0.2, 1)
    return anchor[:, None] + (fall + lift) * DB
