"""What the latents of spoken digits know: `python benchmarks/probe.py ROOT --out OUT`.

Two questions to recordings of FSDD that nothing was trained on (its official test): which digit, and who speaks.

- By the likelihood: of as many VAEs as there are digits, or speakers, each trained on the clips of one, which gives
  the highest evidence lower bound on the frames that sound. Trained on their own clips alone, and with the margin
  over the other VAEs that `losses.contrast` asks for; the bounds as they are, and less what each VAE gives to all
  validation clips on average.
- By a linear classifier on what each clip is coded into: the posterior means of one VAE of all digits (the coarsest
  level of its ladder, "what and how"), the same of a plain autoencoder (KL and sampling off), and as many principal
  components of the log-spectrograms.

All networks are small, of the shape of `recipes/model/digits.yaml`, and trained here, for as many steps.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sepvae.data.datasets.base import RawTrack, StemFile
from sepvae.data.datasets.digits import FSDD
from sepvae.data.mixing import Mixture
from sepvae.models.build import build
from sepvae.models.features import log_power
from sepvae.models.losses import complex_gaussian_nll
from sepvae.models.separation import SeparationVAE
from sepvae.models.vae import SourceVAE, VAEConfig
from sepvae.training.base import mean_levels
from sepvae.training.objectives import bounded_elbo, margin_shortfall, solo_terms
from sepvae.training.recipe import compose, plain

RATE, FRAMES = 8000, 64
BATCH, LR, FREE_NATS = 32, 2e-3, 0.02
PER_CLASS = 8
"""Clips of each class in a step of the VAEs of classes."""
MARGIN = 0.5
"""Nats per bin by which a clip's own VAE should lead."""
ACTIVE_DB = 30.0
"""How far under its loudest frame a frame of a clip still sounds."""


class Clips:
    """Clips of one split as banded powers: P `[M, 2, N, T]`, and names of the digit and the speaker of each."""

    def __init__(self, root: Path, split: str, model: SeparationVAE) -> None:
        reader = FSDD()
        clips = [clip for clip in reader.clips(root) if clip.split == split]
        tracks = (
            RawTrack(split, clip.name, {clip.digit: (StemFile(clip.path),)}, solo=True) for clip in clips
        )
        waves = np.stack([next(iter(reader.render(track, RATE, 1).values())) for track in tracks])
        self.audio = torch.from_numpy(waves)  # [M, 1, L]
        with torch.inference_mode():
            P = [model.banded_power(model.stft(part)[..., :FRAMES]) for part in self.audio.split(100)]
        self.P = torch.cat(P).expand(-1, 2, -1, -1)
        self.digits = np.array([clip.digit for clip in clips])
        self.speakers = np.array([clip.name.rpartition("-")[0] for clip in clips])


@torch.inference_mode()
def by_bound(vaes: Sequence[SourceVAE], sizes: Tensor, clips: Clips) -> np.ndarray:
    """Evidence lower bound of every clip under every VAE, its likelihood over the frames that sound.

    The digital silence around a clip would decide otherwise: how deep a VAE takes it to be is worth more nats than
    speech.

    Shape: `[M, K]`, nats.
    """
    level = clips.P.mean((1, 2))  # [M, T]
    sounds = level > level.amax(1, keepdim=True) * 10 ** (-ACTIVE_DB / 10)
    bounds = []
    for vae in vaes:
        noise, parts = torch.Generator().manual_seed(0), []
        for P, heard in zip(clips.P.split(50), sounds.split(50), strict=True):
            log_variance, posterior, priors = vae(P, noise)
            nll = (complex_gaussian_nll(P, log_variance, sizes).sum((1, 2)) * heard).sum(1)
            parts.append(-nll - vae.kl(posterior, priors))
        bounds.append(torch.cat(parts))
    return torch.stack(bounds, 1).numpy()


Loss = Callable[[int], Tensor]
"""Number of a step -> loss of that step."""


def new_vae(config: VAEConfig, model: SeparationVAE, clips: Clips) -> SourceVAE:
    """A VAE without training, centred on the level of the clips."""
    vae = SourceVAE(config)
    vae.scale.mean.copy_(mean_levels(model, [Mixture(clips.audio[::16, None], torch.ones(1), 0)]))
    return vae


def fit(vaes: Sequence[SourceVAE], loss_of: Loss, steps: int, what: str) -> None:
    """Minimise a loss as the VAE stage does, and leave the networks ready for use."""
    parameters = [p for vae in vaes for p in vae.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, betas=(0.9, 0.99), weight_decay=1e-2)
    clock = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / 20, (steps - step) / (steps / 3))
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    click.echo(f"{what}: {steps} steps, {time.process_time() - clock:.0f} s CPU, loss {loss:.3f}", err=True)
    for vae in vaes:
        vae.eval()


def autoencoder(config: VAEConfig, model: SeparationVAE, clips: Clips, steps: int, beta: float) -> SourceVAE:
    """One autoencoder of all clips, a plain one where `config` is not variational."""
    torch.manual_seed(0)
    vae, rng = new_vae(config, model, clips), np.random.default_rng(0)

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(rng.integers(len(clips.P), size=BATCH))
        terms = solo_terms(
            vae, clips.P[rows], model.bands.sizes, FREE_NATS, torch.Generator().manual_seed(step)
        )
        return (terms.nll + (beta * terms.kl if config.variational else 0)).mean()

    fit([vae], loss_of, steps, f"variational={config.variational}")
    return vae


def of_classes(
    model: SeparationVAE, clips: Clips, labels: np.ndarray, steps: int, beta: float, weight: float
) -> list[SourceVAE]:
    """A VAE for every class of clips, in the order of their names; `weight` is that of the margin."""
    torch.manual_seed(0)
    names = sorted(set(labels))
    members = [np.flatnonzero(labels == name) for name in names]
    vaes, rng = [new_vae(model.config.vae, model, clips) for _ in names], np.random.default_rng(0)
    sizes = model.bands.sizes

    def loss_of(step: int) -> Tensor:
        noise, losses = torch.Generator().manual_seed(step), []
        for k, rows in enumerate(members):
            P = clips.P[torch.from_numpy(rng.choice(rows, PER_CLASS))]
            own = solo_terms(vaes[k], P, sizes, FREE_NATS, noise)
            losses.append((own.nll + beta * own.kl).mean())
            if weight:
                rival = vaes[(k + 1 + step % (len(names) - 1)) % len(names)]
                other = solo_terms(rival, P, sizes, FREE_NATS, noise)
                own_bound = bounded_elbo(vaes[k], P, sizes, math.inf, own)
                rival_bound = bounded_elbo(rival, P, sizes, math.inf, other)
                losses.append(weight * margin_shortfall(own_bound - rival_bound, MARGIN).mean())
        return torch.stack(losses).sum() / len(names)

    fit(vaes, loss_of, steps, f"{len(names)} VAEs, margin's weight {weight:g}")
    return vaes


@torch.inference_mode()
def codes(vae: SourceVAE, P: Tensor) -> np.ndarray:
    """Posterior means of the ladder's coarsest level, all its cells: `[M, D * F * T]`."""
    return torch.cat([vae.encode(part).mean[0].flatten(1) for part in P.split(100)]).float().numpy()


def accuracy(train: np.ndarray, test: np.ndarray, answers: np.ndarray, truth: np.ndarray) -> float:
    """Share of right answers of a linear classifier, per cent."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return 100 * float(np.mean(classifier.fit(train, answers).predict(test) == truth))


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True))
@click.option("--steps", default=150, show_default=True, help="Of every training.")
@click.option("--beta", default=0.1, show_default=True, help="Weight of the KL.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the rates.")
def main(root: Path, steps: int, beta: float, out: Path | None) -> None:
    """Print how often each way finds the digit and the speaker of the test recordings."""
    model = build({"class": "SeparationVAE", **plain(compose("fsdd/vae", ["data.root=."]).model)})
    assert isinstance(model, SeparationVAE)
    model.eval().requires_grad_(False)
    train, valid, test = (Clips(root, split, model) for split in ("train", "valid", "test"))
    table: dict[str, dict[str, float]] = {}
    for weight, name in ((0.0, "highest bound"), (1.0, "highest bound, trained with the margin")):
        for key in ("digit", "speaker"):
            labels, truth = getattr(train, f"{key}s"), getattr(test, f"{key}s")
            vaes = of_classes(model, train, labels, steps, beta, weight)
            bounds = by_bound(vaes, model.bands.sizes, test)
            usual = by_bound(vaes, model.bands.sizes, valid).mean(0)
            for row, values in ((name, bounds), (f"{name}, over the usual one", bounds - usual)):
                found = np.array(sorted(set(labels)))[values.argmax(1)]
                table.setdefault(row, {})[key] = 100 * float(np.mean(found == truth))
                click.echo(f"{row}: {key} {table[row][key]:.1f} %", err=True)
    config = model.config.vae
    coders = {
        "VAE": autoencoder(config, model, train, steps, beta),
        "autoencoder": autoencoder(replace(config, variational=False), model, train, steps, beta),
    }
    inputs = {name: (codes(vae, train.P), codes(vae, test.P)) for name, vae in coders.items()}
    size = inputs["VAE"][0].shape[1]
    flat = [log_power(clips.P[:, 0]).flatten(1).numpy() for clips in (train, test)]
    pca = PCA(size, svd_solver="randomized", random_state=0).fit(flat[0])
    inputs["PCA"] = (pca.transform(flat[0]), pca.transform(flat[1]))
    for name, (a, b) in inputs.items():
        table[f"linear, {size} numbers of the {name}"] = {
            "digit": accuracy(a, b, train.digits, test.digits),
            "speaker": accuracy(a, b, train.speakers, test.speakers),
        }
    click.echo("| | digit, % | speaker, % |\n|---|---|---|")
    for name, rates in table.items():
        cells = [f"{rates[key]:.1f}" for key in ("digit", "speaker")]
        click.echo(f"| {name} | {' | '.join(cells)} |")
    if out is not None:
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
