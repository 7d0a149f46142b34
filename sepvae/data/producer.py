"""Stems of a written song or a MIDI score: chooses the instruments and mixes each stem on its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sepvae.data import effects
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.instruments import SYNTHETIC_BASSES
from sepvae.data.kits import Hit, Samples, lane_of, make_loop, play_loop
from sepvae.data.melody import write_vocals
from sepvae.data.players import make_bass, make_drums, make_part, treat_drums
from sepvae.data.render import DRUM_CHANNEL, TAIL_S, Score, is_onset, render, split_score
from sepvae.data.styles import GENRES
from sepvae.data.synth import Note
from sepvae.data.utterances import Speech
from sepvae.data.vocals import make_vocals

STEM_LEVELS_DB = {"vocals": -19.0, "drums": -20.0, "bass": -20.0, "other": -20.5}
PRODUCED_RMS_DB = (-22.0, -14.0)
MIX_PEAK = 0.95
LEVEL_SPREAD_DB = 3.0
"""Standard deviation of a stem's level in a mix."""
"""Largest sample of a mixture, of full scale 1."""


def notes_of(score: Score) -> list[Note]:
    """The notes of a score, whatever channel they are on, in order of their onsets; one that nothing ends lasts 1 s."""
    notes: list[Note] = []
    open_notes: dict[tuple[int, int], tuple[float, int]] = {}
    for now, message in score.events:
        if message.type not in ("note_on", "note_off"):
            continue
        key = (message.channel, message.note)
        if key in open_notes:
            start, velocity = open_notes.pop(key)
            notes.append(Note(start, max(now - start, 0.02), float(message.note), velocity / 127))
        if is_onset(message):
            open_notes[key] = (now, message.velocity)
    notes += [
        Note(start, 1.0, float(note), velocity / 127) for (_, note), (start, velocity) in open_notes.items()
    ]
    return sorted(notes, key=lambda note: note.start)


def hits_of(score: Score) -> list[Hit]:
    """The strokes of a score's drum channel, each on the lane that its General MIDI key belongs to."""
    return [
        Hit(now, lane_of(message.note), message.velocity / 127)
        for now, message in score.events
        if is_onset(message) and message.channel == DRUM_CHANNEL
    ]


def produce_score(
    score: Score, samples: Samples, soundfont: Path, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict]:
    """Play a MIDI score with drums and a bass of our own instead of General MIDI's.

    Args:
        score: what to play.
        samples: recorded drums and basses.
        soundfont: the instruments of the rest, for fluidsynth.
        rng: decides everything.

    Returns:
        Stems "drums", "bass", "other", each [2, L], and what was chosen; a stem that plays nothing is left out.
    """
    parts = split_score(score)
    length = round((score.duration + TAIL_S) * SAMPLE_RATE)
    stems, chosen = {}, {}
    if hits := hits_of(parts["drums"]):
        chosen["kit"] = str(rng.choice(("recorded", "mixed", "mixed", "synth")))
        stems["drums"] = make_drums(hits, length, chosen["kit"], samples, soundfont, rng)
    if notes := notes_of(parts["bass"]):
        stems["bass"], chosen["bass"] = make_bass(notes, length, SYNTHETIC_BASSES, samples, soundfont, rng)
    if any(is_onset(message) for _, message in parts["other"].events):
        other = effects.tilt(render(parts["other"], soundfont, score.duration + TAIL_S), rng.uniform(-5, 5))
        if rng.random() < 0.5:
            other = effects.reverb(other, rng.uniform(0.4, 2.0), rng.uniform(0.05, 0.3), rng)
        stems["other"] = effects.high_pass(other, rng.uniform(24, 80))
    return balance(stems, rng), chosen


def balance(stems: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bring stems near the levels of a finished mix, each with its own deviation, and the mix to a random loudness.

    Args:
        stems: source -> `[C, L]`; a silent one is left out of the result.
        rng: draws the deviations and the loudness.
    """
    out = {}
    for source, audio in stems.items():
        level = effects.rms(audio)
        if level > 0:
            target_db = STEM_LEVELS_DB[source] + float(np.clip(rng.normal(0, LEVEL_SPREAD_DB), -6, 6))
            out[source] = audio * np.float32(10 ** (target_db / 20) / level)
    mix = np.sum(list(out.values()), axis=0)
    wanted = 10 ** (rng.uniform(*PRODUCED_RMS_DB) / 20) / effects.rms(mix)
    gain = min(wanted, MIX_PEAK / np.abs(mix).max())
    return {source: (audio * np.float32(gain)) for source, audio in out.items()}


def produce(
    samples: Samples,
    soundfont: Path,
    seconds: float,
    rng: np.random.Generator,
    speech: Speech | None = None,
) -> tuple[dict[str, np.ndarray], dict]:
    """Write and play one song.

    Args:
        samples: recorded drums and basses.
        soundfont: General MIDI instruments for fluidsynth.
        seconds: about how long the song lasts, > 0.
        rng: decides everything.
        speech: what the singers are made of; without it every song is instrumental.

    Returns:
        Stems "vocals" (unless the song is instrumental), "drums", "bass", "other", each [2, L], and what was chosen.
    """
    genre = str(rng.choice(list(GENRES)))
    style = GENRES[genre]
    kit = str(rng.choice(style.kits))
    loop = make_loop(samples, rng) if kit == "loop" else None
    song = compose(seconds, rng, genre, loop.tempo if loop else None)
    length = round(song.duration * SAMPLE_RATE)
    if loop:
        played = play_loop(loop, song.duration - 2.0, float(rng.uniform(0, 0.5)), rng)
        drums = treat_drums(np.pad(played, ((0, 0), (0, length - played.shape[1]))), rng)
    else:
        drums = make_drums(song.drums, length, kit, samples, soundfont, rng)
    bass, bass_kind = make_bass(song.bass, length, style.bass_sounds, samples, soundfont, rng)
    if genre in ("house", "techno", "dnb", "synthwave", "electro") and rng.random() < 0.5:
        bass = effects.duck(bass, song.kicks, rng.uniform(0.3, 0.9), rng.uniform(0.08, 0.3))
    synthetic = float(rng.choice((0.2, 0.5, 0.9)))
    other = sum(make_part(part, song, length, synthetic, soundfont, rng) for part in song.parts)
    stems = {"drums": drums, "bass": bass, "other": np.asarray(other, np.float32)}
    chosen: dict[str, object] = {
        "genre": genre,
        "tempo": song.tempo,
        "kit": kit,
        "bass": bass_kind,
        "roles": [p.role for p in song.parts],
    }
    if speech and (line := write_vocals(song, rng)):
        stems["vocals"], chosen["vocals"] = make_vocals(line, song.tempo, length, speech, rng)
    return balance(stems, rng), chosen
