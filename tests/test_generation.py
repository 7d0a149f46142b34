"""The autoencoders on their own: chunks give what the whole gives, seeds repeat, files come back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from sepvae import checkpoint, codec, generation
from sepvae.atomic import sweep
from sepvae.cli import cli
from sepvae.errors import AudioFileError, CheckpointError, NonFiniteError, OptionError
from sepvae.models.separation import MaskNet, SeparationVAE, power

RATE = 44100
RATE_TEXT = b"44100"
SOURCE = "drums"


@pytest.fixture
def model(stirred_model: SeparationVAE) -> SeparationVAE:
    return stirred_model.requires_grad_(False)


@pytest.fixture
def stem(noise: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(noise)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chunks_code_what_the_whole_codes(
    model: SeparationVAE, stem: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generation.encode(model, SOURCE, stem)
    decoded = generation.decode(model, SOURCE, whole[0])
    monkeypatch.setattr(generation, "CHUNK_FRAMES", 64)
    for a, b in zip(whole, generation.encode(model, SOURCE, stem), strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(generation.decode(model, SOURCE, whole[0]), decoded, atol=1e-4, rtol=1e-4)


def test_a_variance_beyond_all_numbers_gives_no_sound(model: SeparationVAE) -> None:
    huge = torch.full((2, model.config.vae.bands, model.stft.frames(9000)), 1e4)
    with pytest.raises(NonFiniteError):
        generation.synthesise(model, huge, 9000, generator=seeded(), iterations=2)


def test_coding_is_that_of_the_autoencoder(model: SeparationVAE, stem: torch.Tensor) -> None:
    P = model.bands.merge(power(model.stft(stem)))[None]
    P = torch.nn.functional.pad(P, (0, -P.shape[-1] % 8))
    posterior = model.source_vae(SOURCE).encode(P)
    means, spreads = generation.encode(model, SOURCE, stem)
    for level, mean, spread in zip(posterior.levels, means, spreads, strict=True):
        torch.testing.assert_close(mean, level.mean)
        torch.testing.assert_close(spread, level.log_sd.exp())
    shapes = generation.latent_shapes(model.config.vae, P.shape[-1])
    assert [tuple(mean.shape[1:]) for mean in means] == shapes


def test_a_level_that_is_left_out_takes_its_priors_mean(model: SeparationVAE, stem: torch.Tensor) -> None:
    vae = model.source_vae(SOURCE)
    means, _ = generation.encode(model, SOURCE, stem)
    expected = list(means)
    expected[2] = vae.decode_with_priors(means)[1][2].mean
    found = generation.decode(model, SOURCE, [*means[:2], None, means[3]])
    torch.testing.assert_close(found, vae.decode(expected)[0])


def test_drawn_stems_repeat_with_their_seed_and_lie_apart(model: SeparationVAE) -> None:
    one, same, other = (
        generation.sample(model, SOURCE, 0.1, generator=seeded(s), iterations=2) for s in (3, 3, 4)
    )
    assert one.shape == (2, 4410)
    assert torch.equal(one, same)
    assert (one - other).abs().max() > 1e-3


def test_temperature_zero_has_one_magnitude(model: SeparationVAE) -> None:
    vae = model.source_vae(SOURCE)
    frozen = [vae.sample(16, generator=seeded(s), temperature=0.0) for s in (0, 1)]
    assert torch.equal(*frozen)


def test_what_lies_between_two_stems(model: SeparationVAE, stem: torch.Tensor) -> None:
    a = generation.encode(model, SOURCE, stem)[0]
    b = generation.encode(model, SOURCE, stem[:, :8000].flip(-1))[0]
    for x, y, z in zip(b, generation.interpolate(a, b, 1.0), generation.interpolate(a, b, 0.5), strict=True):
        torch.testing.assert_close(x, y)
        assert x.shape == z.shape
        assert not torch.allclose(x, z, atol=1e-3)


def test_denoising_keeps_the_phases_of_the_input(model: SeparationVAE, stem: torch.Tensor) -> None:
    log_variance = generation.decode(model, SOURCE, generation.encode(model, SOURCE, stem)[0])
    S = model.stft(stem)
    wanted = model.bands.expand(torch.exp(0.5 * log_variance[..., : S.shape[-1]])) * S / S.abs()
    expected = model.stft.inverse(wanted, stem.shape[-1])
    torch.testing.assert_close(generation.denoise(model, SOURCE, stem), expected, atol=1e-5, rtol=1e-4)


def test_defaults_of_torch_and_the_callers_autocast_change_nothing(
    model: SeparationVAE, stem: torch.Tensor, default_type: Callable[[torch.dtype], None]
) -> None:
    stem = stem[:, :4000]

    def results() -> list[torch.Tensor]:
        latents = generation.encode(model, SOURCE, stem, refine=2)[0]
        drawn = generation.sample(model, SOURCE, 0.1, generator=seeded(), iterations=2)
        log_variance = generation.decode(model, SOURCE, [*latents[:2], None, latents[3]])
        return [*latents, drawn, log_variance, generation.denoise(model, SOURCE, stem)]

    def check() -> None:
        for found, wanted in zip(results(), expected, strict=True):
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)

    expected = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check()
    default_type(torch.float64)
    check()
    with torch.device("meta"):
        check()


def test_what_a_model_lacks_is_said(model: SeparationVAE, stem: torch.Tensor) -> None:
    with pytest.raises(
        OptionError, match="expected a source among vocals, drums, bass, other, found 'piano'"
    ):
        generation.encode(model, "piano", stem)
    with pytest.raises(CheckpointError, match="has masks and no autoencoders"):
        generation.with_vaes(MaskNet(model.config))
    with pytest.raises(OptionError, match="length > 0"):
        generation.sample(model, SOURCE, 0.0, generator=seeded())


def coded(model: SeparationVAE, stem: torch.Tensor, **options: float) -> codec.CodedStem:
    means, spreads = generation.encode(model, SOURCE, stem)
    frames = means[0].shape[-1] * 8
    return codec.CodedStem(
        SOURCE, "ab" * 32, RATE, 2, stem.shape[-1], frames, *codec.quantise(means, spreads, **options)
    )


@pytest.mark.parametrize("drop", [0, 1, 2])
def test_a_file_holds_the_latents_to_half_a_step(
    model: SeparationVAE, stem: torch.Tensor, tmp_path: Path, drop: int
) -> None:
    before = coded(model, stem, step=0.1, drop=drop)
    size = codec.write(tmp_path / "x.latents", before)
    assert (tmp_path / "x.latents").stat().st_size == size
    after = codec.read(tmp_path / "x.latents", model.config.vae)
    assert (after.source, after.weights, after.samples) == (SOURCE, "ab" * 32, stem.shape[-1])
    means, spreads = generation.encode(model, SOURCE, stem)
    kept = [True] * (3 - drop) + [False] * drop + [True]
    assert [z is not None for z in after.latents] == kept
    for mean, spread, z in zip(means, spreads, after.latents, strict=True):
        if z is not None:
            step = 0.1 * spread.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-4)
            assert ((mean - z).abs() <= 0.5001 * step).all()


def test_coarser_steps_and_fewer_levels_make_smaller_files(
    model: SeparationVAE, stem: torch.Tensor, tmp_path: Path
) -> None:
    sizes = [
        codec.write(tmp_path / "x", coded(model, stem, step=step, drop=drop))
        for step, drop in ((0.05, 0), (0.5, 0), (0.5, 1), (0.5, 2))
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_damaged_files_are_refused_in_one_line(
    model: SeparationVAE, stem: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "x.latents"
    codec.write(path, coded(model, stem))
    data = path.read_bytes()
    header = len(codec.MAGIC)
    cuts = [b"", data[:5], data[:header], data[: header + 3], data[: header + 50], data[:-100]]
    flips = [bytes([*data[:i], data[i] ^ 255, *data[i + 1 :]]) for i in range(0, header + 60, 7)]
    for wrong in (*cuts, *flips, data + b"x", data + data):
        path.write_bytes(wrong)
        with pytest.raises(AudioFileError) as caught:
            codec.read(path, model.config.vae)
        assert len(str(caught.value).splitlines()) == 1
    for old, new in ((b'"channels":2', b'"channels":7'), (b'"samples":', b'"samples":-'), (RATE_TEXT, b"1")):
        assert old in data
        path.write_bytes(data.replace(old, new))
        with pytest.raises(AudioFileError, match="damaged"):
            codec.read(path, model.config.vae)
    with pytest.raises(AudioFileError, match="cannot be read"):
        codec.read(tmp_path / "nowhere", model.config.vae)
    [entry] = os.scandir(tmp_path)
    with pytest.raises(AudioFileError, match=r"x\.latents: damaged"):
        codec.read(entry, model.config.vae)
    with pytest.raises(OptionError, match="fewer than 3 levels"):
        coded(model, stem, drop=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [None] * 4}, "coarsest level"),
        ({"frames": codec.MAX_FRAMES}, "cannot hold 16777216 frames"),
    ],
)
def test_headers_that_no_stem_has_are_refused(
    model: SeparationVAE, stem: torch.Tensor, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "x.latents"
    codec.write(path, coded(model, stem))
    start = len(codec.MAGIC) + 4
    size = int.from_bytes(path.read_bytes()[start - 4 : start], "little")
    text = json.dumps(json.loads(path.read_bytes()[start : start + size]) | change).encode()
    path.write_bytes(codec.MAGIC + len(text).to_bytes(4, "little") + text)
    with pytest.raises(AudioFileError, match=message):
        codec.read(path, model.config.vae)


def test_a_file_in_the_making_is_not_swept_up(
    model: SeparationVAE, stem: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def swept(source: Path, target: Path) -> None:
        sweep(tmp_path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", swept)
    size = codec.write(tmp_path / "x.latents", coded(model, stem))
    assert (tmp_path / "x.latents").stat().st_size == size


@pytest.fixture
def folder(model: SeparationVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    checkpoint.save(tmp_path / "tiny", model, {"name": "tiny", "licence": "CC0-1.0"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generation, "GRIFFIN_LIM_ITERATIONS", 2)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "-m", "tiny"], catch_exceptions=False)


def test_the_commands_write_what_they_say(folder: Path, noise: np.ndarray) -> None:
    soundfile.write("drums.wav", noise[:1, ::2].T, 22050)  # mono, at another rate than the model's
    soundfile.write("other.flac", noise.T, RATE)
    result = run("sample", "bass", "-o", "new.wav", "-n", "2", "--seconds", "0.1")
    assert result.stdout.split() == ["new-001.wav", "new-002.wav"]
    assert soundfile.info("new-001.wav").frames == 4410
    assert run("sample", "bass", "-o", "again.wav", "--seconds", "0.1", "--seed", "1").exit_code == 0
    assert Path("again.wav").read_bytes() == Path("new-002.wav").read_bytes()
    result = run("encode", "drums.wav", "-o", "x.latents", "--step", "0.5")
    assert result.stdout.split() == ["x.latents"]
    assert "kbit/s" in result.stderr
    for arguments in (
        ("decode", "x.latents", "-o", "out.wav"),
        ("denoise", "drums.wav", "-o", "out.wav", "--overwrite"),
    ):
        assert run(*arguments).exit_code == 0
        info = soundfile.info("out.wav")
        assert (info.frames, info.samplerate, info.channels) == (noise[0, ::2].size, 22050, 1)
    assert run("encode", "drums.wav", "-o", "y.latents", "--refine", "3").exit_code == 0
    assert Path("y.latents").read_bytes() != Path("x.latents").read_bytes()
    result = run("interpolate", "drums.wav", "other.flac", "-o", "mid.ogg", "-n", "1")
    assert result.exit_code == 0
    assert soundfile.info("mid.ogg").channels == 2


@pytest.mark.parametrize(("rate", "frames"), [(96000, 20001), (384000, 20003), (22050, 9999)])
def test_what_comes_back_is_as_long_as_what_went_in(
    folder: Path, rng: np.random.Generator, rate: int, frames: int
) -> None:
    soundfile.write("drums.wav", 0.1 * rng.standard_normal(frames), rate)
    run("encode", "drums.wav", "-o", "x.latents")
    for arguments in (("decode", "x.latents"), ("denoise", "drums.wav")):
        assert run(*arguments, "-o", "out.wav", "--overwrite").exit_code == 0
        info = soundfile.info("out.wav")
        assert (info.frames, info.samplerate) == (frames, rate)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_denoising_keeps_the_depth(folder: Path, noise: np.ndarray, subtype: str) -> None:
    soundfile.write("drums.wav", noise.T, RATE, subtype)
    assert run("denoise", "drums.wav", "-o", "out.wav").exit_code == 0
    assert soundfile.info("out.wav").subtype == subtype


def test_what_is_lowered_to_full_scale_or_has_another_rate_is_told(
    folder: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write("drums.wav", noise.T, RATE)
    monkeypatch.setattr(generation, "denoise", lambda model, source, x: 4 * x / x.abs().max())
    result = run("denoise", "drums.wav", "-o", "out.opus")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "out.opus: lowered by 12.04 dB to full scale",
        "out.opus: written at 48000 Hz, since opus has no 44100 Hz",
    ]
    assert result.stdout == "out.opus\n"


def test_mistakes_get_one_line(folder: Path, model: SeparationVAE, noise: np.ndarray) -> None:
    soundfile.write("solo.wav", noise.T, RATE)
    run("encode", "solo.wav", "-o", "x.latents", "--source", "bass")
    with torch.no_grad():
        model.source_vae("bass").scale.mean += 1
    checkpoint.save("tiny", model, {"name": "tiny", "licence": "CC0-1.0"})
    for arguments, message in (
        (("sample", "piano", "-o", "x.wav"), "expected a source among"),
        (("sample", "bass", "-o", "x.txt"), "ends in .wav"),
        (("encode", "solo.wav", "-o", "y.latents"), "choose --source"),
        (("encode", "none.wav", "--source", "bass", "-o", "y.latents"), "none.wav"),
        (("decode", "solo.wav", "-o", "y.wav"), "no latents"),
        (("decode", "x.latents", "-o", "y.wav"), "other weights"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not Path("y.latents").exists()
    assert not Path("y.wav").exists()


def refused(*arguments: str) -> str:
    """What a command that must fail says."""
    result = run(*arguments)
    assert result.exit_code == 1
    return result.stderr


def test_an_input_is_never_overwritten(folder: Path, noise: np.ndarray) -> None:
    for name in ("bass.wav", "other.wav"):
        soundfile.write(name, noise.T, RATE)
    run("encode", "bass.wav", "-o", "x")
    Path("x").rename("x.wav")  # a name for audio, so that it can be taken for one
    shutil.copy("bass.wav", "bass")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for arguments in (
        ("encode", "bass", "-o", "bass"),
        ("denoise", "bass.wav", "-o", "./bass.wav"),
        ("decode", "x.wav", "-o", "x.wav"),
        ("interpolate", "bass.wav", "other.wav", "-n", "1", "-o", "other.wav"),
    ):
        assert "would overwrite its input" in refused(*arguments)
    assert {path: path.read_bytes() for path in before} == before


def test_no_file_is_replaced_unless_asked_for(folder: Path, noise: np.ndarray) -> None:
    soundfile.write("drums.wav", noise.T, RATE)
    assert run("encode", "drums.wav", "-o", "drums.latents").exit_code == 0
    for name in ("mine.wav", "mine-002.wav", "mine.latents"):
        Path(name).write_text("mine")
    for arguments in (
        ("sample", "bass", "-o", "mine.wav", "--seconds", "0.1"),
        ("sample", "bass", "-o", "mine.wav", "--seconds", "0.1", "-n", "2"),
        ("encode", "drums.wav", "-o", "mine.latents"),
        ("decode", "drums.latents", "-o", "mine.wav"),
        ("denoise", "drums.wav", "-o", "mine.wav"),
        ("interpolate", "drums.wav", "drums.wav", "-o", "mine.wav", "-n", "2"),
    ):
        assert refused(*arguments).endswith("exists already; --overwrite replaces it\n")
        assert not Path("mine-001.wav").exists()
    assert {path.read_text() for path in folder.glob("mine*")} == {"mine"}


def test_what_cannot_be_written_is_refused_before_it_is_computed(
    folder: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write("bass.wav", noise.T, RATE)
    run("encode", "bass.wav", "-o", "new/folder/bass.latents")
    monkeypatch.setattr(generation, "encode", None)
    monkeypatch.setattr(generation, "sample", None)
    for arguments in (
        ("encode", "bass.wav", "-o", "out.flac"),
        ("encode", "bass.wav", "-o", "new"),
        ("decode", "new/folder/bass.latents", "-o", "out.aac"),
        ("denoise", "bass.wav", "-o", "out"),
        ("interpolate", "bass.wav", "bass.wav", "-o", "out.aiff"),
        ("sample", "bass", "-o", "out.mp4"),
    ):
        assert refused(*arguments).count("\n") == 1


@pytest.mark.parametrize(("command", "out"), [("encode", "out.latents"), ("denoise", "out.wav")])
def test_what_is_too_loud_for_numbers_is_told(
    folder: Path, noise: np.ndarray, command: str, out: str
) -> None:
    soundfile.write("bass.wav", 1e30 * noise.T, RATE, subtype="FLOAT")
    result = run(command, "bass.wav", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: bass.wav: the model gave numbers that are not finite")
    assert not Path(out).exists()


def test_a_step_that_16_bits_cannot_take_is_refused_with_one_that_they_can(
    model: SeparationVAE, stem: torch.Tensor
) -> None:
    means, spreads = generation.encode(model, SOURCE, stem)
    with pytest.raises(OptionError, match="too fine for 16 bits") as caught:
        codec.quantise(means, spreads, step=1e-7)
    least = float(str(caught.value).split()[-3])
    levels, _ = codec.quantise(means, spreads, step=least)
    assert 30_000 < max(int(np.abs(level).max()) for level in levels if level is not None) <= 32767
