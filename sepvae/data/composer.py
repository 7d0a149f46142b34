"""A small composer: writes songs as notes and drum hits, from genres, progressions, grooves and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sepvae.data.kits import Hit
from sepvae.data.styles import CHORD_OFFSETS, FIGURES, GENRES, PROGRESSIONS, RHYTHMS, SCALES, STEPS
from sepvae.data.synth import Note


@dataclass(frozen=True)
class Part:
    """What one instrument plays in the whole song."""

    role: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Bar:
    """A bar of a song: its start in seconds, its chord's scale degree, and where it stands in the form.

    Args:
        start: seconds.
        degree: scale degree of the chord.
        kind: which of the song's kinds of section it belongs to; sections of one kind are alike.
        index: how many bars of the section came before it.
    """

    start: float
    degree: int
    kind: int
    index: int


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
        tonic: pitch class of the key, 0 to 11.
        scale: the seven steps of the key in semitones above the tonic.
        bars: the form.
    """

    genre: str
    tempo: float
    duration: float
    drums: tuple[Hit, ...]
    bass: tuple[Note, ...]
    parts: tuple[Part, ...]
    kicks: tuple[float, ...] = field(default=())
    tonic: int = 0
    scale: tuple[int, ...] = SCALES["major"]
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class _Section:
    bars: int
    chords: tuple[int, ...]  # scale degree of each bar
    groove: dict[str, str]
    figure: str
    has_drums: bool
    has_bass: bool
    players: tuple[int, ...]  # which of the band play


@dataclass(frozen=True)
class _Player:
    """One instrument of the song, and what it keeps to throughout."""

    role: str
    centre: float  # of its range, as a MIDI pitch
    rhythm: str
    low_root: bool
    motif: list[tuple[int, int, float]]


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

    def band(self) -> list[_Player]:
        """Draw the instruments beside drums and bass."""
        rng = self.rng
        roles = [str(role) for role in rng.choice(self.style.roles, size=int(rng.integers(2, 5)))]
        centres = [float(rng.uniform(55, 70)) + (7 if role in ("lead", "arp") else 0) for role in roles]
        rhythms = [str(rng.choice(RHYTHMS.get(role, RHYTHMS["comp"]))) for role in roles]
        low_roots = [bool(rng.random() < 0.5) for _ in roles]
        motifs = [self.motif(busy=float(rng.uniform(0.2, 0.9))) for _ in roles]
        return [_Player(*drawn) for drawn in zip(roles, centres, rhythms, low_roots, motifs, strict=True)]

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

    def play(self, player: _Player, bar: int, degree: int, shape: Sequence[int], every: int) -> list[Note]:
        """One bar of an instrument: broken chords of this shape, a melody, or chords, as its role wants."""
        if player.role == "arp":
            return self.arpeggio(bar, degree, player.centre, shape, every)
        if player.role in ("lead", "riff"):
            return self.melody(player.motif, bar, degree, player.centre)
        return self.chords(player, bar, degree)

    def chords(self, player: _Player, bar: int, degree: int) -> list[Note]:
        """One bar of chords in a rhythm, or held through the bar for pads and strings."""
        role, rhythm = player.role, player.rhythm
        pitches = self.chord(degree, player.centre)
        if role == "power":
            root = self.degree(degree, 43)
            pitches = [root, root + 7, root + 12]
        elif player.low_root and role in ("pad", "comp", "strings", "strum"):
            pitches = [self.degree(degree, 46), *pitches]
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
        """The half of a motif that falls on this bar, moved along the scale to the chord's degree."""
        offset = bar % 2 * STEPS
        tonic = self.degree(0, centre)
        shift = degree if degree <= 3 else degree - 7
        return [
            Note(
                self.time(bar, step - offset),
                length * self.step_s,
                tonic + self._relative(shift + relative),
                0.85,
            )
            for step, relative, length in motif
            if offset <= step < offset + STEPS
        ]

    def _relative(self, degree: int) -> int:
        return self.scale[degree % 7] + 12 * (degree // 7)


def compose(
    seconds: float, rng: np.random.Generator, genre: str | None = None, tempo: float | None = None
) -> Song:
    """Write a song.

    Args:
        seconds: about how long it lasts; whole sections are kept.
        rng: decides everything.
        genre: key of `GENRES`, or a random one.
        tempo: in beats a minute, or one that suits the genre.
    """
    genre = genre or str(rng.choice(list(GENRES)))
    writer = _Writer(genre, tempo, rng)
    style = writer.style
    players = writer.band()
    shape, every = rng.permutation(6).tolist(), int(rng.choice((1, 2, 2)))
    low = float(
        rng.uniform(29, 34) if style.bass_sounds[0] in ("808", "sub", "reese") else rng.uniform(32, 40)
    )
    kinds = [_section(writer, len(players)) for _ in range(3)]
    drums: list[Hit] = []
    bass: list[Note] = []
    lines: list[list[Note]] = [[] for _ in players]
    bars: list[Bar] = []
    bar = 0
    while (bar * STEPS) * writer.step_s < seconds:
        kind = int(rng.integers(3))
        section = kinds[kind]
        for index in range(section.bars):
            degree = section.chords[index % len(section.chords)]
            following = section.chords[(index + 1) % len(section.chords)]
            bars.append(Bar(bar * STEPS * writer.step_s, degree, kind, index))
            if section.has_drums:
                drums += writer.drums(section.groove, bar, fill=index == section.bars - 1, first=index == 0)
            if section.has_bass:
                kicks = [step for step, mark in enumerate(section.groove.get("kick", "")) if mark in "Xx"]
                bass += writer.bass(section.figure, bar, degree, following, kicks, low)
            for which in section.players:
                lines[which] += writer.play(players[which], bar, degree, shape, every)
            bar += 1
    drums.sort(key=lambda hit: hit.time)
    return Song(
        genre=genre,
        tempo=writer.tempo,
        duration=bar * STEPS * writer.step_s + 2.0,
        drums=tuple(drums),
        bass=tuple(sorted(bass, key=lambda note: note.start)),
        parts=tuple(
            Part(player.role, tuple(line)) for player, line in zip(players, lines, strict=True) if line
        ),
        kicks=tuple(hit.time for hit in drums if hit.lane == "kick"),
        tonic=writer.tonic,
        scale=writer.scale,
        bars=tuple(bars),
    )


def _section(writer: _Writer, band_size: int) -> _Section:
    rng, style = writer.rng, writer.style
    progressions = PROGRESSIONS[writer.mode]
    chords = progressions[int(rng.integers(len(progressions)))]
    playing = tuple(index for index in range(band_size) if rng.random() < 0.75) or (
        int(rng.integers(band_size)),
    )
    return _Section(
        bars=int(rng.choice((4, 8), p=(0.7, 0.3))),
        chords=chords if rng.random() < 0.7 else tuple(degree for degree in chords for _ in range(2)),
        groove=style.grooves[int(rng.integers(len(style.grooves)))],
        figure=str(rng.choice(style.basses)),
        has_drums=bool(rng.random() < 0.93),
        has_bass=bool(rng.random() < 0.93),
        players=playing,
    )
