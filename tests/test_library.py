"""What a program that uses the library relies on: progress, cancellation, batches, threads, latency, little memory."""

import hashlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sepvae import Separator, checkpoint
from sepvae.errors import AudioFileError, CancelledError, SepvaeError, ShapeError
from sepvae.models.separation import SeparationVAE
from sepvae.progress import Progress
from sepvae.separation.estimation import mask_stream
from sepvae.separation.quality import Quality
from sepvae.signal import gains
from sepvae.signal.stft import STFT

RATE = 44100
ROUNDING = 2e-6  # float32 sums in another order


@pytest.fixture
def separator(tiny_model: SeparationVAE) -> Separator:
    return Separator(tiny_model, "cpu", precision="float32", segment_s=0.1)


@pytest.fixture
def long_noise(rng: np.random.Generator) -> np.ndarray:
    """Five blocks of stereo noise."""
    return (0.1 * rng.standard_normal((2, 300_000))).astype(np.float32)


def test_progress_rises_to_one_and_tells_the_time_left(separator: Separator, long_noise: np.ndarray) -> None:
    seen: list[Progress] = []
    separator.separate(np.stack([long_noise, long_noise]), RATE, progress=seen.append)
    assert len(seen) > 6
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert seen[-1].seconds_left == 0
    assert all(p.seconds_left is not None and p.seconds_left > 0 for p in seen[1:-1])


def test_returning_false_cancels_and_leaves_nothing(
    tmp_path: Path, separator: Separator, long_noise: np.ndarray
) -> None:
    stop = threading.Event()

    def progress(done: Progress) -> bool:
        if done > 0.3:
            stop.set()
        return not stop.is_set()

    with pytest.raises(CancelledError, match="cancelled by its caller after"):
        separator.separate(long_noise, RATE, progress=progress)
    soundfile.write(tmp_path / "song.wav", long_noise.T, RATE)
    with pytest.raises(CancelledError):
        separator.separate_file(tmp_path / "song.wav", tmp_path / "out", progress=progress)
    assert [path.name for path in tmp_path.rglob("*")] == ["song.wav"]
    separator.separate(long_noise[:, :1000], RATE, progress=lambda done: None)


def test_a_file_of_unknown_length_can_be_cancelled_too(
    tmp_path: Path, separator: Separator, long_noise: np.ndarray
) -> None:
    path = tmp_path / "song.ogg"
    soundfile.write(path, long_noise.T, RATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255  # a damaged page, so that the length that the last one tells is none
    path.write_bytes(data)
    told: list[Progress] = []

    def progress(done: Progress) -> bool:
        told.append(done)
        return len(told) < 2

    with pytest.raises(CancelledError, match="after 0 %"):
        separator.separate_to(path, io.BytesIO(), stem="bass", progress=progress)
    assert told == [0, 0]


def test_it_is_too_late_to_cancel_what_is_done(
    tmp_path: Path, separator: Separator, long_noise: np.ndarray
) -> None:
    soundfile.write(tmp_path / "song.wav", long_noise.T, RATE, subtype="FLOAT")
    told: list[Progress] = []

    def progress(done: Progress) -> bool:
        told.append(done)
        return np.bool_(not any((tmp_path / "out").glob("song/vocals.wav")))  # type: ignore[return-value]

    result = separator.separate_file(tmp_path / "song.wav", tmp_path / "out", progress=progress)
    assert told[-1] == 1
    assert all(path.is_file() for path in result)


def test_what_the_callback_raises_passes_through(separator: Separator, long_noise: np.ndarray) -> None:
    def progress(done: Progress) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        separator.separate(long_noise, RATE, progress=progress)


@pytest.mark.parametrize("kind", ["float32", "float64", "torch.float32", "torch.bfloat16"])
def test_a_batch_is_its_items_and_stays_as_it_was(
    separator: Separator, rng: np.random.Generator, kind: str
) -> None:
    audio = rng.uniform(-0.5, 0.5, (3, 2, 5000))
    batch = audio.astype(kind) if "torch" not in kind else torch.tensor(audio, dtype=getattr(torch, kind[6:]))
    before = batch.copy() if isinstance(batch, np.ndarray) else batch.clone()
    stems = separator.separate(batch, RATE)
    for index in range(3):
        alone = separator.separate(batch[index], RATE)
        for name, stem in stems.items():
            assert stem.shape == batch.shape
            assert stem.dtype == batch.dtype
            assert (stem[index] == alone[name]).all()
    assert (before == batch).all()


@pytest.mark.parametrize("shape", [(0, 2, 10), (2, 0, 10), (1, 1, 2, 10), ()])
def test_wrong_shapes_are_refused(separator: Separator, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected samples \[B, C, L\]"):
        separator.separate(np.zeros(shape, np.float32), RATE)


def test_threads_share_a_separator(separator: Separator, rng: np.random.Generator) -> None:
    songs = [rng.uniform(-0.5, 0.5, (1 + n % 3, 8000 + 1000 * n)).astype(np.float32) for n in range(6)]
    rates = [RATE, 48000, 22050] * 2
    expected = [separator.separate(song, rate) for song, rate in zip(songs, rates, strict=True)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(separator.separate, songs * 2, rates * 2))
    for one, other in zip(expected * 2, found, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in separator.sources)


@pytest.mark.parametrize("rate", [RATE, 8000, 48000])
def test_a_live_stream_keeps_its_latency(separator: Separator, rng: np.random.Generator, rate: int) -> None:
    stream = separator.stream(rate, 2, segment_s=0.05)
    assert stream.sources == separator.sources
    given_in = came_back = 0
    lags = []
    for _ in range(200):
        block = rng.uniform(-0.5, 0.5, (2, rate // 100)).astype(np.float32)
        given_in += block.shape[1]
        came_back += stream.push(block).shape[-1]
        lags.append((given_in - came_back) / rate)
    assert max(lags) - 0.01 <= stream.latency_s  # a block is taken in at once
    assert max(lags) > stream.latency_s / 3  # it is no excuse either
    assert came_back + stream.finish().shape[-1] == given_in
    assert separator.stream(rate, 2).latency_s > stream.latency_s


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    length=st.integers(1, 12_000),
    channels=st.integers(1, 5),
    rate=st.sampled_from([4000, 16000, 44100, 48000, 192_000]),
    segment_s=st.sampled_from([0.02, 0.07, 3.0]),
    block=st.integers(1, 5000),
)
def test_nothing_depends_on_how_the_work_is_cut(
    tiny_model: SeparationVAE, length: int, channels: int, rate: int, segment_s: float, block: int
) -> None:
    """Chunks, blocks and channels in one call or in several: the same stems, and they add up to the input."""
    audio = np.random.default_rng(length).uniform(-0.3, 0.3, (channels, length)).astype(np.float32)
    whole = Separator(tiny_model, "cpu", precision="float32", segment_s=10.0).separate(audio, rate)
    stream = Separator(tiny_model, "cpu", precision="float32", segment_s=segment_s).stream(rate, channels)
    parts = [stream.push(audio[:, start : start + block]) for start in range(0, length, block)]
    pieces = np.concatenate([*parts, stream.finish()], axis=-1)
    expected = np.stack(list(whole.values()))
    assert pieces.shape == expected.shape
    np.testing.assert_allclose(pieces, expected, atol=ROUNDING)
    np.testing.assert_allclose(pieces.sum(0, dtype=np.float64), audio, atol=2e-7)


class SmallDevice:
    """Lets a model run as if its device had memory for so many frames only, in its network or in its transform.

    Args:
        step: what fails beyond them: `network` or `transform`.
        from_call: that step works without limit before it is called so many times.
    """

    def __init__(
        self,
        model: SeparationVAE,
        frames: int,
        monkeypatch: pytest.MonkeyPatch,
        step: str = "network",
        from_call: int = 0,
    ) -> None:
        self.frames, self.refused, self._calls, self._from_call = frames, 0, 0, from_call
        steps = {
            "network": (model, "log_variances_within", lambda P, P_side: P.shape[-1]),
            "transform": (STFT, "forward", lambda stft, x: x.shape[-1] // stft.hop_length),
        }
        owner, name, self._count = steps[step]
        self._inner = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **options: self._run(*args, **options))

    def _run(self, *args: Any, **options: Any) -> torch.Tensor:
        self._calls += 1
        if self._calls >= self._from_call and self._count(*args) > self.frames:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self._inner(*args, **options)


@pytest.mark.parametrize("quality", [Quality(), Quality(refine=3)], ids=["plain", "refined"])
@pytest.mark.parametrize(
    ("length", "step", "from_call"),
    [(30_000, "network", 0), (200_000, "network", 0), (200_000, "transform", 0), (200_000, "transform", 2)],
)
def test_a_device_without_memory_gets_shorter_chunks_and_the_same_stems(
    stirred_model: SeparationVAE,
    long_noise: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quality: Quality,
    length: int,
    step: str,
    from_call: int,
) -> None:
    monkeypatch.setattr(gains, "HALF_WINDOW", 32)
    loud_at_the_end = long_noise[:, :length] * np.linspace(0, 1, length, dtype=np.float32) ** 2
    separator = Separator(stirred_model, "cpu", precision="float32", segment_s=1.0, quality=quality)
    expected = separator.separate(loud_at_the_end, RATE)
    around = mask_stream(stirred_model, quality).context_frames
    frames = 2 * around + 16  # little more than what a chunk has to see
    device = SmallDevice(stirred_model, frames, monkeypatch, step, from_call)
    stems = separator.separate(loud_at_the_end, RATE)
    assert device.refused > 0
    for name in separator.sources:
        np.testing.assert_allclose(stems[name], expected[name], atol=ROUNDING)
    assert "the device ran out of memory: chunks of" in caplog.text


def test_a_device_with_no_memory_at_all_is_one_clear_error(
    tiny_model: SeparationVAE, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallDevice(tiny_model, 0, monkeypatch)
    with pytest.raises(SepvaeError, match="too little memory even for the shortest chunk"):
        Separator(tiny_model, "cpu", precision="float32").separate(noise, RATE)
    monkeypatch.setattr(tiny_model, "log_variances_within", lambda *_, **__: torch.zeros(1) @ torch.zeros(2))
    with pytest.raises(RuntimeError, match="size"):  # other faults are not taken for that
        Separator(tiny_model, "cpu", precision="float32").separate(noise, RATE)


@pytest.mark.parametrize("gains", [(0.2, 0.05), (20.0, 32768.0)])
def test_how_quiet_or_loud_a_recording_is_does_not_matter(
    stirred_model: SeparationVAE, long_noise: np.ndarray, gains: tuple[float, float]
) -> None:
    separator = Separator(stirred_model, "cpu", precision="float32", quality=Quality(refine=3))
    audio = long_noise[:, :60_000]
    some, other = (
        {name: stem / gain for name, stem in separator.separate(gain * audio, RATE).items()} for gain in gains
    )
    for name, stem in some.items():
        # the floors of silence, 80 dB below full scale, do not move with the recording
        assert np.square(other[name] - stem).mean() < 1e-3 * np.square(stem).mean(), name


def test_an_inverted_channel_gives_inverted_stems(
    stirred_model: SeparationVAE, long_noise: np.ndarray
) -> None:
    separator = Separator(stirred_model, "cpu", precision="float32", quality=Quality(refine=3))
    audio = long_noise[:, :40_000] + long_noise[:1, 40_000:80_000]
    sign = np.array([[1], [-1]], np.float32)
    stems, inverted = separator.separate(audio, RATE), separator.separate(sign * audio, RATE)
    for name, stem in stems.items():
        np.testing.assert_allclose(inverted[name], sign * stem, atol=ROUNDING)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_bad_block_of_a_stream_is_refused_and_moves_nothing(
    stirred_model: SeparationVAE, long_noise: np.ndarray, bad: float
) -> None:
    separator = Separator(stirred_model, "cpu", precision="float32", segment_s=0.2)
    blocks = np.split(long_noise.astype(np.float64), 10, axis=1)
    expected = separator.separate(np.concatenate(blocks[:4] + blocks[5:], axis=1), RATE)
    blocks[4][0, 7] = bad
    stream, out = separator.stream(RATE, 2), []
    for index, block in enumerate(blocks):
        if index == 4:
            with pytest.raises(ShapeError, match="NaN or infinite"):
                stream.push(block)
        else:
            out.append(stream.push(block))
    stems = np.concatenate([*out, stream.finish()], axis=-1)
    np.testing.assert_allclose(stems, list(expected.values()), atol=ROUNDING)


def test_a_stream_ends_with_an_error_within(
    separator: Separator, long_noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = separator.stream(RATE, 2)
    with monkeypatch.context() as patch:

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(separator.model, "log_variances_within", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.push(long_noise)
    for call in (lambda: stream.push(long_noise), stream.finish):
        with pytest.raises(SepvaeError, match="the stream has ended with an error"):
            call()


def test_defaults_of_torch_and_the_callers_autocast_change_nothing(
    stirred_model: SeparationVAE,
    long_noise: np.ndarray,
    tmp_path: Path,
    default_type: Callable[[torch.dtype], None],
) -> None:
    checkpoint.save(tmp_path / "model", stirred_model, {"name": "stirred"})
    audio, options = long_noise[:, :30_000], {"device": "cpu", "precision": "float32", "refine": 3}

    def separate() -> np.ndarray:
        separator = Separator.from_pretrained(tmp_path / "model", **options)
        return np.stack(list(separator.separate(audio, RATE).values()))

    expected = separate()
    for dtype in (torch.float64, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(separate(), expected)
        default_type(dtype)
        np.testing.assert_array_equal(separate(), expected)
        with torch.device("meta"):
            np.testing.assert_array_equal(separate(), expected)


def test_a_stem_that_is_kept_keeps_no_other(separator: Separator, noise: np.ndarray) -> None:
    stem = separator.separate(noise, RATE)["vocals"]
    assert (stem if stem.base is None else stem.base).nbytes == noise.nbytes


@pytest.mark.parametrize("format", ["wav", "flac", "ogg"])
def test_all_is_told_done_when_the_stems_have_their_names(
    tmp_path: Path, separator: Separator, long_noise: np.ndarray, format: str
) -> None:
    soundfile.write(tmp_path / "song.wav", long_noise.T, RATE)
    told: list[tuple[float, bool]] = []

    def progress(done: Progress) -> None:
        told.append((done, (tmp_path / "song" / f"drums.{format}").exists()))

    separator.separate_file(tmp_path / "song.wav", tmp_path, format=format, progress=progress)
    assert told[-1] == (1, True)
    assert all(fraction < 1 and not there for fraction, there in told[:-1])


def test_what_is_only_read_is_not_yet_done(
    tmp_path: Path, tiny_model: SeparationVAE, long_noise: np.ndarray
) -> None:
    soundfile.write(tmp_path / "song.wav", long_noise.T, RATE)
    told: list[float] = []
    one_chunk = Separator(tiny_model, "cpu", precision="float32", segment_s=60.0)
    with (tmp_path / "vocals.wav").open("wb") as file:
        one_chunk.separate_to(tmp_path / "song.wav", file, stem="vocals", progress=told.append)
    assert told[-1] == 1
    assert max(told[:-1]) == 0


def test_an_input_that_is_removed_while_it_is_read_has_been_read(
    tmp_path: Path, separator: Separator, long_noise: np.ndarray
) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, long_noise.T, RATE)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    done = separator.separate_to(
        path, io.BytesIO(), stem="vocals", progress=lambda _: path.unlink(missing_ok=True)
    )
    assert (done.input_sha256, done.frames, done.loss) == (sha256, long_noise.shape[1], None)


def test_a_matrix_is_an_array_too(separator: Separator, long_noise: np.ndarray) -> None:
    noise = long_noise[:, :3000]
    stems = separator.separate(noise.view(np.matrix), RATE)
    np.testing.assert_array_equal(stems["bass"], separator.separate(noise, RATE)["bass"])


def test_a_stream_needs_channels_and_ends_once(separator: Separator, long_noise: np.ndarray) -> None:
    for channels in (0, -1, 1.5, None):
        with pytest.raises(ShapeError, match="channel"):
            separator.stream(RATE, channels)  # type: ignore[arg-type]
    stream = separator.stream(RATE, 2)
    with pytest.raises(ShapeError, match="expected an array"):
        stream.push([[0.0], [0.0]])  # type: ignore[arg-type]
    stream.push(long_noise[:, :3000])
    stream.finish()
    with pytest.raises(SepvaeError, match="has been finished"):
        stream.push(long_noise)
    with pytest.raises(SepvaeError, match="has been finished"):
        stream.finish()


def test_names_may_come_in_any_collection(
    tmp_path: Path, separator: Separator, long_noise: np.ndarray
) -> None:
    noise = long_noise[:, :3000]
    soundfile.write(tmp_path / "song.wav", noise.T, RATE, subtype="FLOAT")
    expected = separator.separate(noise, RATE, present=["bass", "drums"])
    for names in ({"drums", "bass"}, iter(["bass", "drums"])):
        stems = separator.separate(np.stack([noise, noise]), RATE, present=names)
        np.testing.assert_array_equal(stems["bass"][1], expected["bass"])
    wanted = {"present": iter(["bass", "drums"]), "stems": iter(["bass"])}
    result = separator.separate_file(tmp_path / "song.wav", tmp_path / "out", **wanted)  # type: ignore[arg-type]
    [path] = result
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, expected["bass"])


@pytest.mark.parametrize("path", ["", ".", Path("/")])
def test_a_path_without_a_name_is_told_apart_from_wrong_outputs(
    tmp_path: Path, separator: Separator, path: str | Path
) -> None:
    with pytest.raises(AudioFileError, match="is a folder"):
        separator.separate_file(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
