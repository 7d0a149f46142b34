"""Small material for the tests of rendering, composing and preparation; nothing is read from outside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from sepvae.data.kits import BASS_PITCHES, Samples
from sepvae.data.render import find_soundfont
from sepvae.data.utterances import Speech
from sepvae.errors import DataError


def _write_midi(
    path: Path,
    *,
    seconds: float = 3.0,
    shift: int = 0,
    drums: bool = True,
    bass: bool = True,
    program: int = 0,
) -> Path:
    """A file with a note every quarter of a second on a piano, a bass and drums, at 120 beats a minute."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    lines = [(0, program, 60)] + [(1, 33, 36)] * bass + [(9, 0, 36)] * drums
    for channel, own, key in lines:
        track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
        track.append(mido.Message("program_change", channel=channel, program=own))
        for index in range(int(seconds * 4)):
            note = key + (0 if channel == 9 else (index * 5 + shift) % 12)
            track.append(mido.Message("note_on", channel=channel, note=note, velocity=90))
            track.append(mido.Message("note_off", channel=channel, note=note, time=240))
        file.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(str(path))
    return path


@pytest.fixture
def write_midi() -> Callable[..., Path]:
    return _write_midi


@pytest.fixture
def small_soundfont() -> Path:
    """A SoundFont that loads fast, or a skip where it or fluidsynth is not installed."""
    if shutil.which("fluidsynth") is None:
        pytest.skip("needs fluidsynth")
    try:
        return find_soundfont("TimGM6mb.sf2")
    except DataError:
        pytest.skip("needs TimGM6mb.sf2")


def _write_samples(folder: Path) -> Path:
    """Stand-ins for the recorded drums and basses: decaying noise, a drum loop and decaying tones."""
    rng = np.random.default_rng(3)
    (folder / "drums").mkdir(parents=True)
    (folder / "bass").mkdir()
    names = "bd_a sn_a perc_snap hat_a drum_cymbal_open ride_a drum_splash_hard drum_tom_lo_hard tabla_a"
    fall = np.exp(-np.arange(4410) / 800)
    for name in names.split():
        soundfile.write(folder / "drums" / f"{name}.wav", 0.5 * fall * rng.standard_normal(4410), 44100)
    loop = np.tile(fall * rng.standard_normal(4410) * 0.3, 20)  # 2 s
    soundfile.write(folder / "drums" / "loop_a.wav", loop, 44100)
    for name, pitch in BASS_PITCHES.items():
        time = np.arange(22050) / 44100
        tone = 0.5 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time) * np.exp(-time)
        soundfile.write(folder / "bass" / f"{name}.wav", tone, 44100)
    return folder


@pytest.fixture
def write_samples() -> Callable[[Path], Path]:
    return _write_samples


def _write_speech(folder: Path, speakers: Sequence[str] = ("a",)) -> Path:
    """Stand-ins for read speech, an utterance of twelve syllables each: a hiss, a vowel on a falling pitch, a gap."""
    rng = np.random.default_rng(5)
    for number, speaker in enumerate(speakers):
        pieces = [np.zeros(1600)]
        for index in range(12):
            time = np.arange(3200) / 16000
            phase = np.cumsum(110 + 40 * number + 20 * np.cos(index) - 40 * time) / 16000
            vowel = lfilter([1], [1, -1.6, 0.9], phase % 1 - 0.5) * np.sin(np.pi * time / 0.2) ** 0.5
            hiss = np.diff(rng.standard_normal(1201)) * np.hanning(1200)
            pieces += [0.05 * hiss, 0.02 * vowel, np.zeros(800)]
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        audio = np.concatenate(pieces) + 1e-4 * rng.standard_normal(sum(map(len, pieces)))
        soundfile.write(folder / speaker / "0.opus", audio, 16000, format="OGG", subtype="OPUS")
    return folder


@pytest.fixture
def write_speech() -> Callable[..., Path]:
    return _write_speech


@pytest.fixture
def speech(tmp_path: Path) -> Speech:
    return Speech.of_folders(_write_speech(tmp_path / "speech"), ("a",))


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return Samples(_write_samples(tmp_path / "samples"))
