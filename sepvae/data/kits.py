"""Drum kits: recorded one-shots, synthetic ones, and recorded loops, sequenced into a drum stem."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from sepvae.data import effects
from sepvae.data.corpora import SAMPLE_RATE, read_audio, resample
from sepvae.data.synth import OneShot
from sepvae.errors import DataError

LANES = ("kick", "snare", "clap", "hat", "open", "ride", "crash", "tom", "perc")
LANE_LEVELS_DB = {
    "kick": -2,
    "snare": 0,
    "clap": -3,
    "hat": -11,
    "open": -10,
    "ride": -11,
    "crash": -9,
    "tom": -3,
    "perc": -10,
}
LANE_FILES = {
    "kick": ("bd_*", "drum_bass_*", "drum_heavy_kick", "elec_hollow_kick", "elec_soft_kick"),
    "snare": ("sn_*", "drum_snare_*", "elec_*snare"),
    "clap": ("perc_snap*", "elec_filt_snare", "elec_hi_snare"),
    "hat": ("hat_*", "drum_cymbal_closed", "drum_cymbal_pedal"),
    "open": ("drum_cymbal_open", "hat_gump", "hat_metal", "hat_len", "elec_cymbal"),
    "ride": ("ride_*", "drum_cymbal_soft", "drum_cymbal_closed"),
    "crash": ("drum_splash_*", "drum_cymbal_hard"),
    "tom": ("drum_tom_*", "elec_fuzz_tom"),
    "perc": ("tabla_*", "drum_cowbell", "perc_bell*", "perc_snap*"),
}
LOOP_FILES = ("loop_*", "arovane_*")
TONAL_LOOPS = ("loop_garzul", "loop_mika", "loop_compus")  # not drums alone
BASS_PITCHES = {
    "bass_dnb_f": 41.0,
    "bass_drop_c": 36.0,
    "bass_hard_c": 36.0,
    "bass_hit_c": 24.5,
    "bass_thick_c": 36.0,
    "bass_trance_c": 36.0,
    "bass_woodsy_c": 36.0,
}
GM_NOTES = {
    "kick": (35, 36),
    "snare": (38, 40),
    "clap": (39, 37),
    "hat": (42, 44),
    "open": (46,),
    "ride": (51, 59),
    "crash": (49, 57),
    "tom": (41, 45, 47, 48),
    "perc": (54, 56, 60, 62, 64, 69, 70, 75, 76),
}

OTHER_GM_NOTES = {43: "tom", 50: "tom", 52: "crash", 53: "ride", 55: "crash"}


@dataclass(frozen=True)
class Hit:
    """A stroke: time in seconds, lane, velocity 0 to 1."""

    time: float
    lane: str
    velocity: float


@dataclass(frozen=True, eq=False)
class Layers:
    """The sounds of one lane, for strokes of different strength.

    Args:
        tops: the highest velocity that each sound is for, ascending.
        sounds: each [2, L].
    """

    tops: tuple[float, ...]
    sounds: tuple[np.ndarray, ...]

    def at(self, velocity: float) -> np.ndarray:
        """The sound of a stroke, [2, L]; the last one where the velocity is above all."""
        return self.sounds[min(bisect_left(self.tops, velocity), len(self.sounds) - 1)]


def lane_of(key: int) -> str:
    """The lane of a General MIDI drum key."""
    return next((lane for lane, keys in GM_NOTES.items() if key in keys), OTHER_GM_NOTES.get(key, "perc"))


class Samples:
    """The one-shots and loops of a folder with `drums/` and `bass/` in it, read when first asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "drums").is_dir() or not (self.folder / "bass").is_dir():
            raise DataError(f"expected the folders drums and bass in {folder}")
        self._known: dict[Path, np.ndarray] = {}

    def files(self, kind: str, patterns: Sequence[str]) -> list[Path]:
        """The files of "drums" or "bass" whose stem matches one of the patterns, sorted."""
        found = {path for pattern in patterns for path in (self.folder / kind).glob(f"{pattern}.*")}
        return sorted(found)

    def read(self, path: Path) -> np.ndarray:
        """One file as stereo at 44.1 kHz, [2, L]."""
        if path not in self._known:
            self._known[path] = resample(*read_audio(path), SAMPLE_RATE)
        return self._known[path]

    def pick(self, kind: str, patterns: Sequence[str], rng: np.random.Generator) -> Path:
        """One of the matching files at random.

        Raises:
            DataError: none matches.
        """
        files = self.files(kind, patterns)
        if not files:
            raise DataError(f"no {' or '.join(patterns)} in {self.folder / kind}")
        return files[int(rng.integers(len(files)))]

    def bass(self, rng: np.random.Generator) -> OneShot:
        """A bass one-shot as an instrument."""
        path = self.pick("bass", tuple(BASS_PITCHES), rng)
        return OneShot(self.read(path).mean(axis=0), BASS_PITCHES[path.stem])


def decay(seconds: float, total_s: float) -> np.ndarray:
    """An exponential that falls by 60 dB in some seconds, [L]."""
    time = np.arange(int(total_s * SAMPLE_RATE)) / SAMPLE_RATE
    return np.exp(-6.9 * time / seconds) * np.minimum(1, (total_s - time) / 0.005)


def synth_kick(rng: np.random.Generator) -> np.ndarray:
    """A sine that falls from a click to a low tone, more or less driven, `[L]`."""
    ring = rng.uniform(0.18, 0.9)
    low, high = rng.uniform(38, 68), rng.uniform(120, 420)
    envelope = decay(ring, ring)
    time = np.arange(envelope.size) / SAMPLE_RATE
    frequency = low + (high - low) * np.exp(-time / rng.uniform(0.008, 0.04))
    tone = np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE) * envelope
    click = effects.high_pass(rng.standard_normal(envelope.size), 1000.0) * np.exp(-time / 0.003)
    drive = rng.uniform(0.5, 4)
    return np.tanh(drive * tone) / np.tanh(drive) + rng.uniform(0, 0.3) * click


def synth_snare(rng: np.random.Generator) -> np.ndarray:
    """Two short sines and high-passed noise, `[L]`."""
    ring = rng.uniform(0.12, 0.45)
    envelope = decay(ring, ring)
    time = np.arange(envelope.size) / SAMPLE_RATE
    pitch = rng.uniform(150, 260)
    tone = np.sin(2 * np.pi * pitch * time) + 0.6 * np.sin(2 * np.pi * pitch * rng.uniform(1.4, 1.9) * time)
    noise = effects.high_pass(rng.standard_normal(envelope.size), rng.uniform(500, 2500))
    return tone * envelope**1.7 * rng.uniform(0.2, 0.8) + noise * envelope * rng.uniform(0.3, 0.8)


def synth_hat(rng: np.random.Generator, ring: float) -> np.ndarray:
    """High-passed noise mixed with a cluster of square waves, `[L]`; `ring` is its length in seconds."""
    envelope = decay(ring, ring)
    time = np.arange(envelope.size) / SAMPLE_RATE
    base = rng.uniform(300, 600)
    metal = sum(
        np.sign(np.sin(2 * np.pi * base * factor * time)) for factor in (1, 1.34, 1.52, 1.79, 2.1, 2.7)
    )
    mixed = rng.uniform(0.2, 1) * rng.standard_normal(envelope.size) + rng.uniform(0, 0.4) * metal
    return effects.high_pass(mixed, rng.uniform(5000, 9000), 4) * envelope


def synth_clap(rng: np.random.Generator) -> np.ndarray:
    """Some bursts of band-passed noise, `[L]`."""
    envelope = decay(rng.uniform(0.15, 0.4), 0.4)
    time = np.arange(envelope.size) / SAMPLE_RATE
    bursts = sum(
        np.where(time >= t, np.exp(-(time - t) / 0.006), 0) for t in np.cumsum(rng.uniform(0.007, 0.013, 3))
    )
    noise = effects.low_pass(
        effects.high_pass(rng.standard_normal(envelope.size), 700.0), rng.uniform(2000, 6000)
    )
    return noise * (bursts + 0.4 * envelope)


def synth_tom(rng: np.random.Generator) -> np.ndarray:
    """A sine that falls a little, `[L]`."""
    ring = rng.uniform(0.25, 0.7)
    envelope = decay(ring, ring)
    time = np.arange(envelope.size) / SAMPLE_RATE
    frequency = rng.uniform(75, 200) * (1 + 0.5 * np.exp(-time / 0.03))
    noise = 0.1 * rng.standard_normal(envelope.size) * np.exp(-time / 0.02)
    return np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE) * envelope + noise


def synth_perc(rng: np.random.Generator) -> np.ndarray:
    """A wooden or metallic blip, or a shaker, `[L]`."""
    ring = rng.uniform(0.05, 0.25)
    envelope = decay(ring, ring)
    if rng.random() < 0.4:
        return effects.high_pass(rng.standard_normal(envelope.size), 4000.0) * envelope
    angle = 2 * np.pi * rng.uniform(400, 1800) * np.arange(envelope.size) / SAMPLE_RATE
    return np.sin(angle + rng.uniform(0, 3) * np.sin(rng.uniform(1.3, 2.7) * angle)) * envelope


def synth_one(lane: str, rng: np.random.Generator) -> np.ndarray:
    """A synthetic sound for a lane, mono [L]."""
    makers = {
        "kick": synth_kick,
        "snare": synth_snare,
        "clap": synth_clap,
        "tom": synth_tom,
        "perc": synth_perc,
        "hat": lambda r: synth_hat(r, r.uniform(0.03, 0.12)),
        "open": lambda r: synth_hat(r, r.uniform(0.25, 0.6)),
        "ride": lambda r: synth_hat(r, r.uniform(0.4, 1.0)),
        "crash": lambda r: synth_hat(r, r.uniform(1.0, 2.0)),
    }
    return makers[lane](rng)


def make_kit(samples: Samples, recorded: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Choose and place a sound for each lane.

    Args:
        samples: the recorded sounds.
        recorded: probability that a lane takes a recorded sound rather than a synthetic one.
        rng: decides.

    Shape:
        -> lane -> [2, L], at the level that the lane has in a usual kit
    """
    kit = {}
    for lane in LANES:
        if rng.random() < recorded:
            sound = samples.read(samples.pick("drums", LANE_FILES[lane], rng))
            sound = repitch(sound, rng.uniform(-2.5, 2.5), 2.5)
        else:
            sound = np.repeat(synth_one(lane, rng)[None], 2, axis=0)
        kit[lane] = place(sound, *choose_place(lane, rng))
    return kit


def repitch(sound: np.ndarray, semitones: float, longest_s: float) -> np.ndarray:
    """A recorded sound [2, L] played faster or slower, and cut to a length."""
    ratio = 2.0 ** (semitones / 12)
    return soxr.resample(sound.T, SAMPLE_RATE * ratio, SAMPLE_RATE).T[:, : int(longest_s * SAMPLE_RATE)]


def choose_place(lane: str, rng: np.random.Generator) -> tuple[float, float]:
    """The position of a lane, -0.5 (left) to 0.5, and its peak level in dB, around those of a usual kit."""
    position = 0.0 if lane in ("kick", "snare") else rng.uniform(-0.5, 0.5)
    return position, LANE_LEVELS_DB[lane] + rng.normal(0, 2)


def place(sound: np.ndarray, position: float, level_db: float) -> np.ndarray:
    """Bring a sound [2, L] to a position and a peak level, and fade its last milliseconds."""
    fade = min(sound.shape[1], 400)
    sound = sound.astype(np.float32)
    sound[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    gain = 10 ** (level_db / 20) / max(np.abs(sound).max(), 1e-6)
    balance = np.array([[min(1, 1 - position)], [min(1, 1 + position)]])
    return (sound * gain * balance).astype(np.float32)


def sequence(hits: Sequence[Hit], kit: Mapping[str, np.ndarray | Layers], length: int) -> np.ndarray:
    """Play hits on a kit; a closed hat stops an open one.

    Args:
        hits: what to play.
        kit: lane -> its sound [2, L], or its sounds by velocity.
        length: samples to return.

    Shape:
        -> [2, L]
    """
    out = np.zeros((2, length), np.float32)
    closed = np.array([hit.time for hit in hits if hit.lane == "hat"])
    for hit in hits:
        entry = kit[hit.lane]
        sound = entry.at(hit.velocity) if isinstance(entry, Layers) else entry
        start = max(0, round(hit.time * SAMPLE_RATE))
        if hit.lane == "open" and (later := closed[closed > hit.time + 0.01]).size:
            stop = int((later.min() - hit.time) * SAMPLE_RATE)
            if stop < sound.shape[1]:
                fade = min(stop, 300)
                sound = sound[:, :stop].copy()
                sound[:, stop - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        part = out[:, start : start + sound.shape[1]]
        part += sound[:, : part.shape[1]] * np.float32(hit.velocity**1.5)
    return out


@dataclass(frozen=True, eq=False)
class Loop:
    """A recorded drum loop brought to a tempo.

    Args:
        audio: [2, L], exactly `beats` long.
        beats: how many beats it lasts.
        tempo: in beats a minute.
    """

    audio: np.ndarray
    beats: int
    tempo: float


def make_loop(samples: Samples, rng: np.random.Generator) -> Loop:
    """Choose a drum loop, guess its count of beats, and change its speed a little.

    Raises:
        DataError: there is no loop.
    """
    files = [path for path in samples.files("drums", LOOP_FILES) if path.stem not in TONAL_LOOPS]
    if not files:
        raise DataError(f"no drum loops in {samples.folder}")
    audio = samples.read(files[int(rng.integers(len(files)))])
    ratio = rng.uniform(0.9, 1.1)
    audio = soxr.resample(audio.T, SAMPLE_RATE * ratio, SAMPLE_RATE).T.astype(np.float32)
    seconds = audio.shape[1] / SAMPLE_RATE
    beats = min((2, 4, 8, 16, 32), key=lambda count: abs(np.log2(60 * count / seconds / 115)))
    return Loop(audio, beats, 60 * beats / seconds)


def play_loop(loop: Loop, seconds: float, chop: float, rng: np.random.Generator) -> np.ndarray:
    """Repeat a loop, now and then with its half beats in another order.

    Args:
        loop: what to play.
        seconds: length of the result.
        chop: probability that a repetition is cut up, 0 to 1.
        rng: decides.

    Shape:
        -> [2, L]
    """
    slices = np.array_split(loop.audio, loop.beats * 2, axis=1)
    fade = np.linspace(1, 0, 64, dtype=np.float32)
    parts, total = [], 0
    while total < seconds * SAMPLE_RATE:
        if rng.random() < chop:
            order = [
                int(rng.integers(len(slices))) if rng.random() < 0.4 else index
                for index in range(len(slices))
            ]
            faded = [(slices[index][:, :-64], slices[index][:, -64:] * fade) for index in order]
            audio = np.concatenate([piece for pair in faded for piece in pair], axis=1)
        else:
            audio = loop.audio
        parts.append(audio)
        total += audio.shape[1]
    return np.concatenate(parts, axis=1)[:, : int(seconds * SAMPLE_RATE)]
