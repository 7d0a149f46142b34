"""Guitars of a game's songs become solos of `other`."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.data import found
from sepvae.data.corpora import SAMPLE_RATE, read_stems, scan
from sepvae.data.effects import active_rms_db, at_level
from sepvae.data.own_sets import prepare
from sepvae.errors import DataError


def test_guitars_become_solos_at_one_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for package, song, level in ((found.GUITARS[0], "a song", 0.003), (found.GUITARS[1], "b", 0.3)):
        path = tmp_path / "raw" / package / "songs" / song / "guitar.ogg"
        path.parent.mkdir(parents=True)
        soundfile.write(path, level * rng.standard_normal((22050, 2)), 22050)
        soundfile.write(path.with_name("song.ogg"), np.zeros((22050, 2)), 22050)
    prepare("music", tmp_path / "raw", tmp_path / "data", only=("guitars",))
    tracks = {track.name: track for track in scan(tmp_path / "data" / "train", ("vocals", "other"))}
    assert set(tracks) == {"guitar-a-song", "guitar-b"}
    for track in tracks.values():
        assert track.solo
        guitar = read_stems(track, SAMPLE_RATE)["other"]
        assert guitar.shape == (2, SAMPLE_RATE)
        assert active_rms_db(guitar) == pytest.approx(-18.0, abs=0.2)
    with pytest.raises(DataError, match=r"no guitar\.ogg"):
        found.guitar_items(tmp_path / "data")


def test_a_sound_is_brought_to_a_level_and_silence_stays(rng: np.random.Generator) -> None:
    audio = np.concatenate([0.01 * rng.standard_normal((2, 44100)), np.zeros((2, 44100))], axis=1)
    assert active_rms_db(at_level(audio, -20.0)) == pytest.approx(-20.0, abs=1e-4)
    assert not at_level(np.zeros((2, 44100), np.float32), -20.0).any()
