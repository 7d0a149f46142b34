"""Peers trained from scratch on the same mixtures: sepvae, the mask net, Open-Unmix, Conv-TasNet, HDemucs.

    python benchmarks/peers.py run DATA OUT      # everything below; an interrupted run goes on with the same command
    python benchmarks/peers.py table OUT         # the tables and the curves, from what is there

DATA is made by `sepvae data prepare music`. Every contender takes batches from one and the same stream, with the same
optimiser at a constant rate and the same moving average of the weights. Its rate is chosen among the same few by a
short run, by validation. Snapshots are taken at marks of steps and of seconds; what stands at the last mark of each is
scored on the test sets: equal steps, and equal time. Seconds are processor time of one thread (another process draws
the mixtures), or wall clock on a GPU. Beside them stands what needs no training but solos: the static EQ, NMF with a
dictionary for each source, HPSS, REPET-SIM; and the oracle mask.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from peer_baselines import BASELINES, Separate
from peer_models import HybridDemucs, OpenUnmix, PeerModule, TasNet
from sepvae.atomic import whole_file
from sepvae.data import corpora
from sepvae.data.excerpts import Excerpt, excerpts
from sepvae.evaluation import summary
from sepvae.evaluation.bss_eval import TrackBSS
from sepvae.models.separation import SeparationModel
from sepvae.separation.quality import Quality
from sepvae.separator import Separator
from sepvae.training.base import SpectrogramModule, mean_levels
from sepvae.training.data import MixtureData
from sepvae.training.recipe import compose
from sepvae.training.run import LEVEL_BATCHES, build_module
from sepvae.training.trainer import build_trainer

OURS = {"sepvae": "music/separation", "mask net": "music/mask_net"}
PEERS = {"Open-Unmix": OpenUnmix, "Conv-TasNet": TasNet, "HDemucs": HybridDemucs}
CONTENDERS = (*OURS, *PEERS)
SIZES = {
    "music": ("model.trunk_blocks=[1,2,2,2]",),
    "small": ("model=small", "model.n_fft=4096", "model.hop_length=1024", "model.band_width=13"),
}
"""Changes that give ours and the mask net their size, from before one got more blocks, the other longer windows."""
RATES = (1e-3, 3e-3)
TESTS = ("test-album", "test-demo", "test-midi-known", "test-midi")
BALANCED = Quality(refine=5, percussive=0.5, sharpness=0.55)
"""`balanced` of the model `music` at one speed; a mask net has no variances to refine and takes the rest of it."""
LOWEST_DB = -10.0
"""Lower end of the picture: below it a network has hardly begun."""
SETTINGS = (
    "init=null",
    "losses.frozen_steps=0",
    "optim.warmup_steps=20",
    "optim.decay_steps=1",
    "optim.max_steps=1000000",
    "trainer.ema_decay=0.99",
    "trainer.ema_start=20",
    "trainer.val_every=1000000000",
    "trainer.checkpoint_every=25",
    "trainer.examples=false",
    "trainer.progress=false",
    "trainer.devices=1",
    "logger.tensorboard=false",
    "data.valid_windows=4",
)


@dataclass(frozen=True)
class Terms:
    """What holds for all contenders: the material, and the size of ours, a key of `SIZES`."""

    data: Path
    size: str

    def recipe(self, name: str, run_dir: Path, rate: float = 1e-3, seed: int = 0) -> DictConfig:
        """The recipe of a contender; peers take all but their network from the mask net's."""
        changes = [f"data.root={self.data}", f"run_dir={run_dir}", f"optim.lr={rate}", f"seed={seed}"]
        return compose(OURS.get(name, OURS["mask net"]), [*SIZES[self.size], *SETTINGS, *changes])


def make(name: str, config: DictConfig, *, fresh: bool) -> tuple[SpectrogramModule, MixtureData]:
    """A contender and its data; a fresh one is centred on the levels of the first mixtures."""
    lightning.seed_everything(config.seed, verbose=False)
    module = build_module(config)
    data = MixtureData(config, module.model)
    batches = data.first_batches(LEVEL_BATCHES) if fresh else []
    if name in OURS:
        if fresh:
            module.model.set_level(mean_levels(module.model, batches))
        return module, data
    network = PEERS[name](module.model)
    if fresh and isinstance(network, OpenUnmix):
        network.set_statistics(batches)
    return PeerModule(network, module.optim, module.losses, seed=config.seed), data


class Marks(Callback):
    """Counts the seconds of training and keeps the averaged weights at marks; ends the run after the last one.

    Args:
        folder: for `steps-N.pt` and `seconds-N.pt`.
        steps, seconds: the marks, ascending.
        until: second that ends the run before its last mark.
    """

    def __init__(
        self, folder: Path, steps: Sequence[int], seconds: Sequence[float], until: float | None = None
    ) -> None:
        self.folder, self.steps, self.seconds, self.until = folder, steps, seconds, until
        self.spent, self._last = 0.0, 0.0

    def now(self, trainer: lightning.Trainer) -> float:
        on_cpu = trainer.strategy.root_device.type == "cpu"
        return time.process_time() if on_cpu else time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.spent = state["spent"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._last = self.now(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        before, self.spent = self.spent, self.spent + self.now(trainer) - self._last
        step = trainer.global_step
        for mark in self.steps:
            if mark == step:
                self.keep(trainer, f"steps-{mark}")
        for second in self.seconds:
            if before < second <= self.spent:
                self.keep(trainer, f"seconds-{second:g}")
        last = step >= max(self.steps, default=0) and self.spent >= max(self.seconds, default=0)
        if last or (self.until is not None and self.spent >= self.until):
            trainer.save_checkpoint(self.folder.parent / "checkpoints" / "last.ckpt", weights_only=False)
            trainer.should_stop = True
        self._last = self.now(trainer)

    def keep(self, trainer: lightning.Trainer, name: str) -> None:
        """Write the averaged weights, and what they cost."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = self.folder / f".{name}.ckpt"
        trainer.save_checkpoint(whole, weights_only=False)
        weights = torch.load(whole, weights_only=True, map_location="cpu")["state_dict"]
        whole.unlink()
        with whole_file(self.folder / f"{name}.pt") as file:
            torch.save({"weights": weights, "step": trainer.global_step, "seconds": self.spent}, file)


def fit(
    name: str,
    terms: Terms,
    run: Path,
    rate: float,
    seed: int,
    marks: Mapping[str, Sequence[float]],
    until: float | None = None,
) -> None:
    """Train a contender until its last marks or a second, or go on with it; nothing happens when it is there."""
    last_marks = {kind: max(found) for kind, found in marks.items() if found}
    wanted = [
        f"{kind}-{mark:g}.pt" for kind, mark in (last_marks if until is None else {"seconds": until}).items()
    ]
    if all((run / "marks" / file).is_file() for file in wanted):
        return
    config, last = terms.recipe(name, run, rate, seed), run / "checkpoints" / "last.ckpt"
    config.data.valid = []  # the marks are validated afterwards
    module, mixtures = make(name, config, fresh=not last.is_file())
    trainer = build_trainer(config, mixtures, run)
    trainer.callbacks.append(Marks(run / "marks", [int(s) for s in marks["steps"]], marks["seconds"], until))
    resume = last if last.is_file() else None
    trainer.fit(module, datamodule=mixtures, ckpt_path=resume, weights_only=True if resume else None)


def load(name: str, terms: Terms, mark: Path) -> SpectrogramModule:
    """A contender as it stood at a mark."""
    module, _ = make(name, terms.recipe(name, mark.parent), fresh=False)
    module.load_state_dict(torch.load(mark, weights_only=True)["weights"])
    return module.eval()


def validate(name: str, terms: Terms, mark: Path) -> dict[str, float]:
    """Validation scores at a mark: `score`, the mean of the sets, and the sets."""
    target = mark.with_suffix(".valid.json")
    if not target.is_file():
        module = load(name, terms, mark)
        _, mixtures = make(name, terms.recipe(name, mark.parent), fresh=False)
        trainer = lightning.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
        found = trainer.validate(module, datamodule=mixtures, verbose=False)[0]
        write(target, {key: round(float(value), 3) for key, value in found.items()})
    return json.loads(target.read_text())


def separators(name: str, module: SpectrogramModule) -> dict[str, Separate]:
    """The ways in which a trained contender separates."""
    if name not in OURS:

        @torch.inference_mode()
        def separate(excerpt: Excerpt) -> np.ndarray:
            return module.model.separate(torch.from_numpy(excerpt.mixture)).float().numpy()

        return {name: separate}
    model = module.model
    assert isinstance(model, SeparationModel)
    ways = {name: Quality(), f"{name}, balanced": BALANCED}
    return {way: by_separator(Separator(model, "cpu", quality=quality)) for way, quality in ways.items()}


def by_separator(separator: Separator) -> Separate:
    """Our separation."""

    def separate(excerpt: Excerpt) -> np.ndarray:
        stems = separator.separate(excerpt.mixture, excerpt.sample_rate)
        return np.stack([stems[source] for source in excerpt.sources])

    return separate


def score(
    ways: Mapping[str, Separate], model: SeparationModel, root: Path, minutes: float, bss: bool
) -> dict[str, Any]:
    """Scores of some ways to separate on so many minutes of a test set, and their speed: way -> plain values."""
    config = model.config
    tracks = corpora.scan(root, config.sources).songs
    shape = {
        "context": model.context_frames * config.hop_length + config.n_fft,
        "grid": model.frame_multiple * config.hop_length,
        "max_seconds": minutes * 60 / len(tracks),
    }
    windows: dict[str, Any] = {way: {} for way in ways}
    medians: dict[str, Any] = {way: {} for way in ways}
    seconds, heard = dict.fromkeys(ways, 0.0), 0.0
    for track in tracks:
        present = [source for source in config.sources if source in track.files]
        evals = {way: TrackBSS(present, config.sample_rate) for way in ways} if bss else {}
        for excerpt in excerpts(track, config.sources, config.sample_rate, **shape):
            heard += excerpt.mixture.shape[-1] / excerpt.sample_rate
            truth = excerpt.named(excerpt.references)
            for way, separate in ways.items():
                clock = time.process_time()
                estimates = separate(excerpt)
                seconds[way] += time.process_time() - clock
                found = windows[way].setdefault(track.name, {source: [] for source in config.sources})
                for source, scores in excerpt.score(estimates).items():
                    found[source] += scores
                if bss:
                    guess = excerpt.named(estimates)
                    evals[way].take({s: guess[s] for s in present}, {s: truth[s] for s in present})
        for way, evaluation in evals.items():
            medians[way][track.name] = evaluation.medians()
    return {
        way: {
            **{key: summary.summarise(windows[way], config.sources)[key] for key in ("sources", "mean")},
            "times_real_time": heard / seconds[way],
            **({"bss_eval": summary.summarise_bss(medians[way], config.sources)} if bss else {}),
        }
        for way in ways
    }


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    summary.write_json(path, summary.plain(values))


def slug(name: str) -> str:
    """Name of a contender's folder."""
    return name.lower().replace(" ", "-")


def halves(value: float, count: int = 3) -> list[float]:
    """A mark and its halves, ascending: 400 -> 100, 200, 400."""
    return [value / 2**i for i in reversed(range(count))]


size_option = click.option(
    "--size",
    type=click.Choice(list(SIZES)),
    default="music",
    show_default=True,
    help="Of ours and the mask net.",
)


@click.group()
def main() -> None:
    """Peers on equal terms."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*(treespec|across ranks is zero).*")


@main.command("fit")
@click.argument("name", type=click.Choice(CONTENDERS))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("run", type=click.Path(path_type=Path))
@size_option
@click.option("--rate", default=1e-3, show_default=True, help="Learning rate.")
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", "step_marks", type=int, multiple=True, help="Keep the weights here.")
@click.option("--seconds", "second_marks", type=float, multiple=True, help="And here.")
@click.option("--until", type=float, help="One of these seconds, to stop at before the last mark.")
def fit_command(
    name: str,
    data: Path,
    run: Path,
    size: str,
    rate: float,
    seed: int,
    step_marks: tuple[int, ...],
    second_marks: tuple[float, ...],
    until: float | None,
) -> None:
    """Train one contender in the folder RUN until its last mark, and score every mark on the validation sets."""
    torch.set_num_threads(1)
    terms = Terms(data, size)
    fit(name, terms, run, rate, seed, {"steps": sorted(step_marks), "seconds": sorted(second_marks)}, until)
    for mark in sorted((run / "marks").glob("*.pt")):
        validate(name, terms, mark)


@main.command("score")
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@size_option
@click.option("--name", type=click.Choice(CONTENDERS), help="A trained contender instead of the baselines.")
@click.option("--mark", type=click.Path(path_type=Path, exists=True), help="Its weights.")
@click.option("--minutes", default=10.0, show_default=True, help="Of each test set, shared by its songs.")
@click.option("--bss", is_flag=True, help="BSSEval v4 too, which is slow.")
def score_command(
    data: Path, out: Path, size: str, name: str | None, mark: Path | None, minutes: float, bss: bool
) -> None:
    """Score one contender, or all baselines, on the test sets; OUT is a JSON file."""
    torch.set_num_threads(1)
    terms = Terms(data, size)
    if name is None or mark is None:
        model = build_module(terms.recipe("mask net", out.parent)).model
        ways: dict[str, Separate] = {
            label: make_way(model, terms.data) for label, make_way in BASELINES.items()
        }
        facts: dict[str, Any] = {}
    else:
        module = load(name, terms, mark)
        ways = separators(name, module)
        model = build_module(terms.recipe("mask net", out.parent)).model
        saved = torch.load(mark, weights_only=True)
        facts = {
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "step": saved["step"],
            "seconds": saved["seconds"],
        }
    sets = {test: score(ways, model, terms.data / test, minutes, bss) for test in TESTS}
    unit = 1 if sys.platform == "darwin" else 1024
    facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    write(out, {"facts": facts, "ways": {way: {test: sets[test][way] for test in TESTS} for way in ways}})


@main.command("run")
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@size_option
@click.option("--only", multiple=True, type=click.Choice(CONTENDERS), help="Only these contenders.")
@click.option("--rate", "rates", type=float, multiple=True, default=RATES, show_default=True, help="To try.")
@click.option("--steps", default=400, show_default=True, help="Last mark of equal steps.")
@click.option("--seconds", default=1200.0, show_default=True, help="Last mark of equal time.")
@click.option("--trial-seconds", default=150.0, show_default=True, help="Length of a trial of a rate.")
@click.option("--seeds", default=3, show_default=True, help="Seeds of ours and of the mask net.")
@click.option("--minutes", default=10.0, show_default=True, help="Of each test set, shared by its songs.")
@click.option("--bss", is_flag=True, help="BSSEval v4 too, which is slow.")
def run_command(
    data: Path,
    out: Path,
    size: str,
    only: tuple[str, ...],
    rates: tuple[float, ...],
    steps: int,
    seconds: float,
    trial_seconds: float,
    seeds: int,
    minutes: float,
    bss: bool,
) -> None:
    """Choose the rates, train everything, score it; every step that is done is not done again."""

    def call(command: str, *arguments: object) -> None:
        subprocess.run([sys.executable, __file__, command, "--size", size, *map(str, arguments)], check=True)

    def scored(file: Path, *arguments: object) -> None:
        if not file.is_file():
            call("score", data, file, *arguments, "--minutes", minutes, *(["--bss"] if bss else []))

    marks = [("--steps", round(mark)) for mark in halves(steps)]
    marks += [("--seconds", mark) for mark in {*halves(seconds), trial_seconds}]
    limits = [word for pair in marks for word in pair]
    for name in only or CONTENDERS:
        folder = out / slug(name)
        trials = {rate: folder / f"seed-0-rate-{rate:g}" for rate in rates}
        for rate, run in trials.items():
            call("fit", name, data, run, "--rate", rate, *limits, "--until", trial_seconds)
        trial = f"seconds-{trial_seconds:g}.valid.json"
        found = {
            rate: json.loads((run / "marks" / trial).read_text())["score"] for rate, run in trials.items()
        }
        best = max(found, key=lambda rate: found[rate])
        write(folder / "rates.json", {"valid": {f"{rate:g}": found[rate] for rate in rates}, "rate": best})
        for seed in range(seeds if name in OURS else 1):
            run = folder / f"seed-{seed}-rate-{best:g}"
            call("fit", name, data, run, "--rate", best, "--seed", seed, *limits)
            for mark in (f"steps-{steps}", f"seconds-{seconds:g}"):
                file = run / "marks" / f"{mark}.pt"
                scored(file.with_suffix(".test.json"), "--name", name, "--mark", file)
    if not only:
        scored(out / "baselines.json")


def column(cells: Sequence[float | None]) -> str:
    """Mean of some seeds, and how far they lie apart."""
    values = [cell for cell in cells if cell is not None]
    if not values:
        return "–"
    spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


def results(out: Path, kind: str) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Way, its scores on the test sets and its facts, seed by seed, at the last mark of a kind."""
    for name in CONTENDERS:
        found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        files = list((out / slug(name)).glob(f"seed-*/marks/{kind}-*.test.json"))
        marks = [float(file.name.split("-")[1].removesuffix(".test.json")) for file in files]
        for file, mark in sorted(zip(files, marks, strict=True)):
            if mark == max(marks):
                report = json.loads(file.read_text())
                for way, sets in report["ways"].items():
                    found.setdefault(way, []).append((sets, report["facts"]))
        for way, pairs in found.items():
            yield way, [sets for sets, _ in pairs], [facts for _, facts in pairs]


@main.command("table")
@click.argument("out", type=click.Path(path_type=Path, exists=True))
@click.option("--plot", type=click.Path(path_type=Path), help="Picture of the learning curves.")
def table_command(out: Path, plot: Path | None) -> None:
    """Print the tables of what `run` left in OUT."""
    for kind, title in (("steps", "Equal steps"), ("seconds", "Equal time")):
        print(f"\n{title}: mean SI-SDR improvement, dB\n")
        print(f"| | {' | '.join(TESTS)} | parameters | steps | seconds | x real time | peak MB |")
        print("|" + "---|" * (len(TESTS) + 6))
        for way, seeds, facts in results(out, kind):
            cells = [column([s[t]["mean"]["si_sdr_improvement"] for s in seeds]) for t in TESTS]
            speed = np.mean([s[t]["times_real_time"] for s in seeds for t in TESTS])
            costs = [f"{np.mean([f[key] for f in facts]):.0f}" for key in ("step", "seconds")]
            size = f"{facts[0]['parameters'] / 1e6:.1f} M"
            peak = f"{max(f['peak_mb'] for f in facts):.0f}"
            print(f"| {' | '.join([way, *cells, size, *costs, f'{speed:.0f}', peak])} |")
    baselines = out / "baselines.json"
    if baselines.is_file():
        print(f"\nWithout training\n\n| | {' | '.join(TESTS)} | x real time |\n|" + "---|" * (len(TESTS) + 2))
        for way, sets in json.loads(baselines.read_text())["ways"].items():
            cells = [column([sets[t]["mean"]["si_sdr_improvement"]]) for t in TESTS]
            speed = np.mean([sets[t]["times_real_time"] for t in TESTS])
            print(f"| {' | '.join([way, *cells, f'{speed:.0f}'])} |")
    print("\nBy source, equal time: SI-SDR improvement (SDR, SIR, SAR where BSSEval was taken), dB\n")
    by_source(out)
    print("\nRates, by validation, dB\n")
    for name in CONTENDERS:
        file = out / slug(name) / "rates.json"
        if file.is_file():
            tried = json.loads(file.read_text())
            print(f"- {name}: {tried['rate']:g}", {k: round(v, 2) for k, v in tried["valid"].items()})
    if plot is not None:
        draw(out, plot)


def by_source(out: Path) -> None:
    """Print a row for each way to separate and each test set."""
    sources: list[str] = []
    for way, seeds, _ in results(out, "seconds"):
        if not sources:
            sources = list(seeds[0][TESTS[0]]["sources"])
            print(f"| | | {' | '.join(sources)} |\n|" + "---|" * (len(sources) + 2))
        for test in TESTS:
            cells = []
            for source in sources:
                cell = column([s[test]["sources"][source]["si_sdr_improvement"] for s in seeds])
                bss = [s[test]["bss_eval"]["sources"].get(source) for s in seeds if "bss_eval" in s[test]]
                if bss and bss[0]:
                    cell += (
                        f" ({', '.join(column([b[key] for b in bss if b]) for key in ('SDR', 'SIR', 'SAR'))})"
                    )
                cells.append(cell)
            print(f"| {way} | {test} | {' | '.join(cells)} |")


def curves(folder: Path, kind: str) -> Iterator[list[tuple[float, float]]]:
    """Marks of a kind and the validation scores there, ascending, of each seed with the rate that was chosen."""
    rate = json.loads((folder / "rates.json").read_text())["rate"]
    for run in sorted(folder.glob(f"seed-*-rate-{rate:g}")):
        scores = {
            float(file.name.split("-")[1].removesuffix(".valid.json")): json.loads(file.read_text())["score"]
            for file in run.glob(f"marks/{kind}-*.valid.json")
        }
        yield sorted(scores.items())


def draw(out: Path, target: Path) -> None:
    """Validation score against steps and seconds, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, kind in zip(axes, ("steps", "seconds"), strict=True):
        for colour, name in enumerate(CONTENDERS):
            folder = out / slug(name)
            for seed, points in enumerate(curves(folder, kind) if (folder / "rates.json").is_file() else ()):
                label = name if seed == 0 else None
                axis.plot(*zip(*points, strict=True), marker="o", color=f"C{colour}", label=label)
        axis.set(xlabel=kind)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("validation, dB of SI-SDR improvement")
    axes[0].set_ylim(bottom=max(LOWEST_DB, axes[0].get_ylim()[0]))
    axes[1].legend(fontsize=8)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
