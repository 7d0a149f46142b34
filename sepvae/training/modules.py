"""Lightning modules: solo training of the source VAEs, training of the separation, and of the mask net beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from sepvae.data.mixing import Mixture
from sepvae.errors import RecipeError
from sepvae.models.latents import Posterior, divergence
from sepvae.models.losses import complex_gaussian_nll
from sepvae.models.permutation import take
from sepvae.models.separation import MaskNet, SeparationModel, SeparationVAE
from sepvae.signal import wiener
from sepvae.training.base import SpectrogramModule
from sepvae.training.objectives import (
    SILENT_POWER,
    LossConfig,
    OptimConfig,
    SoloTerms,
    Targets,
    bins_of,
    bounded_elbo,
    margin_shortfall,
    solo_terms,
)


class VAEModule(SpectrogramModule):
    """Trains the VAE of every source on that source alone; checkpoints are compared by the ELBO of held-out solos."""

    model: SeparationVAE

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        targets, noise, sizes = self.targets(batch), self.noise(batch), self.model.bands.sizes
        sources = self.model.config.sources
        solos = {
            k: solo_terms(
                self.model.source_vae(sources[k]), targets.solo(k), sizes, self.losses.free_nats, noise
            )
            for k in self.trained_sources()
        }
        nll = torch.stack([solo.nll.mean() for solo in solos.values()]).mean()
        kl = torch.stack([solo.kl.mean() for solo in solos.values()]).mean()
        terms = {"solo_nll": nll, "solo_kl": kl}
        loss = nll + self.beta() * kl
        contrasts = [
            contrast_term(self.model, self.losses, k, self.global_step, targets.solo(k), solo, noise)
            for k, solo in solos.items()
        ]
        if found := [term["contrast"] for term in contrasts if term]:
            terms["contrast"] = torch.stack(found).mean()
            loss = loss + self.losses.contrast * terms["contrast"]
        if self.losses.coded_db:
            coded = {k: solo.log_variance for k, solo in solos.items()}
            terms["coded_db"] = self.coded_error(targets, coded)
            loss = loss + self.losses.coded_db * terms["coded_db"]
        self.log_terms(terms)
        return loss

    def trained_sources(self) -> Sequence[int]:
        """Indices of the sources whose solos this step looks at."""
        return range(len(self.model.config.sources))

    def beta(self) -> float:
        """Weight of the KL at this step."""
        return self.losses.beta * min(1.0, (self.global_step + 1) / max(self.losses.beta_warmup, 1))

    def validation_step(self, batch: Any, index: int) -> Tensor:
        """Score the VAE oracle, and take the ELBO of the solos that sound, in nats per bin."""
        number, _, sources, active = batch
        model, sizes = self.model, self.model.bands.sizes
        S = model.stft(sources)
        P = model.banded_power(S[..., : self.whole_frames(S)])
        for k in active:
            noise = torch.Generator(self.device).manual_seed(number)
            solo, source = P[k : k + 1], model.config.sources[k]
            elbo = model.source_vae(source).elbo(solo, sizes, noise).item() / bins_of(solo, sizes)
            self.found[number, f"elbo/{source}"] = elbo
        return super().validation_step(batch, index)

    def estimates(self, sources: Tensor) -> Tensor:
        """The VAE oracle: the Wiener filter from encoded and decoded true sources."""
        model = self.model
        S = model.stft(sources)
        frames = self.whole_frames(S)
        P = model.banded_power(S[..., :frames])
        vaes = [model.source_vae(source) for source in model.config.sources]
        V = torch.cat([vae.decode(vae.encode(P[k : k + 1]).mean) for k, vae in enumerate(vaes)])
        M = wiener.masks(V[None].float())[0]  # [K, 2, N, T]
        length = (frames - model.stft.overlap + 1) * model.stft.hop_length
        return model.stft.inverse(model.bands.scale(S.sum(0)[..., :frames], M), length)

    def score(self, sets: dict[str, float]) -> float:
        return sets["elbo"]


class EncoderModule(VAEModule):
    """Fits the solo encoders q(z_k | s_k) of a trained model to its decoders; nothing else changes.

    Joint training moves the decoders away from the solo encoders. The mixture encoder and the decoders stay as they
    are here, so what the model separates does not change by a bit, but its solo posteriors and ELBOs do.
    """

    def __init__(
        self, model: SeparationVAE, optim: OptimConfig, losses: LossConfig, *, seed: int = 0
    ) -> None:
        super().__init__(model, optim, losses, seed=seed)
        self.model.requires_grad_(False)
        for source in self.model.config.sources:
            vae = self.model.source_vae(source)
            vae.bottom_up.requires_grad_(True)
            vae.heads.requires_grad_(True)

    def trained_sources(self) -> Sequence[int]:
        everything = super().trained_sources()
        return [self.global_step % len(everything)] if self.losses.in_turn else everything


class SeparationModule(SpectrogramModule):
    """Trains the mixture encoder, first with frozen source VAEs, then jointly with them."""

    model: SeparationVAE

    def on_train_batch_start(self, batch: Mixture, index: int) -> None:
        """Freeze or release the source VAEs."""
        self.model.vaes.requires_grad_(self.joint)

    @property
    def joint(self) -> bool:
        """Whether the VAEs train too at this step."""
        return self.global_step >= self.losses.frozen_steps

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        batch = self.without_silence(batch)
        targets, noise, sizes = self.targets(batch), self.noise(batch), self.model.bands.sizes
        bins, channels = bins_of(targets.P_mix, sizes), targets.channels
        share = targets.P.shape[1] / len(self.model.config.sources)  # sources left out count as without error
        present = targets.present(len(self.model.config.sources)) if self.losses.given else None
        posteriors = self.model.posteriors(targets.P_mix, targets.P_side, present=present)
        log_variance = self.decode(targets, posteriors, noise)
        targets = self.in_best_order(targets, log_variance)
        source_nll = complex_gaussian_nll(
            targets.P, log_variance[:, :, :channels], sizes, linearise=True
        )  # [B, K', C, N, T]
        mixture_nll = complex_gaussian_nll(
            targets.P_mix, torch.logsumexp(log_variance, 1), sizes, linearise=True
        )  # [B, 2, N, T]
        terms = {
            "output_db": share * self.output_error(targets, log_variance),
            "source_nll": share * source_nll.mean((0, 1, 2)).sum() * 2 / bins,
            "mixture_nll": mixture_nll.mean((0, 1)).sum() * 2 / bins,
        }
        if self.global_step % self.losses.solo_every == 0:
            sources = self.solo_sources()
            turn, place = divmod(self.global_step // self.losses.solo_every, len(sources))
            k = sources[place]
            terms |= self.solo_and_match(targets, k, posteriors[k], noise, turn)
        self.log_terms(terms)
        # The keys of `terms` are the names of their weights in LossConfig.
        return torch.stack([getattr(self.losses, name) * term for name, term in terms.items()]).sum()

    def without_silence(self, batch: Mixture) -> Mixture:
        """The batch without most of its silent sources, if losses.given and no sources share a VAE; else all of it."""
        return sounding_first(batch) if self.losses.given and not self.model.config.alike else batch

    def decode(self, targets: Targets, posteriors: Sequence[Posterior], noise: Sequence[Generator]) -> Tensor:
        """Log-variances of a draw from every source's posterior; those of sources known to be silent are at the floor.

        Shape: `[B, K', 2, N, T]`, K' the sources that the targets hold.
        """
        if not self.losses.given:
            return self.model.decode([posterior.sample(noise) for posterior in posteriors])
        P = targets.P_mix.unsqueeze(1).expand(-1, targets.P.shape[1], -1, -1, -1)  # [B, K', 2, N, T]
        out = torch.full_like(P, math.log(wiener.VARIANCE_FLOOR))
        for k, (source, posterior) in enumerate(zip(self.model.config.sources, posteriors, strict=True)):
            rows, places = targets.sounding(k)
            if len(rows):
                z = posterior.rows(rows).sample([noise[row] for row in rows.tolist()])
                out[rows, places] = self.model.source_vae(source).decode(z).to(out.dtype)
        return out

    def solo_sources(self) -> Sequence[int]:
        """Indices of the sources whose solos are looked at, in turn."""
        return range(len(self.model.config.sources))

    def solo_and_match(
        self, targets: Targets, k: int, mixture: Posterior, noise: Sequence[Generator], turn: int
    ) -> dict[str, Tensor]:
        """Solo ELBO of source k once the VAEs train, and the KL from its solo's posterior to the mixture's.

        Where the source is silent there is nothing to match: its posterior lies too far out to be inferred. With
        `losses.given` such excerpts are left out altogether; the means still count them.
        """
        vae, sizes = self.model.source_vae(self.model.config.sources[k]), self.model.bands.sizes
        if self.losses.given:
            rows, places = targets.sounding(k)
            if not len(rows):
                return {}
            P = targets.P[rows, places].expand(-1, 2, -1, -1)
            mixture, noise = mixture.rows(rows), [noise[row] for row in rows.tolist()]
        else:
            P = targets.solo(k)
        terms: dict[str, Tensor] = {}
        if self.joint:
            solo = solo_terms(vae, P, sizes, self.losses.free_nats, noise)
            posterior = solo.posterior.detach()
            terms["solo"] = (solo.nll + self.losses.beta * solo.kl).mean()
            terms |= contrast_term(self.model, self.losses, k, turn, P, solo, noise)
            if self.losses.coded_db:
                terms["coded_db"] = self.coded_error(targets, {k: solo.log_variance})
        else:
            with torch.no_grad():
                posterior = vae.encode(P)
        sounds = P.mean((1, 2, 3)) > SILENT_POWER
        terms["match"] = (divergence(posterior, mixture) * sounds).mean() / bins_of(P, sizes)
        share = len(P) / len(targets.P)
        return {name: share * term for name, term in terms.items()}

    def estimates(self, sources: Tensor) -> Tensor:
        if not self.losses.given:
            return super().estimates(sources)
        model, mix = self.model, sources.sum(0)
        X = model.stft(mix[None])
        present = sources.square().mean((1, 2)) > 0  # [K]
        V = model.log_variances(X, present[None])  # [1, K, 2, N, T]
        M = torch.zeros_like(V)
        M[:, present] = wiener.masks(V[:, present])
        return model.stft.inverse(model.bands.scale(X, M[0]), mix.shape[-1])


def sounding_first(batch: Mixture) -> Mixture:
    """A batch with as many sources as its fullest mixture has, sounding ones first; `order` says which they are."""
    sounds = batch.sources.abs().amax((2, 3)) > 0  # [B, K]
    count = max(int(sounds.sum(1).max()), 1)
    order = sounds.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
    return replace(batch, sources=take(batch.sources, order), tone=take(batch.tone, order), order=order)


def contrast_term(
    model: SeparationVAE,
    losses: LossConfig,
    k: int,
    turn: int,
    P: Tensor,
    own: SoloTerms,
    noise: Sequence[Generator],
) -> dict[str, Tensor]:
    """By how much solos of source k miss the margin over the VAE of another source, a different one in every turn.

    Shape: P `[B, 2, N, T]` -> scalar, nats per bin; {} where nothing is asked for or every source shares one VAE.
    """
    names = [model.config.vae_name(source) for source in model.config.sources]
    rivals = [source for source, name in zip(model.config.sources, names, strict=True) if name != names[k]]
    if not losses.contrast or not rivals:
        return {}
    vae, rival = model.source_vae(model.config.sources[k]), model.source_vae(rivals[turn % len(rivals)])
    sizes, max_nats = model.bands.sizes, losses.contrast_most
    other = solo_terms(rival, P, sizes, losses.free_nats, noise)
    lead = bounded_elbo(vae, P, sizes, max_nats, own) - bounded_elbo(rival, P, sizes, max_nats, other)
    sounds = P.mean((1, 2, 3)) > SILENT_POWER  # [B]
    return {"contrast": (margin_shortfall(lead, losses.contrast_margin) * sounds).mean()}


class MaskModule(SpectrogramModule):
    """Trains the mask net on the same mixtures, without any knowledge of what sounds in them."""

    model: MaskNet

    def __init__(self, model: MaskNet, optim: OptimConfig, losses: LossConfig, *, seed: int = 0) -> None:
        super().__init__(model, optim, losses, seed=seed)
        if losses.given or model.config.told:
            raise RecipeError("stage=mask_net goes with neither losses.given=true nor model.told=true")

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        targets = self.targets(batch)
        log_variance = self.model.band_log_variances(targets.P_mix, targets.P_side)
        targets = self.in_best_order(targets, log_variance)
        error = self.output_error(targets, log_variance)
        self.log_terms({"output_db": error})
        return self.losses.output_db * error


MODULES: dict[str, tuple[type[SpectrogramModule], type[SeparationModel]]] = {
    "vae": (VAEModule, SeparationVAE),
    "encoders": (EncoderModule, SeparationVAE),
    "separation": (SeparationModule, SeparationVAE),
    "mask_net": (MaskModule, MaskNet),
}
"""Stage of a recipe -> its module and the kind of model it trains."""
