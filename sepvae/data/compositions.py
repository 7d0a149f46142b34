"""The composed songs of the music set: which are written for which split, with what, and who sings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data.corpora import write_track
from sepvae.data.items import CORPORA, Item, seed_of
from sepvae.data.kits import Samples
from sepvae.data.music import HELD_OUT_MIDI, SAMPLE_RATE, SPEAKERS, TRAIN_MIDI
from sepvae.data.producer import produce
from sepvae.data.render import find_soundfont
from sepvae.data.utterances import Speech

SECONDS = (55.0, 80.0)
VALID_SINGER = "8226"
"""Sings in the songs of the validation, and nowhere else."""
VALID_SONGS = 4


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
            partial(make_composed, samples, voices, plan, partial(seed_of, seed, name), tuple(soundfonts)),
        )
        for plan, count in plans
        for voices in [Speech(speech, plan.speakers)]
        for name in (f"{plan.name}-{index:04d}" for index in range(count))
    ]


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
        stems, chosen = produce(rng, Samples(samples), soundfont, float(rng.uniform(*SECONDS)), speech)
    corpora = ["composed", "sonic-pi", plan.corpus, *(["speech"] if "vocals" in stems else [])]
    write_track(folder, stems, SAMPLE_RATE, {"solo": False, "corpora": corpora, **chosen})
