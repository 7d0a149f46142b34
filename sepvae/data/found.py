"""Recordings by others that keep sources apart: LMMS projects, tracker modules, guitars of a game's songs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data import effects, lmms, tracker
from sepvae.data.corpora import SAMPLE_RATE, pad_together, read_audio, resample, write_track
from sepvae.data.items import CORPORA, Item
from sepvae.data.music import RENDERED_RMS_DB
from sepvae.data.producer import MIX_PEAK
from sepvae.data.programs import find_program
from sepvae.errors import DataError

logger = logging.getLogger(__name__)
SECONDS = 150.0
SHORTEST_S = 20.0
HELD_OUT = {
    "heroes-sound-tracks": ("heroes01", "heroes02", "heroes05", "heroes06", "heroes09", "heroes10", "menu")
}
"""Package -> its modules that validate; the others of such a package are left out, since they share its sounds."""
HELD_OUT_SET = "valid-tracker"
SOURCES_OF_PROJECTS: Mapping[str, Mapping[int, str | None]] = {
    "EsoXLB-CPU": {14: None},
    "Jousboxx-BuzzerBeater": {32: None, 52: "drums"},
    "Saber-FinalStep": {1: "drums", 16: "bass"},
    "Settel-InnerRecreation": {11: "drums"},
    "Skiessi-C64": {0: "bass"},
    "Skiessi-Onion": {14: "other", 15: "other"},
    "Socceroos-Progress": {0: "bass", 1: "other"},
    "TameAnderson-MakeMe": {23: "bass"},
}
"""Song -> position of an instrument -> its source, where `lmms.source_of` does not know; told from its spectrum."""
GUITARS = ("fretsonfire-songs-muldjord", "fretsonfire-songs-sectoid")
"""Packages of songs for the game Frets on Fire, which keeps the guitar apart from everything else."""
SUNG = "satisfy"
"""A module with a sample of a whole song, singing and all."""
PLUCKED = "Shovon-ProgressiveHousePluckDemo"
"""A song whose one instrument plays bass and chords alike."""


def project_items(root: Path) -> list[Item]:
    """The LMMS projects under a folder, for training.

    Raises:
        DataError: there is none, or LMMS is not installed.
    """
    find_program("lmms")
    files = _files(root, lmms.SUFFIXES)
    return [
        Item("train", f"lmms-{path.stem}", ("lmms",), partial(make_project, path))
        for path in files
        if path.stem != PLUCKED
    ]


def make_project(path: Path, folder: Path) -> None:
    """Play each source of a project and write the middle of it."""
    tracks = list(lmms.instruments(lmms.read_project(path)))
    known = SOURCES_OF_PROJECTS.get(path.stem, {})
    sources: dict[str, set[int]] = {}
    for index, track in enumerate(tracks):
        source = known[index] if index in known else lmms.source_of(track)
        if source is not None:
            sources.setdefault(source, set()).add(index)
    stems = {}
    for source, keep in sources.items():
        project = lmms.read_project(path)
        lmms.mute_all_but(project, keep)
        stems[source] = lmms.play(project)
    _write(folder, _middle(stems), "lmms", path.name)


def _middle(stems: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The middle of some stems, the shorter ones padded with silence first."""
    padded = pad_together(stems)
    longest, length = next(iter(padded.values())).shape[1], round(SECONDS * SAMPLE_RATE)
    start = max(0, longest - length) // 2
    return {source: audio[:, start : start + length] for source, audio in padded.items()}


def module_items(root: Path) -> list[Item]:
    """The tracker modules under a folder that has one folder per Debian package of `CORPORA`.

    Raises:
        DataError: there is none, or libopenmpt is not installed.
    """
    tracker.load_library()
    packages = sorted(key.removeprefix("tracker-") for key in CORPORA if key.startswith("tracker-"))
    items = [
        Item(
            HELD_OUT_SET if package in HELD_OUT else "train",
            f"tracker-{package}-{path.stem}".replace(" ", "-"),
            (f"tracker-{package}",),
            partial(make_module, path, f"tracker-{package}"),
        )
        for package in packages
        if (root / package).is_dir()
        for path in _files(root / package, tracker.SUFFIXES)
        if path.stem != SUNG
        and path.stem in HELD_OUT.get(package, (path.stem,))
        and _duration(path) >= SHORTEST_S
    ]
    if not items:
        raise DataError(f"no folder of tracker modules named after its package in {root}")
    return items


def _duration(path: Path) -> float:
    """Seconds of a module; 0 for a file that only has the suffix of one."""
    try:
        return tracker.Module(path).duration
    except DataError as error:
        logger.info("left out: %s", error)
        return 0.0


def make_module(path: Path, corpus: str, folder: Path) -> None:
    """Play each source of a module and write the middle of it."""
    module = tracker.Module(path)
    start = max(0.0, module.duration - SECONDS) / 2
    length = min(module.duration, SECONDS)
    parts = {source: module.play(keep, start, length) for source, keep in module.sources().items()}
    shortest = min(audio.shape[1] for audio in parts.values())
    _write(folder, {source: audio[:, :shortest] for source, audio in parts.items()}, corpus, path.name)


def guitar_items(root: Path) -> list[Item]:
    """The guitars of songs for Frets on Fire, `<package>/**/<song>/guitar.ogg`, as solos for training.

    Raises:
        DataError: there is none.
    """
    items = [
        Item(
            "train",
            f"guitar-{path.parent.name}".replace(" ", "-"),
            (package,),
            partial(make_guitar, path, package),
        )
        for package in GUITARS
        for path in sorted((root / package).rglob("guitar.ogg"))
    ]
    if not items:
        raise DataError(f"no guitar.ogg in {' or '.join(GUITARS)} under {root}")
    return items


def make_guitar(path: Path, corpus: str, folder: Path) -> None:
    """Write a guitar on its own, at the level of a solo."""
    audio = resample(*read_audio(path), SAMPLE_RATE)
    audio = effects.at_level(audio, float(np.mean(RENDERED_RMS_DB)))
    info = {"solo": True, "corpora": [corpus], "file": f"{path.parent.name}/{path.name}"}
    write_track(folder, {"other": audio}, SAMPLE_RATE, info)


def _files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise DataError(f"no {' or '.join(suffixes)} in {root}")
    return files


def _write(folder: Path, stems: Mapping[str, np.ndarray], corpus: str, file: str) -> None:
    """Write stems under one gain that brings the mixture to a usual level."""
    stems = effects.mixed_at(stems, float(np.mean(RENDERED_RMS_DB)), MIX_PEAK)
    write_track(folder, stems, SAMPLE_RATE, {"solo": False, "corpora": [corpus], "file": file})
