"""The stems layout is read for what it says, refused by name where it is broken, written whole or not at all."""

import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from sepvae.data import corpora
from sepvae.data.corpora import headroom, read_audio, read_stems, resample, scan, write_track
from sepvae.errors import DataError

RATE = 8000


def put(path: Path, audio: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.T, rate, subtype="FLOAT" if path.suffix == ".wav" else None)


def noise(rng: np.random.Generator, channels: int = 2, length: int = 800) -> np.ndarray:
    return rng.uniform(-0.3, 0.3, (channels, length))


def test_scan_copes_with_missing_stems_lengths_channels_and_rates(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    put(tmp_path / "b" / "vocals.wav", noise(rng, channels=1, length=500))
    put(tmp_path / "b" / "drums.flac", noise(rng, length=900))
    put(tmp_path / "a" / "bass.wav", noise(rng), rate=11025)
    put(tmp_path / "a" / "mixture.wav", noise(rng))  # no source: ignored
    put(tmp_path / ".draft" / "bass.wav", noise(rng))
    (tmp_path / "empty").mkdir()
    track_set = scan(tmp_path)
    assert [track.name for track in track_set] == ["a", "b"]
    a, b = track_set.tracks
    assert (a.sample_rate, a.frames, set(a.files), a.solo) == (11025, 800, {"bass"}, True)
    assert (b.sample_rate, b.frames, set(b.files), b.solo) == (RATE, 900, {"vocals", "drums"}, False)
    assert a.seconds == 800 / 11025
    assert track_set.songs == (b,)
    assert track_set.with_source("drums") == (b,)


@pytest.mark.parametrize("name", ["bass.WAV", "bass.m4a"])
def test_a_source_in_a_file_that_is_not_read_is_no_silence(
    tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    put(tmp_path / "song" / "drums.wav", noise(rng))
    (tmp_path / "song" / name).write_bytes(b"audio")
    with pytest.raises(DataError, match=f"{name}: files of a set end in"):
        scan(tmp_path)
    assert len(scan(tmp_path, ["drums"])) == 1


def test_a_source_in_another_case_is_no_silence(tmp_path: Path, rng: np.random.Generator) -> None:
    put(tmp_path / "one" / "drums.wav", noise(rng))
    put(tmp_path / "two" / "Drums.wav", noise(rng))
    for sources in (["drums"], ["drums", "Drums"]):
        with pytest.raises(DataError, match=r"rums\.wav: its name differs .* only in case"):
            scan(tmp_path, sources)
    (tmp_path / "two" / "Drums.wav").rename(tmp_path / "two" / "Drums.txt")
    assert len(scan(tmp_path, ["drums"])) == 1


def test_track_json_overrules_the_count_of_stems(tmp_path: Path, rng: np.random.Generator) -> None:
    put(tmp_path / "song" / "drums.wav", noise(rng))
    (tmp_path / "song" / "track.json").write_text('{"solo": false}')
    assert not scan(tmp_path).tracks[0].solo


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_track_json_is_named(tmp_path: Path, rng: np.random.Generator, text: str) -> None:
    put(tmp_path / "song" / "drums.wav", noise(rng))
    (tmp_path / "song" / "track.json").write_text(text)
    with pytest.raises(DataError, match=r"song.track\.json"):
        scan(tmp_path)


def test_a_corrupt_file_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    put(tmp_path / "song" / "drums.wav", noise(rng))
    (tmp_path / "song" / "bass.wav").write_bytes(b"RIFF, but no more than that")
    with pytest.raises(DataError, match=r"song.bass\.wav"):
        scan(tmp_path)
    with pytest.raises(DataError, match=r"song.bass\.wav"):
        read_audio(tmp_path / "song" / "bass.wav")


def test_a_wav_with_24_bits_somewhere_in_four_bytes_is_refused(tmp_path: Path, ambiguous_wav: bytes) -> None:
    path = tmp_path / "song" / "drums.wav"
    path.parent.mkdir()
    path.write_bytes(ambiguous_wav)
    for read in (scan, lambda _: read_audio(path)):
        with pytest.raises(
            DataError, match=r"drums\.wav: its header does not tell how its samples are stored"
        ):
            read(tmp_path)


def test_a_wav_whose_samples_do_not_fit_into_their_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song" / "drums.wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros((100, 2)), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    bits_at = content.index(b"fmt ") + 22
    content[bits_at : bits_at + 2] = (24).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"drums\.wav: its header does not tell how its samples are stored"):
        scan(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_with_the_name_of_the_file(
    tmp_path: Path, value: float
) -> None:
    wave = np.full((100, 2), 0.1, np.float32)
    wave[60, 1] = value
    soundfile.write(tmp_path / "x.wav", wave, 8000, subtype="FLOAT")
    assert np.isfinite(read_audio(tmp_path / "x.wav", frames=50)[0]).all()
    with pytest.raises(DataError, match=r"x\.wav holds NaN or infinite samples"):
        read_audio(tmp_path / "x.wav")


def test_what_contradicts_itself_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="no such dataset folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no track with any of"):
        scan(tmp_path)
    put(tmp_path / "rates" / "vocals.wav", noise(rng))
    put(tmp_path / "rates" / "drums.wav", noise(rng), rate=16000)
    with pytest.raises(DataError, match=r"drums\.wav is at 16000 Hz.*8000 Hz"):
        scan(tmp_path)
    (tmp_path / "rates" / "drums.wav").unlink()
    put(tmp_path / "rates" / "vocals.flac", noise(rng))
    with pytest.raises(DataError, match="two files for one stem"):
        scan(tmp_path)
    put(tmp_path / "wide.wav", noise(rng, channels=3))
    with pytest.raises(DataError, match=r"one or two channels in .*wide\.wav, found 3"):
        read_audio(tmp_path / "wide.wav")


def test_a_part_of_a_file_is_padded_past_its_end_and_mono_is_doubled(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    audio = noise(rng, channels=1).astype(np.float32)
    put(tmp_path / "x.wav", audio)
    part, rate = read_audio(tmp_path / "x.wav", start=700, frames=300)
    assert (part.shape, rate) == ((2, 300), RATE)
    np.testing.assert_array_equal(part[:, :100], np.repeat(audio[:, 700:], 2, axis=0))
    assert not part[:, 100:].any()
    assert not read_audio(tmp_path / "x.wav", start=5000, frames=10)[0].any()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("span", [(0, None), (0, 100), (333, 200), (700, 300), (2000, 5)])
def test_a_mapped_file_reads_as_a_decoded_one(
    tmp_path: Path, rng: np.random.Generator, channels: int, span: tuple[int, int | None]
) -> None:
    samples = (noise(rng, channels).T * 32767).astype(np.int16)
    samples[5] = -32768
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "x.flac", samples, RATE, subtype="PCM_16")
    start, frames = span
    mapped, rate = read_audio(tmp_path / "x.wav", start=start, frames=frames)
    decoded, _ = read_audio(tmp_path / "x.flac", start=start, frames=frames)
    np.testing.assert_array_equal(mapped, decoded)
    assert (mapped.dtype, rate) == (np.float32, RATE)
    assert type(mapped) is np.ndarray


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "PCM_U8", "ALAW"])
def test_other_wav_files_are_decoded(tmp_path: Path, rng: np.random.Generator, subtype: str) -> None:
    audio = noise(rng)
    soundfile.write(tmp_path / "x.wav", audio.T, RATE, subtype=subtype)
    # eight bits, linear or not, are the coarsest of them
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav")[0], audio, atol=0.02)


def test_a_wav_file_that_is_cut_short_or_has_more_chunks_is_read(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    samples = (noise(rng).T * 32767).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="PCM_16")
    whole = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:1044])
    assert read_audio(tmp_path / "cut.wav")[0].shape == (2, 250)
    more = b"LIST" + (6).to_bytes(4, "little") + b"INFOab"
    (tmp_path / "more.wav").write_bytes(whole[:12] + more + whole[12:])
    np.testing.assert_array_equal(read_audio(tmp_path / "more.wav")[0], read_audio(tmp_path / "x.wav")[0])


def test_stems_are_brought_to_one_rate_and_length(tmp_path: Path, rng: np.random.Generator) -> None:
    put(tmp_path / "song" / "vocals.wav", noise(rng, length=400))
    put(tmp_path / "song" / "drums.wav", noise(rng, length=1000))
    stems = read_stems(scan(tmp_path).tracks[0], 2 * RATE)
    assert {audio.shape for audio in stems.values()} == {(2, 2000)}
    assert not stems["vocals"][:, 900:].any()
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)[None].astype(np.float32)
    doubled = resample(tone, RATE, 2 * RATE)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / (2 * RATE))
    # the filter rings at both ends, where the tone is cut off
    np.testing.assert_allclose(doubled[0, 1000:-1000], expected[1000:-1000], atol=1e-4)


def test_a_written_track_keeps_the_balance_and_never_clips(tmp_path: Path, rng: np.random.Generator) -> None:
    loud = {"vocals": noise(rng) * 3, "drums": noise(rng) * 2, "bass": np.zeros((2, 800))}
    gain = write_track(tmp_path / "song", loud, RATE, {"solo": False})
    assert gain == headroom(loud) < 1
    track = scan(tmp_path).tracks[0]
    assert set(track.files) == {"vocals", "drums"}  # a silent stem has no file
    stems = read_stems(track, RATE)
    for source, audio in stems.items():
        # half a step of 16 bits, and full scale is 32767 when written and 32768 when read
        np.testing.assert_allclose(audio, loud[source] * gain, atol=1.5 / 32768)
    assert np.abs(sum(stems.values())).max() <= 1
    assert json.loads((track.folder / "track.json").read_text()) == {"gain": gain, "solo": False}


def test_quiet_stems_are_written_as_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    assert write_track(tmp_path / "song", {"vocals": noise(rng), "other": noise(rng)}, RATE, {}) == 1.0


def test_a_track_that_fails_half_way_leaves_nothing(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = soundfile.write

    def full_disk(file: BinaryIO, *arguments: object, **options: object) -> None:
        if "drums" in file.name:
            raise OSError("no space left")
        real(file, *arguments, **options)

    monkeypatch.setattr(soundfile, "write", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_track(tmp_path / "song", {"vocals": noise(rng), "drums": noise(rng)}, RATE, {})
    assert list(tmp_path.iterdir()) == []


def test_a_track_that_another_run_has_made_meanwhile_stays(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = corpora.os.replace

    def late(draft: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "vocals.wav").write_bytes(b"theirs")
        real(draft, folder)

    monkeypatch.setattr(corpora.os, "replace", late)
    write_track(tmp_path / "song", {"vocals": noise(rng)}, RATE, {})
    assert [path.name for path in tmp_path.iterdir()] == ["song"]
    assert (tmp_path / "song" / "vocals.wav").read_bytes() == b"theirs"


def test_silence_and_nonsense_are_not_written(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="nothing but silence for song"):
        write_track(tmp_path / "song", {"vocals": np.zeros((2, 9))}, RATE, {})
    with pytest.raises(DataError, match="not finite"):
        write_track(tmp_path / "song", {"vocals": np.full((2, 9), np.nan)}, RATE, {})
    with pytest.raises(DataError, match="different shapes"):
        write_track(tmp_path / "song", {"vocals": noise(rng), "bass": noise(rng, length=9)}, RATE, {})
