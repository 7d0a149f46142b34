"""What the composer chooses from: genres, scales, progressions, drum grooves, bass figures and rhythms."""

from __future__ import annotations

from dataclasses import dataclass

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
