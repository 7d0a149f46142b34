"""Basses of electronic music: synthesizers with hard edges, played short and on few pitches, alone and against drums.

What tells such a bass from a kick drum is its steady pitch; with softer basses alone a model learns the attack instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data import effects
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE, write_track
from sepvae.data.instruments import bass_instrument
from sepvae.data.items import CORPORA, Item, rng_for
from sepvae.data.kits import Samples, make_kit, sequence
from sepvae.data.players import treat_drums
from sepvae.data.styles import GENRES
from sepvae.data.synth import Analog, Envelope, Note, Wave

LINES = 24
GROOVES = 96
SECONDS = 75.0
LEVEL_DB = -20.0
GENRES_OF_GROOVES = ("house", "techno", "dnb", "hiphop", "trap", "synthwave", "electro", "pop")
BASS_DB = (-3.0, 9.0)
"""Range of the bass's level over that of the drums, in a groove."""
KITS = (0.0, 0.5, 1.0)
"""Shares of recorded drums in a groove's kit."""
HARD = 0.6
"""Chance that a groove's bass is hard-edged; otherwise it is one that suits the genre."""
LOWEST = (26.0, 40.0)
"""Range of a line's lowest note, as MIDI numbers: 37 to 82 Hz."""


def bass_items(root: Path, seed: int) -> list[Item]:
    """Solo tracks of the bass, and grooves of drums and bass, for training."""
    samples = root / CORPORA["sonic-pi"].folder
    lines = [
        Item("train", name, ("composed",), partial(make_bass_line, partial(rng_for, seed, name)))
        for name in (f"bass-{index:04d}" for index in range(LINES))
    ]
    grooves = [
        Item(
            "train",
            name,
            ("composed", "sonic-pi"),
            partial(make_groove, samples, partial(rng_for, seed, name)),
        )
        for name in (f"groove-{index:04d}" for index in range(GROOVES))
    ]
    return lines + grooves


def make_bass_line(rng_of: Callable[[], np.random.Generator], folder: Path) -> None:
    """Write and play one line."""
    rng = rng_of()
    notes: list[Note] = []
    while not notes:
        song = compose(SECONDS, rng, str(rng.choice(list(GENRES))))
        notes = staccato(song.bass, rng)
    audio = effects.pan(play_hard(notes, round(song.duration * SAMPLE_RATE), rng), 0.0)
    audio = effects.at_level(audio, LEVEL_DB)
    write_track(folder, {"bass": audio}, SAMPLE_RATE, {"solo": True, "corpora": ["composed"]})


def make_groove(samples: Path, rng_of: Callable[[], np.random.Generator], folder: Path) -> None:
    """Write and play drums and bass of one song, the bass often louder than the drums, and often ducked by the kick.

    Args:
        samples: folder of recorded drums and basses, as `Samples` wants it.
        rng_of: makes the generator that decides everything.
        folder: of the track.
    """
    rng = rng_of()
    style = GENRES[genre := str(rng.choice(GENRES_OF_GROOVES))]
    song = compose(SECONDS, rng, genre)
    while not (song.bass and song.drums):
        song = compose(SECONDS, rng, genre)
    length = round(song.duration * SAMPLE_RATE)
    recorded = Samples(samples)
    drums = treat_drums(sequence(song.drums, make_kit(recorded, float(rng.choice(KITS)), rng), length), rng)
    if rng.random() < HARD:
        kind = "hard"
        bass = play_hard(staccato(song.bass, rng), length, rng)
    else:
        kind = str(rng.choice([sound for sound in style.bass_sounds if sound != "gm"]))
        bass = bass_instrument(kind, recorded, rng).play(song.bass, length)
    if rng.random() < 0.4:
        bass = effects.duck(bass, song.kicks, rng.uniform(0.3, 0.95), rng.uniform(0.06, 0.3))
    above_db = rng.uniform(*BASS_DB)
    stems = {"drums": drums, "bass": effects.pan(bass, 0.0)}
    if rng.random() < 0.3:
        stems["bass"] = effects.reverb(stems["bass"], rng.uniform(0.2, 1.5), rng.uniform(0.03, 0.2), rng)
    levels_db = {"drums": LEVEL_DB - above_db / 2, "bass": LEVEL_DB + above_db / 2}
    stems = {source: effects.at_level(audio, levels_db[source]) for source, audio in stems.items()}
    write_track(
        folder,
        stems,
        SAMPLE_RATE,
        {"solo": False, "corpora": ["composed", "sonic-pi"], "genre": genre, "bass": kind},
    )


def play_hard(notes: Sequence[Note], length: int, rng: np.random.Generator) -> np.ndarray:
    """Play notes with a hard-edged synthesizer, drive it by chance, and tone it: mono audio [L]."""
    audio = hard_edged(rng).play(notes, length)
    if rng.random() < 0.5:
        audio = effects.saturate(audio, rng.uniform(-10, 10))
    return effects.high_pass(effects.tilt(audio, rng.uniform(-4, 4)), rng.uniform(20, 30))


def staccato(notes: tuple[Note, ...], rng: np.random.Generator) -> list[Note]:
    """A line with shorter notes, moved to a low register; four in ten stay on one pitch."""
    if not notes:
        return []
    lowest = min(note.pitch for note in notes)
    moved = float(rng.uniform(*LOWEST)) - lowest
    span = 0.0 if rng.random() < 0.4 else 1.0
    share = float(rng.uniform(0.25, 1.0))
    return [
        replace(
            note, pitch=lowest + moved + span * min(note.pitch - lowest, 19), duration=share * note.duration
        )
        for note in notes
    ]


def hard_edged(rng: np.random.Generator) -> Analog:
    """A synthesizer whose notes start, and mostly end, within a few milliseconds; some start too high, as kicks do."""
    kind = str(rng.choice(("pulse", "pulse", "saw", "triangle", "sine")))
    waves = [Wave(kind, width=float(rng.choice((0.5, rng.uniform(0.1, 0.5)))))]
    if rng.random() < 0.3:
        waves.append(Wave("sine", 0.0, int(rng.choice((-1, 0))), float(rng.uniform(0.3, 1))))
    envelope = Envelope(
        attack_s=float(rng.uniform(0.0002, 0.003)),
        decay_s=float(rng.uniform(0.03, 0.6)),
        sustain=float(rng.uniform(0.1, 1.0)),
        release_s=float(rng.choice((0.003, 0.01, rng.uniform(0.02, 0.1), rng.uniform(0.1, 0.8)))),
    )
    drop = (
        (float(rng.uniform(1, 24)), float(rng.uniform(0.005, 0.05))) if rng.random() < 0.45 else (0.0, 0.05)
    )
    return Analog(
        tuple(waves),
        envelope,
        cutoff_octaves=float(rng.uniform(0.5, 5.0)),
        sweep_octaves=float(rng.uniform(0.0, 5.0)),
        sweep_s=float(rng.uniform(0.01, 0.2)),
        drop=drop,
    )
