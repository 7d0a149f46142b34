"""The composed songs of the music set, by split, with their instruments and singers; and singers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE, write_track
from sepvae.data.effects import rms
from sepvae.data.items import CORPORA, Item, rng_for
from sepvae.data.kits import Samples
from sepvae.data.melody import write_vocals
from sepvae.data.music import HELD_OUT_MIDI, SPEAKERS, TRAIN_MIDI, make_speech
from sepvae.data.producer import STEM_LEVELS_DB, produce
from sepvae.data.render import find_soundfont
from sepvae.data.styles import GENRES
from sepvae.data.utterances import Speech
from sepvae.data.vocals import make_vocals
from sepvae.data.voices import VOICES, voices_under

SECONDS = (55.0, 80.0)
VALID_SINGER = "8226"
"""Sings in the songs of the validation, and nowhere else."""
VALID_SONGS = 4
FILES_SPOKEN = 150
"""Most files of a voice that are spoken."""
FILES_PER_SONG, MOST_SONGS = 40, 4
SUNG_RMS_DB = STEM_LEVELS_DB["vocals"]


@dataclass(frozen=True)
class Composing:
    """How composed songs become a set.

    Args:
        split: the set.
        name: what the names of its songs begin with.
        soundfont: file name of the SoundFont.
        corpus: its key in `CORPORA`.
        speakers: whose speech is sung.
        sung: whether every song is.
    """

    split: str
    name: str
    soundfont: str
    corpus: str
    speakers: tuple[str, ...]
    sung: bool = False


TRAIN_SONGS = Composing("train", "composed", TRAIN_MIDI.soundfont, TRAIN_MIDI.corpus, SPEAKERS)
(VALID_MIDI,) = HELD_OUT_MIDI["valid"]
VALID_SUNG = Composing(
    "valid-sung", "sung", VALID_MIDI.soundfont, VALID_MIDI.corpus, (VALID_SINGER,), sung=True
)
SOUNDFONTS = (TRAIN_SONGS.soundfont, VALID_SUNG.soundfont)
"""File names of those that the songs need."""


def composed_items(root: Path, seed: int, soundfonts: Sequence[str | Path], songs: int) -> list[Item]:
    """Songs of the composer, for training and for validation; what is sung in them is made of speech."""
    samples, speech = root / CORPORA["sonic-pi"].folder, root / CORPORA["speech"].folder
    plans = [(TRAIN_SONGS, songs), (VALID_SUNG, VALID_SONGS)]
    return [
        Item(
            plan.split,
            name,
            ("composed", "sonic-pi", plan.corpus, "speech"),
            partial(make_composed, samples, voices, plan, partial(rng_for, seed, name), tuple(soundfonts)),
        )
        for plan, count in plans
        for voices in [Speech.of_folders(speech, plan.speakers)]
        for name in (f"{plan.name}-{index:04d}" for index in range(count))
    ]


def singer_items(root: Path, seed: int) -> list[Item]:
    """Solo tracks of the vocals from the voices of free programs: what they say, and songs that are sung with it."""
    items = []
    for voice, files in voices_under(root, VOICES).items():
        spoken = f"speech-{voice.name}"
        make = partial(make_speech, files[:FILES_SPOKEN], partial(rng_for, seed, spoken), voice.package)
        items.append(Item("train", spoken, (voice.package,), make))
        speech = Speech({voice.name: files})
        for index in range(min(MOST_SONGS, -(-len(files) // FILES_PER_SONG))):
            sung = f"sung-{voice.name}-{index:02d}"
            make = partial(make_sung, speech, voice.package, partial(rng_for, seed, sung))
            items.append(Item("train", sung, ("composed", voice.package), make))
    return items


def make_sung(speech: Speech, corpus: str, rng_of: Callable[[], np.random.Generator], folder: Path) -> None:
    """Write one song and sing it alone."""
    rng = rng_of()
    line = None
    while line is None:
        song = compose(float(rng.uniform(*SECONDS)), rng, str(rng.choice(list(GENRES))))
        line = write_vocals(song, rng)
    audio, chosen = make_vocals(line, song.tempo, round(song.duration * SAMPLE_RATE), speech, rng)
    audio *= np.float32(10 ** (SUNG_RMS_DB / 20) / max(rms(audio), 1e-6))
    info = {"solo": True, "corpora": ["composed", corpus], "genre": song.genre, "vocals": chosen}
    write_track(folder, {"vocals": audio}, SAMPLE_RATE, info)


def make_composed(
    samples: Path,
    speech: Speech,
    plan: Composing,
    rng_of: Callable[[], np.random.Generator],
    soundfonts: Sequence[str | Path],
    folder: Path,
) -> None:
    """Write, play and sing one song."""
    rng = rng_of()
    soundfont = find_soundfont(plan.soundfont, soundfonts)
    stems: dict[str, np.ndarray] = {}
    while not stems or (plan.sung and "vocals" not in stems):
        stems, chosen = produce(Samples(samples), soundfont, float(rng.uniform(*SECONDS)), rng, speech)
    corpora = ["composed", "sonic-pi", plan.corpus, *(["speech"] if "vocals" in stems else [])]
    write_track(folder, stems, SAMPLE_RATE, {"solo": False, "corpora": corpora, **chosen})
