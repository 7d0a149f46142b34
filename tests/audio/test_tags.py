"""Tags travel from any format to any other, and the files stay what they are."""

import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from sepvae.audio.encoding import ENCODINGS, AudioWriter
from sepvae.audio.tags import NO_TAGS, Tags, read_tags

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
SONG = Tags(
    {
        "title": "Größe, 100 % „laut“",
        "artist": "Ä & B",
        "album": "C",
        "album_artist": "D",
        "composer": "E",
        "track": "3/9",
        "disc": "1/2",
        "date": "2020-02-29",
        "genre": "Folk",
        "comment": "two\nlines",
        "copyright": "CC0",
        "isrc": "DEA012345678",
    },
    PNG,
    "image/png",
)


def write(path: Path, audio: np.ndarray, tags: Tags) -> Path:
    encoding = ENCODINGS[path.suffix[1:]]
    writer = AudioWriter(path, encoding, encoding.subtypes[0], 48000, len(audio))
    writer.write(audio)
    writer.finish(tags)
    writer.publish()
    return path


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("provenance", ["", '{"sepvae":"1"}'])
def test_tags_are_read_back_and_the_samples_are_the_same(
    tmp_path: Path, tone: np.ndarray, name: str, provenance: str
) -> None:
    tags = dataclasses.replace(SONG, provenance=provenance)
    tagged = write(tmp_path / f"a.{name}", tone, tags)
    plain = write(tmp_path / f"b.{name}", tone, NO_TAGS)
    assert read_tags(tagged) == tags
    assert read_tags(plain) == NO_TAGS
    np.testing.assert_array_equal(soundfile.read(tagged)[0], soundfile.read(plain)[0])


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_large_cover_spans_many_blocks_and_pages(tmp_path: Path, tone: np.ndarray, name: str) -> None:
    """More than 255 segments of an Ogg page, and more than one step of moving what follows."""
    cover = PNG + np.random.default_rng(0).bytes(200_000)
    tags = dataclasses.replace(SONG, cover=cover)
    path = write(tmp_path / f"a.{name}", tone, tags)
    assert read_tags(path).cover == cover
    assert soundfile.info(path).frames == tone.shape[1]


def test_moving_in_small_steps_changes_nothing(
    tmp_path: Path, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [write(tmp_path / f"a.{name}", tone, SONG).read_bytes() for name in ("flac", "ogg", "mp3")]
    monkeypatch.setattr("sepvae.audio.headers._COPY_BYTES", 1000)
    assert [
        write(tmp_path / f"a.{name}", tone, SONG).read_bytes() for name in ("flac", "ogg", "mp3")
    ] == expected


def test_a_wav_tells_old_readers_too(tmp_path: Path, tone: np.ndarray) -> None:
    path = write(tmp_path / "a.wav", tone, dataclasses.replace(SONG, provenance='{"sepvae":"1"}'))
    with soundfile.SoundFile(path) as file:
        assert (file.title, file.artist, file.album) == tuple(
            SONG.fields[name] for name in ("title", "artist", "album")
        )
        assert file.software == '{"sepvae":"1"}'


def test_the_title_names_the_stem() -> None:
    stem = SONG.for_stem("vocals", "how")
    assert stem.fields["title"] == SONG.fields["title"] + " (vocals)"
    assert (stem.provenance, stem.cover) == ("how", PNG)
    assert NO_TAGS.for_stem("vocals", "").fields == {}


def test_what_cannot_be_read_has_no_tags(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"no audio" * 100)
    assert read_tags(tmp_path / "a.mp3") == NO_TAGS
    assert read_tags(tmp_path / "missing") == NO_TAGS


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_stem_that_was_cut_anywhere_has_some_tags_or_none(
    tmp_path: Path, tone: np.ndarray, name: str
) -> None:
    content = write(tmp_path / f"a.{name}", tone, SONG).read_bytes()
    for length in [*range(0, 600, 7), *range(600, len(content), 997)]:
        (tmp_path / f"cut.{name}").write_bytes(content[:length])
        found = read_tags(tmp_path / f"cut.{name}").fields
        assert all(SONG.fields[field].startswith(text.rstrip("\ufffd")) for field, text in found.items())


def test_a_picture_in_a_format_that_nobody_knows_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", format="matroska", options={"fflags": "bitexact"}) as container:
        container.metadata["title"] = "Take Me Out"
        video = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux([*video.encode(picture), *video.encode(None)])
    known, unknown = b"V_MPEG4/ISO/ASP", b"V_XPEG4/ISO/ASP"
    path.write_bytes(path.read_bytes().replace(known, unknown))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context is None
    assert read_tags(path) == Tags({"title": "Take Me Out"})


def test_huge_texts_and_pictures_are_not_handed_on(tmp_path: Path, tone: np.ndarray) -> None:
    tags = Tags({"title": "t", "comment": "c" * 20_000}, PNG + bytes(11 << 20), "image/png")
    assert read_tags(write(tmp_path / "a.flac", tone, tags)) == Tags({"title": "t"})


@pytest.mark.parametrize(("language", "told"), [("und", {}), ("deu", {"language": "deu"})])
def test_an_unknown_language_is_no_tag(tmp_path: Path, language: str, told: dict[str, str]) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        stream.metadata["language"] = language
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_tags(path).fields == told
