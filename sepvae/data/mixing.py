"""Training mixtures on the fly: random songs, gains, tones and silences, always the sum of their sources."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sepvae.data.augment import (
    OFF,
    TONE_POINTS,
    ChannelSwap,
    Effects,
    Gain,
    Level,
    Polarity,
    Sometimes,
    Step,
    apply,
    change_speed,
    frames_for,
    stretch,
)
from sepvae.data.corpora import Track, read_audio, scan
from sepvae.data.values import check_number, check_range
from sepvae.errors import DataError, RecipeError

ACTIVE_RMS = 10 ** (-45 / 20)
ATTEMPTS = 4


@dataclass(frozen=True)
class MixingConfig:
    """How mixtures are drawn; every chance is in [0, 1].

    Args:
        length: samples of an excerpt, > 0.
        batch_size: excerpts per batch, > 0.
        aligned: chance that all sources come from one place of one song.
        silent: chance that a source is silent.
        solo: chance that one source sounds alone, as in an introduction.
        doubled: chance that a source which does not come from the mixture's song is two excerpts at once, such as two
            singers.
        lacking: chance that a source which an aligned song lacks stays silent, instead of coming from elsewhere.
        gain_sd_db: standard deviation of each source's gain.
        level_db: range of the gain of the whole mixture.
        speed: range of the factor by which pitch and tempo change together.
        speed_chance: chance that they change at all.
        tone_db: standard deviation of each source's random tone control.
        mono: chance that a batch is mono.
        groups: weight of the tracks whose name starts with a key; the key "" stands for all others.
        sounding: number of sources that sound in every mixture, drawn anew each time, instead of `silent`.
        effects: pitch, tempo, EQ, reverberation, codec and loudness, each with its chance; a mapping of their
            settings will do.
    """

    length: int = 253 * 1024
    batch_size: int = 4
    aligned: float = 0.35
    silent: float = 0.1
    solo: float = 0.0
    doubled: float = 0.0
    lacking: float = 0.7
    gain_sd_db: float = 4.0
    level_db: tuple[float, float] = (-14.0, 3.0)
    speed: tuple[float, float] = (0.88, 1.14)
    speed_chance: float = 0.4
    tone_db: float = 3.0
    mono: float = 0.5
    groups: Mapping[str, float] = field(default_factory=lambda: {"": 1.0})
    sounding: int | None = None
    effects: Effects = OFF

    def __post_init__(self) -> None:
        if not isinstance(self.effects, Effects):
            object.__setattr__(self, "effects", Effects.from_plain(self.effects))
        check_number("data.mixing.batch_size", self.batch_size, above=0, whole=True)
        for name in ("aligned", "silent", "solo", "doubled", "lacking", "speed_chance", "mono"):
            check_number(f"data.mixing.{name}", getattr(self, name), least=0, most=1)
        for name in ("gain_sd_db", "tone_db"):
            check_number(f"data.mixing.{name}", getattr(self, name), least=0)
        check_range("data.mixing.level_db", self.level_db)
        check_range("data.mixing.speed", self.speed, above=0)
        if not isinstance(self.groups, Mapping) or not all(isinstance(key, str) for key in self.groups):
            raise RecipeError(f"data.mixing.groups must map names to weights, found {self.groups!r}")
        for key, weight in self.groups.items():
            check_number(f"data.mixing.groups: the weight of {key!r}", weight, least=0)
        if self.sounding is not None:
            check_number("data.mixing.sounding", self.sounding, above=0, whole=True)


@dataclass
class Mixture:
    """A batch of sources; their mixture is their sum.

    Args:
        first_row: place of the first excerpt in the whole batch, of which this may be a share.
        order: which sources these are in every excerpt, if not all of them in their usual order.

    Shape: sources `[B, K, C, L]`, tone (factor on the amplitude at each of `TONE_POINTS`) `[B, K, points]`,
        order `[B, K]`.
    """

    sources: Tensor
    tone: Tensor
    first_row: int = 0
    order: Tensor | None = None

    def pin_memory(self) -> Mixture:
        """The same in page-locked memory, from which a GPU copies without a detour; a DataLoader asks for it."""
        return replace(self, sources=self.sources.pin_memory(), tone=self.tone.pin_memory())


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes takes, in one or more pieces.

    Args:
        rank: number of the process, in [0, world).
        world: processes, > 0.
        pieces: pieces that the process takes one after the other, > 0.
    """

    rank: int = 0
    world: int = 1
    pieces: int = 1

    def rows(self, batch_size: int, piece: int) -> range:
        """Rows of the whole batch that make up a piece; all pieces of all processes cover it once."""
        size = batch_size // (self.world * self.pieces)
        first = (piece * self.world + self.rank) * size
        return range(first, first + size)


WHOLE = Share()
"""All rows of every batch."""


@dataclass(frozen=True)
class Playback:
    """How an excerpt is played.

    Args:
        speed: factor on pitch and tempo together, > 0.
        tempo: factor on the tempo alone, > 0.
        semitones: of the pitch alone.
    """

    speed: float = 1.0
    tempo: float = 1.0
    semitones: float = 0.0

    @property
    def stretches(self) -> bool:
        """Whether the tempo or the pitch changes on its own."""
        return self.tempo != 1.0 or self.semitones != 0.0


class ExcerptStream(IterableDataset[Mixture]):
    """Endless stream of batches; batch `i` depends on the seed and `i` alone.

    So a resumed run sees what an uninterrupted one would have seen, whatever the number of workers.

    Args:
        root: dataset in the stems layout, scanned once.
        sources: names of the K sources.
        sample_rate: rate of all files, hertz.
        config: how to mix.
        seed: of all draws.

    Raises:
        DataError: a source has no track, or a file has another rate.
    """

    def __init__(
        self,
        root: str | Path,
        sources: Sequence[str],
        sample_rate: int,
        config: MixingConfig,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources, self.sample_rate, self.config = tuple(sources), sample_rate, config
        self.seed, self.start, self.share = seed, 0, WHOLE
        self.alone: tuple[Step, ...] = (ChannelSwap(), Gain(config.gain_sd_db), Polarity())
        self.in_song: tuple[Step, ...] = (Gain(config.gain_sd_db / 2), Polarity())
        self.mixed: tuple[Step, ...] = (Level(config.level_db),)
        track_set = scan(root, sources)
        wrong = [track.name for track in track_set if track.sample_rate != sample_rate]
        if wrong:
            raise DataError(f"training needs files at {sample_rate} Hz, {wrong[0]} has another rate")
        self.pools = {source: self._pool(track_set.with_source(source)) for source in self.sources}
        empty = [source for source, pool in self.pools.items() if not pool]
        if empty:
            raise DataError(f"no track under {track_set.root} has the source {empty[0]!r}")
        self.songs = self._pool(track_set.songs)

    def _pool(self, tracks: Sequence[Track]) -> list[tuple[float, list[Track]]]:
        """Tracks by group, with the chance of each group."""
        groups: dict[str, list[Track]] = {}
        keys = sorted(self.config.groups, key=len, reverse=True)
        for track in tracks:
            key = next((k for k in keys if track.name.startswith(k)), None)
            if key is not None and self.config.groups[key] > 0:
                groups.setdefault(key, []).append(track)
        total = sum(self.config.groups[key] for key in groups)
        return [(self.config.groups[key] / total, members) for key, members in sorted(groups.items())]

    def part(self, start: int, share: Share = WHOLE) -> ExcerptStream:
        """The same stream from batch `start` on, or a share of it; the folder is not scanned again.

        Args:
            start: index of the first batch.
            share: the rows to draw of each batch; `batch_size` is a multiple of its processes times its pieces.
        """
        stream = copy(self)
        stream.start, stream.share = start, share
        return stream

    def __iter__(self) -> Iterator[Mixture]:
        worker = get_worker_info()
        step = worker.num_workers if worker else 1
        item = self.start * self.share.pieces + (worker.id if worker else 0)
        while True:
            index, piece = divmod(item, self.share.pieces)
            yield self.batch(index, self.share.rows(self.config.batch_size, piece))
            item += step

    def batch(self, index: int, rows: range | None = None) -> Mixture:
        """Batch number `index` of the stream, or some consecutive rows of it; a row does not depend on the others."""
        rows = range(self.config.batch_size) if rows is None else rows
        # Four numbers: [seed, index] would be the key of row 0, to which numpy adds zeros.
        mono = np.random.default_rng([self.seed, index, 0, 2]).random() < self.config.mono
        excerpts = []
        tones = []
        for row in rows:
            rng = np.random.default_rng([self.seed, index, row])
            effects = np.random.default_rng([self.seed, index, row, 1])
            sources = self._excerpt(rng, effects)  # [K, 2, L]
            excerpts.append(sources.mean(1, keepdims=True) if mono else sources)
            decibels = rng.normal(0, self.config.tone_db, (len(self.sources), len(TONE_POINTS)))
            tones.append(10 ** (decibels / 20))
        return Mixture(
            torch.from_numpy(np.stack(excerpts)),
            torch.from_numpy(np.stack(tones).astype(np.float32)),
            rows.start,
        )

    def _excerpt(self, rng: np.random.Generator, effects: np.random.Generator) -> np.ndarray:
        """Sources of one mixture, [K, 2, L]; effects have a generator of their own, so they change no other draw."""
        config = self.config
        out = np.zeros((len(self.sources), 2, config.length), np.float32)
        song = self._draw(rng, self.songs) if self.songs and rng.random() < config.aligned else None
        playback = self._playback(rng, effects)
        place = rng.random()
        silent = self._silent(rng, song)
        for k, source in enumerate(self.sources):
            if silent[k]:
                continue
            if song is not None and source in song.files:
                audio, steps = self._read(song, source, place, playback), self.in_song
            else:
                audio, steps = self._active(rng, source, self._playback(rng, effects)), self.alone
                if config.doubled and rng.random() < config.doubled:
                    other = self._active(rng, source, self._playback(rng, effects))
                    audio = (audio + apply(steps, other, self.sample_rate, rng)) / math.sqrt(2)
            audio = apply(config.effects.steps, audio, self.sample_rate, effects)
            out[k] = apply(steps, audio, self.sample_rate, rng)
        if rng.random() < 0.5:
            out = out[:, ::-1]
        return np.ascontiguousarray(apply(self.mixed, out, self.sample_rate, rng))

    def _silent(self, rng: np.random.Generator, song: Track | None) -> np.ndarray:
        """Which sources are silent, `[K]`; never all of them."""
        config, count = self.config, len(self.sources)
        silent = rng.random(count) < config.silent
        if song is not None:
            lacking = np.array([source not in song.files for source in self.sources])
            silent |= lacking & (rng.random(count) < config.lacking)
        if config.solo and rng.random() < config.solo:
            members = [k for k, source in enumerate(self.sources) if song is None or source in song.files]
            silent = np.arange(count) != rng.choice(members)
        if config.sounding is not None:
            silent = ~np.isin(np.arange(count), rng.permutation(count)[: config.sounding])
        if silent.all():
            silent[rng.integers(count)] = False
        return silent

    def _active(self, rng: np.random.Generator, source: str, playback: Playback) -> np.ndarray:
        """An excerpt of a random track with this source; a silent one is drawn anew, `ATTEMPTS` draws at most."""
        for _ in range(ATTEMPTS):
            audio = self._read(self._draw(rng, self.pools[source]), source, rng.random(), playback)
            if np.sqrt(np.mean(audio**2)) > ACTIVE_RMS:
                break
        return audio

    def _draw(self, rng: np.random.Generator, pool: list[tuple[float, list[Track]]]) -> Track:
        members = pool[rng.choice(len(pool), p=[chance for chance, _ in pool])][1]
        return members[rng.integers(len(members))]

    def _playback(self, rng: np.random.Generator, effects: np.random.Generator) -> Playback:
        config = self.config
        speed = Sometimes(config.speed_chance, config.speed).draw(rng)
        if not config.effects.any:
            return Playback(speed)
        return Playback(speed, config.effects.tempo.draw(effects), config.effects.pitch.draw(effects))

    def _read(self, track: Track, source: str, place: float, playback: Playback) -> np.ndarray:
        """Excerpt [2, L] from `place` in [0, 1] of a track, its speed, tempo and pitch changed."""
        length, rate = self.config.length, self.sample_rate
        at_tempo = frames_for(length, playback.tempo) if playback.stretches else length
        frames = frames_for(at_tempo, playback.speed)
        start = int(place * max(track.frames - frames, 0))
        audio, _ = read_audio(track.files[source], start=start, frames=frames)
        audio = change_speed(audio, playback.speed, rate, at_tempo)
        return stretch(audio, rate, length, tempo=playback.tempo, semitones=playback.semitones)
