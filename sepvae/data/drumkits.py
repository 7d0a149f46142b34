"""Drum solos: composed drum parts, played with the recorded kits of the drum machine Hydrogen.

Kits of real drums with a recording for every strength of stroke, where `sepvae.data.kits` has single hits.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from sepvae.data import effects
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE, read_audio, resample, write_track
from sepvae.data.items import Item, rng_for
from sepvae.data.kits import LANES, Hit, Layers, choose_place, place, repitch, sequence
from sepvae.data.players import treat_drums
from sepvae.data.styles import GENRES
from sepvae.errors import DataError

logger = logging.getLogger(__name__)
PACKAGES = ("hydrogen-data", "hydrogen-drumkits")
TRACKS = 6
"""Tracks a kit."""
SECONDS = 60.0
GAP_S, LEAST_PLAYED = 2.0, 0.75
"""Length of the pieces of a drum part, and how much of it at least must be pieces with strokes."""
LEVEL_DB = -20.0
MOST_SEMITONES = 2.0
LONGEST_SOUND_S = 6.0
KIT_FILE = "drumkit.xml"
LANES_OF_NAMES: tuple[tuple[str | None, str], ...] = (
    (None, "roll|choke|swish|whistle|zap|fx|glass|tring"),
    ("kick", "kick|bass ?drum|thump|(dununba|sangban).* head"),
    ("snare", "snare|slap|redo"),
    ("clap", "clap|snap|stick|rim"),
    ("open", "hat.*(op|free)|open.*(hat|hh)|ohh"),
    ("hat", "hat|hh"),
    ("perc", r"cowbell|\d bell|agogo|clave|conga|bongo|wood|tamb|shaker|maraca|click"),
    ("ride", "(^|[^/])ride|ride b|bell"),
    ("crash", "crash|china|splash|cymbal"),
    ("tom", r"tom|head|tone|djembe|drum \d"),
)
"""Lane, or None for a sound of none, and what stands in the names of its instruments; the first that fits counts."""
MISNAMED = {
    "Audiophob": "cowbell",
    "ElectricEmpireKit": "hat closed bs|hat ring 2",
    "rumpf_kit_z01_h2": "cymbal|ride bell",
}
"""Kit -> instruments that are not what their names say but a bass note, or thumps without highs (by their spectra)."""
SUBSTITUTES = {
    "clap": ("snare",),
    "hat": ("ride", "open", "perc"),
    "open": ("hat", "ride"),
    "ride": ("hat", "perc"),
    "crash": ("ride", "open"),
    "tom": ("perc", "snare"),
    "perc": ("clap", "tom"),
}
"""Lane -> lanes whose sounds stand in where a kit has none of its own; without these its strokes are left out."""

Voice = tuple[tuple[float, Path], ...]
"""An instrument: the highest velocity and the file of each of its layers, softest first."""
Lanes = Mapping[str, tuple[Voice, ...]]
"""Lane -> the instruments to choose from."""


def lane_named(name: str, kit: str = "") -> str | None:
    """The lane of a kit's instrument, told by its name."""
    name = name.lower()
    if kit in MISNAMED and re.search(MISNAMED[kit], name):
        return None
    return next((lane for lane, words in LANES_OF_NAMES if re.search(words, name)), None)


def read_kit(path: Path) -> dict[str, tuple[Voice, ...]]:
    """The instruments of each lane of a kit.

    Args:
        path: a `drumkit.xml`, of an old version of Hydrogen or a new one; the sounds lie beside it.

    Raises:
        DataError: the file cannot be read.
    """
    lanes: dict[str, list[Voice]] = {}
    try:
        for instrument in ElementTree.parse(path).iterfind(".//{*}instrument"):
            lane = lane_named(instrument.findtext("{*}name", ""), path.parent.name)
            if lane and (voice := _voice(instrument, path.parent)):
                lanes.setdefault(lane, []).append(voice)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return {lane: tuple(voices) for lane, voices in lanes.items()}


def _voice(instrument: ElementTree.Element, folder: Path) -> Voice:
    """The layers of an instrument whose files are there; an instrument of old has one file and no layer."""
    layers = []
    for layer in instrument.findall(".//{*}layer") or [instrument]:
        path = folder / Path(layer.findtext("{*}filename", "")).name
        if path.is_file():
            layers.append((float(layer.findtext("{*}max", "1")), path))
        elif path != folder:
            logger.info("%s left out: no such file", path)
    return tuple(sorted(layers))


def is_drum_kit(lanes: Lanes) -> bool:
    """Whether a kit has what every drum part needs: a kick, or what is struck like one, and a snare."""
    return "kick" in lanes and "snare" in lanes


def filled(lanes: Lanes) -> dict[str, tuple[Voice, ...]]:
    """The instruments of a kit's lanes, with those of a neighbour where a lane has none."""
    voices = {
        lane: next((lanes[own] for own in (lane, *SUBSTITUTES.get(lane, ())) if own in lanes), ())
        for lane in LANES
    }
    return {lane: found for lane, found in voices.items() if found}


def drumkit_items(root: Path, seed: int) -> list[Item]:
    """Solo tracks of the drums, for training.

    Args:
        root: a folder that has one folder per Debian package of `PACKAGES`, with kits anywhere below it.
        seed: decides every random choice.

    Raises:
        DataError: there is no kit.
    """
    items = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob(KIT_FILE)):
            try:
                lanes = read_kit(path)
            except DataError as error:
                logger.info("%s left out: %s", path.parent.name, error)
                continue
            if not is_drum_kit(lanes):
                logger.info("%s left out: no drum kit", path.parent.name)
                continue
            slug = re.sub("[^a-z0-9]+", "-", path.parent.name.lower()).strip("-")
            items += [_item(f"kit-{slug}-{index:04d}", package, lanes, seed) for index in range(TRACKS)]
    if not items:
        raise DataError(f"no drum kits ({KIT_FILE}) in {' or '.join(str(root / name) for name in PACKAGES)}")
    return items


def _item(name: str, package: str, lanes: Lanes, seed: int) -> Item:
    return Item(
        "train",
        name,
        ("composed", package),
        partial(make_drum_solo, filled(lanes), package, partial(rng_for, seed, name)),
    )


def make_drum_solo(
    lanes: Lanes, package: str, rng_of: Callable[[], np.random.Generator], folder: Path
) -> None:
    """Write a drum part and play it with a kit."""
    rng = rng_of()
    song = compose(SECONDS, rng, str(rng.choice(list(GENRES))))
    while not plays_on(hits := [hit for hit in song.drums if hit.lane in lanes], song.duration):
        song = compose(SECONDS, rng, str(rng.choice(list(GENRES))))
    used = {hit.lane for hit in hits}
    kit = load_kit({lane: voices for lane, voices in lanes.items() if lane in used}, rng)
    audio = treat_drums(sequence(hits, kit, round(song.duration * SAMPLE_RATE)), rng)
    audio = effects.at_level(audio, LEVEL_DB)
    info = {"solo": True, "corpora": ["composed", package], "genre": song.genre, "tempo": song.tempo}
    write_track(folder, {"drums": audio}, SAMPLE_RATE, info)


def plays_on(hits: Sequence[Hit], duration: float) -> bool:
    """Whether there are strokes in most of a part; some songs have whole sections without drums."""
    return len({int(hit.time / GAP_S) for hit in hits}) * GAP_S >= LEAST_PLAYED * duration


def load_kit(lanes: Lanes, rng: np.random.Generator) -> dict[str, Layers]:
    """Choose an instrument for each lane, tune the kit as a whole, and place it.

    All layers of a lane come to one peak level: how loud a stroke is follows from its velocity alone.
    """
    semitones = rng.uniform(-MOST_SEMITONES, MOST_SEMITONES)
    kit = {}
    for lane, voices in lanes.items():
        voice = voices[int(rng.integers(len(voices)))]
        spot = choose_place(lane, rng)
        sounds = [
            place(repitch(resample(*read_audio(path), SAMPLE_RATE), semitones, LONGEST_SOUND_S), *spot)
            for _, path in voice
        ]
        kit[lane] = Layers(tuple(top for top, _ in voice), tuple(sounds))
    return kit
