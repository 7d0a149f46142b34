"""Songs made with the studio program LMMS, played source by source: electronic music by many hands, effects and all.

A project names its instruments and holds their notes, so each source is the project with all other instruments muted.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import soundfile

from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.programs import find_program
from sepvae.errors import DataError

SUFFIXES = (".mmp", ".mmpz")
INSTRUMENT = "0"
"""The `type` of a track that plays notes."""
SAMPLER = "audiofileprocessor"
BASS_KEY = 41
"""Instruments whose median note is at most this key are basses; LMMS counts from 57 = 440 Hz, so 41 is 175 Hz."""
ATTEMPTS = 3
"""LMMS 1.2 sometimes crashes, mostly at its end."""
DRUMS = re.compile(
    r"kick|kik|\bbd\b|bass ?drum|boom|tom[_ ]|tom$|snare|snr|clap|rim|hat|_hh|hh_|crash|ride|cymbal|sha[ak]|tamb|wood"
    r"|timbale|conga|bongo|cga|knock|noise_clip|sleepy|_noise|weird|8bit|fisa|loop|perc|syntom|hit\d|zap|sonar|sidestick",
    re.IGNORECASE,
)
BASS = re.compile(r"\bbass|bass\b|_bass|bassslap|bassline|\bsub\b|lb302", re.IGNORECASE)


class PlayError(DataError):
    """LMMS could not play a project."""


def read_project(path: str | Path) -> ElementTree.Element:
    """The XML of a project, packed (.mmpz) or plain (.mmp).

    Raises:
        DataError: it cannot be read, or is no project.
    """
    try:
        data = Path(path).read_bytes()
        if Path(path).suffix == ".mmpz":
            data = zlib.decompress(data[4:])  # the first four bytes tell the length
        root = ElementTree.fromstring(data)
    except (OSError, zlib.error, ElementTree.ParseError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if root.find("song/trackcontainer") is None:
        raise DataError(f"{path} is no LMMS project")
    return root


def instruments(project: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The tracks that play notes, those of beats and basslines among them, in the order of the file."""
    return (track for track in project.iter("track") if track.get("type") == INSTRUMENT)


def source_of(track: ElementTree.Element) -> str | None:
    """The source of an instrument, by its name and its sample, else by its register; None if it never plays."""
    keys = [int(note.get("key", "0")) for note in track.iter("note")]
    if not keys:
        return None
    instrument = track.find("instrumenttrack/instrument")
    plugin = "" if instrument is None else instrument.get("name", "")
    samples = [] if instrument is None else [Path(part.get("src", "")).name for part in instrument]
    words = " ".join((track.get("name", ""), *samples))
    if DRUMS.search(words):
        return "drums"
    if BASS.search(words) or BASS.search(plugin):
        return "bass"
    return "bass" if plugin != SAMPLER and np.median(keys) <= BASS_KEY else "other"


def mute_all_but(project: ElementTree.Element, keep: set[int]) -> None:
    """Mute every instrument but those with these positions in `instruments`."""
    for index, track in enumerate(instruments(project)):
        if index not in keep:
            track.set("muted", "1")


def play(project: ElementTree.Element, timeout: float = 600.0) -> np.ndarray:
    """Play a project from its first bar to its last.

    Args:
        project: its XML.
        timeout: seconds after which LMMS is stopped.

    Shape:
        -> [2, L]

    Raises:
        DataError: LMMS is missing; `PlayError` if it fails or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        mmp, wav = Path(folder) / "project.mmp", Path(folder) / "out.wav"
        ElementTree.ElementTree(project).write(mmp, encoding="utf-8", xml_declaration=True)
        command = [find_program("lmms"), "--allowroot", "render", str(mmp), "-o", str(wav), "--float"]
        for _ in range(ATTEMPTS):
            try:
                done = subprocess.run(
                    [*command, "-s", str(SAMPLE_RATE), "-x", "1"],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=timeout,
                    env={"QT_QPA_PLATFORM": "offscreen", "HOME": folder, "PATH": os.environ.get("PATH", "")},
                )
            except subprocess.TimeoutExpired:
                raise PlayError(f"LMMS took more than {timeout:.0f} s") from None
            if done.returncode == 0 and wav.is_file():
                return soundfile.read(str(wav), dtype="float32", always_2d=True)[0].T
    raise PlayError(f"LMMS failed: {done.stderr.strip()[-200:]}")
