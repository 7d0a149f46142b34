"""Every format comes back with its length and in its place; what damage took is said, and silence stands for it."""

import io
import os
import re
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sepvae.audio import AudioReader
from sepvae.audio.containers import ogg_checksum
from sepvae.errors import AudioFileError

RATE = 44100
LOSSY = 0.02  # root mean square; a signal of 0.21 that is late by half a millisecond is wrong by 0.1 and more


def read(path: Path) -> tuple[np.ndarray, AudioReader]:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks()), axis=1), reader


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def music(channels: int, frames: int, rate: int) -> np.ndarray:
    """Tones that glide, in every channel others: no part looks like a later one."""
    time = np.arange(frames) / rate
    phase = 2 * np.pi * np.stack([(150 + 60 * c) * time + (30 + 7 * c) * time**2 for c in range(channels)])
    return (0.3 * np.sin(phase)).astype(np.float32)


def encode(
    path: Path, codec: str, audio: np.ndarray, rate: int = RATE, *, begin_s: int = 0, **options: str
) -> Path:
    """Write a file through ffmpeg's libraries."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}[len(audio)]
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        packed = np.ascontiguousarray(audio.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin_s * rate, Fraction(1, rate)
        sample_format = "s16p" if codec == "wavpack" else stream.format.name
        if codec == "wavpack":
            stream.format = sample_format
        if codec.startswith("wma"):  # which has no bitrate of its own
            stream.bit_rate = 128_000
        frame_size = 1536 if codec.endswith("ac3") else 1024
        convert = av.AudioResampler(format=sample_format, layout=layout, rate=rate, frame_size=frame_size)
        for part in [*convert.resample(frame), *convert.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"])
@pytest.mark.parametrize(
    ("subtype", "step"),
    [
        ("PCM_U8", 2**-7),
        ("PCM_S8", 2**-7),
        ("PCM_16", 2**-15),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),
        ("FLOAT", 0),
        ("DOUBLE", 0),
    ],
)
def test_lossless_formats_come_back_sample_by_sample(
    tmp_path: Path, container: str, subtype: str, step: float
) -> None:
    if not soundfile.check_format(container, subtype):
        pytest.skip("the format has no such samples")
    for rate, channels, frames in ((4000, 2, 1), (8000, 8, 999), (44100, 2, 70_001), (192_000, 3, 5000)):
        audio = music(channels, frames, rate)
        soundfile.write(tmp_path / "a", audio.T, rate, subtype, format=container)
        out, reader = read(tmp_path / "a")
        assert (reader.info.sample_rate, out.shape, reader.loss) == (rate, audio.shape, None)
        np.testing.assert_allclose(out, audio, atol=step, rtol=0)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    container=st.sampled_from(["WAV", "FLAC", "AIFF", "OGG", "MP3"]),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000]),
    channels=st.integers(1, 2),
    frames=st.integers(1, 20_000),
)
def test_any_length_comes_back(tmp_path: Path, container: str, rate: int, channels: int, frames: int) -> None:
    audio = music(channels, frames, rate)
    soundfile.write(tmp_path / "a", audio.T, rate, format=container)
    out, reader = read(tmp_path / "a")
    assert (out.shape, reader.loss) == (audio.shape, None)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.opus"])
def test_blocks_join_without_a_seam(tmp_path: Path, name: str) -> None:
    """A decoder that seeks between blocks begins each with an MP3 frame whose bits lie before it."""
    audio = music(2, 6 * RATE, RATE)
    write(tmp_path / name, audio)
    out, _ = read(tmp_path / name)
    assert np.abs(out - audio).max() < 0.1


@pytest.mark.parametrize(
    ("name", "codec", "rate", "extra"),
    [
        ("a.m4a", "aac", 44100, 0),
        ("a.m4a", "aac", 96000, 0),
        ("a.mp4", "alac", 44100, 0),
        ("a.mp3", "libmp3lame", 44100, 0),
        ("a.mp3", "libmp3lame", 22050, 0),
        ("a.opus", "libopus", 48000, 0),
        ("a.flac", "flac", 96000, 0),
        ("a.wv", "wavpack", 44100, 0),
        ("a.mkv", "flac", 44100, 0),
        ("a.mkv", "libopus", 48000, 0),
        ("a.webm", "libopus", 48000, 0),
        ("a.mkv", "aac", 44100, 1023),  # nothing in it tells how much of the last codec frame is padding
    ],
)  # fmt: skip
def test_codecs_keep_every_sample_in_its_place(
    tmp_path: Path, name: str, codec: str, rate: int, extra: int
) -> None:
    audio = music(2, 2 * rate + 123, rate)
    out, reader = read(encode(tmp_path / name, codec, audio, rate))
    assert reader.info.sample_rate == rate
    assert reader.loss is None
    assert 0 <= out.shape[1] - audio.shape[1] <= extra
    error = out[:, : audio.shape[1]] - audio
    if codec in ("alac", "flac", "wavpack"):
        assert np.abs(error).max() <= 2**-14
    assert rms(error) < LOSSY


@pytest.mark.parametrize(("name", "codec", "channels"), [("a.mkv", "flac", 8), ("a.wv", "wavpack", 16)])
def test_eight_channels_and_more_do_not_crash(tmp_path: Path, name: str, codec: str, channels: int) -> None:
    """Planes of eight channels are counted beyond their end in PyAV."""
    audio = music(channels, RATE, RATE)
    out, reader = read(encode(tmp_path / name, codec, audio))
    assert (out.shape, reader.loss) == (audio.shape, None)
    np.testing.assert_allclose(out, audio, atol=2**-14)


def test_the_audio_of_a_video_is_read(tmp_path: Path) -> None:
    audio = music(2, RATE, RATE)
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        sound: Any = container.add_stream("aac", rate=RATE, layout="stereo")
        container.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0
        convert = av.AudioResampler(format="fltp", layout="stereo", rate=RATE, frame_size=1024)
        for part in [*convert.resample(frame), *convert.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    out, reader = read(tmp_path / "film.mp4")
    assert (out.shape, reader.loss) == (audio.shape, None)


def write(path: Path, audio: np.ndarray) -> None:
    """Write any format by the ending of its name."""
    if path.suffix in (".wav", ".aiff", ".flac", ".ogg", ".mp3"):
        soundfile.write(path, audio.T, RATE)
    elif path.suffix == ".opus":
        soundfile.write(path, audio.T, 48000, "OPUS", format="OGG")
    else:
        codec = {".m4a": "aac", ".mka": "aac", ".mkv": "flac", ".webm": "libopus", ".wv": "wavpack"}[
            path.suffix
        ]
        rate = 48000 if codec == "libopus" else RATE
        encode(path, codec, audio, rate, **({"movflags": "faststart"} if path.suffix == ".m4a" else {}))


NAMES = ["a.wav", "a.aiff", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.m4a", "a.mka", "a.mkv", "a.webm", "a.wv"]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_cut_file_still_holds_is_read_and_the_loss_is_told(tmp_path: Path, name: str) -> None:
    audio = music(2, 6 * RATE, RATE)
    path = tmp_path / name
    write(path, audio)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    out, reader = read(path)
    assert out.shape[1] > 2 * RATE  # blocks of one second are what Opus in Ogg loses at the most
    assert reader.loss is not None
    assert "ends" in reader.loss
    assert rms(out[:, : 2 * RATE] - audio[:, : 2 * RATE]) < LOSSY


@pytest.mark.parametrize(
    ("name", "codec", "channels"),
    [
        ("a.voc", "pcm_u8", 1),
        ("a.voc", "pcm_s16le", 2),
        ("a.avi", "pcm_s16le", 2),
        ("a.avi", "libmp3lame", 2),
        ("a.avi", "ac3", 6),
    ],
)
def test_voc_and_avi_files_are_whole_or_end_early(
    tmp_path: Path, name: str, codec: str, channels: int
) -> None:
    audio = music(channels, 30 * RATE, RATE)
    path = encode(tmp_path / name, codec, audio)
    out, reader = read(path)
    assert reader.loss is None
    if codec == "pcm_s16le":
        np.testing.assert_allclose(out, audio, atol=2**-15)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert read(path)[1].loss is not None


@pytest.mark.parametrize("codec", ["libmp3lame", "ac3", "pcm_s16le"])
def test_a_hole_in_an_avi_file_is_told(tmp_path: Path, codec: str) -> None:
    path = encode(tmp_path / "a.avi", codec, music(2, 8 * RATE, RATE))
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 5000] = bytes(5000)
    path.write_bytes(data)
    assert "damaged: a part of it is missing" in (read(path)[1].loss or "")


@pytest.mark.parametrize(("container", "subtype"), [("RF64", "PCM_16"), ("W64", "PCM_24"), ("AU", "PCM_16")])
@pytest.mark.parametrize("size", [b"\0", b"\xff"])
def test_a_header_that_was_never_filled_in_hides_nothing(
    tmp_path: Path, container: str, subtype: str, size: bytes
) -> None:
    audio = music(2, 3 * RATE, RATE)
    path = tmp_path / "a"
    soundfile.write(path, audio.T, RATE, subtype, format=container)
    data = bytearray(path.read_bytes())
    if container == "RF64":
        assert data[12:16] == b"ds64"
        data[20:44] = size * 24
        at = data.find(b"data")
        data[at + 4 : at + 8] = b"\xff" * 4
    elif container == "W64":
        at = data.find(b"data", 40)
        data[at + 16 : at + 24] = data[16:24] = size * 8
    else:
        data[8:12] = size * 4
    path.write_bytes(data)
    out, reader = read(path)
    assert (reader.loss, reader.info.depth, reader.info.sample_rate) == (None, subtype, RATE)
    np.testing.assert_allclose(out, audio, atol=2**-15)


def test_an_ending_that_libsndfile_takes_for_raw_samples_makes_no_noise(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", "aac", music(2, 2 * RATE, RATE))
    for ending in ("au", "snd", "vox", "gsm"):
        (tmp_path / f"song.{ending}").write_bytes((tmp_path / "a.m4a").read_bytes())
        out, reader = read(tmp_path / f"song.{ending}")
        assert (reader.info.channels, reader.loss, out.shape[1]) == (2, None, 2 * RATE)
        (tmp_path / f"text.{ending}").write_text("no sound at all\n" * 1000)
        with pytest.raises(AudioFileError, match="not audio"):
            AudioReader(tmp_path / f"text.{ending}")


@pytest.mark.parametrize("name", ["a.caf", "a.au", "a.rf64"])
def test_a_second_file_behind_the_first_is_told(tmp_path: Path, name: str) -> None:
    container = name.partition(".")[2].upper()
    soundfile.write(tmp_path / name, music(2, RATE, RATE).T, RATE, "PCM_16", format=container)
    assert read(tmp_path / name)[1].loss is None
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data + data)
    assert f"{len(data)} more bytes after them" in (read(tmp_path / name)[1].loss or "")


@pytest.mark.parametrize(("codec", "name"), [("flac", "a.mka"), ("alac", "a.mka"), ("pcm_s16le", "a.mkv")])
def test_a_few_hundredths_of_a_second_that_matroska_lost_are_told(
    tmp_path: Path, codec: str, name: str
) -> None:
    path = encode(tmp_path / name, codec, music(2, 4 * RATE, RATE))
    assert read(path)[1].loss is None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 99 // 100])
    assert read(path)[1].loss is not None


def test_a_burst_that_only_damage_makes_is_silenced_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = music(2, 4 * RATE, RATE)
    for name, codec in (("a.mp3", None), ("a.m4a", "aac")):
        path = tmp_path / name
        soundfile.write(path, audio.T, RATE) if codec is None else encode(path, codec, audio)
        monkeypatch.setattr("sepvae.audio.decoders.base.FAR_BEYOND", 8.0)
        assert read(path)[1].loss is None
        monkeypatch.setattr("sepvae.audio.decoders.base.FAR_BEYOND", 0.3)  # so that something is
        out, reader = read(path)
        assert np.abs(out).max() <= 0.3
        assert "silent, the first at" in (reader.loss or "")
    loud = 100 * audio
    soundfile.write(tmp_path / "a.wav", loud.T, RATE, "FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "a.wav")[0], loud)  # floats may be as loud as they like


def test_flac_in_ogg_is_whole_or_ends_early(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.oga", "flac", music(2, 6 * RATE, RATE))
    assert read(path)[1].loss is None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert "ends without the mark" in (read(path)[1].loss or "")


@pytest.mark.parametrize(("name", "free"), [("a.wav", False), ("a.mp3", True)])
def test_an_mp3_in_a_wav_or_of_a_free_bitrate_is_whole(tmp_path: Path, name: str, free: bool) -> None:
    """Its length is guessed by libsndfile."""
    rate = 48000  # at which no frame has padding
    audio = music(2, 3 * rate, rate)
    path = encode(tmp_path / name, "libmp3lame", audio, rate, **({"write_xing": "0"} if free else {}))
    data = bytearray(path.read_bytes())
    for frame in range(data.index(b"\xff\xfb"), len(data), 384) if free else ():
        data[frame + 2] &= 0x0F
    path.write_bytes(data)
    out, reader = read(path)
    assert 0 <= out.shape[1] - audio.shape[1] <= 3 * 1152
    assert reader.loss is None


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus", "a.m4a", "a.mka", "a.mkv", "a.webm", "a.wv"])
def test_what_follows_damage_keeps_its_place(tmp_path: Path, name: str, rng: np.random.Generator) -> None:
    audio = music(2, 8 * RATE, RATE)
    path = tmp_path / name
    write(path, audio)
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 5
    data[middle : middle + 600] = rng.bytes(600)
    path.write_bytes(data)
    out, reader = read(path)
    assert 0 <= out.shape[1] - audio.shape[1] <= 1023
    assert reader.loss is not None
    assert "cannot be decoded" in reader.loss
    tail = slice(-2 * RATE - 3000, -3000)
    kept = out[:, : audio.shape[1]]
    assert rms(kept[:, tail] - audio[:, tail]) < LOSSY
    assert np.abs(kept).max() < 0.6  # silence or sound, but no crash of wrong numbers


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
@pytest.mark.parametrize("page", [-3, -2, -1])
def test_damage_in_the_last_pages_of_an_ogg_file_is_told(tmp_path: Path, name: str, page: int) -> None:
    path = tmp_path / name
    write(path, music(2, 8 * RATE, RATE))
    data = bytearray(path.read_bytes())
    begins = [match.start() for match in re.finditer(b"OggS", data)]
    data[begins[page] + 100] ^= 1
    path.write_bytes(data)
    _, reader = read(path)
    assert reader.loss is not None


def test_a_flac_frame_with_a_wrong_checksum_is_silent_and_all_others_are_exact(tmp_path: Path) -> None:
    audio = np.rint(music(2, 8 * RATE, RATE) * 2**15).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", audio.T, RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.flac").write_bytes(data)
    out, reader = read(tmp_path / "a.flac")
    wrong = np.flatnonzero((np.rint(out * 2**15) != audio).any(axis=0))
    assert out.shape == audio.shape
    assert 0 < np.ptp(wrong) < 4096
    assert not out[:, wrong[0] : wrong[-1]].any()
    assert f"the first at {wrong[0] // 4096 * 4096 / RATE:.2f} s" in (reader.loss or "")


def test_bytes_that_an_mp3_lost_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.mp3", music(2, 8 * RATE, RATE))
    data = (tmp_path / "a.mp3").read_bytes()
    middle = len(data) // 2
    (tmp_path / "a.mp3").write_bytes(data[:middle] + bytes(range(50)) + data[middle + 500 :])
    out, reader = read(tmp_path / "a.mp3")
    assert abs(out.shape[1] - 8 * RATE) < 3 * 1152
    assert "in 1 place are silent, the first at about" in (reader.loss or "")


@pytest.mark.parametrize(("name", "extra"), [("a.mp3", 4000), ("a.ogg", 1024), ("a.opus", 1024)])
def test_files_joined_end_to_end_are_read_to_the_last(tmp_path: Path, name: str, extra: int) -> None:
    first, second = music(2, 2 * RATE, RATE), music(2, 3 * RATE, RATE)
    joined = io.BytesIO()
    for part in (first, second):
        write(tmp_path / name, part)
        joined.write((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(joined.getvalue())
    out, reader = read(tmp_path / name)
    assert 0 <= out.shape[1] - 5 * RATE <= extra  # of the codecs, between the two
    assert reader.loss is None


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_an_opus_file_that_begins_midway_is_in_its_place(tmp_path: Path, channels: int) -> None:
    """Its positions count from when the radio station began."""
    audio = music(channels, 4 * 48000, 48000)
    path = tmp_path / "a.opus"
    encode(path, "libopus", audio, 48000)
    expected, _ = read(path)
    move_pages(path, 1_000_000)
    out, reader = read(path)
    assert (out.shape, reader.loss) == (expected.shape, None)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def move_pages(path: Path, samples: int) -> None:
    """Move the positions that the pages of an Ogg file count."""
    data = bytearray(path.read_bytes())
    begins = [match.start() for match in re.finditer(b"OggS", data)]
    for begin, end in zip(begins, [*begins[1:], len(data)], strict=True):
        (granule,) = struct.unpack_from("<q", data, begin + 6)
        if granule > 0:
            struct.pack_into("<q", data, begin + 6, granule + samples)
            data[begin + 22 : begin + 26] = bytes(4)
            struct.pack_into("<I", data, begin + 22, ogg_checksum(bytes(data[begin:end])))
    path.write_bytes(data)


@pytest.mark.parametrize("samples", [-15_000, 100_000])
def test_a_vorbis_file_that_was_cut_by_copying_keeps_its_end(tmp_path: Path, samples: int) -> None:
    """Its first page may begin before zero, or later."""
    path = tmp_path / "a.ogg"
    write(path, music(1, 4 * RATE, RATE))
    expected, _ = read(path)
    move_pages(path, samples)
    out, reader = read(path)
    assert reader.loss is None
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_a_wav_with_24_bits_somewhere_in_four_bytes_is_refused(tmp_path: Path, ambiguous_wav: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(ambiguous_wav)
    with pytest.raises(AudioFileError, match="does not tell how its samples are stored"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("channels", "block_align", "bits", "tag"),
    [(2, 4, 24, 1), (2, 2, 16, 1), (1, 1, 16, 1), (2, 4, 32, 3), (2, 4, 20, 1), (2, 8, 16, 1)],
)
def test_a_wav_whose_samples_do_not_take_their_bytes_is_refused(
    tmp_path: Path, noise: np.ndarray, channels: int, block_align: int, bits: int, tag: int, extensible: bool
) -> None:
    path = tmp_path / "a.wav"
    samples = np.zeros((999, 2)) if tag == 3 else noise[:, :999].T
    soundfile.write(path, samples, 44100, format="WAVEX" if extensible else "WAV", subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"fmt ") + 8
    struct.pack_into("<H", content, at + 24 if extensible else at, tag)
    struct.pack_into("<H", content, at + 2, channels)
    struct.pack_into("<IHH", content, at + 8, 44100 * block_align, block_align, bits)
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match="does not tell how its samples are stored"):
        read(path)


@pytest.mark.parametrize(("block_align", "bits"), [(0, 16), (2, 16), (8, 16), (4, 12)])
def test_a_wav_with_one_wrong_field_or_with_fewer_bits_than_whole_bytes_is_read(
    tmp_path: Path, noise: np.ndarray, block_align: int, bits: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise.T, 44100, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, content.index(b"fmt ") + 20, block_align, bits)
    path.write_bytes(content)
    np.testing.assert_allclose(read(path)[0], noise, atol=2.0**-15)


def test_a_tag_that_is_not_utf_8_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.tta"
    signal = music(1, RATE, RATE)
    encode(path, "tta", signal)
    path.write_bytes(path.read_bytes() + b"TAG" + "Ärger".encode("latin-1").ljust(125, b"\0"))
    out, reader = read(path)
    assert reader.loss is None
    np.testing.assert_allclose(out, signal, atol=2.0**-7)  # eight bits


ID3V2 = b"ID3\4\0\0" + bytes([0, 0, 16, 0]) + b"a tag of 2048 bytes".ljust(2048)
ID3V1 = b"TAG".ljust(128, b"a")
LYRICS = b"LYRICSBEGIN" + b"IND0000210".ljust(900, b"z") + b"000911LYRICS200"


@pytest.mark.parametrize(
    "tags",
    [ID3V2, ID3V1 + ID3V1, LYRICS, LYRICS + ID3V1, b"TAG+".ljust(227, b"a") + ID3V1],
    ids=["ID3v2", "ID3v1 twice", "Lyrics3", "Lyrics3 and ID3v1", "ID3v1 at length"],
)
def test_tags_behind_an_mp3_are_no_damage(tmp_path: Path, tags: bytes) -> None:
    audio = music(2, 2 * RATE, RATE)
    write(tmp_path / "a.mp3", audio)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(ID3V2 + ID3V2 + data + tags)
    out, reader = read(tmp_path / "a.mp3")
    assert (out.shape, reader.loss) == (audio.shape, None)
    (tmp_path / "a.mp3").write_bytes(data[:-1000] + tags)
    assert read(tmp_path / "a.mp3")[1].loss is not None


@pytest.mark.parametrize("ending", [ID3V1, bytes(999)], ids=["ID3v1", "zeros"])
def test_what_stands_behind_a_wavpack_file_is_no_damage_unless_it_may_be_sound(
    tmp_path: Path, ending: bytes
) -> None:
    audio = music(2, 2 * RATE, RATE)
    path = encode(tmp_path / "a.wv", "wavpack", audio)
    whole = path.read_bytes()
    path.write_bytes(whole + ending)
    out, reader = read(path)
    assert (out.shape, reader.loss) == (audio.shape, None)
    path.write_bytes(whole[:-1000] + ending)
    assert "ends after" in (read(path)[1].loss or "")
    path.write_bytes(whole + whole)
    assert "cannot be decoded beyond 2.00 s" in (read(path)[1].loss or "")


def test_an_mp3_of_changing_bitrate_that_tells_no_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile guesses its length by the first frame."""
    audio = music(2, 6 * RATE, RATE)
    write(tmp_path / "a.mp3", audio)
    data = (tmp_path / "a.mp3").read_bytes().replace(b"Xing", bytes(4))
    (tmp_path / "a.mp3").write_bytes(data)
    out, reader = read(tmp_path / "a.mp3")
    assert reader.loss is None
    assert 0 <= out.shape[1] - audio.shape[1] <= 4 * 1152


def test_an_mp3_whose_header_counts_itself_is_whole_if_no_byte_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    write(path, music(2, 2 * RATE, RATE))
    data = bytearray(path.read_bytes())
    at = max(data.find(b"Xing"), data.find(b"Info"))
    assert data[at + 7] & 3 == 3  # it counts frames and bytes
    data[at + 8 : at + 12] = (int.from_bytes(data[at + 8 : at + 12], "big") + 1).to_bytes(4, "big")
    path.write_bytes(data)
    assert read(path)[1].loss is None
    path.write_bytes(data[: -(-len(data) * 2 // 3)])
    assert read(path)[1].loss is not None
    data[at + 8 : at + 12] = (int.from_bytes(data[at + 8 : at + 12], "big") + 1).to_bytes(4, "big")
    path.write_bytes(data)
    assert read(path)[1].loss is not None


def test_an_mp3_that_was_cut_by_copying_is_whole(tmp_path: Path) -> None:
    """Its header then counts thousands of samples that players leave out."""
    path = tmp_path / "a.mp3"
    write(path, music(2, 2 * RATE, RATE))
    expected, _ = read(path)
    data = bytearray(path.read_bytes())
    at = data.find(b"LAME") + 21
    delay, padding = int.from_bytes(data[at : at + 3], "big") >> 12, data[at + 2] | (data[at + 1] & 15) << 8
    assert expected.shape[1] == 2 * RATE
    data[at : at + 3] = (4000 << 12 | padding).to_bytes(3, "big")
    path.write_bytes(data)
    out, reader = read(path)
    assert reader.loss is None
    assert out.shape[1] == expected.shape[1] + delay - 4000


@pytest.mark.parametrize("tag_bytes", [0, 2048, 500_000])
def test_tags_between_joined_mp3_files_are_no_damage(
    tmp_path: Path, rng: np.random.Generator, tag_bytes: int
) -> None:
    write(tmp_path / "a.mp3", music(2, 2 * RATE, RATE))
    data = (tmp_path / "a.mp3").read_bytes()
    size = bytes(tag_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "a.mp3").write_bytes(data + data)
    expected, _ = read(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").write_bytes(data + ID3V1 + b"ID3\4\0\0" + size + rng.bytes(tag_bytes) + data)
    out, reader = read(tmp_path / "a.mp3")
    assert reader.loss is None
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_a_raw_ac3_file_that_ends_within_a_frame_is_damaged(tmp_path: Path, codec: str, rate: int) -> None:
    path = encode(tmp_path / f"a.{codec}", codec, music(2, 2 * rate, rate), rate)
    out, reader = read(path)
    assert reader.loss is None
    assert 2 * rate <= out.shape[1] < 2 * rate + 3 * 1536
    whole = path.read_bytes()
    for missing in (5, 500):
        path.write_bytes(whole[:-missing])
        cut, reader = read(path)
        assert "damaged" in (reader.loss or "")
        sound = out.shape[1] - 1536
        np.testing.assert_array_equal(cut[:, :sound], out[:, :sound])


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "flac"), ("a.webm", "libopus")])
def test_sound_that_begins_later_than_the_picture_is_whole(tmp_path: Path, name: str, codec: str) -> None:
    rate = 48000
    audio = music(2, 2 * rate, rate)
    encode(tmp_path / name, codec, audio, rate, begin_s=5)
    out, reader = read(tmp_path / name)
    assert (out.shape, reader.loss) == (audio.shape, None)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    assert "ends after" in (read(tmp_path / name)[1].loss or "")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_a_name_that_is_no_text_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.ogg")
    audio = music(1, 8 * RATE, RATE)
    soundfile.write(tmp_path / "a.ogg", audio.T, RATE)
    data = bytearray((tmp_path / "a.ogg").read_bytes())
    path.write_bytes(data)
    out, reader = read(path)
    assert (out.shape, reader.loss) == (
        audio.shape,
        None,
    )  # ffmpeg's libraries leave out the last 128 samples
    path.write_bytes(data[: len(data) * 2 // 3])
    assert read(path)[1].loss is not None
    soundfile.write(tmp_path / "a.wav", audio.T, RATE, "PCM_32")
    (tmp_path / "a.wav").rename(path)
    assert read(path)[1].info.depth == "FLOAT"


@pytest.mark.parametrize(
    ("name", "codec", "extra"),
    [("a.wma", "wmav2", 2047), ("a.wma", "wmav1", 2047), ("a.avi", "wmav2", 2047), ("a.vob", "ac3", 1535)],
)
def test_timestamps_that_jump_in_a_whole_file_are_no_damage(
    tmp_path: Path, name: str, codec: str, extra: int
) -> None:
    """A frame of an MPEG program may have that of the next one."""
    audio = music(2, 8 * 48000, 48000)
    out, reader = read(encode(tmp_path / name, codec, audio, 48000))
    assert reader.loss is None
    assert 0 <= out.shape[1] - audio.shape[1] <= extra


@pytest.mark.parametrize("rate", [8000, 32000, 44100])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.wma", "wmav2"), ("a.wma", "wmav1"), ("a.avi", "wmav2"), ("a.wav", "wmav1")]
)
def test_the_beginning_of_wma_is_read_and_in_its_place(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    audio = music(1, rate, rate)
    out, reader = read(encode(tmp_path / name, codec, audio, rate))
    assert reader.loss is None
    assert 0 <= out.shape[1] - rate < 2048  # its last frame is filled up
    for part in (slice(0, 300), slice(0, rate // 2)):
        assert np.square(out[:, part] - audio[:, part]).mean() < 0.1 * np.square(audio[:, part]).mean()


def test_wma_that_was_cut_is_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wma", "wmav2", music(2, RATE, RATE))
    path.write_bytes(path.read_bytes()[: -(path.stat().st_size // 8)])
    assert "ends after" in (read(path)[1].loss or "")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_a_size_that_its_writer_never_filled_in_is_no_loss(tmp_path: Path, name: str, size: int) -> None:
    audio = music(2, 3000, RATE)
    soundfile.write(tmp_path / name, audio.T, RATE)
    data = bytearray((tmp_path / name).read_bytes())
    at = data.index(b"data" if name == "a.wav" else b"SSND") + 4
    data[at : at + 4] = struct.pack("<I" if name == "a.wav" else ">I", size)
    (tmp_path / name).write_bytes(data)
    out, reader = read(tmp_path / name)
    np.testing.assert_allclose(out, audio, atol=2**-15)
    assert reader.loss is None


def test_a_flac_file_is_read_to_its_last_frame_whatever_its_header_counts(tmp_path: Path) -> None:
    audio = music(2, 3 * RATE, RATE)
    soundfile.write(tmp_path / "a.flac", audio.T, RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    for counted in (1, RATE, 3 * RATE - 1, 0):
        data[22:26] = struct.pack(">I", counted)
        (tmp_path / "a.flac").write_bytes(ID3V2 + data)
        out, reader = read(tmp_path / "a.flac")
        assert reader.loss is None
        np.testing.assert_allclose(out, audio, atol=2**-15)
