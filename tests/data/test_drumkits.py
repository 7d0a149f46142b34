"""Drum kits of Hydrogen: told apart by names, layered by velocity, and played as solos that a seed repeats."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.data import drumkits
from sepvae.data.corpora import SAMPLE_RATE, read_stems, scan
from sepvae.data.effects import active_rms_db
from sepvae.data.items import CORPORA
from sepvae.data.kits import LANES, Hit, Layers, sequence
from sepvae.data.own_sets import prepare
from sepvae.errors import DataError

Instruments = Mapping[str, Sequence[str]]
BAND = {
    "Kick": ("k.wav",),
    "Snare": ("s1.wav", "s2.wav"),
    "Closed HH": ("h.wav",),
    "Open HH": ("o.wav",),
    "Crash": ("c.wav",),
    "Tom 1": ("t.wav",),
}


def write_kit(folder: Path, instruments: Instruments, *, namespace: str = "", old: bool = False) -> Path:
    """A kit of noise bursts; an instrument with n files has n layers of equal width, the loudest named first."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    rows = []
    for name, files in instruments.items():
        for file in files:
            soundfile.write(folder / file, 0.3 * rng.standard_normal(400), SAMPLE_RATE)
        count = len(files)
        layers = [
            f"<layer><filename>{file}</filename><min>{i / count}</min><max>{(i + 1) / count}</max></layer>"
            for i, file in enumerate(files)
        ]
        body = f"<filename>{files[0]}</filename>" if old else "".join(reversed(layers))
        rows.append(f"<instrument><name>{name}</name>{body}</instrument>")
    text = f"<drumkit_info{namespace}><name>kit</name><instrumentList>{''.join(rows)}</instrumentList></drumkit_info>"
    (folder / "drumkit.xml").write_text(text)
    return folder / "drumkit.xml"


@pytest.mark.parametrize(
    ("lane", "names"),
    [
        ("kick", ("Kick Long", "BassDrum", "c3 - bass drum 1", "Cajon Thump", "Dununba1 Head Hit")),
        ("snare", ("Snare Rimshot", "Snare 2 Rimshot (Pearl Free Floating Maple 14x3.5)", "Djembe1 Slap")),
        ("clap", ("Hand Clap", "Stick", "Pearl Side Stick", "Rim Click", "Finger Snaps")),
        (
            "hat",
            ("Closed HH", "Pedal HH", "Hi-Hat Closed (Paiste Alpha Metal edge 14)", "Hat 1 Cl", "Side HH"),
        ),
        (
            "open",
            ("Open HH", "Hat Op Dirty", "Hi Hat Opened", "Hi-Hat Semiopen", "Hat Semi-Open", "Side OHH"),
        ),
        ("ride", ("Ride 2", "Paiste Bell", "ride-crash20inch", "ride-cup", "Crash/Ride Bow (Paiste Rude)")),
        ("crash", ("crash16inch", "China", "Zildjian Splash", "Crash/Ride (Paiste Rude 18)", "Cymbal")),
        ("tom", ("tomhi2", "Floor Tom", "Pearl Tom Floor", "Djembe1 Tone", "Djembe2 Bass")),
        (
            "perc",
            ("Cowbell", "Shaker", "Sangban1 Bell Hit", "Tambourine Pedal (Pearl)", "Agogo Low", "Click"),
        ),
        (
            None,
            ("17", "", "Snare Roll", "Zap 1", "FX", "Whistle", "WaterglassHi", "Sample: beats_08-37.flac"),
        ),
    ],
)
def test_a_lane_is_told_by_the_name(lane: str | None, names: Sequence[str]) -> None:
    assert {name: drumkits.lane_named(name) for name in names} == dict.fromkeys(names, lane)


def test_what_is_known_to_be_misnamed_has_no_lane() -> None:
    assert drumkits.lane_named("Cowbell", "Audiophob") is None
    assert drumkits.lane_named("Snare Jazz", "Audiophob") == "snare"


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.hydrogen-music.org/drumkit"'])
def test_layers_come_softest_first(tmp_path: Path, namespace: str) -> None:
    path = write_kit(tmp_path / "a", {"Snare": ("b.wav", "a.wav"), "Zap": ("z.wav",)}, namespace=namespace)
    layers = ((0.5, path.parent / "b.wav"), (1.0, path.parent / "a.wav"))
    assert drumkits.read_kit(path) == {"snare": (layers,)}


def test_an_instrument_of_old_has_one_file(tmp_path: Path) -> None:
    path = write_kit(tmp_path / "a", {"Kick 1": ("a.wav",), "Kick 2": ("b.wav",)}, old=True)
    one, two = path.parent / "a.wav", path.parent / "b.wav"
    assert drumkits.read_kit(path) == {"kick": (((1.0, one),), ((1.0, two),))}


def test_a_file_that_is_missing_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_kit(tmp_path / "a", {"Snare": ("a.wav", "b.wav"), "Cowbell": ("c.wav",)})
    (path.parent / "a.wav").unlink()
    (path.parent / "c.wav").unlink()
    with caplog.at_level(logging.INFO):
        assert drumkits.read_kit(path) == {"snare": (((1.0, path.parent / "b.wav"),),)}
    assert [record.getMessage() for record in caplog.records] == [
        f"{path.parent / name} left out: no such file" for name in ("a.wav", "c.wav")
    ]


def test_no_file_outside_the_kit_is_read(tmp_path: Path) -> None:
    path = write_kit(tmp_path / "a", {"Kick": ("a.wav",)})
    soundfile.write(tmp_path / "b.wav", np.ones(9), SAMPLE_RATE)
    path.write_text(path.read_text().replace("a.wav", "../b.wav"))
    assert drumkits.read_kit(path) == {}


def test_neighbours_stand_in_for_lanes_that_a_kit_lacks() -> None:
    kick, snare, hat = (((1.0, Path(name)),) for name in ("kick", "snare", "hat"))
    lanes = drumkits.filled({"kick": (kick,), "snare": (snare,), "hat": (hat,)})
    assert lanes == {
        "kick": (kick,),
        "snare": (snare,),
        "clap": (snare,),
        "tom": (snare,),
        **dict.fromkeys(("hat", "open", "ride"), (hat,)),
    }, "a hat is no crash, and nothing here is percussion"
    assert set(drumkits.SUBSTITUTES) < set(LANES)


def test_a_stroke_takes_the_layer_of_its_velocity() -> None:
    sounds = tuple(np.full((2, 10), value, np.float32) for value in (1.0, 2.0, 3.0))
    layers = Layers((0.2, 0.5, 0.9), sounds)
    for velocity, value in ((0.0, 1), (0.2, 1), (0.21, 2), (0.5, 2), (0.9, 3), (1.0, 3)):
        assert layers.at(velocity)[0, 0] == value
    hits = [Hit(0.0, "snare", 0.25), Hit(0.1, "snare", 1.0)]
    played = sequence(hits, {"snare": layers}, 5000)
    np.testing.assert_allclose(played[:, 0], 2 * 0.25**1.5)
    np.testing.assert_allclose(played[:, 4410], 3)


def test_layers_of_a_lane_come_to_one_level(tmp_path: Path) -> None:
    path = write_kit(tmp_path / "a", {"Kick": ("a.wav", "b.wav")})
    soft, rate = soundfile.read(path.parent / "a.wav")
    soundfile.write(path.parent / "a.wav", 0.01 * soft, rate, subtype="FLOAT")
    kit = drumkits.load_kit(drumkits.read_kit(path), np.random.default_rng(0))
    peaks = [np.abs(sound).max() for sound in kit["kick"].sounds]
    assert kit["kick"].tops == (0.5, 1.0)
    assert peaks[0] == pytest.approx(peaks[1])
    assert -10 < 20 * np.log10(peaks[0]) < 6, "about the level of a kick in any kit"


def test_a_part_with_long_rests_is_not_taken() -> None:
    steady = [Hit(0.5 * index, "kick", 1.0) for index in range(120)]
    assert drumkits.plays_on(steady, 62.0)
    assert drumkits.plays_on([hit for hit in steady if hit.time < 50], 62.0)
    assert not drumkits.plays_on([hit for hit in steady if hit.time < 30], 62.0)
    assert not drumkits.plays_on([], 62.0)


def test_kits_become_solos_of_the_drums_that_a_seed_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drumkits, "SECONDS", 4.0)
    monkeypatch.setattr(drumkits, "TRACKS", 2)
    root = tmp_path / "raw"
    write_kit(root / "hydrogen-data/usr/share/Kit One 1.0", BAND)
    tracks = {}
    for out in ("a", "b"):
        manifest = prepare("music", root, tmp_path / out, only=("drumkits",))
        tracks[out] = {track.name: track for track in scan(tmp_path / out / "train", ("drums", "other"))}
    assert set(tracks["a"]) == {"kit-kit-one-1-0-0000", "kit-kit-one-1-0-0001"}
    audio = []
    for name, track in tracks["a"].items():
        assert track.solo
        assert set(track.files) == {"drums"}
        drums = read_stems(track, SAMPLE_RATE)["drums"]
        assert drums.shape[0] == 2
        assert drums.shape[1] >= 4 * SAMPLE_RATE
        assert np.isfinite(drums).all()
        assert np.abs(drums).max() <= 1
        assert active_rms_db(drums) <= drumkits.LEVEL_DB + 0.1
        np.testing.assert_array_equal(drums, read_stems(tracks["b"][name], SAMPLE_RATE)["drums"])
        audio.append(drums)
    assert audio[0].shape != audio[1].shape or np.abs(audio[0] - audio[1]).max() > 0.01
    assert '"hydrogen-data"' in manifest.read_text()


def test_what_is_no_drum_kit_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "hydrogen-drumkits"
    write_kit(folder / "Good", BAND)
    write_kit(folder / "Strums", {"Guitar Down": ("a.wav",), "Stick": ("b.wav",)})
    write_kit(folder / "Broken", BAND).write_text("<drumkit_info><instrument>")
    write_kit(folder / "Odd", {"Kick": ("a.wav",)}).write_text(
        (folder / "Odd" / "drumkit.xml").read_text().replace("<max>1.0", "<max>loud")
    )
    with caplog.at_level(logging.INFO):
        items = drumkits.drumkit_items(tmp_path, 0)
    assert [item.name for item in items] == [f"kit-good-{index:04d}" for index in range(drumkits.TRACKS)]
    assert {(item.split, item.corpora) for item in items} == {("train", ("composed", "hydrogen-drumkits"))}
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in told] == [
        f"{name} left out" for name in ("Broken", "Odd", "Strums")
    ]
    assert "cannot read" in told[0]
    assert "no drum kit" in told[2]


def test_a_folder_without_kits_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no drum kits .* in {tmp_path}"):
        drumkits.drumkit_items(tmp_path, 0)


def test_every_package_has_its_licence() -> None:
    assert all(CORPORA[package].licence for package in drumkits.PACKAGES)
