"""Score and speed of `--quality` and of `--refine N`: `python benchmarks/quality.py MODEL DATASET... [--json FILE]`.

Scores are mean SI-SDR improvements by the protocol of `sepvae/signal/metrics.py`. The network runs once for each
stretch of music and level, whatever is then made of its variances, so one run compares all settings on the same
windows. Speed is seconds of music for one second of processor time on one thread, everything included, taken on the
first stretch of the first dataset in separate runs, so that what else the machine does changes it little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepvae import checkpoint, pretrained
from sepvae.data import corpora
from sepvae.data.excerpts import Excerpt, excerpts
from sepvae.evaluation.summary import summarise
from sepvae.models.separation import SeparationModel
from sepvae.separation.quality import QUALITIES, Quality, choose
from sepvae.separator import Separator

STEPS = (0, 1, 2, 5, 10, 20, 50)
SHARPNESSES = (1.0, 0.8, 0.65, 0.55, 0.5)
WEIGHTS = (0.0, 0.25, 0.5, 1.0)
SPEEDS = (
    (1.0,),
    (1.1875,),
    (1.25,),
    (1.0, 1.1875),
    (1.0, 1.25),
    (0.875, 1.0, 1.1875),
    (1.0, 1.125, 1.25),
    (1.0, 1.1875, 1.40625),
    (1.0, 1.25, 1.5),
)
WHOLE_S = 1e4


class Remembered:
    """Log-variances of a model, taken once for each spectrogram.

    Args:
        model: its method `log_variances_within` is replaced.
    """

    def __init__(self, model: SeparationModel) -> None:
        self._compute = model.log_variances_within
        self._found: dict[tuple[Any, ...], Tensor] = {}
        model.log_variances_within = self  # type: ignore[method-assign]

    def __call__(self, P: Tensor, P_side: Tensor, *, frames: slice, present: Tensor | None = None) -> Tensor:
        told = () if present is None else tuple(present.flatten().tolist())
        key = (*P.shape, float(P.double().sum()), frames.start, frames.stop, told)
        if key not in self._found:
            self._found[key] = self._compute(P, P_side, frames=frames, present=present)
        return self._found[key].clone()

    def forget(self) -> None:
        """Make room for the next stretch."""
        self._found.clear()


def settings(card: dict[str, Any], steps: tuple[int, ...]) -> dict[str, Quality]:
    """The presets, `balanced` with one value changed, and the Wiener filter alone with sharper or softer masks."""
    presets = {name: choose(name, card) for name in QUALITIES}
    balanced = presets["balanced"]
    by_steps = {f"refine {n}": replace(balanced, refine=n) for n in steps}
    by_sharpness = {f"sharpness {s}": replace(balanced, sharpness=s) for s in SHARPNESSES}
    by_weight = {f"percussive {w}": replace(balanced, percussive=w) for w in WEIGHTS}
    by_speeds = {f"speeds {' '.join(map(str, s))}": replace(balanced, speeds=s) for s in SPEEDS}
    plain = {f"wiener {s}": Quality(sharpness=s) for s in SHARPNESSES}
    return presets | by_steps | by_sharpness | by_weight | by_speeds | plain


def stretches(dataset: Path, model: SeparationModel, max_seconds: float | None) -> Iterator[Excerpt]:
    """All stretches of a dataset's songs, with a little context."""
    config = model.config
    for track in corpora.scan(dataset, config.sources).songs:
        yield from excerpts(
            track,
            config.sources,
            config.sample_rate,
            context=model.context_frames * config.hop_length,
            grid=128 * config.hop_length,
            max_seconds=max_seconds,
        )


def score(
    dataset: Path, separators: dict[str, Separator], memory: Remembered, max_seconds: float | None
) -> dict[str, Any]:
    """Scores of every setting on one dataset."""
    model = next(iter(separators.values())).model
    sources = model.config.sources
    found: dict[str, dict[str, dict[str, list]]] = {name: {} for name in separators}
    for excerpt in stretches(dataset, model, max_seconds):
        for name, separator in separators.items():
            stems = separator.separate(excerpt.mixture, excerpt.sample_rate)
            windows = excerpt.score(np.stack([stems[source] for source in sources]))
            tracks = found[name].setdefault(excerpt.track, {source: [] for source in sources})
            for source, more in windows.items():
                tracks[source] += more
        memory.forget()
        print(f"{dataset.name}: {excerpt.track}", file=sys.stderr)
    return {name: summarise(tracks, sources) for name, tracks in found.items()}


def speed(model: SeparationModel, quality: Quality, excerpt: Excerpt) -> float:
    """Seconds of music for a second of processor time."""
    separator = Separator(model, "cpu", quality=quality)
    start = time.process_time()
    separator.separate(excerpt.mixture, excerpt.sample_rate)
    return excerpt.mixture.shape[1] / excerpt.sample_rate / (time.process_time() - start)


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    sets = results["sets"]
    lines = [f"| setting | {' | '.join(sets)} | x real time |", "|---" * (len(sets) + 2) + "|"]
    for name in results["settings"]:
        cells = []
        for scores in sets.values():
            value = scores[name]["mean"]["si_sdr_improvement"]
            first = scores["fast"]["mean"]["si_sdr_improvement"]
            cells.append(f"{value:.2f}" if name == "fast" else f"{value:.2f} ({value - first:+.2f})")
        rate = results["speed"].get(name)
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if rate is None else f'{rate:.1f}'} |")
    return "\n".join(lines)


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--max-seconds", type=float, help="only this much of each song")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="numbers of steps, with commas")
    parser.add_argument("--only", help="settings to measure beside fast, with commas (default: all)")
    parser.add_argument("--no-speed", action="store_true", help="scores alone")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, card = checkpoint.load(pretrained.find(options.model))
    chosen = settings(card, tuple(map(int, options.steps.split(","))))
    if options.only:
        wanted = dict.fromkeys(["fast", *options.only.split(",")])
        if unknown := [name for name in wanted if name not in chosen]:
            parser.error(f"no setting {unknown[0]!r}, there are {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in wanted}
    alike = ("sharpness", "percussive", "wiener")  # cost nothing of their own
    timed = {} if options.no_speed else {n: q for n, q in chosen.items() if not n.startswith(alike)}
    excerpt = next(stretches(options.datasets[0], model, 30.0))
    speeds = {name: speed(model, q, excerpt) for name, q in timed.items()}
    memory = Remembered(model)
    separators = {name: Separator(model, "cpu", segment_s=WHOLE_S, quality=q) for name, q in chosen.items()}
    sets: dict[str, Any] = {}
    results = {
        "model": options.model,
        "max_seconds": options.max_seconds,
        "settings": {name: q.plain() for name, q in chosen.items()},
        "speed": speeds,
        "sets": sets,
    }
    for dataset in options.datasets:
        sets[dataset.resolve().name] = score(dataset, separators, memory, options.max_seconds)
        print(table(results), file=sys.stderr)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
