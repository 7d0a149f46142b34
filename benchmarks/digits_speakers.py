"""Two spoken digits of a speaker whom training never heard: docs/digits.md, leave-one-speaker-out.

    python benchmarks/digits_speakers.py ROOT OUT

Every speaker in turn is the test. Ours trains for a fixed number of steps, then the network of Karamatli et al. on
the same clips for the same CPU time; of theirs, what is best on recordings 0 to 4 of the other speakers is taken.
The same command resumes an interrupted run. `OUT/<speaker>/scores.json` and `cost.json` hold what the tables
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
        """Run the command of a step unless the file has its cost."""
        if name not in self.seconds:
            self.seconds[name] = round(run(*command), 1)
            self.path.write_text(json.dumps(self.seconds, indent=1) + "\n")


def fold(root: Path, out: Path, speaker: str, steps: int) -> dict[str, float]:
    """Train both models without a speaker and score them on that speaker: CPU seconds by what was done."""
    out.mkdir(parents=True, exist_ok=True)
    data, costs = out / "data", Costs(out / "cost.json")
    sepvae, digits = ("-m", "sepvae"), Path(__file__).with_name("digits.py")
    prepare = ("data", "prepare", "fsdd", "--root", root, "--out", data)
    costs.once("data", *sepvae, *prepare, "--set", f"hold_out={speaker}", "--set", "mixtures=225")
    ours = out / "joint"
    optim = [f"optim.max_steps={steps}", f"optim.decay_steps={steps // 2}"]
    given = [f"data.root={data}", "data.workers=0", f"run_dir={ours}", *optim, *QUIET]
    costs.once("ours", *sepvae, "train", "fsdd/joint", *given)
    limit = ("--steps", 100_000, "--check-every", 50, "--cpu-seconds", costs.seconds["ours"])
    costs.once("theirs", digits, "train", data, out / "karamatli", *limit)
    models = ("--theirs", out / "karamatli", "--ours", ours / "model")
    costs.once("scoring", digits, "score", data, *models, "--out", out / "scores.json")
    return costs.seconds


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--speaker", "speakers", multiple=True, default=SPEAKERS, help="Only these.")
@click.option("--steps", default=1000, show_default=True, help="Steps of ours.")
def main(root: Path, out: Path, speakers: tuple[str, ...], steps: int) -> None:
    """Leave every speaker of FSDD out in turn: train, score, print the tables. ROOT holds `recordings/`."""
    found, costs = {}, {}
    for speaker in speakers:
        costs[speaker] = fold(root, out / speaker, speaker, steps)
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
        ours, theirs = costs[speaker]["ours"], costs[speaker]["theirs"]
        print(f"| {speaker} | {' | '.join(cells)} | {ours:.0f}, {theirs:.0f} |")
    print("\nMeans over the speakers, dB, and shares of the oracle mask\n")
    print(f"| | {' | '.join(SCORES)} | SDR share | SI-SDRi share |\n|" + "---|" * (len(SCORES) + 3))
    oracle = [np.mean([s["oracle mask"][key] for s in found.values()]) for key in SCORES]
    for name in METHODS:
        means = [np.mean([scores[name][key] for scores in found.values()]) for key in SCORES]
        shares = [f"{100 * means[i] / oracle[i]:.0f} %" for i in (0, 3)]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in means)} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
