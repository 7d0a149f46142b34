"""Each speaker keeps its channel, whatever the order of a format."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from sepvae import Separator
from sepvae.audio import AudioReader
from sepvae.audio.decoders.ffmpeg import AvDecoder
from sepvae.audio.encoding import ENCODINGS, AudioWriter
from sepvae.audio.surround import STANDARD_MASKS, from_vorbis, mask_of, to_vorbis
from sepvae.models.separation import SeparationVAE

RATE, SECONDS = 48000, 1


def speakers(channels: int) -> np.ndarray:
    """A tone of its own for each channel, in the order of wav: the fourth of six or more is for low sounds only."""
    hertz = [40 if channel == 3 and channels > 5 else 200 + 150 * channel for channel in range(channels)]
    times = np.arange(RATE * SECONDS) / RATE
    return (0.3 * np.sin(2 * np.pi * np.array(hertz)[:, None] * times)).astype(np.float32)


def write(path: Path, name: str, audio: np.ndarray) -> None:
    writer = AudioWriter(path, ENCODINGS[name], ENCODINGS[name].subtypes[0], RATE, len(audio))
    writer.write(audio)
    writer.finish()
    writer.publish()


def heard_by_ffmpeg(path: Path) -> np.ndarray:
    decoder = AvDecoder(path)
    out = decoder.read()
    decoder.close()
    return out.T


def read(path: Path) -> np.ndarray:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_channels_keep_their_speakers(tmp_path: Path, name: str, channels: int) -> None:
    audio = speakers(channels)
    path = tmp_path / f"a.{name}"
    write(path, name, audio)
    inner = slice(5000, -5000)
    for out in (heard_by_ffmpeg(path), read(path)):
        assert (
            np.abs((out - audio[:, : out.shape[1]])[:, inner]).max() < 0.15
        )  # another tone would be an error of 0.6


@pytest.mark.parametrize("channels", range(1, 10))
def test_both_orders_are_inverse(channels: int) -> None:
    assert [to_vorbis(channels)[k] for k in from_vorbis(channels)] == list(range(channels))


def test_surround_stems_in_ogg_add_up(tmp_path: Path, tiny_model: SeparationVAE) -> None:
    write(tmp_path / "film.wav", "wav", speakers(6))
    separator = Separator(tiny_model, "cpu", precision="float32", segment_s=0.5)
    result = separator.separate_file(tmp_path / "film.wav", tmp_path, format="ogg", verify=True)
    assert result.sum_error is not None
    assert result.sum_error.db is not None
    assert result.sum_error.db < -15


# 7.1, 7.1 (wide), 5.1 with side speakers, four in front and behind, 2.1, unassigned, a pair behind, left only
MASKS = [(8, 0x63F), (8, 0xFF), (6, 0x60F), (4, 0x107), (3, 0xB), (6, 0), (4, 0), (2, 0x30), (2, 0), (1, 0x1)]


def write_wav(path: Path, channels: int, mask: int | None) -> None:
    """A wav of 16 bits, with an extensible header where it has a mask."""
    samples = (2**15 * speakers(channels)[:, :2000]).astype("<i2").T.tobytes()
    fmt = struct.pack("<HIIHH", channels, RATE, 2 * channels * RATE, 2 * channels, 16)
    if mask is None:
        fmt = b"\1\0" + fmt
    else:
        kind = bytes.fromhex("0100000000001000800000aa00389b71")
        fmt = b"\xfe\xff" + fmt + struct.pack("<HHI", 22, 16, mask) + kind
    body = (
        b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(samples)) + samples
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def mask_in(path: Path) -> int | None:
    with AudioReader(path) as reader:
        return reader.info.channel_mask


@pytest.fixture
def separator(tiny_model: SeparationVAE) -> Separator:
    return Separator(tiny_model, "cpu", precision="float32", segment_s=0.5)


@pytest.mark.parametrize("name", ["wav", "flac"])
@pytest.mark.parametrize(("channels", "mask"), MASKS)
def test_stems_have_the_speakers_of_their_input(
    tmp_path: Path, separator: Separator, channels: int, mask: int, name: str
) -> None:
    write_wav(tmp_path / "film.wav", channels, mask)
    result = separator.separate_file(tmp_path / "film.wav", tmp_path, format=name)
    assert {mask_in(path) for path in result} == {mask}
    assert result.warnings == ()
    if mask:
        with av.open(str(next(iter(result)))) as container:
            assert mask_of([speaker.name for speaker in container.streams.audio[0].layout.channels]) == mask
    assert separator.separate_file(tmp_path / "film.wav", tmp_path, format=name).skipped


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("name", ["flac", "ogg", "opus"])
def test_formats_without_a_mask_have_the_speakers_of_their_number_of_channels(
    tmp_path: Path, name: str, channels: int
) -> None:
    write(tmp_path / f"a.{name}", name, speakers(channels))
    side = {5: 0x607, 6: 0x60F} if name == "flac" else {}  # which says "back or side"
    assert mask_in(tmp_path / f"a.{name}") == side.get(channels, STANDARD_MASKS[channels])


@pytest.mark.parametrize(("layout", "mask"), [("5.1(side)", 0x60F), ("4.0", 0x107), ("stereo", 0x3)])
def test_what_ffmpeg_decodes_has_the_speakers_that_it_tells(tmp_path: Path, layout: str, mask: int) -> None:
    with av.open(str(tmp_path / "a.ac3"), "w") as container:
        stream = container.add_stream("ac3", rate=RATE, layout=layout)
        count = stream.layout.nb_channels
        frame = av.AudioFrame.from_ndarray(speakers(count)[:, : 16 * 1536], format="fltp", layout=layout)
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert mask_in(tmp_path / "a.ac3") == mask


@pytest.mark.parametrize(("channels", "mask"), [(1, None), (2, None), (1, 0x4), (2, 0x3)])
def test_mono_and_stereo_are_plain_wav(
    tmp_path: Path, separator: Separator, channels: int, mask: int | None
) -> None:
    write_wav(tmp_path / "song.wav", channels, mask)
    stems = separator.separate_file(tmp_path / "song.wav", tmp_path)
    assert {soundfile.info(path).format for path in stems} == {"WAV"}
    stems = separator.separate_file(tmp_path / "song.wav", tmp_path, format="flac")
    assert all(b"CHANNEL_MASK" not in path.read_bytes() for path in stems)


@pytest.mark.parametrize(("channels", "mask"), [(6, 0x3F), (8, 0x63F), (9, 0)])
def test_speakers_that_the_input_does_not_tell_are_those_that_players_assume(
    tmp_path: Path, separator: Separator, channels: int, mask: int
) -> None:
    write_wav(tmp_path / "film.wav", channels, None)
    assert mask_in(tmp_path / "film.wav") is None
    assert {mask_in(path) for path in separator.separate_file(tmp_path / "film.wav", tmp_path)} == {mask}


def test_rf64_has_the_speakers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepvae.audio.headers.RIFF_LIMIT", 1000)
    writer = AudioWriter(tmp_path / "a.wav", ENCODINGS["wav"], "PCM_16", RATE, 8, 0x63F)
    writer.write(speakers(8))
    writer.finish()
    writer.publish()
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert mask_in(tmp_path / "a.wav") == 0x63F
    np.testing.assert_allclose(read(tmp_path / "a.wav"), speakers(8), atol=2.0**-15)


@pytest.mark.parametrize("name", ["ogg", "opus"])
@pytest.mark.parametrize(
    ("channels", "mask", "told"),
    [(4, 0x107, True), (4, 0, True), (4, 0x33, False), (4, None, False), (2, 0, False)],
)
def test_a_format_that_cannot_tell_the_speakers_says_so(
    tmp_path: Path, separator: Separator, name: str, channels: int, mask: int | None, told: bool
) -> None:
    write_wav(tmp_path / "film.wav", channels, mask)
    result = separator.separate_file(tmp_path / "film.wav", tmp_path, format=name)
    assert any("players will take them for others" in warning for warning in result.warnings) == told
