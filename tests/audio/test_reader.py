"""Reading: what a file holds comes back, and what is wrong with it is said in one line."""

import os
import struct
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from sepvae.audio import AudioReader
from sepvae.errors import AudioFileError

RATE = 44100


def read(path: Path) -> tuple[np.ndarray, AudioReader]:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks()), axis=1), reader


def encode(path: Path, codec: str, audio: np.ndarray, rate: int = RATE) -> None:
    """Write a file that only ffmpeg's libraries know."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        convert = av.AudioResampler(format=stream.format.name, layout="stereo", rate=rate, frame_size=1024)
        for part in [*convert.resample(frame), *convert.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "options", "depth", "tolerance"),
    [
        ("a.wav", {"subtype": "PCM_16"}, "PCM_16", 2**-15),
        ("a.wav", {"subtype": "PCM_24"}, "PCM_24", 2**-23),
        ("a.wav", {"subtype": "PCM_U8"}, "PCM_16", 2**-7),
        ("a.wav", {"subtype": "FLOAT"}, "FLOAT", 0),
        ("a.wav", {"subtype": "DOUBLE"}, "FLOAT", 0),
        ("a.wav", {"format": "RF64", "subtype": "PCM_16"}, "PCM_16", 2**-15),
        ("a.aiff", {"subtype": "PCM_24"}, "PCM_24", 2**-23),
        ("a.flac", {"subtype": "PCM_16"}, "PCM_16", 2**-15),
        ("named like no audio", {"format": "FLAC", "subtype": "PCM_24"}, "PCM_24", 2**-23),
    ],
)
def test_lossless_files_come_back(
    tmp_path: Path, noise: np.ndarray, name: str, options: dict[str, str], depth: str, tolerance: float
) -> None:
    audio = np.tile(noise, 4)  # longer than a block
    soundfile.write(tmp_path / name, audio.T, RATE, **options)
    out, reader = read(tmp_path / name)
    assert (reader.info.sample_rate, reader.info.channels, reader.info.frames) == (RATE, 2, audio.shape[1])
    assert reader.info.depth == depth
    assert reader.loss is None
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, audio, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_lossy_files_keep_their_length(tmp_path: Path, tone: np.ndarray, name: str) -> None:
    soundfile.write(tmp_path / name, tone.T, RATE)
    out, reader = read(tmp_path / name)
    assert out.shape == tone.shape
    assert reader.info.depth == "PCM_24"
    assert reader.loss is None
    np.testing.assert_allclose(out, tone, atol=0.02)  # codec noise; a frame of delay would be off by 0.4


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.mkv", "aac"), ("a.mp4", "aac"), ("l.m4a", "alac")]
)
def test_what_soundfile_lacks_is_read_too(tmp_path: Path, tone: np.ndarray, name: str, codec: str) -> None:
    encode(tmp_path / name, codec, tone)
    out, reader = read(tmp_path / name)
    assert (reader.info.sample_rate, reader.info.channels) == (RATE, 2)
    assert 0 <= out.shape[1] - tone.shape[1] <= 2048  # the last codec frame may be filled up
    assert reader.loss is None
    inner = slice(4096, -4096)
    np.testing.assert_allclose(
        out[:, : tone.shape[1]][:, inner], tone[:, inner], atol=0.05
    )  # 256 frames late: 0.4


def cut(path: Path) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.ogg", "a.mp3"])
def test_a_file_that_ends_early_is_read_and_the_loss_is_told(
    tmp_path: Path, noise: np.ndarray, name: str
) -> None:
    soundfile.write(tmp_path / name, np.tile(noise, 6).T, RATE)
    out, reader = read(cut(tmp_path / name))
    assert 0 < out.shape[1] < 5 * noise.shape[1]
    assert reader.loss is not None
    assert "ends" in reader.loss


def test_a_wav_written_to_a_pipe_is_whole(tmp_path: Path, noise: np.ndarray) -> None:
    """Its writer could not go back to fill in the sizes."""
    path = tmp_path / "a.wav"
    soundfile.write(path, noise.T, RATE)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    out, reader = read(path)
    assert out.shape == noise.shape
    assert reader.loss is None


def test_an_mp3_that_tells_no_length_is_not_called_short(tmp_path: Path, noise: np.ndarray) -> None:
    """Its length is guessed from the file's size, a tag with a picture included."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.tile(noise, 6).T, RATE, bitrate_mode="CONSTANT", compression_level=0.5)
    stream = path.read_bytes().replace(b"Info", bytes(4)).replace(b"Xing", bytes(4))
    tag = b"ID3\x03\x00\x00" + bytes((0, 1, 0x74, 0x10)) + bytes((1 << 14) + (0x74 << 7) + 0x10)
    path.write_bytes(tag + stream)
    out, reader = read(path)
    assert out.shape[1] >= 6 * noise.shape[1]
    assert reader.info.frames is not None
    assert out.shape[1] < reader.info.frames - 10_000
    assert reader.loss is None


def nan_late(path: Path, noise: np.ndarray) -> None:
    audio = np.tile(noise, 8).T.copy()
    audio[-100, 1] = np.nan
    soundfile.write(path, audio, RATE, format="WAV", subtype="FLOAT")


def beyond_float32(path: Path, noise: np.ndarray) -> None:
    soundfile.write(path, np.full(9, 1e300), RATE, subtype="DOUBLE", format="WAV")


def infinite(path: Path, noise: np.ndarray) -> None:
    audio = noise.T.copy()
    audio[5, 0] = -np.inf
    soundfile.write(path, audio, RATE, format="WAV", subtype="FLOAT")


def header_only(path: Path, noise: np.ndarray) -> None:
    soundfile.write(path, noise[:, :0].T, RATE, format="WAV")


def half_a_header(path: Path, noise: np.ndarray) -> None:
    soundfile.write(path, noise.T, RATE, format="WAV")
    path.write_bytes(path.read_bytes()[:20])


def edited_wav(path: Path, noise: np.ndarray, at: int, value: bytes) -> None:
    soundfile.write(path, noise.T, RATE, format="WAV")
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)


def rate_zero(path: Path, noise: np.ndarray) -> None:
    edited_wav(path, noise, 24, bytes(4))


def absurd_rate(path: Path, noise: np.ndarray) -> None:
    edited_wav(path, noise, 24, b"\xff\xff\xff\x7f")


def zero_channels(path: Path, noise: np.ndarray) -> None:
    edited_wav(path, noise, 22, bytes(2))


def many_channels(path: Path, noise: np.ndarray) -> None:
    edited_wav(path, noise, 22, b"\xff\xff")


def flac_header(path: Path, noise: np.ndarray) -> None:
    soundfile.write(path, noise.T, RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[:9000])


def m4a_cut(path: Path, noise: np.ndarray) -> None:
    encode(path.with_suffix(".m4a"), "aac", np.tile(noise, 3))
    path.with_suffix(".m4a").rename(path)
    cut(path)


def picture_only(path: Path, noise: np.ndarray) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))


def playlist(path: Path, noise: np.ndarray) -> None:
    soundfile.write(path.with_suffix(".wav"), noise.T, RATE)
    path.write_text(f"#EXTM3U\n#EXTINF:1,\n{path.with_suffix('.wav')}\n#EXT-X-ENDLIST\n")


BAD = {
    "missing": (lambda path, noise: None, "no such file"),
    "folder": (lambda path, noise: path.mkdir(), "is a folder"),
    "empty": (lambda path, noise: path.touch(), "empty"),
    "text": (lambda path, noise: path.write_text("no audio here\n" * 50), "not audio"),
    "noise bytes": (
        lambda path, noise: path.write_bytes(np.random.default_rng(3).bytes(50_000)),
        "not audio|damaged",
    ),
    "header only": (header_only, "no audio samples"),
    "half a header": (half_a_header, "not audio|no audio samples"),
    "rate zero": (rate_zero, "rate|not audio"),
    "flac without a whole frame": (flac_header, "damaged|no audio samples"),
    "zero channels": (zero_channels, "channels|not audio"),
    "too many channels": (many_channels, "channels|not audio"),
    "absurd rate": (absurd_rate, "sample rate|not audio"),
    "m4a without its index": (m4a_cut, "cut short"),
    "fifo": (lambda path, noise: os.mkfifo(path), "not a regular file"),
    "device": (lambda path, noise: path.symlink_to("/dev/zero"), "not a regular file"),
    "endless link": (lambda path, noise: path.symlink_to(path), "no such file|cannot be read"),
    "late NaN": (nan_late, r"NaN or infinite samples, the first at 3\.998 s"),
    "infinite": (infinite, "NaN or infinite"),
    "beyond float32": (beyond_float32, r"NaN or infinite samples \(or too large ones for 32-bit floats\)"),
    "picture only": (picture_only, "holds no audio"),
    "playlist": (playlist, "not audio"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_give_one_line_that_names_them(tmp_path: Path, noise: np.ndarray, kind: str) -> None:
    make, message = BAD[kind]
    path = tmp_path / "bad input"
    make(path, noise)
    with pytest.raises(AudioFileError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("container", "mark", "order", "offset", "size"),
    [
        ("WAV", b"data", "<I", 4, 0x7F000000),
        ("RF64", b"ds64", "<Q", 16, 1 << 44),
        ("W64", b"data", "<Q", 16, 1 << 44),
        ("AIFF", b"COMM", ">I", 10, 0x7F000000),
        ("FLAC", b"fLaC", ">Q", 18, 0x0AC442F0 << 32 | 0xFFFFFF00),
        ("CAF", b"data", ">Q", 4, 1 << 44),
        ("AU", b".snd", ">I", 8, 0x7F000000),
    ],
)
def test_a_header_that_promises_terabytes_costs_nothing(
    tmp_path: Path, noise: np.ndarray, container: str, mark: bytes, order: str, offset: int, size: int
) -> None:
    soundfile.write(tmp_path / "a", noise.T, RATE, "PCM_16", format=container)
    data = bytearray((tmp_path / "a").read_bytes())
    at = data.index(mark) + offset
    data[at : at + struct.calcsize(order)] = struct.pack(order, size)
    (tmp_path / "a").write_bytes(data)
    tracemalloc.start()
    try:
        out, _ = read(tmp_path / "a")
        np.testing.assert_allclose(out[:, : noise.shape[1]], noise, atol=2**-15)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50e6


def test_a_file_that_swells_beyond_measure_is_refused(
    tmp_path: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((RATE * 60, 2)), RATE)
    assert read(tmp_path / "a.flac")[0].shape == (2, RATE * 60)
    monkeypatch.setattr("sepvae.audio.reader._BOMB_BYTES", 1 << 20)
    monkeypatch.setattr("sepvae.audio.reader._BOMB_RATIO", 100)
    with pytest.raises(AudioFileError, match="more than 100 times its size"):
        read(tmp_path / "a.flac")
    soundfile.write(tmp_path / "a.flac", np.tile(noise, 40).T, RATE)
    assert read(tmp_path / "a.flac")[1].loss is None


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.tile(noise, 8).T, RATE)
    with AudioReader(path) as reader:
        for _ in reader.blocks():
            with path.open("ab") as file:
                file.write(bytes(1000))
    assert reader.loss == "the file was changed while it was read"


def test_a_file_that_vanishes_while_it_is_read_is_read_to_its_end(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    audio = np.tile(noise, 8)
    soundfile.write(path, audio.T, RATE)
    with AudioReader(path) as reader:
        out = [block for block in reader.blocks() if path.unlink(missing_ok=True) is None]
    assert np.concatenate(out, axis=1).shape == audio.shape
    assert reader.loss is None


@pytest.mark.parametrize(
    "name", ["-dash.wav", "sp ace 'quote\".wav", "ünïcödé 🎵.wav", "%d%s.flac", "a" * 250 + ".wav"]
)
def test_any_name_is_read(tmp_path: Path, noise: np.ndarray, name: str) -> None:
    soundfile.write(tmp_path / name, noise.T, RATE)
    assert read(tmp_path / name)[0].shape == noise.shape
    encode(tmp_path / "a.m4a", "aac", noise)
    odd = (tmp_path / "a.m4a").rename((tmp_path / name).with_suffix(".m4a"))
    assert read(odd)[1].loss is None
