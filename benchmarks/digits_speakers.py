"""Two spoken digits of a speaker whom training never heard: docs/digits.md, leave-one-speaker-out.

    python benchmarks/digits_speakers.py ROOT OUT

Every speaker in turn is the test. Ours trains for a fixed number of steps, then the network of Karamatli et al. on
the same clips for the same CPU time; of theirs, what is best on recordings 0 to 4 of the other speakers is taken.
An interrupted run goes on with the same command. `OUT/<speaker>/scores.json` and `cost.json` hold what the tables
are made of.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

from digits import SCORES

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SHARED = ["optim.lr=2e-3", "optim.warmup_steps=30", "trainer.ema_decay=0.98", "trainer.ema_start=100"]
VAE = ["data.mixing.sounding=10", "data.mixing.batch_size=8"]
SEPARATION = [
    "losses.given=true",
    "losses.output_db=2",
    "losses.source_nll=1",
    "losses.match=0.01",
    "losses.solo=0.5",
    "losses.frozen_steps=0",
]
QUIET = [
    "trainer.progress=false",
    "trainer.examples=false",
    "trainer.score_seconds=0",
    "trainer.val_every=100000",
]
METHODS = ("mixture", "oracle mask", "Karamatli et al.", "sepvae")


def run(*command: object) -> float:
    """Run a command to its end and return the CPU seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *map(str, command)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Costs:
    """CPU seconds of every step of a fold, kept in a file; a step that stands there is not run again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def once(self, name: str, *command: object) -> None:
        if name not in self.seconds:
            self.seconds[name] = round(run(*command), 1)
            self.path.write_text(json.dumps(self.seconds, indent=1) + "\n")


def fold(root: Path, out: Path, speaker: str, vae_steps: int, steps: int, batch: int) -> dict[str, float]:
    """Train both models without a speaker and score them on that speaker: CPU seconds by what was done."""
    out.mkdir(parents=True, exist_ok=True)
    data, costs = out / "data", Costs(out / "cost.json")
    sepvae, digits = ("-m", "sepvae"), Path(__file__).with_name("digits.py")
    prepare = ("data", "prepare", "fsdd", "--root", root, "--out", data)
    costs.once("data", *sepvae, *prepare, "--set", f"hold_out={speaker}", "--set", "mixtures=225")
    given = [f"data.root={data}", *SHARED, *QUIET]
    vae = [f"optim.max_steps={vae_steps}", f"optim.decay_steps={vae_steps // 2}", f"run_dir={out / 'vae'}"]
    costs.once("our VAEs", *sepvae, "train", "fsdd/vae", *given, *VAE, *vae)
    separation = [
        f"init={out / 'vae' / 'model'}",
        f"run_dir={out / 'separation'}",
        f"data.mixing.batch_size={batch}",
        f"optim.max_steps={steps}",
        f"optim.decay_steps={steps // 2}",
    ]
    costs.once("our separation", *sepvae, "train", "fsdd/separation", *given, *SEPARATION, *separation)
    budget = costs.seconds["our VAEs"] + costs.seconds["our separation"]
    limit = ("--steps", 100_000, "--check-every", 50, "--cpu-seconds", budget)
    costs.once("theirs", digits, "train", data, out / "karamatli", *limit)
    models = ("--theirs", out / "karamatli", "--ours", out / "separation" / "model")
    costs.once("scoring", digits, "score", data, *models, "--out", out / "scores.json")
    return costs.seconds


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--speaker", "speakers", multiple=True, default=SPEAKERS, help="Only these.")
@click.option("--vae-steps", default=60, show_default=True)
@click.option("--steps", default=800, show_default=True, help="Steps of our separation.")
@click.option("--batch", default=16, show_default=True, help="Mixtures per step of our separation.")
def main(root: Path, out: Path, speakers: tuple[str, ...], vae_steps: int, steps: int, batch: int) -> None:
    """Leave every speaker of FSDD out in turn: train, score, print the tables. ROOT holds `recordings/`."""
    found, costs = {}, {}
    for speaker in speakers:
        costs[speaker] = fold(root, out / speaker, speaker, vae_steps, steps, batch)
        found[speaker] = json.loads((out / speaker / "scores.json").read_text())
    print("\nMedians over the sources of a speaker, dB; CPU seconds of training\n")
    print(
        "| speaker | "
        + " | ".join(f"{name}: {', '.join(SCORES)}" for name in METHODS)
        + " | ours, theirs, s |"
    )
    print("|" + "---|" * (len(METHODS) + 2))
    for speaker, scores in found.items():
        cells = [", ".join(f"{scores[name][key]:.2f}" for key in SCORES) for name in METHODS]
        ours = costs[speaker]["our VAEs"] + costs[speaker]["our separation"]
        print(f"| {speaker} | {' | '.join(cells)} | {ours:.0f}, {costs[speaker]['theirs']:.0f} |")
    print("\nMeans over the speakers, dB, and shares of the oracle mask\n")
    print(f"| | {' | '.join(SCORES)} | SDR share | SI-SDRi share |\n|" + "---|" * (len(SCORES) + 3))
    oracle = [np.mean([s["oracle mask"][key] for s in found.values()]) for key in SCORES]
    for name in METHODS:
        means = [np.mean([scores[name][key] for scores in found.values()]) for key in SCORES]
        shares = [f"{100 * means[i] / oracle[i]:.0f} %" for i in (0, 3)]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in means)} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
