"""Separation scores during training: few, quick, and by the same protocol as the reports."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from sepvae.data.corpora import Track
from sepvae.data.excerpts import Excerpt, excerpts
from sepvae.models.separation import SeparationModel
from sepvae.signal import metrics


def validation_scores(model: SeparationModel, tracks: Iterable[Track], seconds: float) -> dict[str, float]:
    """Mean SI-SDR improvement of every source over the beginnings of some tracks.

    The model runs where it is and as it is, but in evaluation mode and without gradients.

    Args:
        model: the model.
        tracks: songs; what they lack is silent.
        seconds: of every track, the first so many in which at least two sources sound, in windows of 10 s, > 0.

    Returns:
        Source -> dB, mean over windows, then tracks; sources that sound nowhere are left out.
    """
    sources = model.config.sources
    found: dict[str, list[float]] = {source: [] for source in sources}
    was_training = model.training
    model.eval()
    try:
        for track in tracks:
            scores = _track_scores(model, track, seconds)
            for source in sources:
                if scores[source]:
                    found[source].append(metrics.summarise(scores[source]).si_sdr_improvement)
    finally:
        model.train(was_training)
    return {source: float(np.mean(values)) for source, values in found.items() if values}


def separate_excerpt(model: SeparationModel, excerpt: Excerpt) -> np.ndarray:
    """Estimates of all sources of an excerpt, at its own rate, which must be the model's: `[K, 2, L]`."""
    device = model.stft.window.device
    mix = torch.from_numpy(excerpt.mixture).to(device)[None]  # [1, 2, L]
    with torch.inference_mode():
        estimates = model.separate_frames(model.stft(mix))  # [1, K, 2, F, T]
        return model.stft.inverse(estimates, mix.shape[-1])[0].float().cpu().numpy()


def _track_scores(
    model: SeparationModel, track: Track, seconds: float
) -> dict[str, list[metrics.WindowScore]]:
    config = model.config
    grid = model.frame_multiple * config.hop_length
    context = model.context_frames * config.hop_length + config.n_fft
    scores: dict[str, list[metrics.WindowScore]] = {source: [] for source in config.sources}
    left = seconds
    stretches = excerpts(
        track, config.sources, config.sample_rate, context=context, grid=grid, block_s=metrics.WINDOW_S
    )
    for excerpt in stretches:
        sounding = [metrics.is_active(s) for s in excerpt.named(excerpt.references).values()]
        if sum(sounding) < 2:
            continue
        for source, found in excerpt.score(separate_excerpt(model, excerpt)).items():
            scores[source] += found
        left -= metrics.WINDOW_S
        if left <= 0:
            break
    return scores
