"""Scores of a model on a dataset, with floor, ceiling and gates beside them: tables, JSON and pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track as progress

from sepvae.data import corpora
from sepvae.data.excerpts import Excerpt, excerpts
from sepvae.errors import DataError
from sepvae.evaluation import summary
from sepvae.evaluation.baselines import StaticEQ
from sepvae.evaluation.bss_eval import TrackBSS
from sepvae.evaluation.gates import (
    REFINED,
    RefinedOracle,
    SoloTable,
    gate_methods,
    reference_methods,
    verdicts,
)
from sepvae.evaluation.oracles import Spectra
from sepvae.evaluation.plots import spectrograms
from sepvae.evaluation.summary import REPORT_NAME
from sepvae.models.permutation import in_order_of
from sepvae.models.separation import SeparationConfig, SeparationModel, SeparationVAE
from sepvae.separation.quality import choose
from sepvae.separator import Separator
from sepvae.signal import metrics
from sepvae.signal.metrics import WindowScore

__all__ = ["REPORT_NAME", "evaluate"]

logger = logging.getLogger(__name__)

ModelSource = str | Path | SeparationModel


def evaluate(
    model: ModelSource,
    dataset: str | Path,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    gates: bool = False,
    mask_net: ModelSource | None = None,
    frozen: ModelSource | None = None,
    static_eq_from: str | Path | None = None,
    museval: bool = True,
    max_seconds: float | None = None,
    quality: str = "balanced",
    refine: int | None = None,
    present: bool = False,
) -> dict[str, Any]:
    """Score a model on a dataset, and write JSON and pictures.

    Everything is taken at the model's own rate; a dataset at another rate is resampled. The same call gives
    the same numbers.

    Args:
        model: name or folder of a checkpoint, or a model.
        dataset: folder in the stems layout; its songs are scored, its solos only where it has nothing else.
        out: folder for `report.json` and one picture per track; None writes nothing.
        device: `auto`, `cpu`, `cuda` or `mps`.
        gates: also measure oracles, baselines and whether the latents matter.
        mask_net: a mask network trained on the same data, scored beside the model.
        frozen: the same model before its decoders were fine-tuned.
        static_eq_from: dataset whose songs give the mean spectra of the static EQ; None leaves it out.
        museval: also take BSSEval v4, which is slow.
        max_seconds: only this much of every track's beginning, >= 0.001.
        quality: fast, balanced or best, for all models.
        refine: steps of refinement instead of the quality's.
        present: tell the models which sources each track has.

    Returns:
        What the JSON file says: plain values, None for what has no score.

    Raises:
        CheckpointError: a model cannot be loaded.
        DataError: the dataset has no track, or max_seconds is out of its range.
        OutputError: a result cannot be written.
    """
    summary.check_seconds(max_seconds)
    models = {"model": model, "frozen": frozen, "mask net": mask_net}
    separators = _separators(models, device, quality, refine)
    separator = separators["model"]
    sources, rate = separator.model.config.sources, separator.model.config.sample_rate
    equaliser = None
    if static_eq_from is not None:
        equaliser = StaticEQ.measure(static_eq_from, sources, separator.model.stft, rate)
    folder = None if out is None else summary.output_folder(out)
    track_set = corpora.scan(dataset, sources)
    if others := sorted(corpora.stem_names(dataset) - set(sources)):
        logger.warning("left out of the mixtures, the model has no such source: %s", ", ".join(others))
    run = _Run(separators, equaliser, with_gates=gates, with_bss=museval, present=present)
    tracks = track_set.songs or track_set.tracks
    for track in progress(tracks, "Evaluating", console=Console(stderr=True), transient=True):
        run.take(track, max_seconds, folder)
    report = summary.plain(
        {
            "model": type(model).__name__ if isinstance(model, SeparationModel) else Path(model).name,
            "dataset": track_set.root.resolve().name,
            "sources": list(sources),
            "sample_rate": rate,
            "protocol": {
                **summary.protocol(max_seconds=max_seconds, museval=museval),
                "quality": {"name": quality, **separator.quality.plain()},
                "present_sources": "given for each track" if present else "unknown",
                "static_eq_from": None if static_eq_from is None else Path(static_eq_from).resolve().name,
            },
            **run.results(),
        }
    )
    if folder is not None:
        summary.write_json(folder / REPORT_NAME, report)
    return report


Scores = dict[str, dict[str, dict[str, list[WindowScore]]]]
"""Method -> track -> source -> counted windows."""


class _Song:
    """What one pass over a track gathers about the model's estimates, beside SI-SDR."""

    def __init__(self, track: corpora.Track, config: SeparationConfig, *, with_bss: bool) -> None:
        present = [source for source in config.sources if source in track.files]
        self.bss = TrackBSS(present, config.sample_rate) if with_bss else None
        self.energy, self.reference_energy = np.zeros((2, len(config.sources)))
        self.mixture_energy = 0.0
        self.shown: tuple[int, np.ndarray, np.ndarray] | None = None

    def take(self, excerpt: Excerpt, estimates: np.ndarray) -> None:
        """Take the next stretch of the track, estimates `[K, 2, L]`."""
        estimates, references = estimates[..., excerpt.inner], excerpt.references[..., excerpt.inner]
        self.energy += np.square(estimates, dtype=np.float64).sum((1, 2))
        self.reference_energy += np.square(references, dtype=np.float64).sum((1, 2))
        self.mixture_energy += float(np.square(references.sum(0), dtype=np.float64).sum())
        if self.bss is not None:
            self.bss.take(
                dict(zip(excerpt.sources, estimates, strict=True)),
                dict(zip(excerpt.sources, references, strict=True)),
            )
        sounding = sum(metrics.is_active(reference) for reference in references)
        if self.shown is None or sounding > self.shown[0]:
            self.shown = sounding, estimates, references

    def leakage_db(self, k: int) -> float:
        """Level of one stem under the mixture."""
        if self.mixture_energy <= 0:
            return math.nan
        return 10 * math.log10(max(float(self.energy[k]), 1e-12 * self.mixture_energy) / self.mixture_energy)


class _Run:
    """One pass over the tracks: what is measured, and what has been found so far."""

    def __init__(
        self,
        separators: Mapping[str, Separator],
        equaliser: StaticEQ | None,
        *,
        with_gates: bool,
        with_bss: bool,
        present: bool,
    ) -> None:
        self.separators, self.with_bss, self.present = separators, with_bss, present
        self.model = separators["model"].model
        self.config = self.model.config
        self.methods = reference_methods(equaliser) | (gate_methods(self.model) if with_gates else {})
        self.with_gates = with_gates
        self.solos = SoloTable(self.config.sources)
        self.scores: Scores = {}
        self.bss: dict[str, dict[str, dict[str, float]]] = {}
        self.leakage: dict[str, dict[str, float]] = {source: {} for source in self.config.sources}

    def take(self, track: corpora.Track, max_seconds: float | None, folder: Path | None) -> None:
        """Measure one track, stretch by stretch."""
        song = _Song(track, self.config, with_bss=self.with_bss)
        stretches = excerpts(
            track,
            self.config.sources,
            self.config.sample_rate,
            context=self.model.context_frames * self.config.hop_length + self.config.n_fft,
            grid=self.model.frame_multiple * self.config.hop_length,
            max_seconds=max_seconds,
        )
        present = list(track.files) if self.present else None
        for excerpt in stretches:
            for label, separator in self.separators.items():
                stems = separator.separate(excerpt.mixture, excerpt.sample_rate, present=present)
                estimates = np.stack([stems[source] for source in self.config.sources])
                if self.config.alike:
                    pair = torch.from_numpy(estimates), torch.from_numpy(excerpt.references)
                    estimates = in_order_of(*pair, self.config.alike).numpy()
                self._add(label, excerpt, estimates)
                if label == "model":
                    song.take(excerpt, estimates)
            with torch.inference_mode():
                self._take_spectra(excerpt)
        self._finish(track.name, song, folder)

    def _take_spectra(self, excerpt: Excerpt) -> None:
        """Everything that works on the excerpt's spectrograms and knows the truth."""
        spectra = Spectra.of(excerpt, self.model)
        for label, method in self.methods.items():
            for estimates in method(self.model, spectra):
                self._add(label, excerpt, estimates)
        if self.with_gates and isinstance(self.model, SeparationVAE):
            refined = self.methods[f"VAE oracle, {REFINED}"]
            assert isinstance(refined, RefinedOracle)
            self.solos.add(self.model, excerpt, refined.nats)

    def _add(self, label: str, excerpt: Excerpt, estimates: np.ndarray) -> None:
        tracks = self.scores.setdefault(label, {})
        found = tracks.setdefault(excerpt.track, {source: [] for source in excerpt.sources})
        for source, windows in excerpt.score(estimates).items():
            found[source] += windows

    def _finish(self, name: str, song: _Song, folder: Path | None) -> None:
        for k, source in enumerate(self.config.sources):
            if song.reference_energy[k] == 0:  # not merely too soft for a window to count
                self.leakage[source][name] = song.leakage_db(k)
        if song.bss is not None:
            self.bss[name] = song.bss.medians()
        if folder is not None and song.shown is not None:
            _, estimates, references = song.shown
            spectrograms(
                folder / f"{name}.png",
                name,
                self.config.sources,
                estimates,
                references,
                self.config.sample_rate,
            )

    def results(self) -> dict[str, Any]:
        """Everything measured, with the means."""
        sources = self.config.sources
        methods = {label: summary.summarise(tracks, sources) for label, tracks in self.scores.items()}
        found: dict[str, Any] = {"methods": methods, "leakage_db": summary.leakage(self.leakage)}
        if self.with_bss:
            found["bss_eval"] = summary.summarise_bss(self.bss, sources)
        if self.with_gates:
            frame_rate = self.config.sample_rate / self.config.hop_length
            latent = isinstance(self.model, SeparationVAE)
            solos = self.solos.summary(frame_rate) if latent else None
            means = {label: method["mean"]["si_sdr_improvement"] for label, method in methods.items()}
            found["gates"] = verdicts(means, solos)
            found["solos"] = solos
        return found


def _separators(
    models: Mapping[str, ModelSource | None], device: str, quality: str, refine: int | None
) -> dict[str, Separator]:
    """A separator for each model that is given, all of the same sources and rate.

    Raises:
        DataError: one has others than the first.
    """
    made = {
        label: _separator(model, device, quality, refine)
        for label, model in models.items()
        if model is not None
    }
    configs = {label: separator.model.config for label, separator in made.items()}
    first = next(iter(configs.values()))
    for label, config in configs.items():
        if (config.sources, config.sample_rate) != (first.sources, first.sample_rate):
            raise DataError(f"the {label} has other sources or another rate than the model")
    return made


def _separator(model: ModelSource, device: str, quality: str, refine: int | None) -> Separator:
    if isinstance(model, SeparationModel):
        return Separator(model, device, quality=choose(quality, {}, refine))
    return Separator.from_pretrained(model, device, quality=quality, refine=refine)
