"""Separation of arrays and files: shapes and sums hold, and nothing depends on how the work is cut up."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sepvae import Separator, checkpoint
from sepvae.audio.resample import Resampler
from sepvae.errors import AudioFileError, OptionError, OutputError, SepvaeError, ShapeError
from sepvae.models.separation import SeparationVAE

RATE = 44100
SUM = 2e-7  # the sum of the float32 stems of a signal below one
ROUNDING = 1e-6  # float32 sums in another order


@pytest.fixture
def separator(tiny_model: SeparationVAE) -> Separator:
    return Separator(tiny_model, "cpu", precision="float32", segment_s=0.1)


def total(stems: dict[str, np.ndarray]) -> np.ndarray:
    return np.sum([stem.astype(np.float64) for stem in stems.values()], axis=0)


def test_every_short_length_comes_back_and_adds_up(separator: Separator, noise: np.ndarray) -> None:
    n_fft = separator.model.config.n_fft
    for length in [1, 2, 3, 63, 64, 65, *range(100, 3 * n_fft, 61), 3 * n_fft]:
        stems = separator.separate(noise[:, :length], RATE)
        assert tuple(stems) == separator.sources
        assert all(stem.shape == (2, length) for stem in stems.values())
        np.testing.assert_allclose(total(stems), noise[:, :length], atol=SUM)


def test_chunks_equal_the_whole(tiny_model: SeparationVAE, noise: np.ndarray) -> None:
    whole = tiny_model.separate_frames(tiny_model.stft(torch.tensor(noise)[None]))
    expected = tiny_model.stft.inverse(whole, noise.shape[1])[0].detach().numpy()
    assert np.ptp(expected.std(axis=(1, 2))) > 1e-3  # the sources differ, so the comparison means something
    for segment_s in (0.05, 0.1, 100.0):
        stems = Separator(tiny_model, "cpu", precision="float32", segment_s=segment_s).separate(noise, RATE)
        np.testing.assert_allclose(np.stack(list(stems.values())), expected, atol=ROUNDING)


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_the_cut_into_blocks_does_not_matter(separator: Separator, noise: np.ndarray, rate: int) -> None:
    def run(block: int) -> np.ndarray:
        stream = separator.stream(rate, 2)
        parts = [stream.push(noise[:, start : start + block]) for start in range(0, noise.shape[1], block)]
        return np.concatenate([*parts, stream.finish()], axis=-1)

    expected = np.stack(list(separator.separate(noise, rate).values()))
    for block in (1777, 10**6):
        np.testing.assert_array_equal(run(block), expected)


def test_mono_equals_each_channel_of_dual_mono(separator: Separator, noise: np.ndarray) -> None:
    mono = noise[0]
    alone = separator.separate(mono, RATE)
    dual = separator.separate(np.stack([mono, mono]), RATE)
    for source in separator.sources:
        assert alone[source].shape == mono.shape
        np.testing.assert_array_equal(dual[source], np.stack([alone[source]] * 2))


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_rates_add_up(separator: Separator, rng: np.random.Generator, rate: int, channels: int) -> None:
    audio = rng.uniform(-0.5, 0.5, (channels, 10_007)).astype(np.float32)
    stems = separator.separate(audio, rate)
    assert all(stem.shape == audio.shape for stem in stems.values())
    np.testing.assert_allclose(total(stems), audio, atol=SUM)
    assert all(np.abs(stem[:, -10:]).max() > 1e-3 for stem in stems.values())  # no stem ends early
    assert all(separator.separate(audio[:, :length], rate)["bass"].shape[1] == length for length in (1, 2, 5))


def test_the_rate_of_a_signal_does_not_change_its_stems(separator: Separator) -> None:
    """The same sound at 48 kHz gives the same sounds; a sample of delay would be an error of 0.05."""

    def chord(rate: int) -> np.ndarray:
        time = np.arange(rate // 2) / rate
        tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in (110, 1230, 2500))
        return (0.1 * np.hanning(len(time)) * tones)[None].astype(np.float32)

    expected = separator.separate(chord(RATE), RATE)
    for source, stem in separator.separate(chord(48_000), 48_000).items():
        resampler = Resampler(48_000, RATE, 1)
        back = np.concatenate([resampler.push(stem), resampler.finish()], axis=1)
        np.testing.assert_allclose(back, expected[source], atol=1e-3)


def test_what_the_model_does_not_reach_goes_to_one_stem(separator: Separator) -> None:
    """A tone above the model's Nyquist at 96 kHz is in no other stem, and its energy is told."""
    time = np.arange(48_000) / 96_000
    low, high = 0.3 * np.sin(2 * np.pi * 1000 * time), 0.1 * np.sin(2 * np.pi * 30_000 * time)
    audio = ((low + high) * np.hanning(len(time)))[None].astype(np.float32)
    stream = separator.stream(96_000, 1)
    stems = np.concatenate([stream.push(audio), stream.finish()], axis=-1)
    expected_db = 10 * np.log10(0.1**2 / (0.3**2 + 0.1**2))
    assert stream.residual_db == pytest.approx(expected_db, abs=0.05)
    level = np.abs(np.fft.rfft(stems[:, 0]))[:, 15_000]  # at 30 kHz
    other = separator.sources.index("other")
    assert level[other] > 1e4 * np.delete(level, other).max()


@pytest.mark.parametrize("channels", [3, 4, 5, 8])
def test_more_channels_are_separated_in_pairs(
    separator: Separator, rng: np.random.Generator, channels: int
) -> None:
    audio = (0.1 * rng.standard_normal((channels, 5000))).astype(np.float32)
    stems = separator.separate(audio, RATE)
    for start in range(0, channels, 2):
        pair = separator.separate(audio[start : start + 2], RATE)
        for source in separator.sources:
            np.testing.assert_array_equal(stems[source][start : start + 2], pair[source])


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_silence_gives_silence(separator: Separator, rate: int) -> None:
    stems = separator.separate(np.zeros((2, 20_000), np.float32), rate)
    assert all(np.abs(stem).max() < 1e-9 for stem in stems.values())


def test_bfloat16_is_close_and_adds_up_as_well(tiny_model: SeparationVAE, noise: np.ndarray) -> None:
    exact = Separator(tiny_model, "cpu", precision="float32").separate(noise, RATE)
    coarse = Separator(tiny_model, "cpu", precision="bfloat16").separate(noise, RATE)
    np.testing.assert_allclose(total(coarse), noise, atol=SUM)
    for source in exact:
        error = np.square(coarse[source] - exact[source]).mean() / np.square(exact[source]).mean()
        assert 0 < error < 1e-3  # bfloat16 has eight bits of mantissa


def test_arrays_keep_their_kind_type_and_content(separator: Separator, noise: np.ndarray) -> None:
    reference = separator.separate(noise, RATE)["drums"]
    for dtype, tolerance in ((np.float64, ROUNDING), (np.float16, 1e-3)):
        audio = noise.astype(dtype)
        audio.flags.writeable = False
        stems = separator.separate(audio, RATE)
        assert stems["drums"].dtype == dtype
        np.testing.assert_allclose(stems["drums"], reference, atol=tolerance)
    np.testing.assert_allclose(
        total(separator.separate(noise.astype(np.float64), RATE)), noise.astype(np.float64), atol=1e-15
    )
    tensor = torch.tensor(noise, requires_grad=True)
    stems_of_tensor = separator.separate(tensor, RATE)
    assert isinstance(stems_of_tensor["drums"], torch.Tensor)
    np.testing.assert_array_equal(stems_of_tensor["drums"].numpy(), reference)
    assert separator.separate(tensor.detach().bfloat16(), RATE)["drums"].dtype == torch.bfloat16
    np.testing.assert_array_equal(tensor.detach().numpy(), noise)
    np.testing.assert_array_equal(separator.separate(noise[:, ::-1][:, ::-1], RATE)["drums"], reference)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros((1, 2, 2, 9), np.float32), RATE, r"\[C, L\]"),
        (np.zeros((2, 0), np.float32), RATE, r"\[C, L\]"),
        (np.zeros((9000, 2), np.float32), RATE, "channels"),
        (np.zeros((2, 9), np.int16), RATE, "float samples"),
        ([0.0, 1.0], RATE, "float samples"),
        (np.full((2, 9), np.nan, np.float32), RATE, "NaN"),
        (np.zeros((2, 9), np.float32), 0, "rate"),
        (np.zeros((2, 9), np.float32), float("inf"), "whole number of hertz"),
        (np.zeros((2, 9), np.float32), None, "whole number of hertz"),
        (np.zeros((2, 9), np.float32), [RATE], "whole number of hertz"),
        (torch.zeros(2, 9).to_sparse(), RATE, "dense tensor"),
        (torch.zeros(2, 9, device="meta"), RATE, "dense tensor"),
    ],
)
def test_wrong_arrays_are_refused(separator: Separator, audio: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        separator.separate(audio, rate)


def test_numbers_beyond_any_model_are_an_error_not_a_result(separator: Separator) -> None:
    with pytest.raises(SepvaeError, match="not finite"):
        separator.separate(np.full((2, 9000), 1e30, np.float32), RATE)


def test_half_floats_that_would_overflow_are_an_error_not_a_result(
    separator: Separator, rng: np.random.Generator
) -> None:
    loud = (60000 * np.sign(rng.standard_normal((2, 44100)))).astype(np.float16)
    with pytest.raises(SepvaeError, match="not finite"):
        separator.separate(loud, RATE // 2, present=["drums"])  # resampled, the edges are beyond 65504


def test_a_caller_may_have_numpy_raise_at_underflow(separator: Separator, noise: np.ndarray) -> None:
    for audio in (noise.astype(np.float16), noise * np.float32(1e-38), noise * 1e-300):
        with np.errstate(all="raise"):
            separator.separate(audio, RATE)


def test_a_stream_keeps_the_type_of_the_signal_where_it_has_nothing_to_give(
    separator: Separator, noise: np.ndarray
) -> None:
    stream = separator.stream(RATE, 2)
    assert stream.push(noise[:, :9].astype(np.float16)).dtype == np.float16


def test_the_error_on_such_numbers_names_the_file(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, 1e30 * noise, subtype="FLOAT")
    with pytest.raises(SepvaeError, match=r"song\.wav: the model gave numbers"):
        separator.separate_file(path, tmp_path / "out")
    with pytest.raises(SepvaeError, match=r"song\.wav: the model gave numbers"):
        separator.separate_to(path, io.BytesIO(), stem="bass")


def test_unknown_devices_precisions_and_segments_are_refused(tiny_model: SeparationVAE) -> None:
    with pytest.raises(SepvaeError, match="device"):
        Separator(tiny_model, "abacus")
    with pytest.raises(SepvaeError, match="precision"):
        Separator(tiny_model, "cpu", precision="float8")
    with pytest.raises(SepvaeError, match="segment"):
        Separator(tiny_model, "cpu", segment_s=0)
    for wrong in ({"device": None}, {"segment_s": None}, {"segment_s": "3"}, {"segment_s": 10**400}):
        with pytest.raises(SepvaeError):
            Separator(tiny_model, **{"device": "cpu", **wrong})


@pytest.mark.parametrize(
    ("rate", "channels"), [(None, 2), (44100.5, 2), (RATE, 0), (RATE, 65), (RATE, 10**9)]
)
def test_streams_of_no_rate_or_of_too_many_channels_are_refused(
    separator: Separator, rate: int, channels: int
) -> None:
    with pytest.raises(ShapeError):
        separator.stream(rate, channels)


def test_a_rate_may_be_a_tensor_and_a_tensor_may_be_a_view(separator: Separator, noise: np.ndarray) -> None:
    audio = torch.from_numpy(noise[:, :9000])
    stems = separator.separate(audio, RATE)
    view = torch._neg_view(-audio)
    for name, stem in separator.separate(view, torch.tensor(RATE)).items():
        torch.testing.assert_close(stem, stems[name])
    with pytest.raises(ShapeError, match="dense tensor"):
        separator.separate(torch.nested.nested_tensor([audio, audio[:, :90]], layout=torch.jagged), RATE)


def test_a_checkpoint_separates_as_its_model_does(
    tmp_path: Path, tiny_model: SeparationVAE, noise: np.ndarray, separator: Separator
) -> None:
    checkpoint.save(tmp_path / "model", tiny_model, {})
    loaded = Separator.from_pretrained(tmp_path / "model", "cpu", precision="float32", segment_s=0.1)
    expected = separator.separate(noise, RATE)
    for source, stem in loaded.separate(noise, RATE).items():
        np.testing.assert_array_equal(stem, expected[source])


# Files


def song(folder: Path, audio: np.ndarray, name: str = "song.wav", rate: int = RATE, **options: str) -> Path:
    soundfile.write(folder / name, audio.T, rate, **options)
    return folder / name


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0].T


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "step"),
    [
        (44100, 2, "PCM_16", 2.0**-15),
        (44100, 2, "PCM_24", 2.0**-23),
        (44100, 2, "FLOAT", 0.0),
        (48000, 1, "PCM_24", 2.0**-23),
        (22050, 3, "PCM_16", 2.0**-15),
    ],
)
def test_written_stems_null_against_the_file(
    tmp_path: Path,
    separator: Separator,
    rng: np.random.Generator,
    rate: int,
    channels: int,
    subtype: str,
    step: float,
) -> None:
    """To the last bit for integer files, which share the input's grid; to rounding for float."""
    audio = rng.uniform(-0.4, 0.4, (channels, 20_001))
    path = song(tmp_path, audio, rate=rate, subtype=subtype)
    result = separator.separate_file(path, tmp_path / "out")
    assert list(result.outputs) == list(separator.sources)
    assert all(soundfile.info(p).subtype == subtype for p in result)
    assert all(soundfile.info(p).samplerate == rate for p in result)
    written = {stem: read(p) for stem, p in result.outputs.items()}
    np.testing.assert_allclose(total(written), read(path), atol=0 if step else SUM, rtol=0)
    same = separator.separate(read(path).astype(np.float32), rate)
    for stem, samples in written.items():
        np.testing.assert_allclose(samples, same[stem], atol=2 * step, rtol=0)
    assert (result.gain, result.loss, result.warnings) == (1, None, ())


def test_a_name_of_dots_does_not_lead_out(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    for name in ("..wav", "...wav"):
        result = separator.separate_file(song(tmp_path, noise[:, :500], name, format="WAV"), tmp_path / "out")
        assert {path.parent for path in result} == {tmp_path / "out" / name}


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    path = song(tmp_path, noise, subtype="FLOAT")
    first = [p.read_bytes() for p in separator.separate_file(path, tmp_path / "a")]
    assert first == [p.read_bytes() for p in separator.separate_file(path, tmp_path / "b")]


def test_two_stems_are_one_stem_and_the_rest(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    path = song(tmp_path, noise, subtype="FLOAT")
    result = separator.separate_file(path, tmp_path / "out", two_stems="drums")
    assert [p.name for p in result] == ["drums.wav", "no_drums.wav"]
    written = {stem: read(p) for stem, p in result.outputs.items()}
    np.testing.assert_allclose(total(written), read(path), atol=SUM)
    np.testing.assert_array_equal(
        written["drums"], separator.separate(read(path).astype(np.float32), RATE)["drums"]
    )


def test_only_the_stems_that_were_asked_for_are_written(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, noise)
    one = separator.separate_file(path, tmp_path / "one", stems="vocals")
    assert list(one.outputs) == ["vocals"]
    result = separator.separate_file(path, tmp_path / "out", stems=["bass", "vocals"], format="flac")
    assert sorted(p.name for p in (tmp_path / "out" / "song").iterdir()) == ["bass.flac", "vocals.flac"]
    assert set(result.outputs) == {"bass", "vocals"}
    for bad in (["piano"], []):
        with pytest.raises(OptionError, match="expected stems among vocals"):
            separator.separate_file(path, tmp_path / "out", stems=bad)


def test_existing_outputs_are_safe_unless_asked(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, noise)
    outputs = separator.separate_file(path, tmp_path / "out").outputs
    with pytest.raises(OutputError, match="exists already"):
        separator.separate_file(path, tmp_path / "out", existing="fail")
    skipped = separator.separate_file(path, tmp_path / "out")
    assert skipped.skipped
    assert list(skipped) == list(outputs.values())
    outputs["drums"].write_bytes(b"mine")
    with pytest.raises(OutputError, match="no record of sepvae"):
        separator.separate_file(path, tmp_path / "out")
    assert outputs["drums"].read_bytes() == b"mine"
    assert not separator.separate_file(path, tmp_path / "out", existing="overwrite").skipped
    assert outputs["drums"].read_bytes() != b"mine"


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
def test_a_half_written_result_is_made_again_with_the_same_bytes(
    tmp_path: Path, separator: Separator, noise: np.ndarray, format: str
) -> None:
    path, out = song(tmp_path, noise[:, :3000]), tmp_path / "out"
    outputs = separator.separate_file(path, out, format=format).outputs
    content = {stem: file.read_bytes() for stem, file in outputs.items()}
    assert separator.separate_file(path, out, format=format).skipped
    outputs["bass"].unlink()  # as after a kill between two renames
    again = separator.separate_file(path, out, format=format)
    assert not again.skipped
    assert "replaced" in again.warnings[0]
    assert {stem: file.read_bytes() for stem, file in outputs.items()} == content


def test_only_a_result_of_the_same_model_and_settings_is_skipped(
    tmp_path: Path, separator: Separator, tiny_model: SeparationVAE, noise: np.ndarray
) -> None:
    path, out = song(tmp_path, noise[:, :3000]), tmp_path / "out"
    bass = separator.separate_file(path, out).outputs["bass"]
    bass.write_bytes(bass.with_name("drums.wav").read_bytes())
    assert not separator.separate_file(path, out).skipped
    assert not separator.separate_file(path, out, subtype="FLOAT").skipped
    other = Separator(tiny_model, "cpu", segment_s=1.0)
    assert not other.separate_file(path, out).skipped
    assert other.separate_file(path, out).skipped
    with torch.no_grad():
        next(tiny_model.parameters()).add_(1e-3)
    assert not Separator(tiny_model, "cpu", segment_s=1.0).separate_file(path, out).skipped


def test_stems_of_another_input_are_not_replaced(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, noise)
    outputs = separator.separate_file(path, tmp_path / "out").outputs
    before = outputs["vocals"].read_bytes()
    song(tmp_path, noise[:, ::-1])
    with pytest.raises(OutputError, match="stem of another input"):
        separator.separate_file(path, tmp_path / "out")
    assert outputs["vocals"].read_bytes() == before


def test_a_stem_whose_record_makes_no_sense_is_made_again(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, noise)
    outputs = separator.separate_file(path, tmp_path / "out").outputs
    before = outputs["vocals"].read_bytes()
    for file in outputs.values():
        file.write_bytes(file.read_bytes().replace(b'"gain":1.0', b'"gain":[1]'))
    assert not separator.separate_file(path, tmp_path / "out").skipped
    assert outputs["vocals"].read_bytes() == before


@pytest.mark.parametrize("existing", ["skip", "fail"])
def test_what_appears_during_a_separation_is_not_replaced(
    tmp_path: Path, separator: Separator, noise: np.ndarray, existing: str
) -> None:
    first = song(tmp_path, noise)
    (tmp_path / "other").mkdir()
    second = song(tmp_path / "other", noise[:, ::-1])
    out = tmp_path / "out"
    written: dict[str, bytes] = {}

    def separate_another(progress: float) -> None:
        if progress > 0 and not written:
            outputs = separator.separate_file(second, out, existing=existing).outputs
            written.update({path.name: path.read_bytes() for path in outputs.values()})

    with pytest.raises(OutputError, match=r"stem of another input|exists already"):
        separator.separate_file(first, out, existing=existing, progress=separate_another)
    assert {path.name: path.read_bytes() for path in (out / "song").iterdir()} == written

    def write_vocals(progress: float) -> None:
        (tmp_path / "mine" / "song" / "vocals.wav").write_bytes(b"mine")

    with pytest.raises(OutputError, match=r"no record of sepvae|exists already"):
        separator.separate_file(first, tmp_path / "mine", existing=existing, progress=write_vocals)
    assert [path.name for path in (tmp_path / "mine" / "song").iterdir()] == ["vocals.wav"]


@pytest.mark.parametrize("left", [0, 2000, 9000])
def test_a_wav_stem_that_lost_its_end_is_made_again_and_a_foreign_file_is_not(
    tmp_path: Path, separator: Separator, noise: np.ndarray, left: int
) -> None:
    path, out = song(tmp_path, noise[:, :3000]), tmp_path / "out"
    bass = separator.separate_file(path, out).outputs["bass"]
    whole = bass.read_bytes()
    bass.write_bytes(whole[:left])
    again = separator.separate_file(path, out)
    assert "replaced" in again.warnings[0]
    assert bass.read_bytes() == whole
    soundfile.write(bass, noise[:, :3000].T, RATE)  # whole, and without a record
    with pytest.raises(OutputError, match="no record of sepvae"):
        separator.separate_file(path, out)


def test_a_cut_stem_is_made_again(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    path = song(tmp_path, noise)
    outputs = separator.separate_file(path, tmp_path / "out", format="flac").outputs
    whole = outputs["bass"].read_bytes()
    outputs["bass"].write_bytes(whole[: len(whole) // 2])  # flac has its tags at the beginning
    assert not separator.separate_file(path, tmp_path / "out", format="flac").skipped
    assert outputs["bass"].read_bytes() == whole


def test_what_an_input_lacked_is_not_forgotten_when_skipped(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, noise)
    path.write_bytes(path.read_bytes()[:-4000])
    loss = separator.separate_file(path, tmp_path / "out").loss
    again = separator.separate_file(path, tmp_path / "out")
    assert again.skipped
    assert loss is not None
    assert again.loss == loss


def test_an_input_is_never_overwritten(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    path = song(tmp_path, noise, "drums.wav")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="overwrite its input"):
        separator.separate_file(path, tmp_path, template="{stem}.{ext}", existing="overwrite")
    assert path.read_bytes() == before


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, MemoryError])
def test_a_failure_half_way_leaves_nothing(
    tmp_path: Path,
    separator: Separator,
    noise: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    calls = 0
    real = separator.model.log_variances_within

    def failing(*args: Any, **options: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(separator.model, "log_variances_within", failing)
    path = song(tmp_path, np.tile(noise, 4))
    with pytest.raises(error):
        separator.separate_file(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["song.wav"]


def test_a_nan_late_in_the_file_leaves_nothing(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    audio = np.tile(noise, 8)
    audio[0, -10] = np.nan
    path = song(tmp_path, audio, subtype="FLOAT")
    with pytest.raises(AudioFileError, match="NaN"):
        separator.separate_file(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["song.wav"]


def test_a_file_that_ends_early_is_separated_and_the_loss_is_told(
    tmp_path: Path, separator: Separator, noise: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = song(tmp_path, noise)
    path.write_bytes(path.read_bytes()[:-2000])
    result = separator.separate_file(path, tmp_path / "out")
    assert result.frames == noise.shape[1] - 500
    assert result.loss is not None
    assert "ends after" in caplog.text


def test_a_stem_beyond_full_scale_lowers_all_and_says_so(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    audio = noise * (30 / np.abs(noise).max())
    path = song(tmp_path, audio, subtype="FLOAT")
    result = separator.separate_file(path, tmp_path / "out", subtype="PCM_24")
    assert 0 < result.gain < 1
    assert "would exceed full scale" in result.warnings[0]
    written = {stem: read(p) for stem, p in result.outputs.items()}
    assert max(np.abs(stem).max() for stem in written.values()) <= 1
    np.testing.assert_allclose(total(written) / result.gain, read(path), atol=2.0**-23 / result.gain)
    assert separator.separate_file(path, tmp_path / "float").gain == 1


def test_a_stem_has_the_level_that_it_has_beside_all_others(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    path = song(tmp_path, 30 * noise, subtype="FLOAT")
    whole = separator.separate_file(path, tmp_path / "whole", subtype="PCM_24")
    assert whole.gain < 1
    for name in separator.sources:
        alone = separator.separate_file(path, tmp_path / name, stems=[name], subtype="PCM_24")
        assert alone.gain == whole.gain


def test_opus_says_that_it_changed_the_rate(tmp_path: Path, separator: Separator, noise: np.ndarray) -> None:
    result = separator.separate_file(song(tmp_path, noise), tmp_path / "out", format="opus")
    assert any("48000 Hz" in warning for warning in result.warnings)
    assert all(soundfile.info(path).samplerate == 48000 for path in result)
