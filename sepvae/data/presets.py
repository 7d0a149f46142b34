"""Bass lines and parts of composed songs, played by the synthesizer presets that come with the studio program LMMS.

Over a thousand sounds made by people, where the synthesizers of `sepvae.data.synth` know a few dozen.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from sepvae.data import effects, lmms
from sepvae.data.composer import compose
from sepvae.data.corpora import SAMPLE_RATE, write_track
from sepvae.data.items import Item, rng_for
from sepvae.data.styles import GENRES
from sepvae.data.synth import Note
from sepvae.errors import DataError

logger = logging.getLogger(__name__)
BASSES, PARTS = 40, 30
SECONDS = 75.0
LEVEL_DB = -20.0
TEMPO, TICKS_PER_SECOND = 250, 200.0
"""Beats a minute of the projects, and the ticks of LMMS at that tempo: 48 a beat."""
LOWEST_MIDI = 12
"""LMMS's key 0 as a MIDI number."""
TIMEOUT_S = 60.0
LONGEST_TONE_S = 4.0
NOT_TONES = ("drum", "noise", "kicker", "arpeggio", "audiofileprocessor", "splitted", "fx", "effect", "wind")


def preset_files(root: Path) -> list[Path]:
    """The presets under a folder that play tones.

    Raises:
        DataError: there is none.
    """
    found = [
        path
        for folder in sorted(root.iterdir())
        for path in sorted(folder.resolve().rglob("*"))
        if path.suffix in (".xiz", ".xpf")
        and not any(word in f"{path.parent.name}/{path.name}".lower() for word in NOT_TONES)
    ]
    if not found:
        raise DataError(f"no presets (.xiz or .xpf) in {root}")
    return found


def preset_items(root: Path, seed: int) -> list[Item]:
    """Solo tracks of the bass and of the other instruments, for training.

    Raises:
        DataError: there are no presets, or none of basses.
    """
    files = preset_files(root)
    basses = [path for path in files if "bass" in path.name.lower()]
    if not basses:
        raise DataError(f"no presets of basses in {root}")
    plans = [("bass", index) for index in range(BASSES)] + [("other", index) for index in range(PARTS)]
    return [
        Item(
            "train",
            name := f"synth-{source}-{index:04d}",
            ("composed", "presets"),
            partial(make_solo, source, basses if source == "bass" else files, partial(rng_for, seed, name)),
        )
        for source, index in plans
    ]


def make_solo(
    source: str, files: Sequence[Path], rng_of: Callable[[], np.random.Generator], folder: Path
) -> None:
    """Write a song and play its bass line, or two of its parts, with presets that sound."""
    rng = rng_of()
    layers: list[np.ndarray] = []
    chosen: list[str] = []
    length = 0
    while not layers:
        song = compose(SECONDS, rng, str(rng.choice(list(GENRES))))
        length = round(song.duration * SAMPLE_RATE)
        if source == "bass":
            parts = [_moved(song.bass, 12 * int(rng.integers(0, 2)))]
        else:
            count = min(len(song.parts), 2)
            parts = [song.parts[i].notes for i in rng.choice(len(song.parts), count, replace=False)]
        for notes in parts:
            path = files[int(rng.integers(len(files)))]
            try:
                audio = play_preset(path, notes, length)
            except lmms.PlayError as error:  # a few presets never end
                logger.info("%s left out: %s", path.name, error)
                continue
            if effects.rms(audio) > 1e-4:
                gain_db = rng.normal(0, 2) - 20 * np.log10(effects.rms(audio))
                layers.append(audio * np.float32(10 ** (gain_db / 20)))
                chosen.append(path.stem)
    audio = effects.tilt(np.sum(layers, axis=0), rng.uniform(-4, 4))
    audio = effects.high_pass(audio, rng.uniform(20, 35) if source == "bass" else rng.uniform(30, 150))
    if rng.random() < 0.3:
        audio = effects.saturate(audio, rng.uniform(-10, 6))
    audio = effects.at_level(audio, LEVEL_DB)
    info = {"solo": True, "corpora": ["composed", "presets"], "presets": chosen}
    write_track(folder, {source: audio}, SAMPLE_RATE, info)


def _moved(notes: Sequence[Note], semitones: int) -> list[Note]:
    return [Note(note.start, note.duration, note.pitch + semitones, note.velocity) for note in notes]


def play_preset(path: Path, notes: Sequence[Note], length: int) -> np.ndarray:
    """Play notes with a preset.

    Args:
        path: a preset of ZynAddSubFX (.xiz) or of another of LMMS's instruments (.xpf).
        notes: what to play.
        length: samples to return at 44.1 kHz, padded with silence or cut.

    Shape:
        -> [2, L]

    Raises:
        DataError: the preset cannot be read, or LMMS is missing; `lmms.PlayError` if it fails or does not end.
    """
    audio = lmms.play(_project(_instrument(path), notes), TIMEOUT_S)[:, :length]
    return np.pad(audio, ((0, 0), (0, length - audio.shape[1])))


def _instrument(path: Path) -> ElementTree.Element:
    """A preset as the `instrumenttrack` of a project."""
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        preset = ElementTree.fromstring(text.strip())
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if path.suffix == ".xpf":
        track = preset.find(".//instrumenttrack")
        if track is None:
            raise DataError(f"{path} is no preset of LMMS")
        return track
    track = ElementTree.Element("instrumenttrack", vol="100", pan="0", basenote="57", fxch="0", pitch="0")
    instrument = ElementTree.SubElement(track, "instrument", name="zynaddsubfx")
    state = ElementTree.SubElement(instrument, "zynaddsubfx", forwardmidicc="1", modifiedcontrollers="")
    data_of = ElementTree.SubElement(
        state, "ZynAddSubFX-data", {"version-major": "2", "version-minor": "4", "version-revision": "1"}
    )
    master = ElementTree.SubElement(data_of, "MASTER")
    ElementTree.SubElement(master, "par", name="volume", value="80")
    part = ElementTree.SubElement(master, "PART", id="0")
    ElementTree.SubElement(part, "par_bool", name="enabled", value="yes")
    for name, value in (("volume", "96"), ("panning", "64"), ("max_key", "127"), ("key_shift", "64")):
        ElementTree.SubElement(part, "par", name=name, value=value)
    voices = preset.find("INSTRUMENT")
    if voices is None:
        raise DataError(f"{path} is no preset of ZynAddSubFX")
    part.append(voices)
    return track


def _project(instrument: ElementTree.Element, notes: Sequence[Note]) -> ElementTree.Element:
    """A project in which one instrument plays."""
    project = ElementTree.Element(
        "lmms-project", version="1.0", creator="LMMS", creatorversion="1.2.2", type="song"
    )
    ElementTree.SubElement(
        project,
        "head",
        bpm=str(TEMPO),
        mastervol="100",
        masterpitch="0",
        timesig_numerator="4",
        timesig_denominator="4",
    )
    container = ElementTree.SubElement(ElementTree.SubElement(project, "song"), "trackcontainer", type="song")
    track = ElementTree.SubElement(container, "track", type=lmms.INSTRUMENT, muted="0", solo="0", name="part")
    track.append(instrument)
    pattern = ElementTree.SubElement(track, "pattern", type="1", pos="0", muted="0", steps="16", name="")
    for note in sorted(notes, key=lambda note: note.start):
        duration = min(note.duration, LONGEST_TONE_S)
        ElementTree.SubElement(
            pattern,
            "note",
            pos=str(round(note.start * TICKS_PER_SECOND)),
            len=str(max(1, round(duration * TICKS_PER_SECOND))),
            key=str(round(note.pitch) - LOWEST_MIDI),
            vol=str(round(100 * min(1.0, note.velocity))),
            pan="0",
        )
    return project
