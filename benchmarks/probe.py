"""What the latents of spoken digits know: `python benchmarks/probe.py ROOT --vaes RUN/model --out OUT`.

Two questions to recordings of FSDD that nothing was trained on (its official test): which digit, and who speaks.

- By the likelihood: of ten VAEs, one per digit, which gives the highest evidence lower bound on the frames that sound;
  as it is, and less what this VAE gives to the validation clips of all digits on average.
- By a linear classifier on what each clip is coded into: the posterior means of one VAE of all digits (the coarsest
  level of its ladder, "what and how"), the same of a plain autoencoder (KL and sampling off), and as many principal
  components of the log-spectrograms.

The two networks of the second question are small, of one shape, and trained here on the same batches of clips.
"""

from __future__ import annotations

import json
import time
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

from sepvae import checkpoint
from sepvae.data.datasets.base import Part, RawTrack
from sepvae.data.datasets.digits import FSDD
from sepvae.data.mixing import Mixture
from sepvae.models.features import log_power
from sepvae.models.losses import complex_gaussian_nll
from sepvae.models.separation import SeparationVAE, power
from sepvae.models.vae import SourceVAE, VAEConfig
from sepvae.training.base import mean_levels
from sepvae.training.objectives import solo_terms

RATE, FRAMES = 8000, 64
BATCH, LR = 32, 2e-3
ACTIVE_DB = 30.0
"""How far under its loudest frame a frame of a clip still sounds."""


class Clips:
    """Clips of one split as banded powers: P `[M, 2, N, T]`, and names of the digit and the speaker of each."""

    def __init__(self, root: Path, split: str, model: SeparationVAE) -> None:
        reader = FSDD()
        clips = [clip for clip in reader.clips(root) if clip.split == split]
        tracks = (RawTrack(split, clip.name, {clip.digit: (Part(clip.path),)}, solo=True) for clip in clips)
        waves = np.stack([next(iter(reader.render(track, RATE, 1).values())) for track in tracks])
        self.audio = torch.from_numpy(waves)  # M, 1, L
        with torch.inference_mode():
            P = [model.bands.merge(power(model.stft(part)[..., :FRAMES])) for part in self.audio.split(100)]
        self.P = torch.cat(P).expand(-1, 2, -1, -1)
        self.digits = np.array([clip.digit for clip in clips])
        self.speakers = np.array([clip.name.rpartition("-")[0] for clip in clips])


@torch.inference_mode()
def by_bound(model: SeparationVAE, clips: Clips) -> np.ndarray:
    """Evidence lower bound of every clip under the VAE of every source, its likelihood over the frames that sound.

    The digital silence around a clip would decide otherwise: how deep a VAE takes it to be is worth more nats than
    speech.

    Shape: `[M, K]`, nats.
    """
    sizes = model.bands.sizes
    level = clips.P.mean((1, 2))  # M, T
    sounds = level > level.amax(1, keepdim=True) * 10 ** (-ACTIVE_DB / 10)
    bounds = []
    for source in model.config.sources:
        vae, noise = model.source_vae(source), torch.Generator().manual_seed(0)
        parts = []
        for P, heard in zip(clips.P.split(50), sounds.split(50), strict=True):
            log_variance, posterior, priors = vae(P, noise)
            nll = (complex_gaussian_nll(P, log_variance, sizes).sum((1, 2)) * heard).sum(1)
            parts.append(-nll - vae.kl(posterior, priors))
        bounds.append(torch.cat(parts))
    return torch.stack(bounds, 1).numpy()


def trained(config: VAEConfig, model: SeparationVAE, clips: Clips, steps: int, beta: float) -> SourceVAE:
    """One autoencoder of all clips, by the loss of the VAE stage."""
    torch.manual_seed(0)
    vae = SourceVAE(config)
    levels = mean_levels(model, [Mixture(clips.audio[::16, None], torch.ones(1), 0)])
    vae.scale.mean.copy_(levels)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=1e-2)
    rng, clock = np.random.default_rng(0), time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / 20, (steps - step) / (steps / 3))
        rows = torch.from_numpy(rng.integers(len(clips.P), size=BATCH))
        with torch.autocast("cpu", torch.bfloat16):
            terms = solo_terms(
                vae, clips.P[rows], model.bands.sizes, 0.02, torch.Generator().manual_seed(step)
            )
            loss = terms.nll + (beta * terms.kl if config.variational else 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
    click.echo(
        f"variational={config.variational}: {steps} steps of {BATCH} clips, {time.process_time() - clock:.0f} s CPU, "
        f"nll {terms.nll:.3f}, kl {terms.kl:.3f} nats per bin",
        err=True,
    )
    return vae.eval()


@torch.inference_mode()
def codes(vae: SourceVAE, P: Tensor) -> np.ndarray:
    """Posterior means of the ladder's coarsest level, all its cells: `[M, D * F * T]`."""
    return torch.cat([vae.encode(part).mean[0].flatten(1) for part in P.split(100)]).float().numpy()


def rate(train: np.ndarray, test: np.ndarray, answers: np.ndarray, truth: np.ndarray) -> float:
    """Share of right answers of a linear classifier, per cent."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return 100 * float(np.mean(classifier.fit(train, answers).predict(test) == truth))


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True))
@click.option("--vaes", required=True, help="Model folder of fsdd/vae.")
@click.option("--steps", default=300, show_default=True, help="Of the autoencoders of all digits.")
@click.option("--beta", default=0.1, show_default=True, help="Weight of their KL.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the rates.")
def main(root: Path, vaes: str, steps: int, beta: float, out: Path | None) -> None:
    """Print how often each way finds the digit and the speaker of the test recordings."""
    model, _ = checkpoint.load(vaes)
    assert isinstance(model, SeparationVAE)
    model.eval().requires_grad_(False)
    train, valid, test = (Clips(root, split, model) for split in ("train", "valid", "test"))
    table: dict[str, dict[str, float]] = {}
    bounds, usual = by_bound(model, test), by_bound(model, valid).mean(0)
    for name, values in (
        ("highest bound", bounds),
        ("highest bound over the VAE's usual one", bounds - usual),
    ):
        found = np.array(model.config.sources)[values.argmax(1)]
        table[f"{name}, ten VAEs"] = {"digit": 100 * float(np.mean(found == test.digits))}
    config = model.config.vae
    coders = {
        "VAE": trained(config, model, train, steps, beta),
        "autoencoder": trained(replace(config, variational=False), model, train, steps, beta),
    }
    inputs = {name: (codes(vae, train.P), codes(vae, test.P)) for name, vae in coders.items()}
    size = inputs["VAE"][0].shape[1]
    flat = [log_power(clips.P[:, 0]).flatten(1).numpy() for clips in (train, test)]
    pca = PCA(size, svd_solver="randomized", random_state=0).fit(flat[0])
    inputs["PCA"] = (pca.transform(flat[0]), pca.transform(flat[1]))
    for name, (a, b) in inputs.items():
        table[f"linear, {size} numbers of the {name}"] = {
            "digit": rate(a, b, train.digits, test.digits),
            "speaker": rate(a, b, train.speakers, test.speakers),
        }
    click.echo("| | digit, % | speaker, % |\n|---|---|---|")
    for name, rates in table.items():
        cells = [f"{rates[key]:.1f}" if key in rates else "–" for key in ("digit", "speaker")]
        click.echo(f"| {name} | {' | '.join(cells)} |")
    if out is not None:
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
