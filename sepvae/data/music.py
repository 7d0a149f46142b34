"""The music set: which recordings and MIDI files become which track of which split, and how."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data import effects
from sepvae.data.corpora import (
    SAMPLE_RATE,
    pad_together,
    read_audio,
    read_stems,
    resample,
    scan,
    write_track,
)
from sepvae.data.items import CORPORA, Item, raw_files, rng_for
from sepvae.data.kits import Samples
from sepvae.data.producer import MIX_PEAK, balance, produce_score
from sepvae.data.render import (
    Score,
    active_window,
    content_hash,
    find_soundfont,
    load_score,
    onsets,
    remap,
    render_kit,
    render_stems,
    stretch,
    transpose,
    window,
)
from sepvae.errors import DataError

logger = logging.getLogger(__name__)
SPEECH_ACTIVE_DB = -20.0
DEMO_PEAK = 0.9
DEMO_STEMS = {"drums": ("drums",), "bass": ("bassguitar",), "other": ("leadguitar", "clav", "horns")}
ALBUM_SPLITS = {
    "train": ("hydrogen", "lithium", "potassium", "caesium", "francium"),
    "valid": ("sodium",),
    "test-album": ("rubidium",),
}
SPEAKERS = ("4088", "5652", "4406")


def album_items(root: Path) -> list[Item]:
    """The album's songs, split by song."""
    base = root / CORPORA["album"].folder
    return [
        Item(split, song, ("album",), partial(make_song, base, song))
        for split, songs in ALBUM_SPLITS.items()
        for song in songs
    ]


def make_song(base: Path, song: str, folder: Path) -> None:
    """Resample one song's stems and write them as they are, or under one common gain if they would clip.

    Raises:
        DataError: there is no such song.
    """
    tracks = {track.name: track for track in scan(base)}
    if song not in tracks:
        raise DataError(f"no song {song} in {base}")
    write_track(
        folder, read_stems(tracks[song], SAMPLE_RATE), SAMPLE_RATE, {"solo": False, "corpora": ["album"]}
    )


def demo_items(root: Path) -> list[Item]:
    """The demo song as a test set of its own."""
    return [Item("test-demo", "demo-song", ("demo",), partial(make_demo, root / CORPORA["demo"].folder))]


def make_demo(base: Path, folder: Path) -> None:
    """Sum the demo song's instrument tracks into stems whose mixture peaks at `DEMO_PEAK`."""
    parts = {
        name: resample(*read_audio(base / f"{name}.mp3"), SAMPLE_RATE)
        for names in DEMO_STEMS.values()
        for name in names
    }
    padded = pad_together(parts)
    stems = {source: np.sum([padded[name] for name in names], axis=0) for source, names in DEMO_STEMS.items()}
    scale = DEMO_PEAK / np.abs(sum(stems.values())).max()
    stems = {source: audio * scale for source, audio in stems.items()}
    write_track(folder, stems, SAMPLE_RATE, {"solo": False, "corpora": ["demo"], "scale": float(scale)})


def speech_items(root: Path, seed: int) -> list[Item]:
    """Each training speaker's utterances as a few long solo tracks of the vocals."""
    items = []
    for speaker in SPEAKERS:
        files = raw_files(root, "speech", f"{speaker}/*.opus")
        for index, part in enumerate(_parts_of_equal_bytes(files, 5)):
            name = f"speech-{speaker}-{index:02d}"
            rng = partial(rng_for, seed, name)
            items.append(Item("train", name, ("speech",), partial(make_speech, part, rng, "speech")))
    return items


def _parts_of_equal_bytes(files: Sequence[Path], count: int) -> list[list[Path]]:
    parts: list[list[Path]] = [[] for _ in range(count)]
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        parts[min(count - 1, done * count // max(total, 1))].append(path)
        done += path.stat().st_size
    return [part for part in parts if part]


def make_speech(
    files: Sequence[Path], rng_of: Callable[[], np.random.Generator], corpus: str, folder: Path
) -> None:
    """Join utterances with short pauses, each brought near `SPEECH_ACTIVE_DB` while it is active."""
    rng = rng_of()
    pieces = []
    for path in files:
        audio = resample(*read_audio(path), SAMPLE_RATE)
        pieces.append(effects.at_level(audio, SPEECH_ACTIVE_DB + rng.normal(0, 2)))
        pieces.append(np.zeros((2, int(rng.uniform(0.2, 1.0) * SAMPLE_RATE)), np.float32))
    stems = {"vocals": np.concatenate(pieces, axis=1)}
    write_track(folder, stems, SAMPLE_RATE, {"solo": True, "corpora": [corpus]})


@dataclass(frozen=True)
class Rendering:
    """How MIDI files become a set.

    Args:
        split: the set.
        soundfont: file name of the SoundFont.
        corpus: its key in `CORPORA`.
        length_s: the longest excerpt.
        varied: whether instruments, key, tempo and excerpt are random.
        produced: whether drums and bass are played by the producer's own instruments.
        kits: SoundFonts of one drum kit each; one of them plays the drums.
    """

    split: str
    soundfont: str
    corpus: str
    length_s: float
    varied: bool = False
    produced: bool = False
    kits: tuple[str, ...] = ()

    @property
    def corpora(self) -> tuple[str, ...]:
        """Keys in `CORPORA` of the instruments that play."""
        return (
            self.corpus,
            *(("sonic-pi",) if self.produced else ()),
            *(("avldrums",) if self.kits else ()),
        )

    @property
    def soundfonts(self) -> tuple[str, ...]:
        """File names of all SoundFonts that may play."""
        return (self.soundfont, *self.kits)


TRAIN_MIDI = Rendering("train", "FluidR3_GM.sf2", "fluidr3", 120.0, varied=True)
PRODUCED_MIDI = Rendering("train", "FluidR3_GM.sf2", "fluidr3", 120.0, varied=True, produced=True)
ACOUSTIC_MIDI = Rendering(
    "train",
    "MuseScore_General_Full.sf2",
    "musescore",
    120.0,
    varied=True,
    kits=("Black_Pearl_4_LV2.sf2", "Red_Zeppelin_4_LV2.sf2"),
)
VARIATIONS = (TRAIN_MIDI, PRODUCED_MIDI, ACOUSTIC_MIDI)
"""How the versions of a training file are rendered, in turn."""
HELD_OUT_MIDI = {
    "valid": (Rendering("valid-midi", "OPL-3_FM_128M.sf2", "opl3", 60.0),),
    "test": (
        Rendering("test-midi", "TimGM6mb.sf2", "timgm6mb", 60.0),
        Rendering("test-midi-known", "FluidR3_GM.sf2", "fluidr3", 60.0),
    ),
}
SCORES = ("openttd-openmsx", "simutrans-data", "planetblupi-music-midi")
"""Packages of free programs with songs as MIDI files."""
HELD_OUT_COUNTS = {"test": 8, "valid": 4}
RENDERED_RMS_DB = (-20.0, -16.0)
MIN_ONSETS, MIN_SECONDS, SHORTEST_S = 24, 20.0, 5.0


def split_midi(files: Iterable[Path], seed: int) -> dict[str, list[Path]]:
    """Split MIDI files into "train", "valid" and "test" without the same notes in two of them.

    Files with the same notes count once, files under `SHORTEST_S` not at all. Only files of `MIN_SECONDS` in which
    each of drums, bass and the rest has `MIN_ONSETS` notes or more can be held out, half of what there is at most.
    """
    unique: dict[str, Path] = {}
    scores: dict[str, Score] = {}
    for path in sorted(files):
        score = load_score(path)
        if score.duration < SHORTEST_S:
            continue
        if unique.setdefault(key := content_hash(score), path) is path:
            scores[key] = score
    full = [
        unique[key]
        for key, score in scores.items()
        if score.duration >= MIN_SECONDS and all(len(v) >= MIN_ONSETS for v in onsets(score).values())
    ]
    rng_for(seed, "split").shuffle(full)
    splits: dict[str, list[Path]] = {}
    for split, count in HELD_OUT_COUNTS.items():
        count = min(count, len(full) // 2)
        splits[split], full = sorted(full[:count]), full[count:]
    held_out = {path for paths in splits.values() for path in paths}
    splits["train"] = [path for path in unique.values() if path not in held_out]
    return splits


def midi_soundfonts(variations: int) -> list[str]:
    """File names of the SoundFonts that the MIDI sets need."""
    held_out = [rendering for renderings in HELD_OUT_MIDI.values() for rendering in renderings]
    return sorted({name for r in (*held_out, *VARIATIONS[:variations]) for name in r.soundfonts})


def score_soundfonts() -> list[str]:
    """File names of the SoundFonts that the MIDI files of free programs need."""
    return sorted({name for rendering in VARIATIONS for name in rendering.soundfonts})


def midi_items(root: Path, seed: int, soundfonts: Sequence[str | Path], variations: int) -> list[Item]:
    """The MIDI files of each split, rendered; the training files in several variations."""
    splits = split_midi(raw_files(root, "midi", "*.mid"), seed)
    plans = [
        (rendering, path, path.stem)
        for split, renderings in HELD_OUT_MIDI.items()
        for path in splits[split]
        for rendering in renderings
    ]
    plans += [
        (VARIATIONS[index % len(VARIATIONS)], path, f"midi-{path.stem}-{index:02d}")
        for index in range(variations)
        for path in splits["train"]
    ]
    samples = root / CORPORA["sonic-pi"].folder
    return [
        _midi_item(rendering, path, name, "midi", seed, soundfonts, samples)
        for rendering, path, name in plans
    ]


def score_items(root: Path, seed: int, soundfonts: Sequence[str | Path], variations: int) -> list[Item]:
    """MIDI files of free programs, under `scores/<package>`, rendered like the other training files.

    The first version of each is that of the next of `VARIATIONS`, so that one version uses all of them in turn.

    Raises:
        DataError: there is none.
    """
    samples = root / CORPORA["sonic-pi"].folder
    known: set[str] = set()
    items = []
    for package in SCORES:
        for path in sorted((root / "scores" / package).rglob("*.mid")):
            try:
                score = load_score(path)
            except DataError as error:
                logger.warning("left out: %s", error)
                continue
            full = sum(len(notes) >= MIN_ONSETS for notes in onsets(score).values())
            if score.duration < MIN_SECONDS or full < 2 or (key := content_hash(score)) in known:
                continue
            known.add(key)
            items += [
                _midi_item(
                    VARIATIONS[(len(known) + index) % len(VARIATIONS)],
                    path,
                    f"midi-{package}-{path.stem}-{index:02d}",
                    package,
                    seed,
                    soundfonts,
                    samples,
                )
                for index in range(variations)
            ]
    if not items:
        raise DataError(f"no MIDI files of {', '.join(SCORES)} under {root / 'scores'}")
    return items


def _midi_item(
    rendering: Rendering,
    path: Path,
    name: str,
    corpus: str,
    seed: int,
    soundfonts: Sequence[str | Path],
    samples: Path,
) -> Item:
    rng_of = partial(rng_for, seed, rendering.split, name)
    make = partial(make_midi, path, rendering, corpus, rng_of, tuple(soundfonts), samples)
    return Item(rendering.split, name, (corpus, *rendering.corpora), make)


def make_midi(
    path: Path,
    rendering: Rendering,
    corpus: str,
    rng_of: Callable[[], np.random.Generator],
    soundfonts: Sequence[str | Path],
    samples: Path,
    folder: Path,
) -> None:
    """Render a file's stems, varied in instruments, key and tempo or as it is, and bring the mix to a usual level."""
    score, rng = load_score(path), rng_of()
    info: dict[str, object] = {}
    settings: dict[str, float] = {}
    if rendering.varied:
        semitones, factor = int(rng.integers(-3, 5)), float(rng.uniform(1 / 1.15, 1 / 0.85))
        score = stretch(transpose(remap(score, rng), semitones), factor)
        settings = {
            "synth.reverb.level": float(rng.uniform(0, 0.9)),
            "synth.reverb.room-size": float(rng.uniform(0, 0.5)),
        }
        info = {"semitones": semitones, "time_factor": factor}
    start, end = active_window(score, rendering.length_s, rng if rendering.varied else None)
    score = window(score, start, end)
    if rendering.produced:
        soundfont = find_soundfont(rendering.soundfont, soundfonts)
        stems, chosen = produce_score(score, Samples(samples), soundfont, rng)
    else:
        stems, chosen = _rendered(score, rendering, settings, soundfonts, rng)
    info |= chosen
    info |= {
        "solo": False,
        "corpora": [corpus, *rendering.corpora],
        "file": path.name,
        "start_s": start,
        "end_s": end,
    }
    write_track(folder, stems, SAMPLE_RATE, info)


def _rendered(
    score: Score,
    rendering: Rendering,
    settings: dict[str, float],
    soundfonts: Sequence[str | Path],
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The stems of a score as SoundFonts play them, their mix at a usual level, and what was chosen."""
    chosen: dict[str, object] = {}
    stems = render_stems(score, find_soundfont(rendering.soundfont, soundfonts), settings)
    if rendering.kits:
        kit = str(rng.choice(rendering.kits))
        seconds = stems["drums"].shape[1] / SAMPLE_RATE
        stems["drums"] = render_kit(score, find_soundfont(kit, soundfonts), seconds)
        stems, chosen = balance(stems, rng), {"kit": kit}
    rms_db = float(rng.uniform(*RENDERED_RMS_DB) if rendering.varied else np.mean(RENDERED_RMS_DB))
    return effects.mixed_at(stems, rms_db, MIX_PEAK), chosen
