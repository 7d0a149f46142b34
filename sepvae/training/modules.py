"""Lightning modules: solo training of the source VAEs, training of the separation, and of the mask net beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor

from sepvae.data.mixing import TONE_POINTS, Mixture
from sepvae.models.latents import Posterior, divergence
from sepvae.models.losses import complex_gaussian_nll, output_error_db
from sepvae.models.separation import MaskNet, SeparationModel, SeparationVAE, power
from sepvae.models.vae import SourceVAE
from sepvae.signal import wiener
from sepvae.signal.metrics import si_sdr

SILENT_POWER = 1e-8
"""Mean power per bin under which an excerpt of a source counts as silent (-80 dB below full scale)."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up, a constant rate, and a linear decay to zero at the end.

    Args:
        lr: peak learning rate, > 0.
        weight_decay: >= 0.
        warmup_steps, decay_steps, max_steps: optimisation steps.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    decay_steps: int = 1000
    max_steps: int = 5000

    def factor(self, step: int) -> float:
        """Learning rate at a step, as a share of the peak."""
        up = (step + 1) / max(self.warmup_steps, 1)
        down = (self.max_steps - step) / max(self.decay_steps, 1)
        return max(min(up, down, 1.0), 0.0)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the losses; nats are per bin of the STFT, decibels as they are.

    Args:
        beta: weight of the KL, >= 0.
        beta_warmup: steps over which beta rises from zero.
        free_nats: nats per latent that are not charged.
        output_db: weight of the separated output's error in dB.
        source_nll: weight of the true source's NLL under the decoded posterior of the mixture.
        mixture_nll: weight of the mixture's NLL under the sum of the variances.
        match: weight of the KL from the solo's posterior to the mixture's.
        solo: weight of the solo ELBO kept while separating.
        solo_every: steps between two looks at a solo, of one source in turn, > 0.
        frozen_steps: steps with frozen decoders before all is trained jointly.
        in_turn: train the solo encoders of one source per step, in turn, instead of all in every step.
    """

    beta: float = 0.25
    beta_warmup: int = 200
    free_nats: float = 0.02
    output_db: float = 0.3
    source_nll: float = 0.3
    mixture_nll: float = 0.1
    match: float = 0.1
    solo: float = 0.3
    solo_every: int = 2
    frozen_steps: int = 500
    in_turn: bool = False


@dataclass
class Targets:
    """Banded statistics of a batch; C is 2, or 1 for a mono batch.

    Shape: P_mix `[B, 2, N, T]`, P_side `[B, N, T]`, P and cross `[B, K, C, N, T]`.
    """

    P_mix: Tensor
    P_side: Tensor
    P: Tensor
    cross: Tensor

    @property
    def channels(self) -> int:
        """Channels in which the batch differs."""
        return self.P.shape[2]

    def solo(self, k: int) -> Tensor:
        """Power of source k, `[B, 2, N, T]`."""
        return self.P[:, k].expand(-1, 2, -1, -1)


class SpectrogramModule(lightning.LightningModule):
    """What the three trainings share: targets in the band domain, optimiser, validation by separation scores."""

    tone_weights: Tensor

    def __init__(
        self, model: SeparationModel, optim: OptimConfig, losses: LossConfig, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.model, self.optim, self.losses, self.seed = model, optim, losses, seed
        bins = torch.fft.rfftfreq(model.config.n_fft, 1 / model.config.sample_rate)
        points = torch.tensor(TONE_POINTS)
        right = torch.searchsorted(points, bins, right=True).clamp(1, len(points) - 1)
        share = (bins - points[right - 1]) / (points[right] - points[right - 1])
        weights = torch.zeros(len(bins), len(points))
        weights[torch.arange(len(bins)), right - 1] = 1 - share
        weights[torch.arange(len(bins)), right] = share
        self.register_buffer("tone_weights", weights, persistent=False)  # F, points

    @torch.no_grad()
    def targets(self, batch: Mixture) -> Targets:
        """STFTs of the sources, toned, and the banded statistics that all losses need."""
        with torch.autocast(self.device.type, enabled=False):
            bands = self.model.bands
            tone = batch.tone @ self.tone_weights.T  # B, K, F
            S = self.model.stft(batch.sources)  # B, K, C, F, T
            S = S[..., : S.shape[-1] // self.model.frame_multiple * self.model.frame_multiple]
            S = S * tone[:, :, None, :, None]
            X = S.sum(1)  # B, C, F, T
            cross = S.real * X.real.unsqueeze(1) + S.imag * X.imag.unsqueeze(1)
            P_mix = bands.merge(power(X))
            side = (X[:, 0] - X[:, -1]) / 2
            return Targets(
                P_mix.expand(-1, 2, -1, -1),
                bands.merge(power(side)),
                bands.merge(power(S)),
                bands.merge(cross),
            )

    def noise(self) -> torch.Generator:
        """Generator of the draws of this step, the same in a resumed run."""
        return torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.global_step)

    def output_error(self, targets: Targets, log_variance: Tensor) -> Tensor:
        """Mean error of the Wiener-filtered sources in dB."""
        M = wiener.masks(log_variance)[:, :, : targets.channels]
        P_mix = targets.P_mix[:, : targets.channels]
        return output_error_db(M, P_mix, targets.P, targets.cross, self.model.bands.sizes).mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.optim.lr, betas=(0.9, 0.99), weight_decay=self.optim.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optim.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Any, index: int) -> None:
        """SI-SDR improvement of one window per source.

        Args:
            batch: name of the set, sources `[K, 2, L]`, names of the sources to score.
        """
        name, sources, active = batch
        mix = sources.sum(0)
        S = self.model.separate_frames(self.model.stft(mix[None]))
        estimates = self.model.stft.inverse(S[0], mix.shape[-1]).mean(1).float().cpu().numpy()
        mono, mono_mix = sources.mean(1).cpu().numpy(), mix.mean(0).cpu().numpy()
        for k in active:
            gain = float(si_sdr(estimates[k], mono[k]) - si_sdr(mono_mix, mono[k]))
            source = self.model.config.sources[k]
            self.log(f"{name}/{source}", gain, on_epoch=True, batch_size=1)
            self.log(f"{name}", gain, on_epoch=True, batch_size=1, prog_bar=True)

    def log_terms(self, terms: dict[str, Tensor]) -> None:
        """Log the terms of a loss."""
        self.log_dict({f"train/{k}": v.detach() for k, v in terms.items()}, prog_bar=False)


class VAEModule(SpectrogramModule):
    """Trains the VAE of every source on that source alone."""

    model: SeparationVAE

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        targets, noise = self.targets(batch), self.noise()
        terms = [
            solo_terms(
                self.model.source_vae(self.model.config.sources[k]),
                targets.solo(k),
                self.model.bands.sizes,
                self.losses.free_nats,
                noise,
            )
            for k in self.trained_sources()
        ]
        nll = torch.stack([term.nll for term in terms]).mean()
        kl = torch.stack([term.kl for term in terms]).mean()
        self.log_terms({"solo_nll": nll, "solo_kl": kl})
        return nll + self.beta() * kl

    def trained_sources(self) -> Sequence[int]:
        """Indices of the sources whose solos this step looks at."""
        return range(len(self.model.config.sources))

    def beta(self) -> float:
        """Weight of the KL at this step."""
        return self.losses.beta * min(1.0, (self.global_step + 1) / max(self.losses.beta_warmup, 1))

    def validation_step(self, batch: Any, index: int) -> None:
        """Improvement of the Wiener filter from encoded and decoded true sources: the VAE oracle."""
        name, sources, active = batch
        model = self.model
        S = model.stft(sources)
        frames = S.shape[-1] // model.frame_multiple * model.frame_multiple
        P = model.bands.merge(power(S[..., :frames]))
        V = torch.cat(
            [
                model.source_vae(s).decode(model.source_vae(s).encode(P[k : k + 1]).mean)
                for k, s in enumerate(model.config.sources)
            ]
        )
        M = model.bands.expand(wiener.masks(V[None].float()))
        length = (frames - model.stft.overlap + 1) * model.stft.hop_length
        mix = sources.sum(0)[:, :length]
        estimates = model.stft.inverse(wiener.apply(S.sum(0)[None, ..., :frames], M)[0], length).mean(1)
        for k in active:
            mono, mono_mix = sources[k, :, :length].mean(0).cpu().numpy(), mix.mean(0).cpu().numpy()
            gain = float(si_sdr(estimates[k].float().cpu().numpy(), mono) - si_sdr(mono_mix, mono))
            self.log(f"{name}", gain, on_epoch=True, batch_size=1, prog_bar=True)


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


class SoloTerms(NamedTuple):
    """NLL and KL of a solo in nats per bin of the STFT, and its posterior."""

    nll: Tensor
    kl: Tensor
    posterior: Posterior


def solo_terms(
    vae: SourceVAE, P: Tensor, sizes: Tensor, free_nats: float, noise: torch.Generator
) -> SoloTerms:
    """The two terms of the negative ELBO of solos.

    Shape: P `[B, 2, N, T]`, sizes (bins per band) `[N]`.
    """
    log_variance, posterior, priors = vae(P, noise)
    bins = bins_of(P, sizes)
    nll = vae.nll(P, log_variance, sizes, linearise=True).mean() / bins
    return SoloTerms(nll, vae.kl(posterior, priors, free_nats).mean() / bins, posterior)


def bins_of(P: Tensor, sizes: Tensor) -> float:
    """Bins of the STFT behind one banded power `[B, 2, N, T]`, what nats are divided by."""
    return 2 * float(sizes.sum()) * P.shape[-1]


class SeparationModule(SpectrogramModule):
    """Trains the mixture encoder, first with frozen source VAEs, then jointly with them."""

    model: SeparationVAE

    def on_train_batch_start(self, batch: Mixture, index: int) -> None:
        """Freeze or release the source VAEs."""
        joint = self.global_step >= self.losses.frozen_steps
        self.model.vaes.requires_grad_(joint)

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        targets, noise, sizes = self.targets(batch), self.noise(), self.model.bands.sizes
        bins, channels = bins_of(targets.P_mix, sizes), targets.channels
        posteriors = self.model.posteriors(targets.P_mix, targets.P_side)
        log_variance = self.model.decode([posterior.sample(noise) for posterior in posteriors])
        of_sources = complex_gaussian_nll(targets.P, log_variance[:, :, :channels], sizes, linearise=True)
        of_mixture = complex_gaussian_nll(
            targets.P_mix, torch.logsumexp(log_variance, 1), sizes, linearise=True
        )
        terms = {
            "output_db": self.output_error(targets, log_variance),
            "source_nll": of_sources.mean((0, 1, 2)).sum() * 2 / bins,
            "mixture_nll": of_mixture.mean((0, 1)).sum() * 2 / bins,
        }
        if self.global_step % self.losses.solo_every == 0:
            k = self.global_step // self.losses.solo_every % len(posteriors)
            terms |= self.solo_and_match(targets, k, posteriors[k], noise)
        self.log_terms(terms)
        return torch.stack([getattr(self.losses, name) * term for name, term in terms.items()]).sum()

    def solo_and_match(
        self, targets: Targets, k: int, mixture: Posterior, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """Solo ELBO of source k once the VAEs train, and the KL from its solo's posterior to the mixture's.

        Where the source is silent there is nothing to match: its posterior lies too far out to be inferred.
        """
        vae, P, sizes = (
            self.model.source_vae(self.model.config.sources[k]),
            targets.solo(k),
            self.model.bands.sizes,
        )
        sounds = P.mean((1, 2, 3)) > SILENT_POWER  # B
        if self.global_step < self.losses.frozen_steps:
            with torch.no_grad():
                posterior, terms = vae.encode(P), {}
        else:
            solo = solo_terms(vae, P, sizes, self.losses.free_nats, noise)
            posterior, terms = solo.posterior.detach(), {"solo": solo.nll + self.losses.beta * solo.kl}
        match = (divergence(posterior, mixture) * sounds).mean() / bins_of(P, sizes)
        return {"match": match, **terms}


class MaskModule(SpectrogramModule):
    """Trains the mask net on the same mixtures."""

    model: MaskNet

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        targets = self.targets(batch)
        log_variance = self.model.band_log_variances(targets.P_mix, targets.P_side)
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


def mean_levels(model: SeparationModel, batches: Sequence[Mixture]) -> Tensor:
    """Mean log-power per band of the mixtures in some batches.

    Shape: `[N]`.
    """
    levels = []
    for batch in batches:
        X = model.stft(batch.sources.sum(1))
        levels.append(torch.log(model.bands.merge(power(X)) + 1e-8).mean((0, 1, 3)))
    mean = torch.stack(levels).mean(0)
    kernel = np.hanning(15)[1:-1]
    smooth = np.convolve(np.pad(mean.numpy(), 6, mode="edge"), kernel / kernel.sum(), mode="valid")
    return torch.from_numpy(smooth).float()
