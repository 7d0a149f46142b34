"""Voices and sounds of free programs: found where their packages put them, apart in training and validation."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from sepvae.data import compositions, noisy_speech, voices
from sepvae.data.corpora import read_audio, read_info, scan
from sepvae.data.items import CORPORA
from sepvae.data.own_sets import prepare
from sepvae.errors import DataError

RATE = 16000
SOURCES = ("speech", "noise")
SPOKEN = {
    "festvox-ru/usr/share/msu_ru_nsh_clunits/wav/ru_{}.wav": "msu-ru",
    "tuxpaint-stamps-default/usr/stamps/animals/cat{}_desc_es.ogg": "tuxpaint-es",
    "fillets-ng-data-cs/usr/sound/tank/cs/sv-m-{}.ogg": "fillets-cs",
    "hedgewars-data/usr/Sounds/voices/Russian_pl/{}.ogg": "hedgewars-russian_pl",
}
NOISES = (
    "tuxpaint-stamps-default/usr/stamps/animals/cat{}.ogg",
    "redeclipse-data/usr/data/sounds/ambience/wind{}.ogg",
)
NO_NOISES = (
    "redeclipse-data/usr/data/sounds/announcer/fight{}.ogg",
    "tuxpaint-stamps-default/usr/stamps/people/boy{}.ogg",
)
HELD_OUT = (
    "asterisk-core-sounds-fr-g722/usr/sounds/fr_CA_f_June/digits/{}.g722",
    "bucklespring-data/usr/share/buckle/wav/{}.wav",
)


def _write(path: Path, audio: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".g722":
        soundfile.write(path, audio, RATE)
        return
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=RATE, layout="mono")
        samples = (32767 * audio).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def _voice(seconds: float = 1.0) -> np.ndarray:
    """Pulses at 120 Hz, twice louder and quieter in a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    return 0.1 * tone * (1 + np.sin(4 * np.pi * time))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packages")
    for name in (*SPOKEN, *NOISES, *NO_NOISES, *HELD_OUT):
        for index in range(2):
            _write(root / name.format(index), _voice())
    return root


def test_a_voice_is_found_by_package_and_language(packages: Path) -> None:
    found = voices.voices_under(packages, voices.VOICES)
    assert {voice.name: len(files) for voice, files in found.items()} == dict.fromkeys(SPOKEN.values(), 2)


def test_sounds_leave_out_voices(packages: Path) -> None:
    found = [path for files in voices.sounds_under(packages, voices.SOUNDS).values() for path in files]
    wanted = [packages / name.format(index) for name in NOISES for index in range(2)]
    assert sorted(found) == sorted(wanted)


def test_files_that_hold_nothing_are_no_voice(tmp_path: Path) -> None:
    _write(tmp_path / "festvox-ru/msu_ru_nsh_clunits/wav/a.wav", np.zeros(100))
    with pytest.raises(DataError, match=f"no voices of .*festvox-ru.* under {tmp_path}"):
        voices.voices_under(tmp_path, voices.VOICES)


def test_no_voice_and_no_package_of_sounds_is_both_learnt_and_held_out() -> None:
    assert {voice.pattern for voice in voices.VOICES}.isdisjoint(v.pattern for v in voices.HELD_OUT_VOICES)
    assert {each.package for each in voices.SOUNDS}.isdisjoint(s.package for s in voices.HELD_OUT_SOUNDS)
    everything = (*voices.VOICES, *voices.HELD_OUT_VOICES, *voices.SOUNDS, *voices.HELD_OUT_SOUNDS)
    assert {each.package for each in everything} <= set(CORPORA)
    names = [voice.name for voice in (*voices.VOICES, *voices.HELD_OUT_VOICES)]
    assert len(names) == len(set(names))


def test_g722_is_read_as_it_was_written(packages: Path) -> None:
    path = packages / HELD_OUT[0].format(0)
    audio, rate = read_audio(path)
    assert rate == RATE
    assert audio.shape[0] == 2
    wanted = _voice()
    delay = np.correlate(audio[0], wanted, "full").argmax() - (wanted.size - 1)
    heard = audio[0, max(delay, 0) :][: wanted.size]
    assert np.corrcoef(heard, wanted[: heard.size])[0, 1] > 0.99
    part, _ = read_audio(path, start=4000, frames=1000)
    assert np.array_equal(part, audio[:, 4000:5000])


def test_g722_without_a_sample_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.g722").touch()
    with pytest.raises(DataError, match=r"empty\.g722"):
        read_audio(tmp_path / "empty.g722")


def test_the_speech_set_gets_voices_noises_and_mixtures_of_held_out_ones(
    packages: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyroomacoustics")
    prepare("speech", packages, tmp_path, only=("packages",))
    train = {track.name: track for track in scan(tmp_path / "train", SOURCES)}
    assert {name for name in train if name.startswith("voice-")} == {
        f"voice-{name}-00-{kind}" for name in SPOKEN.values() for kind in ("dry", "room")
    }
    assert {name for name in train if name.startswith("noise-")} == {
        "noise-sounds-redeclipse-data-00",
        "noise-sounds-tuxpaint-stamps-default-00",
    }
    assert all(track.solo for track in train.values())
    assert read_info(train["voice-msu-ru-00-dry"].folder)["corpora"] == ["festvox-ru"]
    mixtures = list(scan(tmp_path / "valid-voices", SOURCES))
    assert len(mixtures) == 3 * len(noisy_speech.SNRS_DB)
    assert set(read_info(mixtures[0].folder)["corpora"]) == {
        "asterisk-core-sounds-fr-g722",
        "bucklespring-data",
    }


def test_the_music_set_gets_a_voice_that_speaks_and_one_that_sings(packages: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyworld")
    items = {item.name: item for item in compositions.singer_items(packages, 0)}
    assert set(items) == {f"speech-{n}" for n in SPOKEN.values()} | {f"sung-{n}-00" for n in SPOKEN.values()}
    for name in ("speech-msu-ru", "sung-msu-ru-00"):
        items[name].make(tmp_path / name)
    spoken, sung = scan(tmp_path, ("vocals", "drums", "bass", "other"))
    assert set(spoken.files) == set(sung.files) == {"vocals"}
    assert read_info(sung.folder)["corpora"] == ["composed", "festvox-ru"]
    audio, rate = read_audio(sung.files["vocals"])
    assert rate == 44100
    assert np.isfinite(audio).all()
    assert 0.01 < np.sqrt(np.mean(audio**2)) < 0.5
    pitch = read_info(sung.folder)["vocals"]["centre"]
    spectrum = np.abs(np.fft.rfft(audio.mean(axis=0)))
    hertz = np.fft.rfftfreq(audio.shape[1], 1 / rate)
    assert spectrum[hertz < 4000].sum() > spectrum[hertz > 8000].sum()
    assert 30 < pitch < 90
