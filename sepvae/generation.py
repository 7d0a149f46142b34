"""The source autoencoders on their own: encode, decode, draw and interpolate stems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from sepvae.errors import NOT_FINITE, CheckpointError, NonFiniteError, OptionError
from sepvae.models import refinement
from sepvae.models.blocks import receptive_frames
from sepvae.models.device import autocast_dtype, inference
from sepvae.models.latents import Latents, Posterior
from sepvae.models.separation import SeparationModel, SeparationVAE
from sepvae.models.vae import LATENT_LEVELS, LEVELS, PAN_LEVEL, LadderDecoder, SourceVAE, VAEConfig
from sepvae.signal.griffin_lim import griffin_lim

CHUNK_FRAMES = 512
GRIFFIN_LIM_ITERATIONS = 32
LATENT_FRAMES = tuple(1 << level for level in (*LATENT_LEVELS, PAN_LEVEL))
"""Frames per cell of every latent, coarsest level first, then the pan latent."""


Options = ParamSpec("Options")
Result = TypeVar("Result")


def _undisturbed(
    function: Callable[Concatenate[SeparationVAE, Options], Result],
) -> Callable[Concatenate[SeparationVAE, Options], Result]:
    """Let a function of a model compute without gradients, and without the autocast of whoever calls it."""

    @wraps(function)
    def undisturbed(model: SeparationVAE, *args: Options.args, **options: Options.kwargs) -> Result:
        with inference(model.stft.window.device):
            return function(model, *args, **options)

    return undisturbed


def with_vaes(model: SeparationModel) -> SeparationVAE:
    """The model, if it has source autoencoders.

    Raises:
        CheckpointError: it is a mask network.
    """
    if not isinstance(model, SeparationVAE):
        raise CheckpointError(f"a {type(model).__name__} has masks and no autoencoders of its sources")
    return model


def vae_of(model: SeparationVAE, source: str) -> SourceVAE:
    """The autoencoder of a source.

    Raises:
        OptionError: the model has no such source.
    """
    if source not in model.config.sources:
        raise OptionError(f"expected a source among {', '.join(model.config.sources)}, found {source!r}")
    return model.source_vae(source)


def latent_shapes(config: VAEConfig, frames: int) -> list[tuple[int, int, int]]:
    """Channels, cells and time steps of every latent of a stretch of frames, a multiple of 8."""
    cells = config.bands // config.patch
    channels = *config.latent_channels, 1
    levels = *LATENT_LEVELS, PAN_LEVEL
    return [(d, cells >> level, frames >> level) for d, level in zip(channels, levels, strict=True)]


@_undisturbed
def encode(model: SeparationVAE, source: str, stem: Tensor, *, refine: int = 0) -> tuple[Latents, Latents]:
    """Mean and standard deviation of every latent of a stem; long stems go through in chunks.

    Args:
        refine: steps that fit the means to the stem (`sepvae.models.refinement`), >= 0.

    Raises:
        NonFiniteError: they are no numbers, since the stem is far beyond full scale.

    Shape: stem `[2, L]` at the model's rate -> two lists of `[1, D, F, T]`.
    """
    vae = vae_of(model, source)
    P = model.pad_frames(model.banded_power(model.stft(stem)))[None]  # [1, 2, N, T]
    context = _up(receptive_frames([1] * LEVELS) + (1 << PAN_LEVEL), model.frame_multiple)
    autocast = autocast_dtype("auto", P.device)
    means, sds = [], []
    for start, stop, core in _chunks(P.shape[-1], context):
        chunk = P[..., start:stop]
        posterior = vae.encode(chunk)
        if refine:
            posterior = refinement.refine(
                vae, chunk, posterior, model.bands.sizes, steps=refine, autocast=autocast
            )
        mean, sd = _crop(posterior, core)
        means.append(mean)
        sds.append(sd)
    latents = _joined(means), _joined(sds)
    if not all(torch.isfinite(level).all() for levels in latents for level in levels):
        raise NonFiniteError(NOT_FINITE)
    return latents


@_undisturbed
def decode(model: SeparationVAE, source: str, latents: Sequence[Tensor | None]) -> Tensor:
    """Log-variances of latents; long ones go through in chunks.

    Args:
        latents: of every level; a level that is None takes its prior's mean, given the coarser ones.

    Shape: `[1, D, F, T]` each -> `[2, N, T']`, T' frames of the longest level.
    """
    vae = vae_of(model, source)
    frames = max(z.shape[-1] * n for z, n in zip(latents, LATENT_FRAMES, strict=True) if z is not None)
    context = _up(LadderDecoder.context_frames, model.frame_multiple)
    parts = []
    for start, stop, core in _chunks(frames, context):
        chunk = [
            None if z is None else z[..., start // n : stop // n]
            for z, n in zip(latents, LATENT_FRAMES, strict=True)
        ]
        parts.append(_decode_chunk(vae, chunk, stop - start)[..., core])
    return torch.cat(parts, -1)[0]


def _decode_chunk(vae: SourceVAE, latents: list[Tensor | None], frames: int) -> Tensor:
    """Decode, with the prior's means in place of what is missing, coarsest first."""
    if any(z is None for z in latents):
        filled = [
            vae.scale.mean.new_zeros(1, *shape) if z is None else z
            for z, shape in zip(latents, latent_shapes(vae.config, frames), strict=True)
        ]
        missing = [level for level, z in enumerate(latents) if z is None]
        return vae.decode(vae.with_prior_means(filled, missing))
    return vae.decode([z for z in latents if z is not None])


@_undisturbed
def synthesise(
    model: SeparationVAE,
    log_variance: Tensor,
    length: int,
    *,
    generator: torch.Generator,
    iterations: int = GRIFFIN_LIM_ITERATIONS,
) -> Tensor:
    """A signal for decoded variances: their square roots as magnitudes, phases by Griffin-Lim.

    Shape: `[2, N, T]` -> `[2, L]`.

    Raises:
        NonFiniteError: a variance is beyond all numbers.
    """
    frames = model.stft.frames(length)
    magnitude = model.bands.expand(torch.exp(0.5 * log_variance[..., :frames]))  # [2, F, T]
    audio = griffin_lim(model.stft, magnitude, length, iterations=iterations, generator=generator)
    if not audio.isfinite().all():
        raise NonFiniteError(NOT_FINITE)
    return audio


@_undisturbed
def sample(
    model: SeparationVAE,
    source: str,
    seconds: float,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    iterations: int = GRIFFIN_LIM_ITERATIONS,
) -> Tensor:
    """Draw a new stem from a source's prior.

    Args:
        source: name of the source.
        seconds: length of the stem, > 0.
        generator: draws the latents, and the first phases.
        temperature: factor on the standard deviation of the prior at every level, >= 0.
        iterations: of Griffin-Lim, int >= 0.

    Shape: `[2, L]`, L at the model's rate.

    Raises:
        OptionError: an unknown source, or a value out of its range.
    """
    if not 0 < seconds < math.inf or not 0 <= temperature < math.inf:
        raise OptionError(
            f"expected a length > 0 s and a temperature >= 0, found {seconds} and {temperature}"
        )
    length = max(1, round(seconds * model.config.sample_rate))
    frames = _up(model.stft.frames(length), model.frame_multiple)
    vae = vae_of(model, source)
    log_variance = vae.sample(frames, generator=generator, temperature=temperature)[0]
    return synthesise(model, log_variance, length, generator=generator, iterations=iterations)


def interpolate(a: Sequence[Tensor], b: Sequence[Tensor], weight: float) -> Latents:
    """Latents on the straight line from `a` (weight 0) to `b` (weight 1), as long as the shorter of the two.

    Shape: of each level `[D, F, T]`.
    """
    return [
        torch.lerp(x[..., : y.shape[-1]], y[..., : x.shape[-1]], weight) for x, y in zip(a, b, strict=True)
    ]


@_undisturbed
def denoise(model: SeparationVAE, source: str, stem: Tensor) -> Tensor:
    """Send a noisy solo through its source's autoencoder: decoded magnitudes with the phases of the input.

    Raises:
        NonFiniteError: it is far beyond full scale.

    Shape: stem `[2, L]` -> `[2, L]`.
    """
    log_variance = decode(model, source, encode(model, source, stem)[0])  # [2, N, T']
    S = model.stft(stem)
    magnitude = model.bands.expand(torch.exp(0.5 * log_variance[..., : S.shape[-1]]))
    clean = model.stft.inverse(magnitude * S / S.abs().clamp(min=1e-16), stem.shape[-1])
    if not torch.isfinite(clean).all():
        raise NonFiniteError(NOT_FINITE)
    return clean


def _chunks(frames: int, context: int) -> Iterator[tuple[int, int, slice]]:
    """First and last frame of every chunk with its context, and where in it the core lies."""
    for first in range(0, frames, CHUNK_FRAMES):
        last = min(first + CHUNK_FRAMES, frames)
        start = max(0, first - context)
        yield start, min(last + context, frames), slice(first - start, last - start)


def _crop(posterior: Posterior, core: slice) -> tuple[Latents, Latents]:
    """Means and standard deviations of the core frames."""
    means, sds = [], []
    for gaussian, n in zip(posterior.levels, LATENT_FRAMES, strict=True):
        cells = slice(core.start // n, core.stop // n)
        means.append(gaussian.mean[..., cells])
        sds.append(gaussian.log_sd[..., cells].exp())
    return means, sds


def _joined(chunks: Sequence[Latents]) -> Latents:
    """Latents of consecutive chunks, level by level, one after the other."""
    return [torch.cat(levels, -1) for levels in zip(*chunks, strict=True)]


def _up(frames: int, multiple: int) -> int:
    return -(-frames // multiple) * multiple
