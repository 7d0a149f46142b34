"""LMMS projects and presets: read, told apart, muted, and played where LMMS is installed."""

import gzip
import shutil
import zlib
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sepvae.data import found, lmms, presets
from sepvae.data.corpora import read_stems, scan
from sepvae.data.items import rng_for
from sepvae.data.own_sets import prepare
from sepvae.data.synth import Note
from sepvae.errors import DataError

PRESET = """<lmms-project version="1.0" creator="LMMS" type="instrumenttracksettings"><head/>
<instrumenttracksettings muted="0" type="0" name="{name}" solo="0">
<instrumenttrack pan="0" fxch="0" pitchrange="1" pitch="0" basenote="57" vol="100">
<instrument name="tripleoscillator"><tripleoscillator vol0="60" vol1="0" vol2="0" wavetype0="0"/></instrument>
<fxchain numofeffects="0" enabled="0"/></instrumenttrack></instrumenttracksettings></lmms-project>"""


def track(name: str, plugin: str, keys: list[int], sample: str = "") -> str:
    notes = "".join(
        f'<note key="{key}" pos="{48 * i}" len="40" vol="100" pan="0"/>' for i, key in enumerate(keys)
    )
    settings = f'<{plugin} src="{sample}" vol0="60" vol1="0" vol2="0" wavetype0="0"/>'
    return f"""<track muted="0" type="0" name="{name}" solo="0">
        <instrumenttrack pan="0" fxch="0" basenote="57" vol="100" pitch="0">
        <instrument name="{plugin}">{settings}</instrument></instrumenttrack>
        <pattern type="1" pos="0" muted="0" steps="16" name="">{notes}</pattern></track>"""


def project(*tracks: str) -> str:
    return f"""<lmms-project version="1.0" creator="LMMS" creatorversion="1.2.2" type="song">
        <head bpm="120" mastervol="100" masterpitch="0" timesig_numerator="4" timesig_denominator="4"/>
        <song><trackcontainer type="song">{"".join(tracks)}</trackcontainer></song></lmms-project>"""


SONG = project(
    track("line", "tripleoscillator", [33, 35, 36, 33] * 8),
    track("tune", "tripleoscillator", [57, 59, 61, 64] * 8),
    track("never plays", "tripleoscillator", []),
)


@pytest.fixture
def with_lmms() -> None:
    if shutil.which("lmms") is None:
        pytest.skip("needs LMMS")


def test_packed_and_plain_projects_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.mmp").write_text(SONG)
    (tmp_path / "b.mmpz").write_bytes(len(SONG).to_bytes(4, "big") + zlib.compress(SONG.encode()))
    plain, packed = (lmms.read_project(tmp_path / name) for name in ("a.mmp", "b.mmpz"))
    assert ElementTree.tostring(plain) == ElementTree.tostring(packed)
    assert [lmms.source_of(part) for part in lmms.instruments(plain)] == ["bass", "other", None]
    lmms.mute_all_but(plain, {1})
    assert [part.get("muted") for part in lmms.instruments(plain)] == ["1", "0", "1"]
    for name, data in (("c.mmp", b"<other/>"), ("d.mmpz", b"1234nothing"), ("e.mmp", b"no xml")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            lmms.read_project(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "plugin", "keys", "sample", "source"),
    [
        ("BD 03", "audiofileprocessor", [57], "drums/bassdrum03.ogg", "drums"),
        ("Default", "audiofileprocessor", [57], "drumsynth/kick.ds", "drums"),
        ("Bass Slap 02", "audiofileprocessor", [49, 60], "bassslap02.ogg", "bass"),
        ("Default preset", "lb302", [57, 60], "", "bass"),
        ("Default preset", "zynaddsubfx", [29, 35, 41], "", "bass"),
        ("Default preset", "zynaddsubfx", [57, 60], "", "other"),
        ("strings", "audiofileprocessor", [33, 36], "strings01.ogg", "other"),
    ],
)
def test_names_samples_and_registers_tell_the_source(
    name: str, plugin: str, keys: list[int], sample: str, source: str
) -> None:
    (part,) = lmms.instruments(ElementTree.fromstring(project(track(name, plugin, keys, sample))))
    assert lmms.source_of(part) == source


def test_a_project_becomes_a_track(with_lmms: None, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Song.mmp").write_text(SONG)
    prepare("music", tmp_path / "raw", tmp_path / "data", only=("projects",))
    (made,) = scan(tmp_path / "data" / "train", ("vocals", "drums", "bass", "other"))
    stems = read_stems(made, lmms.SAMPLE_RATE)
    assert made.name == "lmms-Song"
    assert set(stems) == {"bass", "other"}
    for source, highest in (("bass", 160), ("other", 700)):
        assert highest / 2.2 < loudest_hz(stems[source]) < highest


def loudest_hz(audio: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(audio.mean(0)))
    return float(np.argmax(spectrum) * lmms.SAMPLE_RATE / audio.shape[1])


def test_presets_play_the_pitches_they_are_given(with_lmms: None, tmp_path: Path) -> None:
    (tmp_path / "Bass.xpf").write_text(PRESET.format(name="Bass"))
    notes = [Note(0.5, 1.0, 57.0, 0.8), Note(0.5, 1.0, 61.0, 0.8)]
    audio = presets.play_preset(tmp_path / "Bass.xpf", notes, 2 * lmms.SAMPLE_RATE)
    assert audio.shape == (2, 2 * lmms.SAMPLE_RATE)
    assert np.abs(audio[:, : int(0.49 * lmms.SAMPLE_RATE)]).max() < 1e-3
    assert min(abs(loudest_hz(audio) - hz) for hz in (220.0, 277.2)) < 3
    presets.make_solo("bass", [tmp_path / "Bass.xpf"], partial(rng_for, 0, "a"), tmp_path / "set" / "a")
    (made,) = scan(tmp_path / "set", ("vocals", "drums", "bass", "other"))
    assert made.solo
    assert set(made.files) == {"bass"}


def test_presets_are_found_and_noises_left_out(tmp_path: Path) -> None:
    for name in (
        "Bass/0001-Bass 1.xiz",
        "Noises/0001-Rain.xiz",
        "Drums/kit.xiz",
        "LB302/Acid.xpf",
        "LB302/readme",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(b"<ZynAddSubFX-data/>"))
    assert [path.name for path in presets.preset_files(tmp_path)] == ["0001-Bass 1.xiz", "Acid.xpf"]
    items = presets.preset_items(tmp_path, 0)
    assert len(items) == presets.BASSES + presets.PARTS
    with pytest.raises(DataError, match="no preset of ZynAddSubFX"):
        presets.play_preset(tmp_path / "Bass" / "0001-Bass 1.xiz", [], 100)
    with pytest.raises(DataError, match="no presets"):
        presets.preset_files(tmp_path / "Noises")


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="Debian package lmms"):
        found.project_items(tmp_path)
