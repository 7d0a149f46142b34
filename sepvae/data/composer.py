"""A small composer: writes songs as notes and drum hits, from genres, progressions, grooves and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sepvae.data.kits import Hit
from sepvae.data.synth import Note

STEPS = 16  # sixteenth notes in a bar
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
PROGRESSIONS = {
    "major": (
        (0, 4, 5, 3),
        (0, 3, 4, 4),
        (5, 3, 0, 4),
        (0, 5, 3, 4),
        (0, 3),
        (1, 4, 0, 0),
        (0, 2, 3, 4),
        (3, 4, 2, 5),
    ),
    "minor": (
        (0, 5, 2, 6),
        (0, 6, 5, 6),
        (0, 3, 4, 0),
        (0, 5),
        (0, 0, 3, 4),
        (0, 3, 6, 2),
        (5, 6, 0, 0),
        (0, 2, 5, 4),
    ),
    "dorian": ((0, 3), (0, 3, 0, 4), (0, 1, 0, 3), (0, 0, 3, 3), (0, 6, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 0, 6, 3), (0, 4, 6, 3)),
    "phrygian": ((0, 1), (0, 0, 1, 6), (0, 1, 2, 1)),
}


@dataclass(frozen=True)
class Genre:
    """What makes a style: every field is a choice.

    Args:
        tempo: lowest and highest, in beats a minute.
        swing: largest delay of every second sixteenth, as a share of a sixteenth.
        scales: keys of `SCALES`.
        grooves: drum patterns; each maps a lane to 16 characters: X accent, x hit, o ghost note, ? sometimes, . rest.
        basses: names of bass figures.
        roles: what the other instruments may do.
        bass_sounds: kinds of bass instrument, for the producer.
        kits: kinds of drum kit, for the producer.
    """

    tempo: tuple[float, float]
    swing: float
    scales: tuple[str, ...]
    grooves: tuple[dict[str, str], ...]
    basses: tuple[str, ...]
    roles: tuple[str, ...]
    bass_sounds: tuple[str, ...]
    kits: tuple[str, ...]


ROCK_GROOVES = (
    {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
    {"kick": "X..x......X...?.", "snare": "....X..o....X..o", "hat": "X.x.X.x.X.x.X.x."},
    {"kick": "X.....x.X.....x.", "snare": "....X.......X...", "ride": "X.x.X.x.X.x.X.x."},
    {"kick": "X.x.x.x.X.x.x.x.", "snare": "....X.......X...", "crash": "X...x...x...x..."},
    {"kick": "X.........x.....", "snare": "........X.......", "hat": "x...x...x...x..."},
)
HOUSE_GROOVES = (
    {
        "kick": "X...X...X...X...",
        "clap": "....X.......X...",
        "open": "..x...x...x...x.",
        "hat": "x..xx..xx..xx..x",
    },
    {
        "kick": "X...X...X...X...",
        "snare": "....X.......X...",
        "hat": "..x...x...x...x.",
        "perc": "...x..x....x..?.",
    },
    {
        "kick": "X...X...X...X..?",
        "open": "..X...X...X...X.",
        "perc": "x..x..x.x..x..x.",
        "ride": "..x...x...x...x.",
    },
)
FUNK_GROOVES = (
    {"kick": "X..x..x...x..x..", "snare": "....X..o.o..X..o", "hat": "x.xxx.x.x.xxx.xx"},
    {"kick": "X.x....x..x.....", "snare": "....X..o.o.oX...", "hat": "xxxxxxxxxxxxxxxx"},
    {
        "kick": "X......x..X..?..",
        "snare": "....X..o....X.o.",
        "hat": "x.x.x.x.x.x.x...",
        "open": "..............x.",
    },
)
HIPHOP_GROOVES = (
    {"kick": "X......x..x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.xx"},
    {
        "kick": "X..x......X..x..",
        "clap": "........X.......",
        "hat": "x.xxx.x.xxx.x.xx",
        "perc": "......?......x..",
    },
    {
        "kick": "X.....x....x....",
        "clap": "....X.......X...",
        "hat": "xxx.xxx.xx?xxxxx",
        "open": "..............?.",
    },
)
BREAK_GROOVES = (
    {"kick": "X.X.......XX....", "snare": "....X..o.o..X..o", "hat": "x.x.x.x.x.x.x.x."},
    {
        "kick": "X.........X.....",
        "snare": "....X..o.o..X..o",
        "ride": "x.x.x.x.x.x.x.x.",
        "hat": "..x...x...x...x.",
    },
    {
        "kick": "X..x......x.....",
        "snare": "....X.......X..o",
        "hat": "xxxxxxxxxxxxxxxx",
        "perc": "...x......x.....",
    },
)
REGGAE_GROOVES = (
    {"kick": "........X.......", "snare": "........X.......", "hat": "x.x.x.x.x.x.x.x."},
    {"kick": "X...X...X...X...", "snare": "........X.....o.", "hat": "x..xx..xx..xx..x"},
    {
        "kick": "........X.....?.",
        "snare": "........X....o..",
        "hat": "..x...x...x...x.",
        "perc": "x.....x...x.....",
    },
)
BALLAD_GROOVES = (
    {"kick": "X.......x.......", "snare": "....x.......x...", "hat": "x...x...x...x..."},
    {"kick": "X.......x.x.....", "snare": "........X.......", "ride": "x.x.x.x.x.x.x.x."},
    {"kick": "X...............", "perc": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
)
GENRES = {
    "pop": Genre(
        (90, 128),
        0.1,
        ("major", "minor"),
        ROCK_GROOVES + HOUSE_GROOVES,
        ("eighths", "roots", "kick", "octaves"),
        ("pad", "comp", "arp", "strum", "lead"),
        ("saw", "gm", "square", "fm", "triangle"),
        ("mixed", "gm", "recorded"),
    ),
    "rock": Genre(
        (95, 165),
        0.0,
        ("minor", "mixolydian", "major"),
        ROCK_GROOVES,
        ("eighths", "kick", "walk", "gallop"),
        ("power", "power", "strum", "riff", "lead", "organ"),
        ("gm", "gm", "pluck", "drive"),
        ("gm", "recorded", "gm"),
    ),
    "funk": Genre(
        (92, 116),
        0.25,
        ("dorian", "mixolydian", "minor"),
        FUNK_GROOVES,
        ("funk", "funk", "octaves", "kick"),
        ("clav", "stab", "brass", "organ", "comp"),
        ("gm", "pluck", "saw", "shot"),
        ("gm", "recorded", "mixed"),
    ),
    "house": Genre(
        (116, 130),
        0.15,
        ("minor", "dorian"),
        HOUSE_GROOVES,
        ("offbeat", "octaves", "roll", "funk"),
        ("stab", "pad", "arp", "organ", "comp"),
        ("sub", "saw", "square", "fm", "shot"),
        ("synth", "mixed", "gm"),
    ),
    "techno": Genre(
        (122, 140),
        0.0,
        ("phrygian", "minor"),
        HOUSE_GROOVES,
        ("roll", "offbeat", "eighths"),
        ("arp", "stab", "pad", "riff"),
        ("saw", "reese", "fm", "sub", "shot"),
        ("synth", "synth", "mixed", "loop"),
    ),
    "dnb": Genre(
        (164, 178),
        0.1,
        ("minor", "phrygian"),
        BREAK_GROOVES,
        ("long", "funk", "roots", "sparse"),
        ("pad", "arp", "stab", "lead"),
        ("reese", "sub", "fm", "shot", "saw"),
        ("loop", "mixed", "recorded", "synth"),
    ),
    "hiphop": Genre(
        (72, 98),
        0.35,
        ("minor", "dorian"),
        HIPHOP_GROOVES,
        ("sparse", "kick", "long", "walk"),
        ("comp", "pad", "riff", "lead", "stab"),
        ("808", "sub", "gm", "triangle"),
        ("mixed", "recorded", "synth", "loop"),
    ),
    "trap": Genre(
        (65, 80),
        0.0,
        ("minor", "phrygian"),
        HIPHOP_GROOVES,
        ("slide", "slide", "kick"),
        ("pad", "riff", "arp", "lead"),
        ("808", "808", "sub"),
        ("synth", "mixed"),
    ),
    "synthwave": Genre(
        (84, 118),
        0.0,
        ("minor", "dorian"),
        ROCK_GROOVES + HOUSE_GROOVES[:1],
        ("eighths", "roll", "octaves"),
        ("pad", "arp", "lead", "stab"),
        ("saw", "square", "reese"),
        ("synth", "mixed", "gm"),
    ),
    "ballad": Genre(
        (62, 84),
        0.0,
        ("major", "minor"),
        BALLAD_GROOVES,
        ("roots", "long", "walk"),
        ("comp", "pad", "strum", "lead", "strings"),
        ("gm", "triangle", "sub", "pluck"),
        ("gm", "recorded"),
    ),
    "reggae": Genre(
        (66, 84),
        0.3,
        ("minor", "major", "dorian"),
        REGGAE_GROOVES,
        ("dub", "dub", "walk"),
        ("skank", "organ", "lead", "brass", "clav"),
        ("sub", "gm", "triangle", "pluck"),
        ("gm", "recorded", "mixed"),
    ),
    "electro": Genre(
        (100, 126),
        0.0,
        ("minor", "dorian", "major"),
        HIPHOP_GROOVES[:1] + FUNK_GROOVES + HOUSE_GROOVES,
        ("funk", "octaves", "eighths", "slide"),
        ("arp", "stab", "lead", "clav"),
        ("square", "fm", "saw", "808", "shot"),
        ("synth", "loop", "mixed"),
    ),
}
# Bass figures that are a fixed rhythm: step -> (interval in semitones above the root, length in steps).
FIGURES: dict[str, tuple[dict[int, tuple[int, float]], ...]] = {
    "eighths": (dict.fromkeys(range(0, 16, 2), (0, 1.8)),),
    "roots": ({0: (0, 7.5), 8: (0, 7.5)}, {0: (0, 5.5), 6: (0, 1.8), 8: (0, 5.0), 14: (7, 1.8)}),
    "octaves": ({step: (12 * (step // 2 % 2), 1.6) for step in range(0, 16, 2)},),
    "offbeat": (
        {2: (0, 1.7), 6: (0, 1.7), 10: (0, 1.7), 14: (0, 1.7)},
        {2: (0, 1), 3: (0, 1), 6: (0, 1.7), 10: (0, 1.7), 14: (12, 1.7)},
    ),
    "roll": ({step: (0, 0.9) for step in range(16) if step % 4}, dict.fromkeys(range(16), (0, 0.85))),
    "gallop": ({step: (0, 0.9) for step in range(16) if step % 4 != 1},),
    "funk": (
        {0: (0, 1.5), 3: (0, 0.8), 6: (12, 0.8), 7: (10, 0.8), 10: (0, 1.5), 13: (7, 0.8), 14: (10, 1.2)},
        {0: (0, 2.5), 4: (0, 0.6), 5: (0, 0.6), 7: (12, 0.8), 10: (7, 1.2), 12: (5, 1.0), 14: (3, 1.0)},
        {0: (0, 1.0), 2: (0, 1.0), 5: (0, 1.0), 8: (-2, 1.0), 10: (0, 1.5), 14: (12, 0.7)},
    ),
    "long": ({0: (0, 15.5)}, {0: (0, 11.5), 12: (7, 3.5)}, {0: (0, 9.5), 10: (0, 5.5)}),
    "sparse": ({0: (0, 5.0), 7: (0, 2.0), 10: (0, 3.0)}, {0: (0, 3.0), 11: (-2, 2.0), 13: (0, 2.5)}),
    "slide": (
        {0: (0, 6.0), 6: (12, 2.0), 10: (0, 5.5)},
        {0: (0, 9.0), 11: (3, 2.0), 14: (0, 2.0)},
        {0: (0, 14.0)},
    ),
    "dub": (
        {0: (0, 2.5), 3: (0, 1.5), 6: (7, 2.5), 10: (5, 1.5), 12: (3, 2.0)},
        {2: (0, 1.8), 4: (0, 1.8), 6: (3, 1.8), 8: (7, 3.5)},
        {0: (0, 3.5), 6: (-5, 1.5), 8: (0, 3.5), 14: (7, 1.5)},
    ),
}
RHYTHMS = {
    "comp": ("X.....x...x.....", "X...x...x...x...", "X..x..x...x..x..", "X.......X......."),
    "stab": ("..X...X...X...X.", "X..x..x..x..x...", "...x..x....x..x.", "X.....X.....X..."),
    "clav": ("x.xx.xx.x.xx.xxx", "..x.x.xx..x.x.xx", "x..xx.x.x..xx.x."),
    "skank": ("....X.......X...", "..X...X...X...X.", "....X.x.....X.x."),
    "brass": ("X...............", "..........X.x...", "X..x............", "............X.xx"),
    "organ": ("X...............", "..x.x.....x.x...", "X.......X......."),
    "strum": ("X...x.xx..xxx.x.", "X.x.x.x.X.x.x.x.", "X...X.x...x.X.x.", "X.......X......."),
    "power": ("X.x.x.x.X.x.x.x.", "X.......X.......", "X..x..x.X..x..x.", "X.xxX.xxX.xxX.xx"),
}
CHORD_OFFSETS = {"triad": (0, 2, 4), "seventh": (0, 2, 4, 6), "ninth": (0, 2, 6, 8), "sus": (0, 3, 4)}


@dataclass(frozen=True)
class Part:
    """What one instrument plays in the whole song."""

    role: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Song:
    """A written song.

    Args:
        genre: key of `GENRES`.
        tempo: in beats a minute.
        duration: seconds.
        drums: the strokes.
        bass: the bass line, one note at a time.
        parts: the other instruments.
        kicks: when the kick is struck, in seconds.
    """

    genre: str
    tempo: float
    duration: float
    drums: tuple[Hit, ...]
    bass: tuple[Note, ...]
    parts: tuple[Part, ...]
    kicks: tuple[float, ...] = field(default=())


@dataclass(frozen=True)
class _Section:
    bars: int
    chords: tuple[int, ...]  # scale degree of each bar
    groove: dict[str, str]
    figure: str
    has_drums: bool
    has_bass: bool
    roles: tuple[int, ...]  # which of the song's roles play


class _Writer:
    """The state of one song while it is written: key, grid and random choices."""

    def __init__(self, genre: str, tempo: float | None, rng: np.random.Generator) -> None:
        self.style = GENRES[genre]
        self.rng = rng
        self.tempo = tempo or float(rng.uniform(*self.style.tempo))
        self.step_s = 60 / self.tempo / 4
        self.swing = float(rng.uniform(0, self.style.swing))
        self.loose_s = float(rng.uniform(0, 0.008))
        self.mode = str(rng.choice(self.style.scales))
        self.scale = SCALES[self.mode]
        self.tonic = int(rng.integers(0, 12))
        self.chord_kind = str(rng.choice(list(CHORD_OFFSETS), p=(0.5, 0.3, 0.1, 0.1)))

    def time(self, bar: int, step: float) -> float:
        """Seconds at a step of a bar, with swing and a little looseness."""
        late = self.swing * self.step_s if int(step) % 2 else 0.0
        return max(0.0, (bar * STEPS + step) * self.step_s + late + float(self.rng.normal(0, self.loose_s)))

    def degree(self, degree: int, centre: float) -> int:
        """The pitch of a scale degree in the octave nearest to a centre."""
        pitch = self.tonic + self.scale[degree % 7] + 12 * (degree // 7)
        return int(pitch + 12 * round((centre - pitch) / 12))

    def chord(self, degree: int, centre: float) -> list[int]:
        """The pitches of the chord on a degree, each near the centre, so that chords lead into each other."""
        return sorted({self.degree(degree + offset, centre) for offset in CHORD_OFFSETS[self.chord_kind]})

    def strike(self, mark: str) -> float | None:
        """The velocity of a pattern's character, or None for a rest."""
        if mark == "." or (mark == "?" and self.rng.random() < 0.5):
            return None
        base = {"X": 1.0, "x": 0.8, "o": 0.35, "?": 0.7}[mark]
        return float(np.clip(base + self.rng.normal(0, 0.06), 0.15, 1.0))

    def drums(self, groove: dict[str, str], bar: int, *, fill: bool, first: bool) -> list[Hit]:
        """One bar of drums; a fill takes its last beat, a crash opens a section."""
        hits = []
        for lane, pattern in groove.items():
            for step, mark in enumerate(pattern):
                if fill and step >= 12 and lane in ("snare", "clap", "hat", "open"):
                    continue
                if (velocity := self.strike(mark)) is not None and self.rng.random() > 0.02:
                    hits.append(Hit(self.time(bar, step), lane, velocity))
        if fill:
            lane = str(self.rng.choice(("snare", "tom", "tom", "clap")))
            for step in range(12, 16):
                if self.rng.random() < 0.8:
                    hits.append(Hit(self.time(bar, step), lane, 0.6 + 0.1 * (step - 12)))
        if first and self.rng.random() < 0.6:
            hits.append(Hit(self.time(bar, 0), "crash", 0.9))
        return hits

    def bass(
        self, figure: str, bar: int, degree: int, next_degree: int, kicks: Sequence[int], low: float
    ) -> list[Note]:
        """One bar of bass around the pitch `low`."""
        root = self.degree(degree, low)
        if figure == "walk":
            goal = self.degree(next_degree, low)
            tones = [
                root,
                *(self.degree(degree + int(self.rng.choice((1, 2, 4))), low + 3) for _ in range(2)),
            ]
            steps = {
                index * 4: (pitch - root, 3.6)
                for index, pitch in enumerate([*tones, goal + int(self.rng.choice((-1, 1)))])
            }
        elif figure == "kick":
            marks = sorted({0, *kicks})
            steps = {
                step: (0, min(following - step, 6) * 0.9)
                for step, following in zip(marks, [*marks[1:], STEPS], strict=True)
            }
        else:
            choices = FIGURES[figure]
            steps = (
                choices[bar // 2 % len(choices)]
                if self.rng.random() < 0.85
                else choices[int(self.rng.integers(len(choices)))]
            )
        notes = []
        for step, (interval, length) in steps.items():
            if step and self.rng.random() < 0.04:
                continue
            velocity = float(np.clip((0.9 if step % 4 == 0 else 0.78) + self.rng.normal(0, 0.05), 0.4, 1))
            notes.append(Note(self.time(bar, step), length * self.step_s, root + interval, velocity))
        return notes

    def chords(self, role: str, rhythm: str, bar: int, degree: int, centre: float) -> list[Note]:
        """One bar of chords in a rhythm, or held through the bar for pads and strings."""
        pitches = self.chord(degree, centre)
        if role == "power":
            root = self.degree(degree, 43)
            pitches = [root, root + 7, root + 12]
        if role in ("pad", "strings"):
            return [Note(self.time(bar, 0), STEPS * self.step_s * 0.98, pitch, 0.7) for pitch in pitches]
        steps = [step for step, mark in enumerate(rhythm) if mark != "."]
        notes = []
        for step, following in zip(steps, [*steps[1:], STEPS], strict=True):
            velocity = self.strike(rhythm[step]) or 0.7
            longest = {"stab": 1.2, "clav": 0.8, "skank": 1.0, "power": 3.0 if len(steps) > 4 else 8.0}.get(
                role, 8.0
            )
            length = min(following - step, longest) * 0.92 * self.step_s
            spread = self.step_s * 0.12 if role == "strum" else 0.0
            start = self.time(bar, step)
            order = pitches if step % 4 == 0 else pitches[::-1]
            notes += [
                Note(start + spread * index, length, pitch, velocity) for index, pitch in enumerate(order)
            ]
        return notes

    def arpeggio(self, bar: int, degree: int, centre: float, shape: Sequence[int], every: int) -> list[Note]:
        """One bar of a broken chord over two octaves."""
        pitches = self.chord(degree, centre)
        pitches = pitches + [pitch + 12 for pitch in pitches]
        return [
            Note(
                self.time(bar, step),
                every * self.step_s * 0.85,
                pitches[shape[index % len(shape)] % len(pitches)],
                0.75,
            )
            for index, step in enumerate(range(0, STEPS, every))
        ]

    def motif(self, busy: float) -> list[tuple[int, int, float]]:
        """Two bars of melody: (step, degree relative to the chord, length in steps)."""
        degree, notes, step = int(self.rng.integers(0, 5)), [], int(self.rng.choice((0, 0, 2, 4)))
        while step < 2 * STEPS:
            length = int(
                self.rng.choice(
                    (1, 2, 3, 4, 6), p=(0.1 * busy, 0.4, 0.2 * busy, 0.4 - 0.1 * busy, 0.2 - 0.2 * busy)
                )
            )
            if self.rng.random() < 0.85:
                notes.append((step, degree, length * 0.9))
            degree = int(np.clip(degree + self.rng.choice((-2, -1, -1, 0, 1, 1, 2, 4)), -4, 9))
            step += length
        return notes

    def melody(
        self, motif: Sequence[tuple[int, int, float]], bar: int, degree: int, centre: float
    ) -> list[Note]:
        """The half of a motif that falls on this bar."""
        offset = bar % 2 * STEPS
        anchor = self.degree(degree, centre) - self.degree(0, centre)
        return [
            Note(
                self.time(bar, step - offset),
                length * self.step_s,
                self.degree(0, centre) + self._relative(relative) + anchor,
                0.85,
            )
            for step, relative, length in motif
            if offset <= step < offset + STEPS
        ]

    def _relative(self, degree: int) -> int:
        return self.scale[degree % 7] + 12 * (degree // 7)


def compose(
    rng: np.random.Generator, seconds: float, genre: str | None = None, tempo: float | None = None
) -> Song:
    """Write a song.

    Args:
        rng: decides everything.
        seconds: about how long it lasts; whole sections are kept.
        genre: key of `GENRES`, or a random one.
        tempo: in beats a minute, or one that suits the genre.
    """
    genre = genre or str(rng.choice(list(GENRES)))
    writer = _Writer(genre, tempo, rng)
    style = writer.style
    roles = [str(role) for role in rng.choice(style.roles, size=int(rng.integers(2, 5)))]
    centres = [float(rng.uniform(55, 70)) + (7 if role in ("lead", "arp") else 0) for role in roles]
    rhythms = [str(rng.choice(RHYTHMS.get(role, RHYTHMS["comp"]))) for role in roles]
    motifs = [writer.motif(busy=float(rng.uniform(0.2, 0.9))) for _ in roles]
    shape, every = rng.permutation(6).tolist(), int(rng.choice((1, 2, 2)))
    low = float(
        rng.uniform(29, 34) if style.bass_sounds[0] in ("808", "sub", "reese") else rng.uniform(32, 40)
    )
    kinds = [_section(writer, len(roles)) for _ in range(3)]
    drums: list[Hit] = []
    bass: list[Note] = []
    lines: list[list[Note]] = [[] for _ in roles]
    bar = 0
    while (bar * STEPS) * writer.step_s < seconds:
        section = kinds[int(rng.integers(3))]
        for index in range(section.bars):
            degree = section.chords[index % len(section.chords)]
            following = section.chords[(index + 1) % len(section.chords)]
            if section.has_drums:
                drums += writer.drums(section.groove, bar, fill=index == section.bars - 1, first=index == 0)
            if section.has_bass:
                kicks = [step for step, mark in enumerate(section.groove.get("kick", "")) if mark in "Xx"]
                bass += writer.bass(section.figure, bar, degree, following, kicks, low)
            for which in section.roles:
                role, centre = roles[which], centres[which]
                if role == "arp":
                    lines[which] += writer.arpeggio(bar, degree, centre, shape, every)
                elif role in ("lead", "riff"):
                    lines[which] += writer.melody(motifs[which], bar, degree, centre)
                else:
                    lines[which] += writer.chords(role, rhythms[which], bar, degree, centre)
            bar += 1
    drums.sort(key=lambda hit: hit.time)
    return Song(
        genre,
        writer.tempo,
        bar * STEPS * writer.step_s + 2.0,
        tuple(drums),
        tuple(sorted(bass, key=lambda note: note.start)),
        tuple(Part(role, tuple(line)) for role, line in zip(roles, lines, strict=True) if line),
        tuple(hit.time for hit in drums if hit.lane == "kick"),
    )


def _section(writer: _Writer, roles: int) -> _Section:
    rng, style = writer.rng, writer.style
    progressions = PROGRESSIONS[writer.mode]
    chords = progressions[int(rng.integers(len(progressions)))]
    playing = tuple(index for index in range(roles) if rng.random() < 0.75) or (int(rng.integers(roles)),)
    return _Section(
        bars=int(rng.choice((4, 8), p=(0.7, 0.3))),
        chords=chords if rng.random() < 0.7 else tuple(degree for degree in chords for _ in range(2)),
        groove=style.grooves[int(rng.integers(len(style.grooves)))],
        figure=str(rng.choice(style.basses)),
        has_drums=bool(rng.random() < 0.93),
        has_bass=bool(rng.random() < 0.93),
        roles=playing,
    )
