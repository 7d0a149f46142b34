"""What a training step costs: `python benchmarks/training.py DATA [--device cuda] [--steps 20]`.

Steps of `music/separation`, all of the model training, on batches of DATA (`sepvae data prepare music`) that are drawn
beforehand; what drawing costs is in benchmarks/loader.py. For bfloat16 and for float32: seconds a step, hours of audio
per hour, and where the time goes. On a GPU every part is waited for, and the share of the time in which the GPU
computes is taken from a profile of whole steps. On a CPU times are processor time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch

from sepvae.data.mixing import Mixture
from sepvae.training.data import MixtureData
from sepvae.training.modules import SeparationModule
from sepvae.training.recipe import compose
from sepvae.training.run import build_module

PARTS = {
    "targets": "STFTs and banded statistics",
    "posteriors": "trunk and heads",
    "decode": "decoders",
    "solo_and_match": "a solo: encoder, decoder, ELBO",
    "training_step": "losses",
    "backward": "backward",
    "optimizer": "clipping and AdamW",
}
"""Method or part of a step -> its name; each without the parts inside it."""
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": None}


class Clock:
    """Seconds by part; parts inside a part are counted for themselves alone."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def now(self) -> float:
        """Seconds by the wall once the GPU has finished, or of processor time."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        self._inner.append(0.0)
        start = self.now()
        yield
        spent = self.now() - start
        self.seconds[name] += spent - self._inner.pop()
        self._inner[-1] += spent

    def watch(self, owner: Any, name: str) -> None:
        """Count the time of a method."""
        method: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return method(*args, **kwargs)

        setattr(owner, name, watched)


def stepper(module: SeparationModule, dtype: torch.dtype | None, clock: Clock) -> Callable[[Mixture], None]:
    """One optimisation step, its parts timed."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step(batch: Mixture) -> None:
        with torch.autocast(module.device.type, dtype, enabled=dtype is not None):
            loss = module.training_step(batch, 0)
        with clock.part("backward"):
            loss.backward()
        with clock.part("optimizer"):
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return step


def busy(step: Callable[[Mixture], None], batches: list[Mixture]) -> float:
    """Share of the time of some steps in which a kernel runs on the GPU."""
    activity = torch.profiler.ProfilerActivity.CUDA
    torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.profiler.profile(activities=[activity]) as profile:
        for batch in batches:
            step(batch)
        torch.cuda.synchronize()
    wall = time.perf_counter() - start
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / wall


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--device", default="cpu", show_default=True)
@click.option("--steps", default=12, show_default=True, help="Steps to time, after two that are not counted.")
@click.option("--batch-size", default=4, show_default=True, help="Excerpts per step.")
def main(data: Path, device: str, steps: int, batch_size: int) -> None:
    """Print what a step of music/separation costs, in bfloat16 and in float32."""
    changes = [f"data.root={data}", "init=null", "losses.frozen_steps=0", "losses.solo_every=1"]
    config = compose("music/separation", [*changes, f"data.mixing.batch_size={batch_size}"])
    seconds = (
        batch_size * (config.data.mixing.frames - 3) * config.model.hop_length / config.model.sample_rate
    )
    columns: dict[str, dict[str, float]] = {}
    for name, dtype in PRECISIONS.items():
        module = build_module(config).to(device)
        assert isinstance(module, SeparationModule)
        module.log_terms = lambda terms: None  # type: ignore[method-assign]
        batches = [
            Mixture(batch.sources.to(device), batch.tone.to(device), batch.first_row)
            for batch in MixtureData(config, module.model).first_batches(steps + 2)
        ]
        quiet = Clock(module.device)
        for batch in batches[:2]:
            stepper(module, dtype, quiet)(batch)
        clock = Clock(module.device)
        for part in ("targets", "decode", "solo_and_match", "training_step"):
            clock.watch(module, part)
        clock.watch(module.model, "posteriors")
        step = stepper(module, dtype, clock)
        for batch in batches[2:]:
            step(batch)
        total = sum(clock.seconds.values())
        columns[name] = {
            "seconds a step": total / steps,
            "hours of audio per hour": seconds * steps / total,
            **{f"{title}, %": 100 * clock.seconds[part] / total for part, title in PARTS.items()},
        }
        if module.device.type == "cuda":
            clock.now = time.perf_counter  # type: ignore[method-assign]
            columns[name]["GPU busy, %"] = 100 * busy(step, batches[2:])
    print(f"{batch_size} excerpts, {seconds:.1f} s of stereo a step, {device}\n")
    print(f"| | {' | '.join(columns)} |\n|" + "---|" * (len(columns) + 1))
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(f'{column[row]:.3g}' for column in columns.values())} |")


if __name__ == "__main__":
    main()
