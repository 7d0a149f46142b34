"""Tiny datasets in the layouts of the real ones.

Beside each stands, in our own words, what its public documentation says, and what could not be checked because the
real files were not at hand. Every layout also gets what real ones contain: a mono file, a missing stem, stems of
different lengths, a silent stem, an odd rate.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

PITCHES = {
    "vocals": 700.0,
    "drums": 0.0,
    "bass": 90.0,
    "other": 330.0,
    "speech": 600.0,
    "noise": 0.0,
    "music": 400.0,
    "sfx": 0.0,
    "s1": 500.0,
    "s2": 900.0,
    "s3": 1300.0,
}


def wave(kind: str, rate: int, seconds: float, channels: int = 2, seed: int = 0) -> np.ndarray:
    """A tone of the kind's pitch, or noise where it has none: `[L, C]`."""
    length = round(rate * seconds)
    pitch = PITCHES.get(kind, 250.0 + 40 * (sum(map(ord, kind)) % 20))
    if pitch == 0:
        sound = 0.1 * np.random.default_rng([seed, *kind.encode()]).standard_normal(length)
    else:
        sound = 0.2 * np.sin(2 * np.pi * pitch * (1 + 0.02 * seed) * np.arange(length) / rate)
    return np.stack([sound, 0.8 * sound][:channels], 1)


def put(path: Path, audio: np.ndarray, rate: int, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)
    return path


def musdb18hq(root: Path) -> None:
    """The page on Zenodo and the package `musdb`: a zip of the folders `train` (100 songs) and `test` (50), a folder
    per song named "Artist - Title" with mixture.wav, vocals.wav, drums.wav, bass.wav and other.wav, stereo, 44.1 kHz,
    16 bit; 14 songs of `train`, listed in the package's mus.yaml, are what the field validates on.

    Not checked: whether the mixture is the sum of the stems to the last bit; odd characters in the names of songs.
    """
    songs = {
        "train": [
            "A Classic Education - NightOwl",
            "Actions - One Minute Smile",
            "Mono - Song",
            "Short - Bass",
        ],
        "test": ["Al James - Schoolboy Facination"],
    }
    for part, names in songs.items():
        for seed, name in enumerate(names):
            for source in ("vocals", "drums", "bass", "other"):
                seconds = 0.5 if (name, source) == ("Short - Bass", "bass") else 1.0
                channels = 1 if (name, source) == ("Mono - Song", "drums") else 2
                audio = wave(source, 44100, seconds, channels, seed)
                if (name, source) == ("Short - Bass", "vocals"):
                    audio[:] = 0
                put(root / part / name / f"{source}.wav", audio, 44100)
            put(root / part / name / "mixture.wav", wave("vocals", 44100, 1.0), 44100)
    (root / "train" / "Short - Bass" / "drums.wav").unlink()


def musdb18(root: Path) -> None:
    """The same songs as one file each, `<song>.stem.mp4` in Native Instruments' stems format: five AAC streams in the
    order mixture, drums, bass, other, vocals (the stem_ids of the package `musdb`), stereo, 44.1 kHz.

    Not checked: the delay that the encoder of the real files left at the start of each stream; it is the same for all
    five, so stems stay aligned with each other. The real files hold a cover picture as a sixth stream.
    """
    for part, name in (("train", "One - A"), ("train", "Meaxic - Take A Step"), ("test", "Two - B")):
        stem_mp4(root / part / f"{name}.stem.mp4")


def stem_mp4(path: Path, rate: int = 44100, seconds: float = 1.0) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = ("vocals", "drums", "bass", "other", "vocals")  # the first stands for the mixture
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=rate, layout="stereo") for _ in kinds]
        for stream, kind in zip(streams, kinds, strict=True):
            audio = np.ascontiguousarray(wave(kind, rate, seconds).T.astype(np.float32))
            frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
            frame.sample_rate = rate
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)


def moisesdb(root: Path) -> None:
    """The package `moisesdb`: `moisesdb_v0.1/<uuid>/data.json` lists, under "stems", each stem's "stemName" and its
    "tracks" with "id", "extension", "trackType" and "has_bleed"; the recordings are `<stemName>/<id>.<extension>`.
    Eleven names of stems; recordings of one stem may differ in length; 240 songs, no split.

    Not checked: whether other rates than 44.1 kHz occur (the package resamples as if they did), which of its songs
    hold files that data.json does not name, and the name of the folder that the current release unpacks to.
    """
    songs = {
        "0001": [("vocals", 1), ("drums", 2), ("bass", 1), ("guitar", 2), ("bowed_strings", 1)],
        "0002": [("vocals", 1), ("percussion", 1), ("piano", 1)],
        "0003": [("bass", 1), ("drums", 1), ("other", 1)],
    }
    for song, stems in songs.items():
        folder = root / "moisesdb_v0.1" / song
        listed = []
        for stem, count in stems:
            tracks = []
            for index in range(count):
                rate = 48000 if (song, stem) == ("0003", "bass") else 44100
                channels = 1 if stem == "vocals" else 2
                put(folder / stem / f"{stem}{index}.wav", wave(stem, rate, 1.0 - 0.3 * index, channels), rate)
                bleed = stem == "percussion"
                tracks.append(
                    {"id": f"{stem}{index}", "extension": "wav", "trackType": stem, "has_bleed": bleed}
                )
            listed.append({"id": stem, "stemName": stem, "tracks": tracks})
        about = {"song": song, "artist": "nobody", "genre": "none", "stems": listed}
        (folder / "data.json").write_text(json.dumps(about))
    (root / "moisesdb_v0.1" / "0002" / "piano" / "piano0.wav").unlink()


def slakh2100(root: Path) -> None:
    """The README of slakh-utils and the page on Zenodo: `{train,validation,test}/TrackXXXXX/` with metadata.yaml,
    mix.flac and stems/SXX.flac, mono, 44.1 kHz, 16 bit; the redux version adds a folder `omitted` of duplicates. Under
    "stems", metadata.yaml gives each SXX its inst_class, is_drum, program_num and audio_rendered; some rare
    instruments were not rendered and have no file.

    Not checked: the full list of inst_class values (the names of General MIDI's families are assumed, "Drums" and
    "Sound effects" among them), and that mix.flac holds nothing that the stems do not.
    """
    stems = {
        "S00": ("Guitar", False, True),
        "S01": ("Guitar", False, True),
        "S02": ("Bass", False, True),
        "S03": ("Drums", True, True),
        "S04": ("Piano", False, True),
        "S05": ("Organ", False, True),
        "S06": ("Sound effects", False, False),
    }
    for split, song in (
        ("train", "Track00001"),
        ("train", "Track00002"),
        ("validation", "Track01501"),
        ("test", "Track01876"),
        ("omitted", "Track00009"),
    ):
        folder = root / "slakh2100_flac_redux" / split / song
        lines = ["UUID: 1a81ae09", "audio_dir: stems", "overall_gain: 0.18", "stems:"]
        for name, (kind, drums, rendered) in stems.items():
            lines += [
                f"  {name}:",
                f"    audio_rendered: {str(rendered).lower()}",
                f"    inst_class: {kind}",
                f"    is_drum: {str(drums).lower()}",
                "    program_num: 1",
            ]
            if rendered:
                put(folder / "stems" / f"{name}.flac", wave(kind, 44100, 1.0, 1), 44100)
        (folder / "metadata.yaml").write_text("\n".join(lines) + "\n")
        put(folder / "mix.flac", wave("mix", 44100, 1.0, 1), 44100)
    (root / "slakh2100_flac_redux" / "train" / "Track00001" / "stems" / "S04.flac").unlink()


def dnr(root: Path) -> None:
    """The README of dnr-utils and the page on Zenodo: eleven pieces of one tar file; `dnr_v2/{tr,cv,tt}/<number>/` with
    mix.wav, speech.wav, music.wav, sfx.wav and annots.csv; mono, 44.1 kHz, one minute each; 3406, 487 and 973 of them.

    Not checked: the counts, and whether the folder that the archive unpacks to is called dnr_v2.
    """
    for part in ("tr", "cv", "tt"):
        for number in ("1002", "61"):
            folder = root / "dnr_v2" / part / number
            for kind in ("speech", "music", "sfx", "mix"):
                put(folder / f"{kind}.wav", wave(kind, 44100, 1.0, 1), 44100)
            (folder / "annots.csv").write_text("file,class\n")
    (root / "dnr_v2" / "tr" / "61" / "sfx.wav").unlink()


def voicebank(root: Path) -> None:
    """The page of Edinburgh DataShare and the many tools that read it: zip files that unpack to
    {clean,noisy}_{trainset_28spk,testset}_wav, files of the same name `<speaker>_<number>.wav` in the clean and the
    noisy folder; mono, 48 kHz, 11572 and 824 sentences; p226 and p287 are usually kept for validation.

    Not checked: that clean and noisy files are aligned to the sample, and how many pairs differ in length.
    """
    for part, names in (("trainset_28spk", ["p226_001", "p227_001", "p227_002"]), ("testset", ["p232_001"])):
        for seed, name in enumerate(names):
            clean, noise = wave("speech", 48000, 1.0, 1, seed), 0.3 * wave("noise", 48000, 1.0, 1, seed)
            put(
                root / f"clean_{part}_wav" / f"{name}.wav",
                clean[: 47000 if name == "p227_002" else None],
                48000,
            )
            put(root / f"noisy_{part}_wav" / f"{name}.wav", clean + noise, 48000)
    put(root / "noisy_trainset_28spk_wav" / "p227_009.wav", clean, 48000)


def librimix(root: Path) -> None:
    """The scripts of JorisCos/LibriMix: `Libri{2,3}Mix/wav{8k,16k}/{min,max}/{train-360,train-100,dev,test}/` with the
    folders s1, s2 (s3), noise, mix_clean, mix_both and mix_single, a file of the same name
    `<utterance>_<utterance>.wav` in each, mono; beside them `metadata/` with CSV files that repeat the
    paths. MiniLibriMix has `train` and `val`.

    Not checked: MiniLibriMix's folders (two descriptions differ; both are tried).
    """
    for speakers in (2, 3):
        for part in ("train-100", "dev", "test"):
            base = root / f"Libri{speakers}Mix" / "wav16k" / "min" / part
            for seed, name in enumerate(
                ("4077-13754-0001_5142-33396-0065", "61-70968-0000_8455-210777-0012")
            ):
                for kind in [*(f"s{i + 1}" for i in range(speakers)), "noise", "mix_both"]:
                    put(base / kind / f"{name}.wav", wave(kind, 16000, 1.0, 1, seed), 16000)
    (root / "Libri2Mix" / "wav16k" / "min" / "metadata").mkdir()


def fsdd(root: Path) -> None:
    """The README of Jakobovski/free-spoken-digit-dataset: `recordings/<digit>_<speaker>_<index>.wav`, mono, 8 kHz,
    trimmed; 6 speakers, 50 recordings of each digit; indices 0 to 4 are the test set.

    Checked against the real recordings, in FLAC.
    """
    for digit in range(10):
        for speaker in ("jackson", "theo"):
            for index in (0, 5, 12, 13):
                seconds = 1.3 if (digit, index) == (3, 12) else 0.4
                audio = wave(f"digit{digit}", 8000, seconds, 1, index)
                put(root / "recordings" / f"{digit}_{speaker}_{index}.wav", audio, 8000)


def speech_commands(root: Path) -> None:
    """The README in the archive: a folder per word with `<speaker hash>_nohash_<n>.wav`, mono, 16 kHz, about a second;
    `_background_noise_/`; validation_list.txt and testing_list.txt name the files of these splits, a speaker being in
    one of them only.

    Not checked: how many clips are silent or cut.
    """
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for word in ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "marvin"):
        for speaker, part in (("00b01445", ""), ("0a7c2a8d", "validation"), ("1c1060b1", "testing")):
            name = f"{word}/{speaker}_nohash_0.wav"
            put(root / "speech_commands_v0.02" / name, wave(word, 16000, 0.9, 1), 16000)
            if part:
                lists[part].append(name)
    for part, names in lists.items():
        (root / "speech_commands_v0.02" / f"{part}_list.txt").write_text("\n".join(names) + "\n")
    put(
        root / "speech_commands_v0.02" / "_background_noise_" / "pink.wav",
        wave("noise", 16000, 2.0, 1),
        16000,
    )


def stems(root: Path) -> None:
    """Own recordings: a folder per track, a file per source, any format, nothing promised."""
    for seed, track in enumerate(("first", "second", "third")):
        put(root / track / "flute.flac", wave("flute", 48000, 1.0, 1, seed), 48000)
        put(root / track / "keys.wav", wave("keys", 44100, 0.8, 2, seed), 44100)
    put(root / "third" / "mixture.wav", wave("flute", 44100, 1.0), 44100)
    (root / "third" / "notes.txt").write_text("not audio")
    (root / "first" / "keys.wav").unlink()


def solos(root: Path) -> None:
    """Own recordings that do not belong together: a folder per source with anything in it."""
    for seed in range(3):
        put(root / "flute" / "day one" / f"take{seed}.flac", wave("flute", 44100, 1.0, 1, seed), 44100)
        put(root / "drums" / f"take{seed}.wav", wave("drums", 44100, 1.0, 2, seed), 44100)
    put(root / "drums" / "take9.mp3", wave("drums", 44100, 1.0, 2, 9), 44100)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    write.__name__: write
    for write in (
        stems,
        solos,
        musdb18hq,
        musdb18,
        moisesdb,
        slakh2100,
        dnr,
        voicebank,
        librimix,
        fsdd,
        speech_commands,
    )
}


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Root folder of a tiny dataset by name, written once; not to be changed."""
    written: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp(name)
            LAYOUTS[name](written[name])
        return written[name]

    return root


@pytest.fixture
def write_layout(tmp_path: Path) -> Callable[[str], Path]:
    """The same in a folder of the test's own."""

    def write(name: str) -> Path:
        root = tmp_path / name
        LAYOUTS[name](root)
        return root

    return write
