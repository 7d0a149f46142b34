"""Produces the vocals of a song: chooses the singers, lets them sing the vocal line, and mixes the stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sepvae.data import effects
from sepvae.data.corpora import SAMPLE_RATE
from sepvae.data.melody import Phrase, VocalLine
from sepvae.data.singer import Singer, Text, sing
from sepvae.data.synth import Note, hertz
from sepvae.data.utterances import Speech, Syllable, Utterance

FORMANTS = (0.8, 1.25)
"""Least and largest factor by which a singer's formants are moved."""
SUNG_OVER_SPOKEN = 1.35
"""Pitch at which a speaker would sing, over the pitch of the speech."""
SYLLABLES = 60
HARMONY_DB, PAD_DB, DOUBLE_DB = (-11.0, -5.0), (-12.0, -6.0), (-12.0, -5.0)
"""Level relative to the vocals that they are added to, least and largest."""


def choose_singer(pitch_hz: float, centre: float, rng: np.random.Generator) -> tuple[Singer, str]:
    """Draw a singer for a range out of a speaker.

    Args:
        pitch_hz: in which the speaker speaks.
        centre: of the range to be sung, as a MIDI pitch.
        rng: decides everything.

    Returns:
        The singer and the manner: natural, tuned or robot.
    """
    ratio = float(hertz(centre)) / SUNG_OVER_SPOKEN / pitch_hz
    manner = str(rng.choice(("natural", "tuned", "robot"), p=(0.78, 0.17, 0.05)))
    singer = Singer(
        formant=float(np.clip(ratio**0.35 * rng.uniform(0.93, 1.07), *FORMANTS)),
        breath=float(rng.uniform(0.2, 0.85)),
        tilt_db=float(rng.uniform(0, 9)),
        air_db=float(rng.uniform(0, 9)),
        vibrato=(float(rng.uniform(4.8, 6.3)), float(rng.choice((0.0, 0.15, 0.3, 0.5)))),
        glide_s=float(rng.uniform(0.03, 0.12)),
        scoop=float(rng.uniform(0.3, 2.5)),
        jitter_cents=float(rng.uniform(3, 9)),
        even=float(rng.uniform(0.6, 0.95)),
        tuned=manner != "natural",
        robot=manner == "robot",
    )
    return singer, manner


def make_vocals(
    line: VocalLine,
    tempo: float,
    length: int,
    speech: Speech,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict]:
    """Sing and mix a vocal line.

    Args:
        line: what to sing.
        tempo: of the echoes, in beats a minute.
        length: of the stem, in samples.
        speech: whose words to take.
        rng: decides everything.

    Returns:
        Stereo audio [2, L] and what was chosen.
    """
    speaker, utterances = speech.draw(rng, SYLLABLES)
    singer, manner = choose_singer(utterances[0].pitch_hz, line.centre, rng)
    words = _Words(utterances)
    lead, harmonies = _sing_phrases(line.phrases, words, singer, length, rng)
    mix = treat_vocals(_mix_voices(lead, harmonies, rng), tempo, rng)
    if line.backing:
        mix = mix + _pads(line.backing, words, singer, length, effects.rms(mix), rng)
    chosen = {
        "speaker": speaker,
        "centre": round(line.centre, 1),
        "formant": round(singer.formant, 3),
        "manner": manner,
        "phrases": len(line.phrases),
        "roles": sorted({phrase.role for phrase in (*line.phrases, *line.backing)}),
        "harmonies": len(harmonies),
    }
    return mix.astype(np.float32), chosen


def _sing_phrases(
    phrases: Sequence[Phrase], words: _Words, singer: Singer, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The lead and the voices that harmonise with it, `[L]` each; every harmony keeps its singer."""
    lead = np.zeros(length, np.float32)
    harmonies: list[np.ndarray] = []
    singers: list[Singer] = []
    for phrase in phrases:
        text = words.of(phrase)
        own = replace(singer, spoken=phrase.role == "rap")
        _lay(lead, phrase.notes, text, own, rng)
        for index, notes in enumerate(phrase.harmonies):
            if index == len(harmonies):
                singers.append(_relative(singer, rng))
                harmonies.append(np.zeros(length, np.float32))
            _lay(harmonies[index], notes, text, singers[index], rng)
    return lead, harmonies


def _mix_voices(lead: np.ndarray, harmonies: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The lead in the middle, by chance doubled, the harmonies at its sides.

    Shape:
        `[L]` each -> `[2, L]`
    """
    mix = effects.pan(
        effects.compress(lead, rng.uniform(0.2, 0.6)), float(np.clip(rng.normal(0, 0.04), -0.2, 0.2))
    )
    if rng.random() < 0.45 and lead.any():
        mix = mix + _doubles(lead, rng)
    level = effects.rms(mix)
    side = float(rng.uniform(0.4, 0.9))
    for index, voice in enumerate(harmonies):
        position = side if index % 2 else -side
        mix = mix + _at_level(effects.pan(voice, position), level, rng.uniform(*HARMONY_DB))
    return mix


class _Words:
    """Deals syllables to phrases: the same words get the same syllables, new words the next ones."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self.utterances = utterances
        self.known: dict[int, Text] = {}
        self.utterance, self.syllable = 0, 0

    def of(self, phrase: Phrase) -> Text:
        """The syllables of a phrase, at most one a note."""
        if phrase.words in self.known:
            return self.known[phrase.words]
        utterance = self.utterances[self.utterance]
        taken = utterance.syllables[self.syllable : self.syllable + len(phrase.notes)]
        self.syllable += len(taken)
        if self.syllable >= len(utterance.syllables):
            self.utterance, self.syllable = (self.utterance + 1) % len(self.utterances), 0
        self.known[phrase.words] = Text(utterance, taken)
        return self.known[phrase.words]

    def vowel(self) -> Text:
        """The longest vowel, without consonants."""
        utterance, longest = max(
            ((each, syllable) for each in self.utterances for syllable in each.syllables),
            key=lambda pair: pair[1].coda - pair[1].vowel,
        )
        return Text(utterance, (Syllable(longest.vowel, longest.vowel, longest.coda, longest.coda),))


def _relative(singer: Singer, rng: np.random.Generator) -> Singer:
    """Another take of a singer, or a similar one."""
    return replace(
        singer,
        formant=float(np.clip(singer.formant * rng.uniform(0.95, 1.05), *FORMANTS)),
        breath=float(np.clip(singer.breath + rng.uniform(0, 0.3), 0, 1)),
        vibrato=(singer.vibrato[0] * float(rng.uniform(0.93, 1.07)), singer.vibrato[1] * 0.7),
    )


def _lay(
    out: np.ndarray, notes: Sequence[Note], text: Text, singer: Singer, rng: np.random.Generator
) -> None:
    """Add sung notes to a voice `[L]` in place, cut where they reach beyond it."""
    start, audio = sing(notes, text, singer, rng)
    first = round(start * SAMPLE_RATE)
    audio = audio[max(0, -first) :]
    part = out[max(0, first) : max(0, first) + audio.size]
    part += audio[: part.size]


def _at_level(audio: np.ndarray, level: float, gain_db: float) -> np.ndarray:
    """Audio whose RMS lies `gain_db` above a level; silence stays as it is."""
    own = effects.rms(audio)
    return audio * np.float32(level * 10 ** (gain_db / 20) / own) if own > 0 and level > 0 else audio


def _doubles(lead: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two more takes of the lead, left and right of it."""
    width, gain_db = float(rng.uniform(0.3, 1.0)), rng.uniform(*DOUBLE_DB)
    takes = [
        effects.pan(effects.double(lead, rng.uniform(0.012, 0.035), rng.uniform(4, 12), rng), position)
        for position in (-width, width)
    ]
    return _at_level(takes[0] + takes[1], effects.rms(lead), gain_db)


def _pads(
    phrases: Sequence[Phrase],
    words: _Words,
    singer: Singer,
    length: int,
    level: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Held vowels of other singers, wide and in a large room."""
    text = words.vowel()
    audio = np.zeros((2, length), np.float32)
    for index, phrase in enumerate(phrases):
        voice = np.zeros(length, np.float32)
        own = replace(_relative(singer, rng), breath=float(rng.uniform(0.5, 1.0)), spoken=False)
        _lay(voice, phrase.notes, text, own, rng)
        audio += effects.pan(voice, (-0.7, 0.1, 0.7)[index % 3])
    audio = effects.low_pass(effects.high_pass(audio, 150.0), rng.uniform(3000, 9000), 1)
    audio = effects.reverb(effects.widen(audio, 0.4, rng), rng.uniform(1.2, 3.0), rng.uniform(0.2, 0.6), rng)
    return _at_level(audio, level, rng.uniform(*PAD_DB)) if level > 0 else audio


def treat_vocals(audio: np.ndarray, tempo: float, rng: np.random.Generator) -> np.ndarray:
    """Filter, compress, drive and place vocals in a space, each by chance; some through a telephone.

    Args:
        audio: [2, L].
        tempo: of the echoes, in beats a minute.
        rng: decides everything.
    """
    audio = effects.high_pass(audio, rng.uniform(80, 120), 4)
    audio = effects.shelf(audio, 250.0, rng.uniform(-4, 2), high=False)
    audio = effects.shelf(audio, rng.uniform(2500, 5000), rng.uniform(0, 5), high=True)
    audio = effects.compress(audio, rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.25))
    if rng.random() < 0.4:
        audio = effects.saturate(audio, rng.uniform(-12, 6))
    if rng.random() < 0.07:
        audio = effects.telephone(audio, rng.uniform(0, 18))
    if rng.random() < 0.2:
        audio = effects.widen(audio, rng.uniform(0.1, 0.4), rng)
    if rng.random() < 0.35:
        beats = float(rng.choice((0.25, 0.5, 0.75, 1.0)))
        audio = effects.echo(audio, 60 / tempo * beats, rng.uniform(0.2, 0.5), rng.uniform(0.08, 0.35))
    room = rng.random()
    if room < 0.5:
        audio = effects.reverb(audio, rng.uniform(0.3, 1.0), rng.uniform(0.05, 0.2), rng)
    elif room < 0.85:
        audio = effects.reverb(audio, rng.uniform(1.0, 3.0), rng.uniform(0.05, 0.35), rng)
    return effects.high_pass(audio, 70.0)
