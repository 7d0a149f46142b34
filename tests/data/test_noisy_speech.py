"""The speech set keeps speakers and sounds apart, and its mixtures have the SNR that their name says."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.data import noisy_speech
from sepvae.data.corpora import read_info, read_stems, scan
from sepvae.data.noisy_speech import SAMPLE_RATE, SNRS_DB
from sepvae.data.own_sets import prepare
from sepvae.errors import DataError

pytest.importorskip("pyroomacoustics")
VOCALS_HZ, BASS_HZ = 1000, 200


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short noise bursts in the folders of the raw material."""
    root = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    opus = {"format": "OGG", "subtype": "OPUS"}
    names = [
        f"librispeech/{speaker}/{i}.opus" for speaker in ("4088", "5652", "4406", "8226") for i in range(4)
    ]
    names += [
        f"olpc-noise/train/{sound}{i}.opus" for sound in ("rain", "drill", "dog", "car") for i in (1, 2)
    ]
    names += [f"olpc-noise/test/{sound}.opus" for sound in ("boat", "tap")]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, 0.1 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE, **opus)
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for song in ("hydrogen", "lithium", "potassium", "caesium", "francium", "sodium", "rubidium"):
        (root / "everything-is-free" / song).mkdir(parents=True)
        for stem, hertz in (("vocals", VOCALS_HZ), ("drums", 3000), ("bass", BASS_HZ)):
            tone = 0.1 * np.sin(2 * np.pi * hertz * time)
            soundfile.write(root / "everything-is-free" / song / f"{stem}.opus", tone, SAMPLE_RATE, **opus)
    (root / "demo").mkdir()
    for instrument, hertz in (("drums", 5000), ("clav", 2000)):
        tone = 0.1 * np.sin(2 * np.pi * hertz * time)
        soundfile.write(root / "demo" / f"{instrument}.mp3", tone, SAMPLE_RATE, format="MP3")
    (root / "fsdd").mkdir()
    for speaker in ("george", "nicolas", "theo"):
        soundfile.write(root / "fsdd" / f"3_{speaker}_0.flac", 0.1 * rng.standard_normal(4000), 8000)
    return root


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speech")
    prepare("speech", raw, out, only=("mixtures", "speech"))
    return out


def test_a_mixture_has_the_snr_of_its_name(built: Path) -> None:
    for track in scan(built / "test", ("speech", "noise")):
        stems = read_stems(track, SAMPLE_RATE)
        snr_db = 10 * np.log10(np.mean(stems["speech"] ** 2) / np.mean(stems["noise"] ** 2))
        assert snr_db == pytest.approx(read_info(track.folder)["snr_db"], abs=0.1)
        assert not track.solo


def test_every_snr_occurs_equally_often_with_and_without_a_room(built: Path) -> None:
    infos = [read_info(track.folder) for track in scan(built / "test", ("speech", "noise"))]
    for snr_db in SNRS_DB:
        rooms = [info["room"] for info in infos if info["snr_db"] == snr_db]
        assert sorted(rooms) == [False] * 3 + [True] * 3


def test_validation_sounds_are_not_in_training(raw: Path) -> None:
    training, validation = noisy_speech.training_noise(raw, 0), noisy_speech.validation_noise(raw, 0)
    assert training
    assert validation
    assert {path.stem[:-1] for path in training}.isdisjoint(path.stem[:-1] for path in validation)


def test_digits_of_the_validation_speakers_are_not_in_the_test(raw: Path) -> None:
    speakers = [
        {path.stem.split("_")[1] for path in noisy_speech.digits(raw, flag)} for flag in (True, False)
    ]
    assert speakers == [{"george", "nicolas"}, {"theo"}]


def test_the_manifest_credits_what_was_used(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["dataset"] == "speech"
    assert manifest["sample_rate"] == SAMPLE_RATE
    assert set(manifest["corpora"]) == {"speech", "noise", "digits", "album", "demo"}
    assert set(manifest["splits"]) == {"train", "valid", "valid-music", "test", "test-digits", "test-music"}


def test_music_behind_a_voice_is_not_sung(raw: Path) -> None:
    audio = noisy_speech.mono(raw / "everything-is-free" / "sodium")
    spectrum = np.abs(np.fft.rfft(audio)) / audio.size * 2  # amplitude in bins of one hertz
    assert spectrum[BASS_HZ] == pytest.approx(0.1, rel=0.1)
    assert spectrum[VOCALS_HZ] < 0.01


def test_songs_of_validation_and_test_are_no_training_noise(raw: Path) -> None:
    names = {item.name for item in noisy_speech.noise_items(raw, 0)}
    songs = {name.removeprefix("noise-music-") for name in names if name.startswith("noise-music-")}
    assert songs == {"hydrogen", "lithium", "potassium", "caesium", "francium"}


def test_soundtracks_are_noise_without_songs_that_are_sung_and_of_long_ones_the_middle(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    for name, seconds in (("battle", 120), ("tux_rap", 120), ("jingle", 2)):
        path = tmp_path / "supertux-data" / "usr" / f"{name}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio = 0.1 * rng.standard_normal(seconds * SAMPLE_RATE)
        soundfile.write(path, audio, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    prepare("speech", tmp_path, tmp_path / "out", only=("soundtracks",))
    (track,) = scan(tmp_path / "out" / "train", ("speech", "noise"))
    assert track.solo
    assert track.name.startswith("noise-music-supertux-data")
    assert track.frames == noisy_speech.SOUNDTRACK_S * SAMPLE_RATE
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest["corpora"]) == {"supertux-data"}
    with pytest.raises(DataError, match="no music of"):
        prepare("speech", tmp_path / "out", tmp_path / "none", only=("soundtracks",))


def test_mixtures_with_music_begin_anywhere_in_the_song(raw: Path, tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.mkdir()
    ramp = np.linspace(0.1, 0.9, 60 * SAMPLE_RATE)
    soundfile.write(song / "other.flac", ramp, SAMPLE_RATE)
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(3):
        audio = noisy_speech._filled([song], 20 * SAMPLE_RATE, rng, pause_s=0.0)
        assert audio.size == 20 * SAMPLE_RATE
        middle, late = audio[10 * SAMPLE_RATE], audio[15 * SAMPLE_RATE]
        starts.append(middle / late)  # nearer to one, the later it begins
    assert np.ptp(starts) > 0.05


def test_a_folder_of_another_set_is_refused(raw: Path, built: Path) -> None:
    with pytest.raises(DataError, match="was made with dataset speech, not music"):
        prepare("music", raw, built, only=("speech",))
