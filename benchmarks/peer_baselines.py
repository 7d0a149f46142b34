"""What peers.py puts beside the trained networks: methods without training, NMF, floor and ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
import torch
from sklearn.decomposition import NMF, non_negative_factorization

from sepvae.data import corpora
from sepvae.data.excerpts import Excerpt
from sepvae.evaluation.baselines import StaticEQ
from sepvae.evaluation.gates import Method, reference_methods
from sepvae.evaluation.oracles import Spectra
from sepvae.models.separation import SeparationModel

COMPONENTS, ITERATIONS = 32, 60
CLIPS, CLIP_S = 80, 5.0
TINY = 1e-10

Separate = Callable[[Excerpt], np.ndarray]
"""Excerpt -> estimates `[K, 2, L]`."""


def _masked(
    model: SeparationModel, excerpt: Excerpt, masks: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Estimates by masks that are made of the mixture's magnitudes: `[F, T]` -> `[K, F, T]`, channel by channel."""
    X = model.stft(torch.from_numpy(excerpt.mixture)).numpy()  # [2, F, T]
    S = np.stack([masks(np.abs(channel)) * channel for channel in X], 1)  # [K, 2, F, T]
    return model.stft.inverse(torch.from_numpy(S), excerpt.mixture.shape[-1]).numpy()


def hpss(model: SeparationModel, data: Path) -> Separate:
    """Median filtering (FitzGerald 2010, librosa): what is percussive is the drums, the rest everything else."""
    drums = model.config.sources.index("drums")

    def masks(magnitude: np.ndarray) -> np.ndarray:
        harmonic, percussive = librosa.decompose.hpss(magnitude, mask=True)
        return np.stack([percussive if k == drums else harmonic for k in range(len(model.config.sources))])

    return lambda excerpt: _masked(model, excerpt, masks)


def repet_sim(model: SeparationModel, data: Path) -> Separate:
    """What repeats (REPET-SIM, Rafii & Pardo 2012, librosa) is the background, what does not the voice."""
    vocals = model.config.sources.index("vocals")
    apart = round(2 * model.config.sample_rate / model.config.hop_length)

    def masks(magnitude: np.ndarray) -> np.ndarray:
        steady = librosa.decompose.nn_filter(
            magnitude, aggregate=np.median, metric="cosine", width=min(apart, magnitude.shape[1] // 4)
        )
        steady = np.minimum(magnitude, steady)
        background = librosa.util.softmask(steady, 2 * (magnitude - steady), power=2)
        foreground = librosa.util.softmask(magnitude - steady, 10 * steady, power=2)
        return np.stack([foreground if k == vocals else background for k in range(len(model.config.sources))])

    return lambda excerpt: _masked(model, excerpt, masks)


def nmf(model: SeparationModel, data: Path) -> Separate:
    """A dictionary of spectra for each source from its solos, Kullback-Leibler NMF (scikit-learn), Wiener filter."""
    sources = model.config.sources
    track_set = corpora.scan(data / "train", sources)
    dictionaries = []
    for source in sources:
        X = np.concatenate(list(_solos(model, track_set, source)))  # frames, F
        solver = NMF(
            COMPONENTS, beta_loss="kullback-leibler", solver="mu", max_iter=ITERATIONS, random_state=0
        )
        solver.fit(X + TINY)
        dictionaries.append(solver.components_ / solver.components_.sum(1, keepdims=True))
    H = np.concatenate(dictionaries).astype(np.float32)  # K * components, F

    def masks(magnitude: np.ndarray) -> np.ndarray:
        W, _, _ = non_negative_factorization(
            magnitude.T + TINY,
            H=H,
            n_components=len(H),
            update_H=False,
            beta_loss="kullback-leibler",
            solver="mu",
            max_iter=ITERATIONS,
        )
        parts = [W[:, k : k + COMPONENTS] @ H[k : k + COMPONENTS] for k in range(0, len(H), COMPONENTS)]
        V = np.stack(parts).transpose(0, 2, 1) ** 2 + TINY  # [K, F, T]
        return V / V.sum(0)

    return lambda excerpt: _masked(model, excerpt, masks)


def _solos(model: SeparationModel, track_set: corpora.TrackSet, source: str) -> Iterator[np.ndarray]:
    """Magnitudes of clips of a source, from as many tracks as there are clips or fewer: `[T, F]` each."""
    tracks, rng = track_set.with_source(source), np.random.default_rng(0)
    for i in range(CLIPS):
        track = tracks[i * len(tracks) // CLIPS] if len(tracks) >= CLIPS else tracks[i % len(tracks)]
        frames = min(round(CLIP_S * track.sample_rate), track.frames)
        start = int(rng.integers(track.frames - frames + 1))
        audio, _ = corpora.read_audio(track.files[source], start=start, frames=frames)
        yield model.stft(torch.from_numpy(audio.mean(0))).abs().numpy().T


def static_eq(model: SeparationModel, data: Path) -> Separate:
    """One fixed filter for each source, from the mean spectra of the training songs."""
    config = model.config
    equaliser = StaticEQ.measure(data / "train", config.sources, model.stft, config.sample_rate)
    return _by_gate(model, reference_methods(equaliser)["static EQ"])


def oracle_mask(model: SeparationModel, data: Path) -> Separate:
    """The Wiener filter of the true variances."""
    return _by_gate(model, reference_methods(None)["oracle variance mask"])


def _by_gate(model: SeparationModel, method: Method) -> Separate:
    def separate(excerpt: Excerpt) -> np.ndarray:
        with torch.inference_mode():
            return next(method(model, Spectra.of(excerpt, model)))

    return separate


BASELINES: dict[str, Callable[[SeparationModel, Path], Separate]] = {
    "static EQ": static_eq,
    "HPSS": hpss,
    "REPET-SIM": repet_sim,
    "NMF": nmf,
    "oracle mask": oracle_mask,
}
"""Name -> what makes the method from a model, whose STFT it uses, and the data."""
