"""A wav that goes into a pipe or a file arrives whole, or the loss is told."""

import errno
import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.audio.stdio import WavStream
from sepvae.errors import OutputError

RATE = 44100


class Sluggish(io.RawIOBase):
    """A file without a buffer that takes at most some bytes at a time, and a number of times only."""

    def __init__(self, times: int) -> None:
        self.content = b""
        self._times = times

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        self._times -= 1
        if self._times < 0:
            return None
        part = bytes(data)[:1000]  # type: ignore[call-overload]
        self.content += part
        return len(part)


def test_a_file_that_takes_a_part_at_a_time_gets_all(noise: np.ndarray) -> None:
    file = Sluggish(times=10**6)
    wav = WavStream(file, RATE, 2)  # type: ignore[arg-type]
    wav.write(noise)
    wav.finish()
    samples, _ = soundfile.read(io.BytesIO(file.content), dtype="float32")
    np.testing.assert_array_equal(samples, noise.T)


def test_a_file_that_takes_no_more_is_an_error(noise: np.ndarray) -> None:
    wav = WavStream(Sluggish(times=9), RATE, 2)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="the output: cannot be written"):
        wav.write(noise)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stem.wav"
    path.touch()
    with path.open("rb") as file, pytest.raises(OutputError, match=r"stem\.wav: cannot be written"):
        WavStream(file, RATE, 2)
    with path.open("wb") as file:
        pass
    with pytest.raises(OutputError, match=r"stem\.wav: cannot be written \(.*closed file"):
        WavStream(file, RATE, 2)


def test_a_file_that_only_goes_forwards_gets_a_wav_to_its_end(noise: np.ndarray) -> None:
    packed = io.BytesIO()
    with gzip.open(packed, "wb") as file:
        wav = WavStream(file, RATE, 2)  # type: ignore[arg-type]
        wav.write(noise)
        wav.finish()
    samples, _ = soundfile.read(io.BytesIO(gzip.decompress(packed.getvalue())), dtype="float32")
    np.testing.assert_array_equal(samples, noise.T)


def test_a_header_that_the_system_does_not_let_be_corrected_is_an_error(noise: np.ndarray) -> None:
    class Failing(io.BytesIO):
        def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
            raise OSError(errno.EIO, "Input/output error")

    wav = WavStream(Failing(), RATE, 2)
    wav.write(noise)
    with pytest.raises(OutputError, match=r"cannot be written \(Input/output error\)"):
        wav.finish()


def test_a_file_that_knows_nothing_but_writing_will_do(noise: np.ndarray) -> None:
    class Writer:
        content = b""

        def write(self, data: memoryview) -> int:
            self.content += data
            return len(data)

    wav = WavStream(file := Writer(), RATE, 2)  # type: ignore[arg-type]
    wav.write(noise)
    wav.finish()
    samples, _ = soundfile.read(io.BytesIO(file.content), dtype="float32")
    np.testing.assert_array_equal(samples, noise.T)


@pytest.mark.parametrize("file", ["out.wav", Path("out.wav"), io.StringIO()])
def test_what_takes_no_bytes_is_refused(file: object) -> None:
    with pytest.raises(OutputError, match="open for writing bytes, found an object of type"):
        WavStream(file, RATE, 2)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="appending files can be sought elsewhere")
def test_nothing_is_put_behind_a_wav_that_is_appended_to_a_file(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "both"
    path.write_bytes(b"mine")
    with path.open("ab") as file:
        wav = WavStream(file, RATE, 2)
        wav.write(noise)
        wav.finish()
    assert path.read_bytes().startswith(b"mine")
    samples, _ = soundfile.read(io.BytesIO(path.read_bytes()[4:]), dtype="float32")
    np.testing.assert_array_equal(samples, noise.T)
