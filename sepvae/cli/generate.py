"""`sepvae sample`, `encode`, `decode`, `interpolate` and `denoise`: the source autoencoders on their own."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepvae.cli import options
from sepvae.cli.loading import ComputingCommand
from sepvae.errors import NonFiniteError, OptionError, OutputError, ShapeError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sepvae.audio import AudioInfo
    from sepvae.models.separation import SeparationVAE

_PATH = click.Path(path_type=Path)


_out_option = click.option("-o", "--out", required=True, type=_PATH, help="File to write.")
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that exist.")
_seed_option = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=options.SEED,
    help="Random seed of the draws and the first phases.",
)
_source_option = click.option(
    "--source",
    metavar="SOURCE",
    help="The source whose autoencoder is used; by default the one that the file is named after.",
)


@click.command(cls=ComputingCommand)
@click.argument("source")
@_out_option
@_overwrite_option
@options.model
@click.option(
    "-n", "--number", default=1, show_default=True, type=click.IntRange(1, 999), help="Number of stems."
)
@click.option(
    "--seconds",
    default=6.0,
    show_default=True,
    type=click.FloatRange(0, 600, min_open=True),
    help="Length of each.",
)
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 10),
    help="Factor on the prior's standard deviation: below 1 closer to the middle, above 1 farther out.",
)
@_seed_option
def sample(
    source: str,
    out: Path,
    overwrite: bool,
    model: str,
    number: int,
    seconds: float,
    temperature: float,
    seed: int,
) -> None:
    """Draw new stems of SOURCE from the prior of its autoencoder (phases by Griffin-Lim)."""
    from sepvae import generation

    vaes, _ = _load(model)
    generation.vae_of(vaes, source)
    _check_sounds(_numbered(out, number), overwrite)
    for index, path in enumerate(_numbered(out, number)):
        drawn = generation.sample(
            vaes, source, seconds, generator=_generator(seed + index), temperature=temperature
        )
        _write(path, drawn.numpy(), vaes.config.sample_rate)


@click.command(cls=ComputingCommand)
@click.argument("stem", type=_PATH)
@_out_option
@_overwrite_option
@options.model
@_source_option
@click.option(
    "--step",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, 100, min_open=True),
    help="Step of the rounding, in standard deviations of the posterior.",
)
@click.option(
    "--drop",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2),
    help="Number of finest levels left out.",
)
@click.option(
    "--refine",
    default=0,
    show_default=True,
    metavar="N",
    type=click.IntRange(0, 1000),
    help="Number of steps that fit the latents to the stem; 50 bring the sound closer, but take longer.",
)
def encode(
    stem: Path,
    out: Path,
    overwrite: bool,
    model: str,
    source: str | None,
    step: float,
    drop: int,
    refine: int,
) -> None:
    """Write the latents of STEM to a small file."""
    from sepvae import codec, generation
    from sepvae.audio import AUDIO_ENDINGS

    if out.suffix.lower() in AUDIO_ENDINGS:
        raise OutputError(f"{out}: latents are no audio file, so their name cannot end in {out.suffix}")
    vaes, weights = _load(model)
    name = _source_of(stem, source, vaes)
    _check_outputs([out], overwrite, stem)
    audio, info, x = _read(stem, vaes)
    rate = info.sample_rate
    with _named(stem):
        means, spreads = generation.encode(vaes, name, x, refine=refine)
    levels, steps = codec.quantise(means, spreads, step=step, drop=drop)
    frames = means[0].shape[-1] * generation.LATENT_FRAMES[0]
    coded = codec.CodedStem(
        source=name,
        weights=weights,
        sample_rate=rate,
        channels=audio.shape[0],
        samples=audio.shape[1],
        frames=frames,
        levels=levels,
        steps=steps,
    )
    size = codec.write(out, coded)
    click.echo(f"{8 * size / 1000 / (audio.shape[1] / rate):.1f} kbit/s", err=True)
    click.echo(os.fsencode(out))


@click.command(cls=ComputingCommand)
@click.argument("latents", type=_PATH)
@_out_option
@_overwrite_option
@options.model
@_seed_option
def decode(latents: Path, out: Path, overwrite: bool, model: str, seed: int) -> None:
    """Turn a file that `sepvae encode` wrote into sound again (phases by Griffin-Lim)."""
    from sepvae import codec, generation
    from sepvae.audio.sounds import change_rate
    from sepvae.errors import CheckpointError

    vaes, weights = _load(model)
    _check_sounds([out], overwrite, latents)
    coded = codec.read(latents, vaes.config.vae)
    if coded.weights != weights:
        raise CheckpointError(f"{latents}: coded with other weights than those of {model}")
    log_variance = generation.decode(vaes, coded.source, coded.latents)
    rate = vaes.config.sample_rate
    length = max(1, round(coded.samples * rate / coded.sample_rate))
    if vaes.stft.frames(length) > coded.frames:
        raise OutputError(f"{latents}: holds fewer frames than its length needs")
    sound = generation.synthesise(vaes, log_variance, length, generator=_generator(seed)).numpy()
    sound = change_rate(sound[: coded.channels], rate, coded.sample_rate, coded.samples)
    _write(out, sound, coded.sample_rate)


@click.command(cls=ComputingCommand)
@click.argument("first", type=_PATH)
@click.argument("second", type=_PATH)
@_out_option
@_overwrite_option
@options.model
@_source_option
@click.option(
    "-n",
    "--number",
    default=3,
    show_default=True,
    type=click.IntRange(1, 99),
    help="Number of stems between the two.",
)
@_seed_option
def interpolate(
    first: Path,
    second: Path,
    out: Path,
    overwrite: bool,
    model: str,
    source: str | None,
    number: int,
    seed: int,
) -> None:
    """Decode what lies between the latents of two stems of one source, as long as the shorter one."""
    from sepvae import generation

    vaes, _ = _load(model)
    name = _source_of(first, source, vaes)
    _check_sounds(_numbered(out, number), overwrite, first, second)
    a, b = (_read(path, vaes)[2] for path in (first, second))
    length = min(a.shape[1], b.shape[1])
    with _named(first):
        one = generation.encode(vaes, name, a[:, :length])[0]
    with _named(second):
        other = generation.encode(vaes, name, b[:, :length])[0]
    for index, path in enumerate(_numbered(out, number)):
        between = generation.interpolate(one, other, (index + 1) / (number + 1))
        sound = generation.synthesise(
            vaes, generation.decode(vaes, name, between), length, generator=_generator(seed)
        )
        _write(path, sound.numpy(), vaes.config.sample_rate)


@click.command(cls=ComputingCommand)
@click.argument("stem", type=_PATH)
@_out_option
@_overwrite_option
@options.model
@_source_option
def denoise(stem: Path, out: Path, overwrite: bool, model: str, source: str | None) -> None:
    """Send a noisy solo STEM through its source's autoencoder (phases of the input)."""
    from sepvae import generation
    from sepvae.audio.sounds import change_rate

    vaes, _ = _load(model)
    name = _source_of(stem, source, vaes)
    _check_sounds([out], overwrite, stem)
    audio, info, x = _read(stem, vaes)
    with _named(stem):
        clean = generation.denoise(vaes, name, x).numpy()[: audio.shape[0]]
    clean = change_rate(clean, vaes.config.sample_rate, info.sample_rate, audio.shape[1])
    _write(out, clean, info.sample_rate, info.depth)


def _load(model: str) -> tuple[SeparationVAE, str]:
    """A model's autoencoders on the CPU, and the hash of its weights."""
    from sepvae import checkpoint, generation, pretrained

    found, card = checkpoint.load(pretrained.find(model))
    return generation.with_vaes(found.eval().requires_grad_(False)), card["weights"]["sha256"]


def _read(path: Path, model: SeparationVAE) -> tuple[np.ndarray, AudioInfo, Tensor]:
    """A file as it is, what it says of itself, and the same at the model's rate with two channels."""
    import torch

    from sepvae.audio.sounds import change_rate, read_sound

    audio, info = read_sound(path)
    at_rate = torch.from_numpy(change_rate(audio, info.sample_rate, model.config.sample_rate))
    if at_rate.shape[1] == 0:
        raise ShapeError(f"{path}: too short for a model of {model.config.sample_rate} Hz")
    return audio, info, at_rate.expand(2, -1)


def _write(path: Path, audio: np.ndarray, sample_rate: int, depth: str = "PCM_16") -> None:
    """Write a sound, tell what is not as it was made, and print its path."""
    from sepvae.audio.sounds import write_sound

    gain, encoding = write_sound(path, audio, sample_rate, depth)
    if gain < 1:
        click.echo(f"{path}: lowered by {-20 * math.log10(gain):.2f} dB to full scale", err=True)
    if encoding.rate_for(sample_rate) != sample_rate:
        rate = encoding.rate_for(sample_rate)
        click.echo(f"{path}: written at {rate} Hz, since {encoding.name} has no {sample_rate} Hz", err=True)
    click.echo(os.fsencode(path))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file it is that leads to numbers that are not finite."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{path}: {error}") from None


def _source_of(stem: Path, source: str | None, model: SeparationVAE) -> str:
    name = stem.stem if source is None else source
    if name not in model.config.sources:
        known = ", ".join(model.config.sources)
        raise OptionError(f"{name!r} is no source of the model: choose --source among {known}")
    return name


def _check_sounds(outputs: Sequence[Path], overwrite: bool, *inputs: Path) -> None:
    """Refuse what could not be written, or must not be, before it is computed."""
    from sepvae.audio.sounds import sound_format

    for path in outputs:
        sound_format(path)
    _check_outputs(outputs, overwrite, *inputs)


def _check_outputs(outputs: Sequence[Path], overwrite: bool, *inputs: Path) -> None:
    """Refuse to write over an input, and over anything else unless that is wanted."""
    for path in outputs:
        if any(path.exists() and file.exists() and path.samefile(file) for file in inputs):
            raise OutputError(f"{path}: this output would overwrite its input")
        if os.path.lexists(path) and not overwrite and (path.is_file() or path.is_symlink()):
            raise OutputError(f"{path}: exists already; --overwrite replaces it")
        if path.is_dir():
            raise OutputError(f"{path}: cannot be written (is a folder)")


def _numbered(out: Path, number: int) -> list[Path]:
    """One name, or as many with a number before the ending."""
    if number == 1:
        return [out]
    return [out.with_name(f"{out.stem}-{index + 1:03d}{out.suffix}") for index in range(number)]


def _generator(seed: int) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


COMMANDS = (sample, encode, decode, interpolate, denoise)
