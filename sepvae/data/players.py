"""The instruments that play a part: General MIDI programs, drum kits, and our own synthesizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np

from sepvae.data import effects
from sepvae.data.composer import Part, Song
from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.instruments import bass_instrument, part_instrument
from sepvae.data.kits import GM_NOTES, Hit, Samples, make_kit, sequence
from sepvae.data.render import DRUM_CHANNEL, DRUM_KITS, Score, render
from sepvae.data.synth import Note

ROLE_LEVELS_DB = {"pad": -6.0, "strings": -5.0, "arp": -4.0, "comp": -2.0, "organ": -3.0, "lead": 0.0}
PROGRAMS = {
    "pad": (48, 49, 50, 51, 52, 88, 89, 90, 91, 94, 95),
    "strings": (40, 42, 44, 48, 49, 50),
    "comp": (0, 1, 2, 3, 4, 5, 6, 24, 25, 26),
    "arp": (5, 8, 10, 11, 12, 46, 80, 81, 84, 87),
    "strum": (24, 25, 26, 27, 28),
    "lead": (22, 56, 59, 65, 66, 71, 73, 80, 81, 84, 87),
    "riff": (7, 26, 27, 28, 29, 30, 80, 81, 87, 104, 107),
    "power": (29, 30),
    "clav": (7, 4, 5, 28),
    "stab": (0, 1, 5, 16, 50, 62, 63, 81, 90),
    "brass": (56, 57, 61, 61, 62, 66),
    "organ": (16, 17, 18, 19, 21),
    "skank": (16, 27, 28, 0, 26),
}


def play_program(program: int, notes: Sequence[Note], length: int, soundfont: Path) -> np.ndarray:
    """Play notes with a General MIDI program.

    Shape:
        -> [2, L]
    """
    events = [(0.0, mido.Message("program_change", channel=0, program=program))]
    for note in notes:
        pitch = int(np.clip(round(note.pitch), 0, 127))
        velocity = int(np.clip(round(note.velocity * 120), 1, 127))
        events.append((note.start, mido.Message("note_on", channel=0, note=pitch, velocity=velocity)))
        events.append((note.start + note.duration, mido.Message("note_off", channel=0, note=pitch)))
    return _rendered(events, length, soundfont)


def play_gm_drums(hits: Sequence[Hit], length: int, soundfont: Path, rng: np.random.Generator) -> np.ndarray:
    """Play hits with one of the SoundFont's drum kits.

    Shape:
        -> [2, L]
    """
    keys = {lane: int(rng.choice(notes)) for lane, notes in GM_NOTES.items()}
    kit = int(rng.choice(DRUM_KITS))
    events = [(0.0, mido.Message("program_change", channel=DRUM_CHANNEL, program=kit))]
    for hit in hits:
        velocity = int(np.clip(hit.velocity * 120, 1, 127))
        events.append(
            (hit.time, mido.Message("note_on", channel=DRUM_CHANNEL, note=keys[hit.lane], velocity=velocity))
        )
        events.append((hit.time + 0.1, mido.Message("note_off", channel=DRUM_CHANNEL, note=keys[hit.lane])))
    return _rendered(events, length, soundfont)


def _rendered(events: list, length: int, soundfont: Path) -> np.ndarray:
    score = Score(tuple(sorted(events, key=lambda event: event[0])))
    return render(score, soundfont, length / SAMPLE_RATE, {"synth.reverb.active": 0})[:, :length]


def make_bass(
    notes: Sequence[Note],
    length: int,
    kinds: Sequence[str],
    samples: Samples,
    soundfont: Path,
    rng: np.random.Generator,
) -> tuple[np.ndarray, str]:
    """Play and treat a bass line.

    Returns:
        Stereo audio [2, L] and the kind of bass that was chosen.
    """
    kind = str(rng.choice(kinds))
    if kind in ("gm", "drive"):
        program = int(rng.choice((33, 34) if kind == "drive" else range(32, 40)))
        audio = play_program(program, notes, length, soundfont)
    else:
        if kind == "808" and rng.random() < 0.5:
            notes = [
                Note(n.start, n.duration, n.pitch - 12 if n.pitch > 40 else n.pitch, n.velocity)
                for n in notes
            ]
        audio = effects.pan(bass_instrument(kind, samples, rng).play(notes, length), 0.0)
    if kind == "pluck":
        audio = effects.low_pass(audio, rng.uniform(300, 1500))
        audio = effects.shelf(audio, 140.0, rng.uniform(6, 14), high=False)
    if kind == "drive":
        audio = effects.low_pass(effects.saturate(audio, rng.uniform(8, 20)), rng.uniform(2500, 6000))
    elif rng.random() < 0.5:
        audio = effects.saturate(audio, rng.uniform(-10, 10))
    if rng.random() < 0.5:
        audio = effects.compress(audio, rng.uniform(0.2, 0.6))
    audio = effects.tilt(audio, rng.uniform(-5, 5))
    if kind in ("saw", "reese", "square", "fm") and rng.random() < 0.4:
        audio = effects.widen(audio, rng.uniform(0.1, 0.5), rng)
    if rng.random() < 0.15:
        audio = effects.reverb(audio, rng.uniform(0.3, 1.0), rng.uniform(0.05, 0.2), rng)
    return effects.high_pass(audio, rng.uniform(20, 32)), kind


def make_drums(
    hits: Sequence[Hit], length: int, kind: str, samples: Samples, soundfont: Path, rng: np.random.Generator
) -> np.ndarray:
    """Play and treat drum hits with a kit: gm, recorded, synth or mixed.

    Shape:
        -> [2, L]
    """
    if kind == "gm":
        audio = play_gm_drums(hits, length, soundfont, rng)
    else:
        recorded = {"recorded": 1.0, "synth": 0.0}.get(kind, 0.5)
        audio = sequence(hits, make_kit(samples, recorded, rng), length)
    return treat_drums(audio, rng)


def treat_drums(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Equalise, compress, drive and place drums in a room, each by chance.

    Shape:
        [2, L] -> [2, L]
    """
    audio = effects.tilt(audio, rng.uniform(-3, 6))
    if rng.random() < 0.5:
        audio = effects.reverb(audio, rng.uniform(0.15, 0.9), rng.uniform(0.03, 0.25), rng)
    if rng.random() < 0.5:
        audio = effects.compress(audio, rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.2))
    if rng.random() < 0.6:
        audio = effects.saturate(audio, rng.uniform(-12, 4))
    return effects.high_pass(audio, rng.uniform(20, 32))


def make_part(
    part: Part, song: Song, length: int, synthetic: float, soundfont: Path, rng: np.random.Generator
) -> np.ndarray:
    """Play and treat one instrument of the stem `other`, at the level that its role has.

    Shape:
        -> [2, L]
    """
    role = part.role
    if rng.random() < synthetic:
        audio = effects.pan(part_instrument(role, rng).play(part.notes, length), 0.0)
        if role == "power" or (role == "riff" and rng.random() < 0.6):
            audio = effects.guitar_amp(audio, rng.uniform(12, 35), rng)
        elif role in ("strum", "skank", "clav"):
            audio = effects.guitar_amp(audio, rng.uniform(-12, 6), rng)
    else:
        audio = play_program(int(rng.choice(PROGRAMS[role])), part.notes, length, soundfont)
    audio = effects.high_pass(effects.tilt(audio, rng.uniform(-5, 5)), rng.uniform(50, 220))
    if rng.random() < 0.25:
        audio = effects.saturate(audio, rng.uniform(-10, 6))
    position = rng.uniform(-0.7, 0.7) if role not in ("pad", "lead") else rng.uniform(-0.2, 0.2)
    audio = audio * np.array([[min(1, 1 - position)], [min(1, 1 + position)]], np.float32)
    if rng.random() < 0.6:
        audio = effects.widen(audio, rng.uniform(0.1, 0.6), rng)
    if role in ("lead", "arp", "stab", "skank") and rng.random() < 0.5:
        audio = effects.echo(
            audio,
            60 / song.tempo * rng.choice((0.5, 0.75, 1.0)),
            rng.uniform(0.2, 0.5),
            rng.uniform(0.15, 0.5),
        )
    if rng.random() < 0.7:
        audio = effects.reverb(audio, rng.uniform(0.4, 2.5), rng.uniform(0.05, 0.4), rng)
    if role in ("pad", "stab", "strings") and rng.random() < 0.3:
        audio = effects.duck(audio, song.kicks, rng.uniform(0.3, 0.8), rng.uniform(0.1, 0.35))
    level = effects.rms(audio)
    gain_db = ROLE_LEVELS_DB.get(role, -2.0) + rng.normal(0, 2.5)
    return audio * np.float32(10 ** (gain_db / 20) / level) if level > 0 else audio
