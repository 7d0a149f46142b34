"""MIDI to stems: note events grouped into drums, bass and other, each group rendered on its own by fluidsynth."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import soundfile
from mido import KeySignatureError

from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.programs import find_program
from sepvae.errors import DataError

GROUPS = ("drums", "bass", "other")
DRUM_CHANNEL = 9
BASS_PROGRAMS = range(32, 40)
DRUM_PROGRAMS = range(115, 120)  # woodblock, taiko, melodic tom, synth drum, reverse cymbal
DRUM_KITS = (0, 8, 16, 24, 25, 32, 40)
ODD_PROGRAMS = (31, 47, 55)  # guitar harmonics, timpani, orchestra hit: never a stand-in for their family
FIRST_EFFECT = 112  # ethnic percussion, sound effects: never re-mapped
SOUNDFONTS = {
    "FluidR3_GM.sf2": "fluid-soundfont-gm",
    "OPL-3_FM_128M.sf2": "opl3-soundfont",
    "TimGM6mb.sf2": "timgm6mb-soundfont",
    "MuseScore_General_Full.sf2": "musescore-general-soundfont-lossless",
    "Black_Pearl_4_LV2.sf2": "avldrums.lv2-soundfont",
    "Red_Zeppelin_4_LV2.sf2": "avldrums.lv2-soundfont",
}
"""File name of a SoundFont -> the Debian package that has it."""
SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts", "/usr/local/share/soundfonts")
SOUNDFONT_VARIABLE = "SEPVAE_SOUNDFONTS"
TICKS_PER_BEAT, TEMPO = 480, 125_000  # microseconds a beat: 3840 ticks a second
TAIL_S = 1.5
KEPT_PROGRAMS = 0.3
"""Share of the programs that stay when a score gets other instruments."""
WINDOW_STEP_S = 2.0
"""Between the windows that are compared by how much plays in them."""


@dataclass(frozen=True)
class Score:
    """Timed MIDI messages, in order: (seconds, message) pairs without meta messages."""

    events: tuple[tuple[float, mido.Message], ...]

    @property
    def duration(self) -> float:
        """Time of the last event in seconds."""
        return self.events[-1][0] if self.events else 0.0


def load_score(path: str | Path) -> Score:
    """Read a Standard MIDI file; bank selects and system messages are dropped.

    Raises:
        DataError: not a MIDI file that can be read.
    """
    try:
        now, events = 0.0, []
        for message in mido.MidiFile(str(path), clip=True):
            now += message.time
            is_bank = message.type == "control_change" and message.control in (0, 32)
            if not message.is_meta and hasattr(message, "channel") and not is_bank:
                events.append((now, message))
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, KeySignatureError) as error:
        raise DataError(f"cannot read {path}: {type(error).__name__} {error}") from error
    return Score(tuple(events))


def group_of(channel: int, program: int) -> str:
    """The stem that a note belongs to."""
    if channel == DRUM_CHANNEL or program in DRUM_PROGRAMS:
        return "drums"
    return "bass" if program in BASS_PROGRAMS else "other"


def is_onset(message: mido.Message) -> bool:
    """Whether a message starts a note."""
    return message.type == "note_on" and message.velocity > 0


def split_score(score: Score) -> dict[str, Score]:
    """One score per stem; each keeps all controllers, so that the stems sound as they do together."""
    parts: dict[str, list] = {group: [] for group in GROUPS}
    programs = [0] * 16
    for now, message in score.events:
        if message.type == "program_change":
            programs[message.channel] = message.program
        groups: Iterable[str] = GROUPS
        if is_onset(message):
            groups = (group_of(message.channel, programs[message.channel]),)
        for group in groups:
            parts[group].append((now, message))
    return {group: Score(tuple(events)) for group, events in parts.items()}


def onsets(score: Score) -> dict[str, np.ndarray]:
    """The onset times of each stem's notes: stem -> seconds `[notes]`."""
    return {
        group: np.array([now for now, message in part.events if is_onset(message)])
        for group, part in split_score(score).items()
    }


def content_hash(score: Score) -> str:
    """A hash of the notes (drums or not, pitch, onset to 10 ms), whatever else the file holds."""
    notes = sorted(
        (message.channel == DRUM_CHANNEL, round(now * 100), message.note)
        for now, message in score.events
        if is_onset(message)
    )
    return hashlib.sha256(repr(notes).encode()).hexdigest()


def window(score: Score, start: float, end: float) -> Score:
    """The part between two times in seconds, from time zero, with the programs and controllers in force there."""
    state: dict[tuple, mido.Message] = {}
    inside: list[tuple[float, mido.Message]] = []
    sounding: set[tuple[int, int]] = set()
    for now, message in score.events:
        is_note = message.type in ("note_on", "note_off")
        if now < start:
            if not is_note:
                state[message.channel, message.type, getattr(message, "control", None)] = message
        elif now < end:
            inside.append((now - start, message))
            if is_note:
                key = (message.channel, message.note)
                (sounding.add if is_onset(message) else sounding.discard)(key)
    before = [(0.0, message) for message in state.values()]
    after = [
        (end - start, mido.Message("note_off", channel=channel, note=note))
        for channel, note in sorted(sounding)
    ]
    pedals = [
        (end - start, mido.Message("control_change", channel=channel, control=64, value=0))
        for channel in range(16)
    ]
    return Score((*before, *inside, *after, *pedals))


def stretch(score: Score, factor: float) -> Score:
    """Multiply all times by a factor > 0."""
    return Score(tuple((now * factor, message) for now, message in score.events))


def transpose(score: Score, semitones: int) -> Score:
    """Shift every note that is not on the drum channel; notes that would leave the keyboard move by octaves."""
    events = []
    for now, message in score.events:
        if message.type in ("note_on", "note_off") and message.channel != DRUM_CHANNEL:
            note = message.note + semitones
            note += 12 * (note < 0) - 12 * (note > 127)
            message = message.copy(note=note)
        events.append((now, message))
    return Score(tuple(events))


def remap(score: Score, rng: np.random.Generator) -> Score:
    """Replace programs by others of their family of eight, and the drum kit by another.

    Args:
        score: what to change; a channel that names no program plays program 0 and stays as it is.
        rng: decides.
    """
    table: dict[tuple[int, int], int] = {}
    kit = int(rng.choice(DRUM_KITS))
    events = []
    if not any(m.type == "program_change" and m.channel == DRUM_CHANNEL for _, m in score.events):
        events.append((0.0, mido.Message("program_change", channel=DRUM_CHANNEL, program=kit)))
    for now, message in score.events:
        if message.type == "program_change":
            key = (message.channel, message.program)
            if key not in table:
                table[key] = kit if message.channel == DRUM_CHANNEL else _relative(message.program, rng)
            message = message.copy(program=table[key])
        events.append((now, message))
    return Score(tuple(events))


def _relative(program: int, rng: np.random.Generator) -> int:
    if program >= FIRST_EFFECT or program in ODD_PROGRAMS or rng.random() < KEPT_PROGRAMS:
        return program
    family = [p for p in range(program // 8 * 8, program // 8 * 8 + 8) if p not in ODD_PROGRAMS]
    return int(rng.choice(family))


def to_midi(score: Score) -> mido.MidiFile:
    """A single-track MIDI file with a constant tempo that keeps the times to a quarter of a millisecond."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO)])
    per_second, last = TICKS_PER_BEAT * 1_000_000 / TEMPO, 0
    for now, message in score.events:
        tick = round(now * per_second)
        track.append(message.copy(time=tick - last))
        last = tick
    midi = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT)
    midi.tracks.append(track)
    return midi


def find_soundfont(name: str, folders: Sequence[str | Path] = ()) -> Path:
    """Look for a SoundFont in the given folders, then in those of SEPVAE_SOUNDFONTS, then in the usual places.

    Raises:
        DataError: it is nowhere; says which Debian package has it.
    """
    given = os.environ.get(SOUNDFONT_VARIABLE, "")
    for folder in (*folders, *filter(None, given.split(os.pathsep)), *SOUNDFONT_FOLDERS):
        if (path := Path(folder) / name).is_file():
            return path
    package = SOUNDFONTS.get(name)
    hint = f"install the Debian package {package} or " if package else ""
    raise DataError(f"no SoundFont {name}: {hint}name its folder in {SOUNDFONT_VARIABLE}")


def render(
    score: Score, soundfont: Path, duration: float, settings: Mapping[str, float] | None = None
) -> np.ndarray:
    """Play a score with fluidsynth; without its chorus, which turns stereo into little but opposite channels.

    Args:
        score: what to play.
        soundfont: the instruments.
        duration: seconds of audio to return, padded with silence or cut.
        settings: fluidsynth settings, such as `synth.reverb.level`.

    Shape:
        -> [2, L]

    Raises:
        DataError: fluidsynth is missing or fails.
    """
    length = round(duration * SAMPLE_RATE)
    if not any(is_onset(message) for _, message in score.events):
        return np.zeros((2, length), np.float32)
    options = {
        "synth.gain": 0.5,
        "synth.chorus.active": 0,
        "synth.dynamic-sample-loading": 1,
        "synth.polyphony": 256,
        **(settings or {}),
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "score.mid", Path(folder) / "out.wav"
        to_midi(score).save(str(midi))
        program = find_program("fluidsynth")
        command = [program, "-niq", *flags, "-r", str(SAMPLE_RATE), "-T", "wav", "-O", "float"]
        done = subprocess.run(
            [*command, "-F", str(wav), str(soundfont), str(midi)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not wav.is_file() or "not a SoundFont" in done.stderr:
            raise DataError(f"fluidsynth failed with {soundfont.name}: {done.stderr.strip()[-200:]}")
        audio = soundfile.read(str(wav), dtype="float32", always_2d=True)[0].T[:, :length]  # [2, L]
    return np.pad(audio, ((0, 0), (0, length - audio.shape[1])))


def render_stems(
    score: Score, soundfont: Path, settings: Mapping[str, float] | None = None, tail: float = TAIL_S
) -> dict[str, np.ndarray]:
    """Render each stem of a score on its own; the mixture is defined as their sum.

    Shape:
        -> "drums", "bass", "other" -> [2, L], all equally long
    """
    duration = score.duration + tail
    return {group: render(part, soundfont, duration, settings) for group, part in split_score(score).items()}


def render_kit(score: Score, soundfont: Path, duration: float) -> np.ndarray:
    """Play the drum channel of a score with a SoundFont that holds one drum kit, as its first program.

    Shape:
        -> [2, L]
    """
    events = (
        (now, message.copy(channel=0))
        for now, message in score.events
        if message.channel == DRUM_CHANNEL and message.type != "program_change"
    )
    return render(Score(tuple(events)), soundfont, duration, {"synth.reverb.active": 0})


def active_window(score: Score, length: float, rng: np.random.Generator | None = None) -> tuple[float, float]:
    """A window in which as many stems as possible play: a random good one, or the best one without an rng.

    Returns:
        Its start and end in seconds.
    """
    times = onsets(score)
    first = min((float(values[0]) for values in times.values() if len(values)), default=0.0)
    last = score.duration
    if last - first <= length:
        return first, last
    starts = np.arange(first, last - length, WINDOW_STEP_S)
    counts = np.array([[np.sum((v >= s) & (v < s + length)) for v in times.values()] for s in starts])
    share = counts / np.maximum(counts.max(axis=0), 1)  # window, stem: relative to each stem's busiest window
    score_of = share[:, counts.max(axis=0) > 0].min(axis=1)
    good = starts[score_of >= 0.5 * score_of.max()]
    start = starts[int(np.argmax(score_of))] if rng is None else rng.choice(good)
    return float(start), float(start) + length
