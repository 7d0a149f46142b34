"""What is possible when the true sources are known: masks, and the source VAEs fed with the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sepvae.data.excerpts import Excerpt
from sepvae.models.device import autocast_dtype
from sepvae.models.latents import Gaussian, Latents, Posterior, kl_divergence
from sepvae.models.refinement import refine
from sepvae.models.separation import SeparationModel, power
from sepvae.models.vae import SourceVAE
from sepvae.signal import wiener
from sepvae.signal.metrics import ACTIVE_DB

_TINY = 1e-20


@dataclass(frozen=True)
class Spectra:
    """An excerpt as a model sees it.

    Attributes:
        X: STFT of the mixture.
        S: STFTs of the true sources.
        length: samples of the excerpt.

    Shape:
        X: `[2, F, T]`; S: `[K, 2, F, T]`
    """

    X: Tensor
    S: Tensor
    length: int

    @classmethod
    def of(cls, excerpt: Excerpt, model: SeparationModel) -> Spectra:
        """Analyse an excerpt with a model's STFT, on the model's device."""
        references = torch.from_numpy(excerpt.references).to(model.stft.window.device)
        S = model.stft(references)  # [K, 2, F, T]
        return cls(S.sum(0), S, references.shape[-1])


def synthesise(model: SeparationModel, spectra: Spectra, M: Tensor) -> np.ndarray:
    """Estimates from masks, source by source, which bounds the memory.

    Shape:
        M `[K, 2, F, T]` or broadcastable to it -> `[K, 2, L]`
    """
    parts = [model.stft.inverse(spectra.X * mask, spectra.length).float().cpu().numpy() for mask in M]
    return np.stack(parts)


def variance_masks(spectra: Spectra) -> Tensor:
    """Wiener filter of the true `|S_k|^2`, the reference for every variance mask: `[K, 2, F, T]`."""
    return _wiener(torch.log(power(spectra.S) + _TINY))


def banded_variance_masks(model: SeparationModel, spectra: Spectra) -> Tensor:
    """Wiener filter of the true `|S_k|^2` averaged over the model's bands: `[K, 2, F, T]`."""
    return model.bands.expand(_wiener(torch.log(model.banded_power(spectra.S) + _TINY)))


def phase_sensitive_masks(spectra: Spectra, *, clipped: bool) -> Tensor:
    """Re(S_k / X), the best real mask; clipped to [0, 1] or not: `[K, 2, F, T]`.

    Source:
        Erdogan, Hershey, Watanabe & Le Roux 2015, "Phase-sensitive and recognition-boosted speech separation
        using deep recurrent neural networks", eq. 6.
    """
    X = spectra.X
    M = (spectra.S.real * X.real + spectra.S.imag * X.imag) / (power(X) + _TINY)
    return M.clamp(0, 1) if clipped else M


def log_variance_masks(model: SeparationModel, log_variance: Tensor, frames: int) -> Tensor:
    """Masks of banded log-variances: `[K, 2, N, T']`, T' >= T -> `[K, 2, F, T]`."""
    return model.bands.expand(_wiener(log_variance[..., :frames]))


@dataclass(frozen=True)
class Coded:
    """One source that went through a VAE.

    Attributes:
        log_variance: decoded.
        nats: KL of the posterior from the ladder's prior, of every frame.

    Shape:
        log_variance: `[2, N, T']`; nats: `[T']`
    """

    log_variance: Tensor
    nats: Tensor


def source_powers(model: SeparationModel, spectra: Spectra) -> Tensor:
    """Banded powers of the true sources, padded with silent frames for the VAEs: `[K, 2, N, T']`."""
    return model.pad_frames(model.banded_power(spectra.S))


def code_refined(vae: SourceVAE, P: Tensor, sizes: Tensor, steps: int) -> Coded:
    """Encode a solo, fit the code to it (`sepvae.models.refinement`), and decode it again.

    Args:
        vae: the VAE.
        P: banded power of one source.
        sizes: bins per band.
        steps: > 0.

    Shape:
        P: `[2, N, T']`; sizes: `[N]`
    """
    posterior = vae.encode(P[None])
    autocast = autocast_dtype("auto", P.device)
    posterior = refine(vae, P[None], posterior, sizes, steps=steps, autocast=autocast)
    log_variance, priors = vae.decode_with_priors(posterior.mean)
    return Coded(log_variance[0].float(), _nats(posterior, priors, set(), P.shape[-1]))


def code(vae: SourceVAE, P: Tensor, *, dropped: int = 0, generator: torch.Generator | None = None) -> Coded:
    """Encode a solo and decode it again.

    Args:
        vae: the VAE.
        P: banded power of one source.
        dropped: how many of the ladder's finest levels are not transmitted: they take their prior's mean,
            given the coarser ones. The pan latent always is.
        generator: draws the latents; without one they are the posterior's mean.

    Shape:
        P: `[2, N, T']`
    """
    posterior = vae.encode(P[None])
    latents = posterior.mean if generator is None else _draw(posterior, generator)
    ladder = len(latents) - 1  # the pan latent comes last
    untransmitted = range(ladder - dropped, ladder)
    log_variance, priors = vae.decode_with_priors(vae.with_prior_means(latents, untransmitted))
    nats = _nats(posterior, priors, set(untransmitted), P.shape[-1])
    return Coded(log_variance[0].float(), nats)


def swaps(count: int) -> Iterator[list[int]]:
    """All cyclic derangements of sources: which VAE each source goes through instead of its own."""
    for shift in range(1, count):
        yield [(k + shift) % count for k in range(count)]


def active_frames(P: Tensor) -> Tensor:
    """Frames in which a solo sounds: their level is above -45 dBFS.

    Shape:
        P: power per bin `[C, F, T]` -> bool `[T]`
    """
    return P.mean((0, 1)) > 10 ** (ACTIVE_DB / 10)


def kbit_per_second(nats: Tensor, frame_rate: float) -> float:
    """Mean nats per frame as a bit rate in kbit/s; NaN for no frames."""
    return float(nats.mean()) / math.log(2) * frame_rate / 1000 if nats.numel() else math.nan


def _wiener(log_variance: Tensor) -> Tensor:
    return wiener.masks(log_variance[None])[0]


def _draw(posterior: Posterior, generator: torch.Generator) -> Latents:
    """Sample on the generator's device, so that a seed means the same everywhere."""
    device = posterior.levels[0].mean.device
    levels = [Gaussian(q.mean.to(generator.device), q.log_sd.to(generator.device)) for q in posterior.levels]
    return [q.sample(generator).to(device) for q in levels]


def _nats(posterior: Posterior, priors: list[Gaussian], untransmitted: set[int], frames: int) -> Tensor:
    """KL of every frame, the nats of a latent shared out evenly among the frames of its cell: `[T']`."""
    total = posterior.levels[0].mean.new_zeros(frames)
    for level, (q, p) in enumerate(zip(posterior.levels, priors, strict=True)):
        if level not in untransmitted:
            nats = kl_divergence(q, p).sum((0, 1, 2))  # [T_l]
            cell = frames // nats.shape[0]
            total += nats.repeat_interleave(cell) / cell
    return total
