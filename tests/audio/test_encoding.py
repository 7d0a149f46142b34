"""Writing: samples arrive, rounding does not spoil the sum, and no half file has a final name."""

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sepvae.audio.encoding import ENCODINGS, AudioWriter, choose_encoding, quantise
from sepvae.errors import OutputError

ALL = [(name, subtype) for name, encoding in ENCODINGS.items() for subtype in encoding.subtypes]


def write(path: Path, audio: np.ndarray, name: str, subtype: str, rate: int = 48000) -> AudioWriter:
    writer = AudioWriter(path, ENCODINGS[name], subtype, rate, len(audio))
    for start in range(0, audio.shape[1], 7000):
        writer.write(audio[:, start : start + 7000])
    writer.finish()
    writer.publish()
    return writer


@pytest.mark.parametrize(("name", "subtype"), ALL)
def test_what_is_written_is_read_back(tmp_path: Path, tone: np.ndarray, name: str, subtype: str) -> None:
    path = tmp_path / f"a.{name}"
    write(path, tone, name, subtype)
    out, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == 48000
    assert out.shape == tone.T.shape
    assert soundfile.info(path).subtype == subtype
    step = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 0.0}.get(subtype, 0.02)
    np.testing.assert_allclose(out.T, tone, atol=step, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("name", "subtype"), ALL)
def test_the_same_samples_give_the_same_bytes(
    tmp_path: Path, tone: np.ndarray, name: str, subtype: str
) -> None:
    write(tmp_path / "a", tone, name, subtype)
    time.sleep(1.1 if subtype == "FLOAT" else 0)  # libsndfile writes the time in seconds
    write(tmp_path / "b", tone, name, subtype)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ENCODINGS["wav"].subtypes)
def test_a_wav_beyond_4_gb_becomes_rf64_whatever_its_length_was_thought_to_be(
    tmp_path: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch, subtype: str, channels: int
) -> None:
    audio = np.resize(noise, (channels, 333))
    data_bytes = audio.size * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype]
    headers = {}
    for limit in (data_bytes, 1 << 32):
        monkeypatch.setattr("sepvae.audio.headers.RIFF_LIMIT", limit)
        write(tmp_path / "a.wav", audio, "wav", subtype)
        headers[limit] = soundfile.info(tmp_path / "a.wav").format
        read = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0].T
        np.testing.assert_allclose(read, audio, atol=2.0**-15, rtol=0)
        sizes = (tmp_path / "a.wav").stat().st_size
    assert headers == {data_bytes: "RF64", 1 << 32: "WAVEX" if channels == 6 else "WAV"}
    assert sizes - data_bytes - data_bytes % 2 == 104  # no header grew


def test_a_discarded_file_leaves_nothing_and_spares_the_old_one(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    writer = AudioWriter(path, ENCODINGS["wav"], "FLOAT", 44100, 2)
    writer.write(noise)
    writer.discard()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        AudioWriter(tmp_path / "no" / "a.wav", ENCODINGS["wav"], "FLOAT", 44100, 2)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    stems=st.integers(1, 6),
    subtype=st.sampled_from(["PCM_16", "PCM_24"]),
    level=st.sampled_from([1e-6, 0.01, 1.0]),
    gain=st.sampled_from([1.0, 0.7]),
)
def test_rounded_stems_add_up_to_the_rounded_sum(
    seed: int, stems: int, subtype: str, level: float, gain: float
) -> None:
    """Even where stems touch full scale, another one has room for the error."""
    x = np.random.default_rng(seed).uniform(-level, level, (stems, 2, 50)).astype(np.float32)
    scale = 2.0 ** (int(subtype[-2:]) - 1)
    steps = quantise(x, subtype, gain, absorber=0) / (256.0 if subtype == "PCM_24" else 1.0)
    exact = x.astype(np.float64).sum(0) * gain * scale
    assert np.abs(steps.sum(0) - np.clip(exact, -stems * scale, stems * (scale - 1))).max() <= 0.5 + 1e-6
    assert steps.min() >= -scale
    assert steps.max() <= scale - 1
    np.testing.assert_allclose(
        steps, x * gain * scale, atol=stems
    )  # the absorber takes half a step from each


def test_without_absorber_each_stem_is_rounded_by_itself() -> None:
    x = np.full((3, 1, 1), 0.4 / 2**15, np.float32)
    assert not quantise(x, "PCM_16").any()
    assert quantise(x, "PCM_16", absorber=1).ravel().tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("wav", None, "PCM_16", 2), "PCM_16"),
        (("wav", None, "FLOAT", 2), "FLOAT"),
        (("flac", None, "FLOAT", 2), "PCM_24"),
        (("flac", "PCM_16", "FLOAT", 2), "PCM_16"),
        (("mp3", None, "FLOAT", 2), "MPEG_LAYER_III"),
    ],
)
def test_the_depth_of_the_input_is_kept_where_the_format_has_it(
    arguments: tuple[str, str | None, str, int], found: str
) -> None:
    assert choose_encoding(*arguments, 44100)[1] == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("aac", None, "PCM_16", 2), "unknown output format"),
        (("flac", "FLOAT", "PCM_16", 2), "PCM_16 or PCM_24"),
        (("mp3", "PCM_16", "PCM_16", 2), "no sample format"),
        (("mp3", None, "PCM_16", 3), "at most 2 channels"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    arguments: tuple[str, str | None, str, int], message: str
) -> None:
    with pytest.raises(OutputError, match=message):
        choose_encoding(*arguments, 44100)


def test_a_rate_that_flac_lacks_is_refused_since_it_would_not_be_lossless() -> None:
    assert choose_encoding("flac", None, "PCM_16", 2, 655_350)
    with pytest.raises(OutputError, match="flac holds at most 655350 Hz, the input has 768000: use wav"):
        choose_encoding("flac", None, "PCM_16", 2, 768_000)


def test_opus_takes_the_next_rate_that_it_has() -> None:
    assert [ENCODINGS["opus"].rate_for(rate) for rate in (44100, 48000, 22050, 96000)] == [
        48000,
        48000,
        24000,
        48000,
    ]
