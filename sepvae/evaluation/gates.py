"""The gates of the design: numbers that tell whether the latents do the work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepvae.data.excerpts import Excerpt
from sepvae.evaluation import oracles
from sepvae.evaluation.baselines import StaticEQ
from sepvae.evaluation.oracles import Spectra
from sepvae.models.latents import Latents
from sepvae.models.separation import SeparationModel, SeparationVAE, power

REFINED = "refined codes"
REFINED_STEPS = 50
DROPPED = {"all levels": 0, "without the finest level": 1, "coarsest level only": 2}
SOLO_LEVEL_DB = -20.0
_CLIP_FRAMES = 128
_CLIP_ACTIVE = 32
_SEED = 0

Method = Callable[[SeparationModel, Spectra], Iterator[np.ndarray]]
"""Estimates `[K, 2, L]` of an excerpt; several where a gate averages over ways of breaking the model."""


def reference_methods(equaliser: StaticEQ | None) -> dict[str, Method]:
    """Floor and ceiling, which every report shows: the static EQ, where there is one, and the oracle mask."""
    methods: dict[str, Method] = {}
    if equaliser is not None:
        M = equaliser.masks()
        methods["static EQ"] = lambda model, s: _masked(model, s, M.to(s.X.device))
    methods["oracle variance mask"] = lambda model, s: _masked(model, s, oracles.variance_masks(s))
    return methods


def gate_methods(model: SeparationModel) -> dict[str, Method]:
    """The gates that are separation scores; those on latents only for a model that has them."""
    methods: dict[str, Method] = {
        "oracle banded mask": lambda model, s: _masked(model, s, oracles.banded_variance_masks(model, s)),
        "oracle PSM, clipped": lambda model, s: _masked(
            model, s, oracles.phase_sensitive_masks(s, clipped=True)
        ),
        "oracle PSM": lambda model, s: _masked(model, s, oracles.phase_sensitive_masks(s, clipped=False)),
    }
    if isinstance(model, SeparationVAE):
        for name, dropped in DROPPED.items():
            methods[f"VAE oracle, {name}"] = _vae_oracle(dropped)
        methods[f"VAE oracle, {REFINED}"] = RefinedOracle()
        methods["VAE oracle, z drawn"] = _vae_oracle(0, drawn=True)
        for name, dropped in DROPPED.items():
            methods[f"VAE swapped, {name}"] = _vae_swapped(dropped)
        methods["z permuted"] = _permuted
        methods["z from the prior"] = _from_prior
    return methods


class RefinedOracle:
    """The VAE oracle with codes that are fitted to the true sources, not only encoded from them.

    Attributes:
        nats: of the last excerpt, of every source and frame.

    Shape:
        nats: K of `[T']`
    """

    def __init__(self) -> None:
        self.nats: list[Tensor] = []

    def __call__(self, model: SeparationModel, spectra: Spectra) -> Iterator[np.ndarray]:
        model = _with_latents(model)
        P, sizes = oracles.source_powers(model, spectra), model.bands.sizes
        vaes = [model.source_vae(source) for source in model.config.sources]
        coded = [oracles.code_refined(vae, P[k], sizes, REFINED_STEPS) for k, vae in enumerate(vaes)]
        self.nats = [c.nats for c in coded]
        yield _decoded(model, spectra, torch.stack([c.log_variance for c in coded]))


def _masked(model: SeparationModel, spectra: Spectra, M: Tensor) -> Iterator[np.ndarray]:
    yield oracles.synthesise(model, spectra, M)


def _decoded(model: SeparationModel, spectra: Spectra, log_variance: Tensor) -> np.ndarray:
    """Estimates from banded log-variances `[K, 2, N, T']`."""
    frames = spectra.X.shape[-1]
    return oracles.synthesise(model, spectra, oracles.log_variance_masks(model, log_variance, frames))


def _vae_oracle(dropped: int, *, drawn: bool = False) -> Method:
    def method(model: SeparationModel, spectra: Spectra) -> Iterator[np.ndarray]:
        order = list(range(len(model.config.sources)))
        yield _coded(_with_latents(model), spectra, order, dropped, drawn)

    return method


def _vae_swapped(dropped: int) -> Method:
    def method(model: SeparationModel, spectra: Spectra) -> Iterator[np.ndarray]:
        for order in oracles.swaps(len(model.config.sources)):
            yield _coded(_with_latents(model), spectra, order, dropped, False)

    return method


def _coded(
    model: SeparationVAE, spectra: Spectra, order: Sequence[int], dropped: int, drawn: bool
) -> np.ndarray:
    """Estimates from true sources that went through the VAEs of `order`."""
    P = oracles.source_powers(model, spectra)  # [K, 2, N, T']
    names = model.config.sources
    generator = torch.Generator().manual_seed(_SEED) if drawn else None
    coded = [
        oracles.code(model.source_vae(names[j]), P[k], dropped=dropped, generator=generator)
        for k, j in enumerate(order)
    ]
    return _decoded(model, spectra, torch.stack([c.log_variance for c in coded]))


def mixture_latents(model: SeparationVAE, spectra: Spectra) -> list[Latents]:
    """Means of q(z_k | x) of every source."""
    X = model.pad_frames(spectra.X[None])
    return [posterior.mean for posterior in model.posteriors(*model.band_powers(X))]


def _permuted(model: SeparationModel, spectra: Spectra) -> Iterator[np.ndarray]:
    model = _with_latents(model)
    latents = mixture_latents(model, spectra)
    for order in oracles.swaps(len(latents)):
        yield _decoded(model, spectra, model.decode([latents[j] for j in order])[0])


def _from_prior(model: SeparationModel, spectra: Spectra) -> Iterator[np.ndarray]:
    model = _with_latents(model)
    frames = spectra.X.shape[-1]
    frames += -frames % model.frame_multiple
    generator = torch.Generator(spectra.X.device).manual_seed(_SEED)
    drawn = [model.source_vae(name).sample(frames, generator=generator)[0] for name in model.config.sources]
    yield _decoded(model, spectra, torch.stack(drawn))


def _with_latents(model: SeparationModel) -> SeparationVAE:
    """The model as a `SeparationVAE`, which `gate_methods` has checked."""
    assert isinstance(model, SeparationVAE)
    return model


@dataclass
class SoloTable:
    """Gathers the ELBO of every source's solos under every VAE, and the rates.

    Solos are brought to -20 dBFS over their active frames; likelihood and KL are exact (log(pi) included, no
    free bits), on one draw of z; silent frames do not count. The highest ELBO classifies a clip of 128 frames.
    """

    sources: tuple[str, ...]
    elbo: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    nats: dict[tuple[str, str], list[Tensor]] = field(default_factory=dict)
    clips: dict[str, list[int]] = field(default_factory=dict)

    def add(self, model: SeparationVAE, excerpt: Excerpt, refined: Sequence[Tensor] = ()) -> None:
        """Take in the solos of an excerpt, and the nats of their refined codes; those that are silent are skipped."""
        stft = model.stft
        hop = model.config.hop_length
        first = -(-excerpt.inner.start // hop) + stft.n_fft // hop - 1
        inner = slice(first, excerpt.inner.stop // hop)  # frames that lie in what is scored
        for k, source in enumerate(self.sources):
            S = stft(torch.from_numpy(excerpt.references[k]).to(stft.window.device))  # [2, F, T]
            P = power(S)
            active = oracles.active_frames(P)
            active[: inner.start] = False
            active[inner.stop :] = False
            if active.any():
                self._add_solo(model, source, P, active)
                if refined:
                    found = self.nats.setdefault((REFINED, source), [])
                    found.append(refined[k][: len(active)][active].cpu())

    def _add_solo(self, model: SeparationVAE, source: str, P: Tensor, active: Tensor) -> None:
        P = model.pad_frames(model.bands.merge(P))  # [2, N, T']
        active = model.pad_frames(active)
        for name, dropped in DROPPED.items():
            coded = oracles.code(model.source_vae(source), P, dropped=dropped, generator=_generator())
            self.nats.setdefault((name, source), []).append(coded.nats[active].cpu())
        level = _weighted_mean(model, P[..., active])
        P = P * (10 ** (SOLO_LEVEL_DB / 10) / level)
        scores = torch.stack([self._frame_elbo(model, name, P) for name in self.sources])  # [K, T']
        for name, row in zip(self.sources, scores, strict=True):
            self.elbo.setdefault((source, name), []).extend(row[active].tolist())
        for clip, sounding in zip(scores.split(_CLIP_FRAMES, dim=1), active.split(_CLIP_FRAMES), strict=True):
            if sounding.sum() >= _CLIP_ACTIVE:
                self.clips.setdefault(source, []).append(int(clip[:, sounding].sum(1).argmax()))

    @staticmethod
    def _frame_elbo(model: SeparationVAE, name: str, P: Tensor) -> Tensor:
        """ELBO of every frame, in nats per bin and channel: `[T']`."""
        vae = model.source_vae(name)
        coded = oracles.code(vae, P, generator=_generator())
        power_of_frames = P.permute(2, 0, 1)[..., None]  # [T', 2, N, 1]
        log_variance = coded.log_variance.permute(2, 0, 1)[..., None]  # [T', 2, N, 1]
        nll = vae.nll(power_of_frames, log_variance, model.bands.sizes)  # [T']
        points = 2 * model.bands.n_bins
        return (-(nll + coded.nats) / points - math.log(math.pi)).cpu()

    def summary(self, frame_rate: float) -> dict[str, Any]:
        """The K x K table, the classification rate and the rates of the ladder, as plain values.

        Args:
            frame_rate: STFT frames per second.
        """
        table = {
            source: {name: _mean(self.elbo.get((source, name), [])) for name in self.sources}
            for source in self.sources
        }
        heard = [source for source in self.sources if self.clips.get(source)]
        hits = {s: float(np.mean([c == self.sources.index(s) for c in self.clips[s]])) for s in heard}
        rates = {
            name: {
                source: oracles.kbit_per_second(torch.cat(found), frame_rate)
                for source in self.sources
                if (found := self.nats.get((name, source)))
            }
            for name in (*DROPPED, REFINED)
            if any(key == name for key, _ in self.nats)
        }
        return {
            "elbo_nats_per_bin": table,
            "own_vae_is_best": {s: max(table[s], key=lambda name: table[s][name]) == s for s in heard},
            "classification_rate": hits,
            "mean_classification_rate": _mean(list(hits.values())),
            "clips": {source: len(self.clips[source]) for source in heard},
            "rate_kbit_s": rates,
        }


def verdicts(scores: Mapping[str, float], solos: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Each gate of the design as a number, what is wanted of it, and whether it is met.

    Args:
        scores: method -> mean SI-SDR improvement in dB.
        solos: the summary of a `SoloTable`.
    """
    found: dict[str, dict[str, Any]] = {}

    def gate(name: str, value: float | None, wanted: float, meaning: str) -> None:
        if value is not None and math.isfinite(value):
            found[name] = {"value": value, "wanted": wanted, "passed": value >= wanted, "meaning": meaning}

    def gap(a: str, b: str) -> float | None:
        return scores[a] - scores[b] if a in scores and b in scores else None

    gate("above static EQ", gap("model", "static EQ"), 2.0, "model - static EQ, dB")
    telling = []
    for name in DROPPED:
        swapped, own = f"VAE swapped, {name}", f"VAE oracle, {name}"
        gate(swapped, gap(own, swapped), 3.0, "own VAE - others, dB")
        if found.get(swapped, {}).get("passed"):
            telling.append(scores[own])
    if "VAE oracle, all levels" in scores:
        best = max(telling, default=-math.inf) - scores["oracle variance mask"]
        meaning = "VAE oracle - oracle mask, dB, where swapped VAEs lose 3 dB"
        found["VAE oracle"] = {"value": best, "wanted": -1.0, "passed": best >= -1.0, "meaning": meaning}
    gate(
        f"VAE oracle, {REFINED}",
        gap(f"VAE oracle, {REFINED}", "oracle variance mask"),
        -1.5,
        "VAE oracle with refined codes - oracle mask, dB",
    )
    if solos is not None:
        own_best = list(solos["own_vae_is_best"].values())
        gate("own-source ELBO", _mean(own_best), 0.75, "share of sources whose own VAE is best")
        gate(
            "own-source clips",
            solos["mean_classification_rate"],
            0.75,
            "share of clips given to their own VAE",
        )
    gate("joint", gap("model", "frozen"), 0.0, "model - frozen decoders, dB")
    gate("mask net", gap("model", "mask net"), 0.0, "model - mask net, dB")
    gate("z permuted", gap("model", "z permuted"), 3.0, "model - permuted z, dB")
    gate("z from the prior", gap("model", "z from the prior"), 3.0, "model - z from the prior, dB")
    return found


def _weighted_mean(model: SeparationModel, P: Tensor) -> Tensor:
    """Mean power over bins of a banded power `[2, N, T]`."""
    sizes = model.bands.sizes
    return (P * sizes[:, None]).sum(1).mean() / sizes.sum()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
