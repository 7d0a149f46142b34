"""The speech set: clean and reverberant speech, recorded and generated noise, and test mixtures at fixed SNRs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sepvae.data import effects
from sepvae.data.acoustics import coloured_noise, hum, in_room, room
from sepvae.data.corpora import EXTENSIONS, read_audio, resample, write_track
from sepvae.data.items import Item, raw_files, rng_for
from sepvae.data.music import ALBUM_SPLITS, SPEAKERS
from sepvae.data.voices import (
    HELD_OUT_SOUNDS,
    HELD_OUT_VOICES,
    SOUNDS,
    VOICES,
    sounds_under,
    voices_under,
)
from sepvae.errors import DataError

SAMPLE_RATE = 16000
SNRS_DB = (-5, 0, 5, 10, 15)
TEST_S = 20.0
TRACK_S = 300.0
GENERATED_S = 1500.0
SPEECH_DB = -24.0
NOISE_DB = -28.0
NARROW_HZ = 8000
"""Sampling rate through which some of the training speech goes, as over a telephone."""
TEST_SPEAKER = "8226"
VALID_DIGIT_SPEAKERS = ("george", "nicolas")
VALID_NOISE_SHARE = 0.06
VARIATIONS = ("dry", "room", "room")
SOUNDTRACKS = (
    "wesnoth-1.16-music",
    "singularity-music",
    "supertux-data",
    "ardentryst",
    "hyperrogue-music",
    "supertuxkart-data",
    "widelands-data",
)
"""Packages of games whose music is taken to be without singing; not all of it was listened to."""
SUNG = ("tux_rap", "voc-daytime", "voc-daytime2", "voc-night")
"""Files of theirs that are left out, since their names speak of voices."""
SOUNDTRACK_BYTES = 500_000
"""Shorter files are jingles and effects."""
SOUNDTRACK_S = 100.0
FILES_PER_VOICE_TRACK, FILES_PER_SOUND_TRACK = 90, 60
SOUND_S = 20.0
"""Of a longer noise the middle is taken."""


@dataclass(frozen=True)
class MixturePlan:
    """A set of mixtures at fixed SNRs.

    Args:
        split: the set.
        speech: files to draw the voices from.
        noises: files, or folders of a song's stems, to draw the noise from.
        corpora: keys in `CORPORA` of both.
        count: mixtures at each of `SNRS_DB`.
    """

    split: str
    speech: Sequence[Path]
    noises: Sequence[Path]
    corpora: tuple[str, ...]
    count: int


def speech_items(root: Path, seed: int) -> list[Item]:
    """Utterances of the training speakers as long solo tracks: as they are, and twice in simulated rooms."""
    items = []
    for speaker in SPEAKERS:
        files = raw_files(root, "speech", f"{speaker}/*.opus")
        for index, part in enumerate(_parts(files, 4)):
            for variation, kind in enumerate(VARIATIONS):
                name = f"speech-{speaker}-{index:02d}-{variation}"
                make = partial(make_speech, part, kind, partial(rng_for, seed, name), "speech")
                items.append(Item("train", name, ("speech",), make))
    return items


def noise_items(root: Path, seed: int) -> list[Item]:
    """Noise for training in long solo tracks: recorded, less the sound groups of the validation set, and generated.

    Music behind a voice is noise too: the training songs of the album without their singing.
    """
    files = training_noise(root, seed)
    items = [
        Item(
            "train",
            f"noise-recorded-{index:02d}",
            ("noise",),
            partial(make_noise, part, partial(rng_for, seed, "noise", str(index)), "noise", None),
        )
        for index, part in enumerate(_parts(files, max(1, round(len(files) / 60))))
    ]
    for index in range(round(GENERATED_S / TRACK_S)):
        name = f"noise-generated-{index:02d}"
        make = partial(make_generated_noise, partial(rng_for, seed, name))
        items.append(Item("train", name, ("generated-noise",), make))
    for song in ALBUM_SPLITS["train"]:
        name = f"noise-music-{song}"
        make = partial(make_noise, [_song(root, song)], partial(rng_for, seed, name), "album", None)
        items.append(Item("train", name, ("album",), make))
    return items


def soundtrack_items(root: Path, seed: int) -> list[Item]:
    """Music without singing as noise for training: the `.ogg` files under one folder per package of `SOUNDTRACKS`.

    Raises:
        DataError: there is none.
    """
    items = []
    for package in SOUNDTRACKS:
        files = sorted(
            path
            for path in (root / package).rglob("*.ogg")
            if path.stat().st_size >= SOUNDTRACK_BYTES and path.stem not in SUNG
        )
        for index, part in enumerate(_parts(files, max(1, -(-len(files) // 4)))):
            name = f"noise-music-{package}-{index:02d}"
            make = partial(make_noise, part, partial(rng_for, seed, name), package, SOUNDTRACK_S)
            items.append(Item("train", name, (package,), make))
    if not items:
        raise DataError(f"no music of {', '.join(SOUNDTRACKS)} under {root}")
    return items


def package_items(root: Path, seed: int) -> list[Item]:
    """Voices and noises of free programs: solo tracks for training, and mixtures of held-out ones for validation.

    Raises:
        DataError: the packages with the voices or with the noises are missing.
    """
    items = []
    for voice, files in voices_under(root, VOICES).items():
        for index, part in enumerate(_parts(files, -(-len(files) // FILES_PER_VOICE_TRACK))):
            for kind in ("dry", "room"):
                name = f"voice-{voice.name}-{index:02d}-{kind}"
                make = partial(make_speech, part, kind, partial(rng_for, seed, name), voice.package)
                items.append(Item("train", name, (voice.package,), make))
    for sounds, files in sounds_under(root, SOUNDS).items():
        for index, part in enumerate(_parts(files, -(-len(files) // FILES_PER_SOUND_TRACK))):
            name = f"noise-sounds-{sounds.package}-{index:02d}"
            make = partial(make_noise, part, partial(rng_for, seed, name), sounds.package, SOUND_S)
            items.append(Item("train", name, (sounds.package,), make))
    voices, noises = voices_under(root, HELD_OUT_VOICES), sounds_under(root, HELD_OUT_SOUNDS)
    plan = MixturePlan(
        "valid-voices",
        [path for files in voices.values() for path in files],
        [path for files in noises.values() for path in files],
        (*(voice.package for voice in voices), *(sounds.package for sounds in noises)),
        3,
    )
    return items + _mixtures([plan], seed)


def mixture_items(root: Path, seed: int) -> list[Item]:
    """Mixtures at fixed SNRs: a speaker, sounds and songs that training never hears, and spoken digits likewise."""
    noises = raw_files(root, "noise", "test/*.opus")
    voices = raw_files(root, "speech", f"{TEST_SPEAKER}/*.opus")
    held_out_songs = [_song(root, song) for song in ALBUM_SPLITS["valid"]]
    foreign = raw_files(root, "demo", "*.mp3")[0].parent
    songs = [*(_song(root, song) for song in ALBUM_SPLITS["test-album"]), foreign]
    plans = [
        MixturePlan("valid", digits(root, True), validation_noise(root, seed), ("digits", "noise"), 2),
        MixturePlan("valid-music", digits(root, True), held_out_songs, ("digits", "album"), 2),
        MixturePlan("test", voices, noises, ("speech", "noise"), 6),
        MixturePlan("test-digits", digits(root, False), noises, ("digits", "noise"), 6),
        MixturePlan("test-music", voices, songs, ("speech", "album", "demo"), 6),
    ]
    return _mixtures(plans, seed)


def _mixtures(plans: Sequence[MixturePlan], seed: int) -> list[Item]:
    """Every plan's mixtures, at all SNRs, every other one in a room."""
    items = []
    for plan in plans:
        for snr_db in SNRS_DB:
            for index in range(plan.count):
                name = f"snr{snr_db:+03d}-{index}"
                rng_of = partial(rng_for, seed, plan.split, name)
                make = partial(
                    make_mixture, plan.speech, plan.noises, snr_db, index % 2 == 1, plan.corpora, rng_of
                )
                items.append(Item(plan.split, name, plan.corpora, make))
    return items


def _song(root: Path, song: str) -> Path:
    """Folder of one of the album's songs."""
    return raw_files(root, "album", f"{song}/*.opus")[0].parent


def _parts(files: Sequence[Path], count: int) -> list[list[Path]]:
    return [[files[i] for i in part] for part in np.array_split(np.arange(len(files)), count) if part.size]


def digits(root: Path, validation: bool) -> list[Path]:
    """Spoken digits of the validation speakers, or of the others."""
    files = raw_files(root, "digits", "*.flac")
    return [path for path in files if (path.stem.split("_")[1] in VALID_DIGIT_SPEAKERS) == validation]


def noise_groups(root: Path) -> dict[str, list[Path]]:
    """The training recordings by sound: files that differ only in their number belong together."""
    groups: dict[str, list[Path]] = {}
    for path in raw_files(root, "noise", "train/*.opus"):
        groups.setdefault(re.sub(r"[_\d]+$", "", path.stem).lower(), []).append(path)
    return groups


def _validation_groups(root: Path, seed: int) -> set[str]:
    names = sorted(noise_groups(root))
    chosen = rng_for(seed, "validation noise").permutation(len(names))
    return {names[i] for i in chosen[: max(1, round(VALID_NOISE_SHARE * len(names)))]}


def validation_noise(root: Path, seed: int) -> list[Path]:
    """Recordings of the sound groups that are held out of training."""
    held_out = _validation_groups(root, seed)
    return [path for name, paths in noise_groups(root).items() if name in held_out for path in paths]


def training_noise(root: Path, seed: int) -> list[Path]:
    """Recordings of all other sound groups."""
    held_out = _validation_groups(root, seed)
    return [path for name, paths in noise_groups(root).items() if name not in held_out for path in paths]


def mono(path: Path) -> np.ndarray:
    """A file, or the accompaniment in a song's folder of stems, as mono at the set's rate.

    Shape: `[L]`.
    """
    if path.is_dir():
        stems = [mono(file) for file in sorted(path.iterdir()) if _is_instrument(file)]
        length = max(audio.size for audio in stems)
        return np.sum([np.pad(audio, (0, length - audio.size)) for audio in stems], axis=0)
    audio, rate = read_audio(path)
    return resample(audio.mean(axis=0, keepdims=True), rate, SAMPLE_RATE)[0]


def _is_instrument(file: Path) -> bool:
    return file.suffix in EXTENSIONS and file.stem != "vocals"


def at_level(audio: np.ndarray, level_db: float) -> np.ndarray:
    """Bring the RMS of the active part of a sound `[L]` to a level in dBFS; silence stays."""
    return effects.at_level(audio[None], level_db, SAMPLE_RATE // 10)[0]


def fade(audio: np.ndarray, seconds: float = 0.02) -> np.ndarray:
    """Ramp both ends so that joined recordings do not click: `[L]` -> `[L]`."""
    count = min(int(seconds * SAMPLE_RATE), audio.size // 2)
    ramp = np.linspace(0, 1, count, dtype=np.float32)
    out = audio.copy()
    out[:count] *= ramp
    out[audio.size - count :] *= ramp[::-1]
    return out


def make_speech(
    files: Sequence[Path], kind: str, rng_of: Callable[[], np.random.Generator], corpus: str, folder: Path
) -> None:
    """Join utterances with short pauses; in a room, every utterance has its own, and one in six is narrow-band."""
    rng = rng_of()
    pieces = []
    for path in files:
        audio = mono(path)
        if kind == "room":
            audio = np.pad(audio, (0, SAMPLE_RATE // 4))
            audio = in_room(audio, room(SAMPLE_RATE, rng))
            if rng.random() < 1 / 6:
                narrow = resample(resample(audio[None], SAMPLE_RATE, NARROW_HZ), NARROW_HZ, SAMPLE_RATE)[0]
                audio = np.pad(narrow, (0, max(0, audio.size - narrow.size)))[: audio.size]
        pieces.append(at_level(audio, SPEECH_DB + rng.normal(0, 2)))
        pieces.append(np.zeros(int(rng.uniform(0.1, 0.8) * SAMPLE_RATE), np.float32))
    _write(folder, {"speech": np.concatenate(pieces)}, (corpus,), solo=True)


def make_noise(
    files: Sequence[Path],
    rng_of: Callable[[], np.random.Generator],
    corpus: str,
    longest_s: float | None,
    folder: Path,
) -> None:
    """Join recordings, of long ones the middle, each at nearly the same level; short ones are repeated."""
    rng = rng_of()
    pieces = []
    for path in files:
        audio = mono(path)
        if longest_s is not None:
            start = max(0, audio.size - round(longest_s * SAMPLE_RATE)) // 2
            audio = audio[start : start + round(longest_s * SAMPLE_RATE)]
        audio = at_level(audio, NOISE_DB + rng.normal(0, 3))
        repeats = int(np.clip(6 * SAMPLE_RATE / max(audio.size, 1), 1, 4))
        pieces += [fade(audio)] * repeats
    _write(folder, {"noise": np.concatenate(pieces)}, (corpus,), solo=True)


def make_generated_noise(rng_of: Callable[[], np.random.Generator], folder: Path) -> None:
    """Steady noises that the recordings lack: hiss, rumble and fans of any tone, and mains hum with its harmonics."""
    rng = rng_of()
    pieces: list[np.ndarray] = []
    while sum(piece.size for piece in pieces) < TRACK_S * SAMPLE_RATE:
        count = int(rng.uniform(8, 20) * SAMPLE_RATE)
        audio = coloured_noise(count, SAMPLE_RATE, rng)
        if rng.random() < 0.4:
            audio = audio * 10 ** (rng.uniform(-30, 0) / 20) + hum(count, SAMPLE_RATE, rng)
        if rng.random() < 0.4:
            speed_hz, depth = rng.uniform(0.1, 8), rng.uniform(0.1, 0.9)
            audio = audio * (1 + depth * np.sin(2 * np.pi * speed_hz * np.arange(count) / SAMPLE_RATE))
        pieces.append(fade(at_level(audio.astype(np.float32), NOISE_DB + rng.normal(0, 3))))
    _write(folder, {"noise": np.concatenate(pieces)}, ("generated-noise",), solo=True)


def make_mixture(
    speech: Sequence[Path],
    noises: Sequence[Path],
    snr_db: float,
    reverberant: bool,
    corpora: tuple[str, ...],
    rng_of: Callable[[], np.random.Generator],
    folder: Path,
) -> None:
    """Twenty seconds of speech with short pauses, in a room or not, and noise at an SNR over the whole of it."""
    rng = rng_of()
    count = int(TEST_S * SAMPLE_RATE)
    voice = _filled(speech, count, rng, pause_s=0.3)
    if reverberant:
        voice = in_room(voice, room(SAMPLE_RATE, rng))
    noise = _filled(noises, count, rng, pause_s=0.0)
    voice = at_level(voice, SPEECH_DB)
    noise *= np.float32(np.sqrt(np.mean(voice**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20))
    _write(folder, {"speech": voice, "noise": noise}, corpora, solo=False, snr_db=snr_db, room=reverberant)


def _filled(files: Sequence[Path], count: int, rng: np.random.Generator, pause_s: float) -> np.ndarray:
    """Random files, each at the same level, joined until there are `count` samples; of songs, any part."""
    pieces: list[np.ndarray] = []
    while sum(piece.size for piece in pieces) < count:
        path = files[int(rng.integers(len(files)))]
        audio = mono(path)
        if path.is_dir():
            first = int(rng.integers(max(1, audio.size - count)))
            audio = audio[first : first + count]
        pieces.append(fade(at_level(audio, SPEECH_DB)))
        pieces.append(np.zeros(int(rng.uniform(0, 2) * pause_s * SAMPLE_RATE), np.float32))
    return np.concatenate(pieces)[:count]


def _write(folder: Path, stems: dict[str, np.ndarray], corpora: tuple[str, ...], **info: object) -> None:
    stereo = {name: np.stack([audio, audio]) for name, audio in stems.items()}
    write_track(folder, stereo, SAMPLE_RATE, {**info, "corpora": list(corpora)})
