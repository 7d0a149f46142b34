"""Tracker modules: their sources add up to the whole, instruments are told by name and by sound."""

import ctypes.util
import struct
from pathlib import Path

import numpy as np
import pytest

from sepvae.data import found, tracker
from sepvae.data.corpora import read_stems, scan
from sepvae.data.own_sets import prepare
from sepvae.errors import DataError

SOURCES = ("vocals", "drums", "bass", "other")
PERIOD = 428  # Amiga's C-2, middle C


def module_of(names: list[str], samples: list[np.ndarray], rows: list[list[int]]) -> bytes:
    """A ProTracker module of one pattern: row -> the sample that each of four channels strikes, 0 for none."""
    header = b"song".ljust(20, b"\0")
    for index in range(31):
        length = len(samples[index]) if index < len(samples) else 0
        name = names[index] if index < len(names) else ""
        header += name.encode().ljust(22, b"\0") + struct.pack(">HBBHH", length // 2, 0, 64, 0, 1)
    header += bytes([4, 127]) + bytes(128) + b"M.K."
    pattern = b""
    for row in range(64):
        for sample in rows[row % len(rows)]:
            period = PERIOD if sample else 0
            pattern += struct.pack(">HBB", sample & 0xF0 << 8 | period, (sample & 15) << 4, 0)
    return header + pattern + b"".join(sample.astype(np.int8).tobytes() for sample in samples)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    if ctypes.util.find_library("openmpt") is None:
        pytest.skip("needs libopenmpt")
    time = np.arange(8000)
    burst = 100 * np.random.default_rng(0).uniform(-1, 1, 2000) * np.exp(-time[:2000] / 400)
    hum = 80 * np.sign(np.sin(2 * np.pi * time / 120))
    tone = 60 * np.sin(2 * np.pi * time / 16)
    data = module_of(
        ["snare", "bass", "flute"], [burst, hum, tone], [[1, 2, 3, 0], [0] * 4, [1, 0, 0, 0], [0] * 4]
    )
    path = tmp_path / "modules" / "vodovod" / "song.mod"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_sources_add_up_to_the_module(module: Path) -> None:
    song = tracker.Module(module)
    assert song.names[:4] == ["snare", "bass", "flute", ""]
    assert song.sources() == {"drums": {0}, "bass": {1}, "other": {2}}
    assert [len(notes) for notes in song.notes()[:4]] == [128, 64, 64, 0]
    whole = song.play({0, 1, 2}, 0.0, 3.0)
    parts = [song.play({index}, 0.0, 3.0) for index in range(3)]
    assert whole.shape == (2, 3 * tracker.SAMPLE_RATE)
    assert min(np.abs(part).max() for part in parts) > 0.01
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, atol=1e-4)
    assert not song.play(set(), 0.0, 1.0).any()


def test_a_module_becomes_a_track(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "SECONDS", 10.0)
    (module.parent / "go.mod").write_text("module example.org/nothing\n")
    prepare("music", module.parents[1], tmp_path / "data", only=("modules",))
    (track,) = scan(tmp_path / "data" / "train", SOURCES)
    assert track.name == "tracker-vodovod-song"
    stems = read_stems(track, tracker.SAMPLE_RATE)
    assert set(stems) == {"drums", "bass", "other"}
    assert {audio.shape[1] for audio in stems.values()} == {10 * tracker.SAMPLE_RATE}
    mixture = np.sum(list(stems.values()), axis=0)
    assert 0.05 < np.sqrt(np.mean(mixture**2)) < 0.2
    assert np.abs(mixture).max() <= 0.96
    prepare("music", module.parents[1], tmp_path / "again", only=("modules",))
    for file in sorted((tmp_path / "data" / "train").rglob("*.wav")):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "data")).read_bytes()


def test_a_missing_player_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    tracker.load_library.cache_clear()
    (tmp_path / "vodovod").mkdir()
    (tmp_path / "vodovod" / "song.mod").write_bytes(b"M.K.")
    with pytest.raises(DataError, match="Debian package libopenmpt0"):
        found.module_items(tmp_path)


def test_what_is_no_module_is_told(module: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        tracker.Module(tmp_path / "missing.xm")
    with pytest.raises(DataError, match="no folder of tracker modules"):
        found.module_items(tmp_path / "modules" / "vodovod")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Drum.Bass.Future", "drums"),
        ("909 Claps", "drums"),
        ("kick_2", "drums"),
        ("Organ Bass", "bass"),
        ("WaWa Guitar B", "other"),
        ("SynthOrchHit", "other"),
        ("Vocal aah", "vocals"),
    ],
)
def test_names_tell_the_source(name: str, source: str) -> None:
    noise = np.random.default_rng(0).standard_normal(50000).astype(np.float32)
    assert tracker.source_of(name, [60, 62, 64, 65, 67, 69, 71], noise) == source


def test_sound_tells_the_source_where_names_do_not() -> None:
    rate, rng = tracker.TASTE_RATE, np.random.default_rng(0)
    time = np.arange(4 * rate) / rate
    pulse = np.exp(-(time % 0.5) / 0.03)
    kick = np.sin(2 * np.pi * 60 * time) * pulse
    assert tracker.source_of("what is that", [48] * 40, rng.standard_normal(len(time)) * pulse) == "drums"
    assert tracker.source_of("", [48] * 40, kick) == "drums"
    assert tracker.source_of("", [36, 38, 40, 43, 45], np.sin(2 * np.pi * 70 * time)) == "bass"
    assert tracker.source_of("", [60, 62, 64, 65, 67], np.sin(2 * np.pi * 700 * time)) == "other"
    assert tracker.timbre(np.zeros(50000)) is None
    assert tracker.timbre(np.ones(100)) is None
