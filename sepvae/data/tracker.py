"""Tracker modules (.mod, .s3m, .xm, .it), played source by source: music by many hands, made of recorded sounds.

A module holds its samples and its notes, so each source is the module with all other instruments muted. Which source an
instrument is part of is told by its name, else by how it sounds on its own. Played by libopenmpt, through ctypes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sepvae.data.corpora import SAMPLE_RATE
from sepvae.errors import DataError

SUFFIXES = (".mod", ".s3m", ".xm", ".it")
TASTE_RATE, TASTE_S = 22050, 50.0
"""What is heard of every instrument to tell what it is."""
STEREO_SEPARATION, AMIGA_WIDTH = 2, 50
"""The player's setting for how far apart channels lie, and its value in percent for .mod, all left and right."""
FRAME = 4096
LOW_HZ = 150.0
VOCALS = re.compile(r"vocal|\bvox\b|\bvoice|speech|\brap\b|singer|\bhey\b|\byeah\b", re.IGNORECASE)
DRUMS = re.compile(
    r"drum|kick|kich|\bbd\d?\b|snare|snr|(?<![tw])hat|hih|\bchh|\bhh\d?\b|clap|cymb|crash|\bride\b|tom\b|shak|tamb"
    r"|\brim|perc|tick|click|conga|bongo|scratch|scrtch|kettle|groove|breakbeat|\bbeat\b|\btabla",
    re.IGNORECASE,
)
BASS = re.compile(r"bass|\bbs\b", re.IGNORECASE)
OTHER = re.compile(
    r"guitar|piano|organ|string|lead|chord|synth|choir|flute|brass|\bpad\b|sax|trumpet|bell|harp|pluck",
    re.IGNORECASE,
)


class _Interactive(ctypes.Structure):
    """`openmpt_module_ext_interface_interactive` of libopenmpt_ext.h."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            "set_current_speed",
            "set_current_tempo",
            "set_tempo_factor",
            "get_tempo_factor",
            "set_pitch_factor",
            "get_pitch_factor",
            "set_global_volume",
            "get_global_volume",
            "set_channel_volume",
            "get_channel_volume",
            "set_channel_mute_status",
            "get_channel_mute_status",
            "set_instrument_mute_status",
            "get_instrument_mute_status",
            "play_note",
            "stop_note",
        )
    ]


@cache
def load_library() -> ctypes.CDLL:
    """libopenmpt, with the types of what is called of it.

    Raises:
        DataError: it is not installed.
    """
    name = ctypes.util.find_library("openmpt")
    if name is None:
        raise DataError("libopenmpt is not installed: install the Debian package libopenmpt0")
    library = ctypes.CDLL(name)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for function, result, arguments in (
        ("ext_create_from_memory", pointer, [ctypes.c_char_p, ctypes.c_size_t, *[pointer] * 7]),
        ("ext_get_module", pointer, [pointer]),
        ("ext_destroy", None, [pointer]),
        ("ext_get_interface", ctypes.c_int, [pointer, ctypes.c_char_p, pointer, ctypes.c_size_t]),
        ("get_num_instruments", number, [pointer]),
        ("get_num_samples", number, [pointer]),
        ("get_num_channels", number, [pointer]),
        ("get_num_orders", number, [pointer]),
        ("get_num_patterns", number, [pointer]),
        ("get_instrument_name", ctypes.c_char_p, [pointer, number]),
        ("get_sample_name", ctypes.c_char_p, [pointer, number]),
        ("get_duration_seconds", ctypes.c_double, [pointer]),
        ("get_order_pattern", number, [pointer, number]),
        ("get_pattern_num_rows", number, [pointer, number]),
        ("get_pattern_row_channel_command", ctypes.c_uint8, [pointer, number, number, number, ctypes.c_int]),
        ("set_position_seconds", ctypes.c_double, [pointer, ctypes.c_double]),
        ("set_render_param", ctypes.c_int, [pointer, ctypes.c_int, number]),
        ("read_interleaved_float_stereo", ctypes.c_size_t, [pointer, number, ctypes.c_size_t, pointer]),
    ):
        entry = getattr(library, f"openmpt_module_{function}")
        entry.restype, entry.argtypes = result, arguments
    return library


class Module:
    """A module in memory.

    Args:
        path: the file.

    Attributes:
        names: of its instruments, or of its samples where it has no instruments.
        duration: of its first pass, in seconds.

    Raises:
        DataError: the file cannot be read or is no module, or libopenmpt is missing.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error}") from error
        self._library = load_library()
        self._handle = self._call("ext_create_from_memory", data, len(data), *[None] * 7)
        if not self._handle:
            raise DataError(f"{path} is no tracker module")
        self._module = self._call("ext_get_module", self._handle)
        interface = _Interactive()
        size = ctypes.sizeof(interface)
        if not self._call("ext_get_interface", self._handle, b"interactive", ctypes.byref(interface), size):
            raise DataError("this libopenmpt cannot mute instruments")
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int)
        self._mute = prototype(interface.set_instrument_mute_status)
        if Path(path).suffix.lower() == ".mod":
            self._call("set_render_param", self._module, STEREO_SEPARATION, AMIGA_WIDTH)
        kind = "instrument" if self._ask("num_instruments") else "sample"
        self.names = [
            self._call(f"get_{kind}_name", self._module, index).decode("utf-8", "replace").strip()
            for index in range(self._ask(f"num_{kind}s"))
        ]
        self.duration = float(self._ask("duration_seconds"))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._call("ext_destroy", self._handle)

    def _call(self, function: str, *arguments: object) -> Any:
        return getattr(self._library, f"openmpt_module_{function}")(*arguments)

    def _ask(self, what: str, *arguments: int) -> Any:
        return self._call(f"get_{what}", self._module, *arguments)

    def notes(self) -> list[list[int]]:
        """The notes that each instrument plays in the order of the song, 61 being middle C."""
        played: list[list[int]] = [[] for _ in self.names]
        current: dict[int, int] = {}
        for order in range(self._ask("num_orders")):
            pattern = self._ask("order_pattern", order)
            if not 0 <= pattern < self._ask("num_patterns"):
                continue
            for row in range(self._ask("pattern_num_rows", pattern)):
                for channel in range(self._ask("num_channels")):
                    note, instrument = (
                        self._ask("pattern_row_channel_command", pattern, row, channel, column)
                        for column in (0, 1)
                    )
                    current[channel] = instrument or current.get(channel, 0)
                    if 1 <= note <= 120 and 1 <= current[channel] <= len(played):
                        played[current[channel] - 1].append(note)
        return played

    def play(
        self, instruments: Collection[int], start: float, seconds: float, rate: int = SAMPLE_RATE
    ) -> np.ndarray:
        """Play some of its instruments from `start` for at most `seconds`.

        Shape:
            -> [2, L]
        """
        for index in range(len(self.names)):
            self._mute(self._handle, index, int(index not in instruments))
        self._call("set_position_seconds", self._module, start)
        audio, done = np.zeros((round(rate * seconds), 2), np.float32), 0
        while done < len(audio):
            rest = audio[done:]
            got = self._call(
                "read_interleaved_float_stereo", self._module, rate, min(1 << 16, len(rest)), rest.ctypes.data
            )
            if got == 0:
                break
            done += got
        return audio[:done].T.copy()

    def sources(self) -> dict[str, set[int]]:
        """The instruments of each source, by their names and their sounds."""
        length = min(self.duration, TASTE_S)
        start = max(0.0, min(20.0, self.duration - length))
        found: dict[str, set[int]] = {}
        for index, (name, notes) in enumerate(zip(self.names, self.notes(), strict=True)):
            if notes:
                audio = self.play({index}, start, length, TASTE_RATE).mean(0)
                found.setdefault(source_of(name, notes, audio), set()).add(index)
        return found


@dataclass(frozen=True)
class Timbre:
    """How an instrument sounds on its own.

    Args:
        low: share of its energy below `LOW_HZ`.
        centroid: of its mean spectrum, in hertz.
        flatness: median spectral flatness while it sounds; 0 a tone, 1 white noise.
        active: share of the time in which it is within 26 dB of its loudest.
    """

    low: float
    centroid: float
    flatness: float
    active: float


def timbre(audio: np.ndarray) -> Timbre | None:
    """Measure a solo at `TASTE_RATE`; None for silence or less than two frames.

    Shape:
        audio: [L]
    """
    if len(audio) < 2 * FRAME or np.abs(audio).max() < 1e-4:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[:: FRAME // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2  # [T, F]
    frequency, mean = np.fft.rfftfreq(FRAME, 1 / TASTE_RATE), power.mean(0)
    loud = power[power.sum(1) > 1e-4 * power.sum(1).max(), 8:1500]
    flatness = np.exp(np.log(loud + 1e-12).mean(1)) / (loud.mean(1) + 1e-12)
    level = np.sqrt([np.mean(part**2) for part in np.array_split(audio, max(1, len(audio) // 441))])
    return Timbre(
        low=float(mean[frequency < LOW_HZ].sum() / mean.sum()),
        centroid=float((mean * frequency).sum() / mean.sum()),
        flatness=float(np.median(flatness)),
        active=float(np.mean(level > 0.05 * level.max())),
    )


def source_of(name: str, notes: list[int], audio: np.ndarray) -> str:
    """Which source an instrument is part of: by its name, else by its pitches and its sound.

    Few pitches and noise make a drum; low tones make a bass; a low sound on one pitch is a bass drum if it clicks or is
    short.

    Shape:
        audio: [L], the instrument on its own
    """
    for source, words in (("vocals", VOCALS), ("drums", DRUMS), ("bass", BASS), ("other", OTHER)):
        if words.search(name):
            return source
    sound, pitches = timbre(audio), len(Counter(notes))
    if sound is None:
        return "other"
    if sound.flatness >= 0.06 and pitches <= 6:
        return "drums"
    if sound.low >= 0.5 and sound.centroid < 450:
        clicks = sound.flatness >= 0.002 or sound.active < 0.4
        if (pitches <= 2 and clicks) or (pitches == 1 and sound.active < 0.6):
            return "drums"
        return "bass" if sound.centroid < 260 else "other"
    noisy = sound.flatness >= 0.02 or (pitches == 1 and sound.centroid > 1500)
    return "drums" if pitches <= 2 and noisy else "other"
