"""A hole in an MPEG file becomes silence of its length; all around it is heard as in the whole file."""

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from sepvae.audio import AudioReader
from sepvae.audio.mpeg import scan_mpeg

RATE = 44100
SECONDS = 8


def read(path: Path) -> tuple[np.ndarray, str | None]:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks()), axis=1), reader.loss


@pytest.fixture(params=["mp3", "mp3 without Xing", "mono mp3", "22 kHz mp3", "mp2"])
def path(request: pytest.FixtureRequest, tmp_path: Path, rng: np.random.Generator) -> Path:
    """An MPEG file of noise that swells and fades, so that its bitrate varies where it may."""
    kind = request.param
    rate = 22050 if kind.startswith("22") else RATE
    time = np.arange(SECONDS * rate) / rate
    audio = 0.1 * rng.standard_normal((len(time), 1 if kind.startswith("mono") else 2))
    audio *= 1 + np.sin(2 * np.pi * time)[:, None]
    if kind == "mp2":
        with av.open(str(tmp_path / "a.mp2"), "w") as container:
            stream: Any = container.add_stream("mp2", rate=rate, layout="stereo")
            packed = (32767 * np.clip(audio, -1, 1)).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo")
            frame.sample_rate = rate
            for part in av.AudioResampler(format="s16", layout="stereo", frame_size=1152).resample(frame):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        return tmp_path / "a.mp2"
    soundfile.write(tmp_path / "a.mp3", audio, rate)
    if "without" in kind:
        data = (tmp_path / "a.mp3").read_bytes()
        (tmp_path / "a.mp3").write_bytes(data.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4)))
    return tmp_path / "a.mp3"


@pytest.mark.parametrize("hole_bytes", [100, 500, 4096, 12_000])
@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_what_is_around_a_hole_keeps_its_place_and_its_level(
    path: Path, rng: np.random.Generator, hole_bytes: int, fill: str
) -> None:
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    counts = b"Xing" in data or b"Info" in data
    begin = len(data) * 2 // 5
    data[begin : begin + hole_bytes] = bytes(hole_bytes) if fill == "zeros" else rng.bytes(hole_bytes)
    path.write_bytes(data)
    out, loss = read(path)
    if hole_bytes <= 500 and "in 1 place" not in (loss or ""):  # it lay within one frame, which says nothing
        return
    found = re.fullmatch(r"damaged: about (.*) s in 1 place are silent, the first at about (.*) s", loss)
    assert found
    rate = 22050 if whole.shape[1] < SECONDS * 30_000 else RATE
    silent, begin = round(float(found[1]) * rate), round(float(found[2]) * rate)
    shift = out.shape[1] - whole.shape[1]
    assert abs(shift) <= (0 if counts else 0.5 * silent + 1152)  # frames differ in length
    first, last = begin - 4 * 1152, begin + silent + 8 * 1152
    assert first > 2 * rate
    assert last < out.shape[1] - 2 * rate
    np.testing.assert_allclose(out[:, :first], whole[:, :first], atol=1e-4)
    np.testing.assert_allclose(out[:, last:], whole[:, last - shift :], atol=1e-4)
    assert np.abs(out).max() <= 1.2 * np.abs(whole).max()


def test_zeros_behind_the_last_frame_are_no_damage(path: Path) -> None:
    whole, _ = read(path)
    path.write_bytes(path.read_bytes() + bytes(5000))
    out, loss = read(path)
    assert loss is None
    np.testing.assert_allclose(out, whole, atol=1e-4)


def test_other_bytes_behind_the_last_frame_are_told(path: Path, rng: np.random.Generator) -> None:
    whole, _ = read(path)
    path.write_bytes(path.read_bytes() + b"\1" + rng.bytes(4999))
    out, loss = read(path)
    assert "its last 5000 bytes" in (loss or "")
    np.testing.assert_allclose(out[:, : whole.shape[1]], whole, atol=1e-4)


def test_a_header_that_promises_too_much_makes_no_endless_silence(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.1 * rng.standard_normal((4 * RATE, 2)), RATE)
    data = bytearray(path.read_bytes())
    at = max(data.find(b"Xing"), data.find(b"Info"))
    data[at + 8 : at + 12] = b"\x7f\xff\xff\xff"
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    path.write_bytes(data)
    out, loss = read(path)
    assert loss
    assert out.shape[1] < 12 * RATE


def test_many_holes_of_any_size_are_read_to_the_end(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.1 * rng.standard_normal((8 * RATE, 2)), RATE)
    whole = path.read_bytes()
    for _ in range(20):
        data = bytearray(whole)
        for begin in rng.integers(2000, len(data), 12):
            size = int(rng.integers(1, 3000))
            data[begin : begin + size] = rng.bytes(min(size, len(data) - begin))
        path.write_bytes(data)
        scan = scan_mpeg(path)
        assert scan is not None
        ends = [patch.end for patch in scan.patches]
        assert all(end <= patch.begin for end, patch in zip(ends, scan.patches[1:], strict=False))
        out, loss = read(path)
        assert loss
        assert out.shape[1] == pytest.approx(8 * RATE, abs=12 * 1152)


def test_a_file_of_nothing_but_candidates_takes_no_time(tmp_path: Path) -> None:
    frame = b"\xff\xfb\x90\x00".ljust(417, b"\0")
    (tmp_path / "a.mp3").write_bytes(frame * 3 + b"\xff" * 20_000_000)
    scan = scan_mpeg(tmp_path / "a.mp3")
    assert scan is not None
    assert (scan.frames, scan.trailing) == (3, 20_000_000)
