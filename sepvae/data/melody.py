"""Writes what is sung over a composed song: phrases in its key, over its chords, in its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepvae.data.composer import Bar, Song
from sepvae.data.styles import STEPS
from sepvae.data.synth import Note

INSTRUMENTAL_SHARE = 0.25
RAP_SHARES = {"hiphop": 0.6, "trap": 0.5, "funk": 0.15, "electro": 0.15, "dnb": 0.25, "reggae": 0.15}
OTHER_RAP_SHARE = 0.05
CENTRES = (47.0, 70.0)  # the middle of the range, from a low man's to a high woman's
RANGE = (-8.0, 9.0)  # semitones about the centre
PHRASE_S = 4.2
SHORTEST_S = 0.14
FORMS = ("AABA", "ABAB", "AAAB", "ABAC", "AAAA")
WALK = (-2, -1, -1, -1, 0, 0, 1, 1, 1, 2)


@dataclass(frozen=True)
class Phrase:
    """What one voice sings in one breath.

    Args:
        notes: one for each syllable, in order, none overlapping.
        role: verse, chorus, rap or ooh.
        words: equal numbers are the same words.
        harmonies: the same syllables for other voices, at other pitches.
    """

    notes: tuple[Note, ...]
    role: str
    words: int
    harmonies: tuple[tuple[Note, ...], ...] = ()


@dataclass(frozen=True)
class VocalLine:
    """Everything that is sung in a song.

    Args:
        centre: the middle of the lead's range, as a MIDI pitch.
        phrases: the lead's, in order.
        backing: those of the other singers.
    """

    centre: float
    phrases: tuple[Phrase, ...]
    backing: tuple[Phrase, ...]


@dataclass(frozen=True)
class _Motif:
    """A phrase before it meets its chords: (step, length in steps, scale degree from the centre) each."""

    notes: tuple[tuple[int, int, int], ...]
    words: int


class _Melodist:
    """The state of one vocal line while it is written."""

    def __init__(self, song: Song, rng: np.random.Generator) -> None:
        self.song, self.rng = song, rng
        self.step_s = 60 / song.tempo / 4
        self.unit = next(unit for unit in (1, 2, 4) if unit * self.step_s >= SHORTEST_S or unit == 4)
        bars = PHRASE_S / (STEPS * self.step_s)
        self.span = 1 if bars < 1.4 else 2 if bars < 2.8 else 4
        self.centre = float(rng.uniform(*CENTRES))
        self.home = min(range(84), key=lambda degree: abs(self.pitch(degree) - self.centre))
        self.loose_s = float(rng.choice((0.0, 0.006, 0.012)))
        self.busy = float(rng.uniform(0.2, 1.0))
        self.words = 0

    def pitch(self, degree: int) -> int:
        """The MIDI pitch of a scale degree that is counted from the tonic of the lowest octave."""
        return self.song.tonic + self.song.scale[degree % 7] + 12 * (degree // 7)

    def chord_tone(self, degree: int, chord: int, step: int = 0) -> int:
        """The nearest degree of the triad on `chord`; the next one above (step 1) or below (-1) it."""
        away = (0, 1, -1, 2, -2, 3, -3) if step == 0 else range(step * 1, step * 5, step)
        return next(degree + d for d in away if (degree + d - chord) % 7 in (0, 2, 4))

    def new_words(self) -> int:
        self.words += 1
        return self.words

    def motif(self, role: str) -> _Motif:
        """A rhythm and a contour that fill about two thirds of a phrase; the last note is held."""
        rng, unit = self.rng, self.unit
        total = self.span * STEPS
        step = int(rng.choice((0, 0, 0, unit, 2 * unit, 4)))
        end = total - int(rng.choice((2, 3, 4, 5))) * unit
        lengths: tuple[int, ...] = (1, 2, 3, 4, 6)
        chances: tuple[float, ...] = (0.2 + 0.4 * self.busy, 0.35, 0.1, 0.1, 0.05)
        if role == "rap":
            end = total - int(rng.choice((1, 2, 3))) * unit
            lengths, chances = (1, 2), (0.75, 0.25)
        elif role == "chorus":
            chances = (0.25 * self.busy, 0.35, 0.1, 0.3 - 0.15 * self.busy, 0.12)
        odds = np.array(chances)
        last = int(rng.choice((2, 3, 4, 6, 8), p=(0.1, 0.15, 0.3, 0.25, 0.2))) if role != "rap" else 1
        degree = int(rng.integers(-2, 3)) + (2 if role == "chorus" else -1)
        notes: list[tuple[int, int, int]] = []
        while step < end:
            length = unit * int(rng.choice(lengths, p=odds / odds.sum()))
            if end - step - length < unit * last:
                notes.append((step, end - step, degree))
                break
            if rng.random() > (0.1 if role == "rap" else 0.05) or not notes:
                notes.append((step, length, degree))
            leap = rng.random() < 0.12
            degree += int(rng.choice((-4, -3, 3, 4))) if leap else int(rng.choice(WALK))
            degree = degree if -4 <= degree <= 5 else int(np.clip(degree, -3, 4))
            step += length
        return _Motif(tuple(notes), self.new_words())

    def phrase(self, motif: _Motif, bars: Sequence[Bar], role: str, words: int, voices: int) -> Phrase:
        """A motif on its bars: on strong steps and held notes the tune takes a tone of the chord."""
        lead: list[Note] = []
        others: list[list[Note]] = [[] for _ in range(voices)]
        for step, length, offset in motif.notes:
            if step // STEPS >= len(bars):
                break
            bar = bars[step // STEPS]
            degree = self.home + offset
            held = length * self.step_s > 0.45
            if held or step % 8 == 0:
                degree = self.chord_tone(degree, bar.degree)
            degree = self.within(degree)
            room = (len(bars) * STEPS - step) * self.step_s
            start = bar.start + step % STEPS * self.step_s + float(self.rng.normal(0, self.loose_s))
            start, seconds = max(0.0, start), min(length * self.step_s, room)
            velocity = float(np.clip((0.85 if step % 4 == 0 else 0.72) + self.rng.normal(0, 0.06), 0.4, 1))
            lead.append(Note(start, seconds, float(self.pitch(degree)), velocity))
            for index, voice in enumerate(others):
                way = 1 if index % 2 == 0 else -1
                other = self.chord_tone(degree, bar.degree, way) if held else degree + 2 * way
                voice.append(Note(start, seconds, float(self.pitch(other)), velocity))
        return Phrase(_apart(lead), role, words, tuple(_apart(voice) for voice in others))

    def within(self, degree: int) -> int:
        """The degree, moved by octaves into the singer's range."""
        while self.pitch(degree) > self.centre + RANGE[1]:
            degree -= 7
        while self.pitch(degree) < self.centre + RANGE[0]:
            degree += 7
        return degree

    def pads(self, bars: Sequence[Bar]) -> list[Phrase]:
        """Held chord tones for three voices, a bar each, with a breath at the end of each second one."""
        height = self.home + int(self.rng.integers(0, 3))
        voices = []
        for offset in (0, 2, 4):
            notes = [
                Note(
                    bar.start,
                    STEPS * self.step_s * (0.85 if index % 2 or index == len(bars) - 1 else 1.0),
                    float(self.pitch(self.chord_tone(height + offset, bar.degree))),
                    0.7,
                )
                for index, bar in enumerate(bars)
            ]
            voices.append(Phrase(_apart(notes), "ooh", 0))
        return voices


def _apart(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Notes in order, each ended where the next begins."""
    ends = [note.start for note in notes[1:]] + [np.inf]
    return tuple(
        Note(note.start, float(min(note.duration, end - note.start)), note.pitch, note.velocity)
        for note, end in zip(notes, ends, strict=True)
        if end - note.start > 0.03
    )


def sections(bars: Sequence[Bar]) -> list[list[Bar]]:
    """The form, bar by bar, as a list of sections."""
    found: list[list[Bar]] = []
    for bar in bars:
        if bar.index == 0:
            found.append([])
        found[-1].append(bar)
    return found


def _roles(order: Sequence[int], rap: bool, rng: np.random.Generator) -> dict[int, str]:
    """What is sung in each kind of section, the kinds in the order of their first appearance."""
    verse = "rap" if rap else "verse"
    hook = "rap" if rap and rng.random() < 0.4 else "chorus"
    third = str(rng.choice(("", "", verse, "ooh")))
    plans = {1: ((verse,), (hook,)), 2: ((verse, hook),), 3: ((verse, hook, third), (third, verse, hook))}
    plan = plans[len(order)][int(rng.integers(len(plans[len(order)])))]
    return dict(zip(order, plan, strict=True))


def write_vocals(song: Song, rng: np.random.Generator) -> VocalLine | None:
    """Write what is sung over a song.

    Args:
        song: gives key, tempo, chords and form.
        rng: decides everything.

    Returns:
        The vocal line, or None for a song that is to be instrumental.
    """
    if rng.random() < INSTRUMENTAL_SHARE or not song.bars:
        return None
    writer = _Melodist(song, rng)
    form = sections(song.bars)
    order = list(dict.fromkeys(section[0].kind for section in form))
    roles = _roles(order, rng.random() < RAP_SHARES.get(song.genre, OTHER_RAP_SHARE), rng)
    tunes = {
        kind: {name: writer.motif(role) for name in "ABC"}
        for kind, role in roles.items()
        if role not in ("", "ooh")
    }
    forms = {kind: str(rng.choice(FORMS)) for kind in roles}
    voices = int(rng.choice((0, 1, 2), p=(0.55, 0.3, 0.15)))
    padded = {kind: roles[kind] == "ooh" or rng.random() < 0.08 for kind in order}
    silent_intro = len(form) > 1 and rng.random() < 0.3
    phrases: list[Phrase] = []
    backing: list[Phrase] = []
    for index, section in enumerate(form):
        kind = section[0].kind
        role = roles[kind]
        if index == 0 and silent_intro:
            continue
        if padded[kind]:
            backing += writer.pads(section)
        if kind not in tunes:
            continue
        for slot, first in enumerate(range(0, len(section), writer.span)):
            motif = tunes[kind][forms[kind][slot % 4]]
            words = motif.words if role == "chorus" else writer.new_words()
            phrase = writer.phrase(
                motif, section[first : first + writer.span], role, words, voices if role == "chorus" else 0
            )
            if phrase.notes:
                phrases.append(phrase)
    return VocalLine(writer.centre, tuple(phrases), tuple(backing)) if phrases or backing else None
