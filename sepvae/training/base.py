"""The Lightning module under all trainings: targets in the band domain, noise, optimiser, validation scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from sepvae.data.augment import TONE_POINTS
from sepvae.data.mixing import Mixture
from sepvae.models.features import log_power
from sepvae.models.losses import output_error_db
from sepvae.models.permutation import best_order, in_order_of, take
from sepvae.models.separation import SeparationModel
from sepvae.signal import wiener
from sepvae.signal.metrics import si_sdr
from sepvae.training.callbacks import damaged
from sepvae.training.objectives import LossConfig, OptimConfig, Targets, tone_weights

SCORE = "score"
"""Metric by which checkpoints are compared, higher is better."""
LEVEL_FLOOR = 1e-8
"""Power per bin that is added before the mean level of a band is taken, so that silence does not decide it."""
SMOOTHED_BANDS = 13
"""Width of the window that smooths these levels, an odd number of bands."""


class SpectrogramModule(lightning.LightningModule):
    """What the trainings share: targets in the band domain, optimiser, validation by separation scores.

    Attributes:
        taken: names of the tensors that the model has from others.
    """

    tone_weights: Tensor
    taken: frozenset[str] = frozenset()

    def __init__(
        self, model: SeparationModel, optim: OptimConfig, losses: LossConfig, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.model, self.optim, self.losses, self.seed = model, optim, losses, seed
        weights = tone_weights(model.config.n_fft, model.config.sample_rate, torch.tensor(TONE_POINTS))
        self.register_buffer("tone_weights", weights, persistent=False)  # [F, points]
        self.found: dict[tuple[int, str], float] = {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose weights are not those of this model; train on with what the recipe says now."""
        theirs, mine = checkpoint["state_dict"], self.state_dict()
        if {name: tensor.shape for name, tensor in theirs.items()} != {k: v.shape for k, v in mine.items()}:
            raise damaged(self.trainer.ckpt_path or "the checkpoint", "of another model")
        set_rates(checkpoint, self.optim)
        set_pieces(checkpoint, self.trainer.accumulate_grad_batches)

    def spectra(self, batch: Mixture) -> list[Tensor]:
        """STFT of each source with its random tone: `[B, C, F, T]`, T a multiple of what the model needs."""
        tones = batch.tone @ self.tone_weights.T  # [B, K, F]
        spectra = []
        for k in range(batch.sources.shape[1]):
            S = self.model.stft(batch.sources[:, k])
            spectra.append(S[..., : self.whole_frames(S)] * tones[:, k, None, :, None])
        return spectra

    def whole_frames(self, S: Tensor) -> int:
        """Frames of an STFT `[..., F, T]` less those at the end that are too few for the model."""
        return S.shape[-1] // self.model.frame_multiple * self.model.frame_multiple

    @torch.no_grad()
    def targets(self, batch: Mixture) -> Targets:
        """The banded statistics of the sources and their mixture that all losses need.

        Source by source and in real parts: with complex arrays of all sources at once a CPU takes three times as long.
        """
        with torch.autocast(self.device.type, enabled=False):
            S = [(spectrum.real.contiguous(), spectrum.imag.contiguous()) for spectrum in self.spectra(batch)]
            X = [torch.stack(parts).sum(0) for parts in zip(*S, strict=True)]  # [B, C, F, T] each

            def product(A: Sequence[Tensor], B: Sequence[Tensor]) -> Tensor:
                return self.model.bands.merge(torch.addcmul(A[0] * B[0], A[1], B[1]))  # Re(A B*)

            side = [(part[:, 0] - part[:, -1]) / 2 for part in X]
            return Targets(
                P_mix=product(X, X).expand(-1, 2, -1, -1),
                P_side=product(side, side),
                P=torch.stack([product(part, part) for part in S], 1),
                cross=torch.stack([product(part, X) for part in S], 1),
                order=batch.order,
            )

    def noise(self, batch: Mixture) -> list[torch.Generator]:
        """A generator for each excerpt, keyed by the step and its row in the whole batch.

        So a resumed run, several processes and a batch in pieces draw what one process would have drawn.
        """
        rows = range(batch.first_row, batch.first_row + len(batch.sources))
        seeds = (np.random.SeedSequence([self.seed, self.global_step, row]) for row in rows)
        return [
            torch.Generator(self.device).manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
            for seed in seeds
        ]

    def output_error(self, targets: Targets, log_variance: Tensor) -> Tensor:
        """Mean error of the Wiener-filtered sources in dB.

        Shape: log_variance `[B, K, 2, N, T]` -> `[]`.
        """
        M = wiener.masks(log_variance)[:, :, : targets.channels]
        P_mix = targets.P_mix[:, : targets.channels]
        return output_error_db(M, P_mix, targets.P, targets.cross, self.model.bands.sizes).mean()

    def coded_error(self, targets: Targets, coded: Mapping[int, Tensor]) -> Tensor:
        """Mean error in dB of the Wiener-filtered sources: some variances decoded from own codes, the rest true.

        With all of them it is what the VAEs allow at best: the VAE oracle.

        Shape: every value of `coded`, a log-variance by the index of its source, `[B, 2, N, T]`.
        """
        known = log_power(targets.P).unbind(1)  # K of [B, C, N, T]
        chosen = [coded[k][:, : targets.channels] if k in coded else log_P for k, log_P in enumerate(known)]
        return self.output_error(targets, torch.stack(chosen, 1).float())

    def in_best_order(self, targets: Targets, log_variance: Tensor) -> Targets:
        """The targets, with the sources that share a VAE in the order that fits the estimates best.

        Shape: log_variance `[B, K, 2, N, T]`.
        """
        alike = self.model.config.alike
        if not alike:
            return targets
        M = wiener.masks(log_variance)[:, :, : targets.channels]
        P_mix, sizes = targets.P_mix[:, : targets.channels], self.model.bands.sizes

        def error(order: Tensor) -> Tensor:
            return output_error_db(M, P_mix, take(targets.P, order), take(targets.cross, order), sizes)

        given = torch.arange(M.shape[1], device=M.device).expand(len(M), -1)
        order = best_order(error, given, alike)  # [B, K]
        return dataclasses.replace(targets, P=take(targets.P, order), cross=take(targets.cross, order))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.optim.lr, betas=(0.9, 0.99), weight_decay=self.optim.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optim.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Any, index: int) -> Tensor:
        """Score one window.

        Args:
            batch: number of the window, name of its set, sources, indices of the sources that sound.

        Shape: sources `[K, 2, L]` -> estimates `[K, 2, L']`, L' <= L.
        """
        number, name, sources, active = batch
        estimates = in_order_of(self.estimates(sources).float(), sources, self.model.config.alike)
        length = estimates.shape[-1]
        heard = estimates.mean(1).cpu().numpy()
        mono = sources[..., :length].mean(1).cpu().numpy()
        mix = sources[..., :length].sum(0).mean(0).cpu().numpy()
        for k in active if len(sources) > 1 else ():
            gain = float(si_sdr(heard[k], mono[k]) - si_sdr(mix, mono[k]))
            self.found[number, f"{name}/{self.model.config.sources[k]}"] = gain
        return estimates

    def estimates(self, sources: Tensor) -> Tensor:
        """What the model makes of the mixture of some sources: `[K, 2, L]` -> `[K, 2, L]`."""
        mix = sources.sum(0)
        S = self.model.separate_frames(self.model.stft(mix[None]))
        return self.model.stft.inverse(S[0], mix.shape[-1])

    def on_validation_epoch_end(self) -> None:
        """Log the mean over the windows of every source, then over the sources of every set, and the score."""
        found = gathered(self.found)
        self.found = {}
        leaves = means((path, value) for (_, path), value in found.items())
        sets = means((path.partition("/")[0], value) for path, value in leaves.items())
        if sets:
            score = {SCORE: self.score(sets)}
            for path, value in {**leaves, **sets, **score}.items():
                self.log(path, value, sync_dist=True, prog_bar=path in score)

    def score(self, sets: dict[str, float]) -> float:
        """The one number by which checkpoints are compared, from the means of the sets."""
        return float(np.mean(list(sets.values())))

    def log_terms(self, terms: dict[str, Tensor]) -> None:
        """Log the terms of a loss."""
        self.log_dict({f"train/{k}": v.detach() for k, v in terms.items()}, prog_bar=False)


def set_rates(checkpoint: dict[str, Any], optim: OptimConfig) -> None:
    """Give the optimiser and the schedule of a checkpoint the learning rate and weight decay of a recipe."""
    lr = optim.lr * optim.factor(checkpoint["global_step"])
    for optimizer in checkpoint["optimizer_states"]:
        for group in optimizer["param_groups"]:
            group |= {"initial_lr": optim.lr, "lr": lr, "weight_decay": optim.weight_decay}
    for schedule in checkpoint["lr_schedulers"]:
        groups = len(schedule["base_lrs"])
        schedule |= {"base_lrs": [optim.lr] * groups, "_last_lr": [lr] * groups}


def set_pieces(checkpoint: dict[str, Any], pieces: int) -> None:
    """Let the loop of a checkpoint, which counts the pieces of batches, stand where so many per step put it."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    seen = checkpoint["global_step"] * pieces
    for counts in (progress["total"], progress["current"]):
        unfinished = counts["ready"] - counts["completed"]  # the piece at whose end it was written
        counts |= dict.fromkeys(counts, seen) | {"completed": seen - unfinished}


def gathered(found: dict[tuple[int, str], float]) -> dict[tuple[int, str], float]:
    """The scores of all processes, the same on each of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, found)
    return dict(sorted(item for part in parts for item in part.items()))


def means(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of the values of every name, in order of the names."""
    values: dict[str, list[float]] = {}
    for name, value in items:
        values.setdefault(name, []).append(value)
    return {name: float(np.mean(values[name])) for name in sorted(values)}


def mean_levels(model: SeparationModel, batches: Sequence[Mixture]) -> Tensor:
    """Mean log-power per band of the mixtures in some batches, smoothed over the bands.

    Shape: `[N]`.
    """
    levels = []
    for batch in batches:
        X = model.stft(batch.sources.sum(1))
        levels.append(torch.log(model.banded_power(X) + LEVEL_FLOOR).mean((0, 1, 3)))
    mean = torch.stack(levels).mean(0)
    kernel = np.hanning(SMOOTHED_BANDS + 2)[1:-1]  # without the zeros at its ends
    padded = np.pad(mean.numpy(), SMOOTHED_BANDS // 2, mode="edge")
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return torch.from_numpy(smooth).float()
