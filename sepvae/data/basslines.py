"""Bass lines on their own: synthesizers with hard edges, played short and on few pitches, as electronic music has them.

What tells such a bass from a kick drum is its steady pitch; with softer basses alone a model learns the attack instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data import effects
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE, write_track
from sepvae.data.items import Item, seed_of
from sepvae.data.music import active_rms_db
from sepvae.data.styles import GENRES
from sepvae.data.synth import Analog, Envelope, Note, Wave

COUNT = 24
SECONDS = 75.0
LEVEL_DB = -20.0
LOWEST = (26.0, 40.0)
"""Range of a line's lowest note, as MIDI numbers: 37 to 82 Hz."""


def bass_items(seed: int) -> list[Item]:
    """Solo tracks of the bass for training."""
    names = [f"bass-{index:04d}" for index in range(COUNT)]
    return [
        Item("train", name, ("composed",), partial(make_bass_line, partial(seed_of, seed, name)))
        for name in names
    ]


def make_bass_line(rng_of: Callable[[], np.random.Generator], folder: Path) -> None:
    """Write and play one line."""
    rng = rng_of()
    notes: list[Note] = []
    while not notes:
        song = compose(SECONDS, rng, str(rng.choice(list(GENRES))))
        notes = staccato(song.bass, rng)
    audio = hard_edged(rng).play(notes, round(song.duration * SAMPLE_RATE))
    if rng.random() < 0.5:
        audio = effects.saturate(audio, rng.uniform(-10, 10))
    audio = effects.high_pass(effects.pan(effects.tilt(audio, rng.uniform(-4, 4)), 0.0), rng.uniform(20, 30))
    audio *= np.float32(10 ** ((LEVEL_DB - active_rms_db(audio)) / 20))
    peak = np.abs(audio).max()
    write_track(
        folder, {"bass": audio / max(1.0, peak)}, SAMPLE_RATE, {"solo": True, "corpora": ["composed"]}
    )


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
    """A synthesizer whose notes start, and mostly end, within a few milliseconds."""
    kind = str(rng.choice(("pulse", "pulse", "saw", "triangle", "sine")))
    waves = [Wave(kind, width=float(rng.choice((0.5, rng.uniform(0.1, 0.5)))))]
    if rng.random() < 0.3:
        waves.append(Wave("sine", 0.0, int(rng.choice((-1, 0))), float(rng.uniform(0.3, 1))))
    envelope = Envelope(
        attack_s=float(rng.uniform(0.0002, 0.003)),
        decay_s=float(rng.uniform(0.03, 0.6)),
        sustain=float(rng.uniform(0.1, 1.0)),
        release_s=float(rng.choice((0.003, 0.01, rng.uniform(0.02, 0.1)))),
    )
    return Analog(
        tuple(waves),
        envelope,
        cutoff_octaves=float(rng.uniform(0.5, 5.0)),
        sweep_octaves=float(rng.uniform(0.0, 5.0)),
        sweep_s=float(rng.uniform(0.01, 0.2)),
    )
