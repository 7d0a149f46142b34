"""Headers that count other samples than there are: what is missing, or left out, is told."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.audio import AudioReader
from sepvae.audio.chunks import scan_chunks
from sepvae.errors import AudioFileError

RATE = 44100


def read(path: Path) -> tuple[np.ndarray, str | None]:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks()), axis=1), reader.loss


FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAVEX", "FLOAT"),
    ("RF64", "PCM_24"),
    ("W64", "PCM_16"),
    ("W64", "DOUBLE"),
    ("W64", "PCM_32"),
    ("AIFF", "PCM_24"),
    ("CAF", "PCM_16"),
    ("CAF", "PCM_24"),
    ("AU", "PCM_16"),
    ("AU", "FLOAT"),
    ("NIST", "PCM_16"),
    ("NIST", "PCM_24"),
]


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
def test_what_a_cut_file_lacks_is_told(
    tmp_path: Path, noise: np.ndarray, container: str, subtype: str
) -> None:
    path = tmp_path / "a"
    soundfile.write(path, np.tile(noise, 4).T, RATE, format=container, subtype=subtype)
    assert read(path)[1] is None
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    out, loss = read(path)
    assert abs(out.shape[1] - 8 * noise.shape[1] / 3) < 2000
    assert loss == f"ends after {out.shape[1] / RATE:.2f} s of the 2.00 s that its header promises"


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
def test_a_single_sample_that_is_missing_is_told(
    tmp_path: Path, noise: np.ndarray, container: str, subtype: str
) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise.T, RATE, format=container, subtype=subtype)
    scan = scan_chunks(path)
    assert scan is not None
    loss = replace(scan, there=scan.declared - 1).fault(noise.shape[1] - 1, RATE)
    frames = noise.shape[1]
    assert loss == f"lacks the last 1 of the {frames} samples that its header promises"


@pytest.mark.parametrize("size", [3_000_000_000, 2_000_000_000])
def test_gigabytes_that_are_missing_are_told(tmp_path: Path, noise: np.ndarray, size: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise.T, RATE)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    out, loss = read(path)
    assert out.shape == noise.shape
    assert loss == f"ends after 0.50 s of the {size / 4 / RATE:.2f} s that its header promises"


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_samples_that_the_header_does_not_count_are_told(
    tmp_path: Path, noise: np.ndarray, name: str
) -> None:
    """The header of a recorder that crashed, or of more than 4 GB, whose size has begun at zero again."""
    path = tmp_path / name
    soundfile.write(path, noise.T, RATE)
    data = bytearray(path.read_bytes())
    at = data.index(b"data" if name == "a.wav" else b"SSND") + 4
    kept = noise.shape[1] // 2
    bytes_order = ("<I", 0) if name == "a.wav" else (">I", 8)
    data[at : at + 4] = struct.pack(bytes_order[0], 4 * kept + bytes_order[1])
    path.write_bytes(data)
    _, loss = read(path)
    assert loss == f"its header counts 0.25 s, and {4 * kept} more bytes after them are left out"


@pytest.mark.parametrize(
    "rest",
    [b"LIST" + struct.pack("<I", 8192) + b"INFO" + bytes(8188), bytes(100_000), b"\xff\x80" * 1000],
    ids=["a chunk", "zeros", "a few bytes"],
)
@pytest.mark.parametrize("frames", [1000, 1001])
def test_what_may_follow_the_samples_is_no_loss(
    tmp_path: Path, noise: np.ndarray, rest: bytes, frames: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise[:1, :frames].T, RATE, "PCM_U8")  # an odd number of bytes is padded, or not
    path.write_bytes(path.read_bytes() + rest)
    assert read(path)[1] is None


def test_a_wav_behind_another_is_told(tmp_path: Path, noise: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", noise.T, RATE)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes() * 2)
    out, loss = read(tmp_path / "a.wav")
    assert out.shape == noise.shape
    assert "left out" in (loss or "")


def test_a_chunk_of_an_absurd_size_ends_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.caf").write_bytes(
        b"caff" + struct.pack(">HH", 1, 0) + b"free" + struct.pack(">Q", (1 << 64) - 16) + bytes(100)
    )
    with pytest.raises(AudioFileError, match=r"damaged beyond reading$"):
        AudioReader(tmp_path / "a.caf")


def test_a_chunk_behind_the_samples_of_a_w64_file_is_no_sound(tmp_path: Path, noise: np.ndarray) -> None:
    """Editors put their markers there."""
    path = tmp_path / "a.w64"
    soundfile.write(path, noise.T, RATE, "PCM_32")
    with path.open("ab") as file:
        file.write(b"summarylist".ljust(16, b"\0") + struct.pack("<Q", 24 + 4000) + bytes(range(250)) * 16)
    with AudioReader(path) as reader:
        out = np.concatenate(list(reader.blocks()), axis=1)
    assert (reader.loss, reader.info.depth) == (None, "FLOAT")
    np.testing.assert_allclose(out, noise, atol=2**-24)
