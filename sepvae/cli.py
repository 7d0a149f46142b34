"""The command line; heavy imports are inside the commands, so that `sepvae --help` answers at once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepvae.errors import SepvaeError

if TYPE_CHECKING:
    from rich.console import Console

    from sepvae.batch import Job
    from sepvae.separator import SeparatedFile

_TRAIN_EXTRA = {
    "hydra",
    "librosa",
    "lightning",
    "matplotlib",
    "mido",
    "museval",
    "omegaconf",
    "scipy",
    "tensorboard",
    "torchaudio",
    "torchmetrics",
}


class _Group(click.Group):
    """Turns an expected error into one line on stderr and exit code 1, an interrupt into exit code 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SepvaeError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _TRAIN_EXTRA:
                raise
            click.echo(f"error: {error.name} is not installed: pip install 'sepvae[train]'", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted; what was finished is kept", err=True)
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="sepvae")
def cli() -> None:
    """Separate music and speech into sources with one variational autoencoder per source."""


@cli.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    default="separated",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Output folder.",
)
@click.option(
    "-m",
    "--model",
    default="music",
    show_default=True,
    help="Name of a bundled model, or a checkpoint folder.",
)
@click.option("--stems", help="Stems to write, such as vocals,drums; all by default.")
@click.option("--two-stems", metavar="STEM", help="Write this stem and no_STEM, the exact rest.")
@click.option(
    "--format", type=click.Choice(["wav", "flac", "mp3", "ogg", "opus"]), default="wav", show_default=True
)
@click.option(
    "--subtype",
    type=click.Choice(["PCM_16", "PCM_24", "FLOAT"]),
    help="Sample format of wav and flac; by default the input's, PCM_24 for lossy inputs.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto takes bfloat16 where the device is fast in it.",
)
@click.option(
    "--segment", type=float, metavar="SECONDS", help="Length of the chunks that the model sees at a time."
)
@click.option(
    "--existing",
    type=click.Choice(["fail", "skip", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do with an input whose outputs are there already; skip needs all of them.",
)
@click.option(
    "--template",
    default="{track}/{stem}.{ext}",
    show_default=True,
    help="Path of an output inside the output folder.",
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a report on all files as JSON."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks, only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Also what the decoders say.")
def separate(
    inputs: tuple[Path, ...],
    out: Path,
    model: str,
    stems: str | None,
    two_stems: str | None,
    format: str,
    subtype: str | None,
    device: str,
    precision: str,
    segment: float | None,
    existing: str,
    template: str,
    report: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write one audio file per source of every INPUT (files, and folders with all they contain).

    The paths of the results go to stdout, all else to stderr. The exit code is 0 only if every input was
    separated from beginning to end.
    """
    from rich.console import Console

    from sepvae import __version__
    from sepvae.batch import file_report, find_jobs, write_report
    from sepvae.encoding import choose_encoding
    from sepvae.outputs import output_paths
    from sepvae.separator import SEGMENT_S, Separator

    logging.getLogger("sepvae").addHandler(logging.NullHandler())  # its warnings are in the results too
    chosen = None if stems is None else [name.strip() for name in stems.split(",") if name.strip()]
    choose_encoding(format, subtype, depth="PCM_24", channels=1)
    output_paths(out, template, "track", ["stem"], format)
    if report is not None and not (report.parent.is_dir() and os.access(report.parent, os.W_OK)):
        raise click.BadParameter(
            f"{report.parent} is no folder that can be written to", param_hint="--report"
        )
    jobs = find_jobs(inputs, out)
    if not jobs:
        raise SepvaeError(f"no audio files in {', '.join(map(str, inputs))}")
    with contextlib.nullcontext() if verbose else _quiet_libraries():
        console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
        separator = Separator.from_pretrained(
            model, device, precision=precision, segment_s=SEGMENT_S if segment is None else segment
        )
        separator.output_names(chosen, two_stems)
        console.print(
            f"model {model} ({', '.join(separator.sources)}) on {separator.device}, {separator.precision}"
        )
        settings = {
            "sepvae": __version__,
            "model": model,
            "device": str(separator.device),
            "precision": separator.precision,
            "segment_s": separator.segment_s,
        }
        entries: list[dict[str, Any]] = []
        try:
            for job in jobs:
                result = _separate_one(
                    separator,
                    job,
                    console,
                    out,
                    stems=chosen,
                    two_stems=two_stems,
                    format=format,
                    subtype=subtype,
                    existing=existing,
                    template=template,
                )
                entries.append(file_report(job, result))
        finally:
            if report is not None:
                write_report(report, settings, entries)
    counts = {
        status: sum(e["status"] == status for e in entries)
        for status in ("done", "skipped", "incomplete", "failed")
    }
    if len(jobs) > 1:
        console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if counts["incomplete"] or counts["failed"]:
        sys.exit(1)


def _separate_one(
    separator: Any, job: Job, console: Console, out: Path, **options: Any
) -> SeparatedFile | SepvaeError:
    """Separate one file with a progress bar; tell the paths on stdout and everything else on stderr."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    if job.clash is not None:
        console.print(f"{job.path}: written as {job.track}, since {job.clash} has the same name")
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(job.path.name, total=1.0)
            result = separator.separate_file(
                job.path,
                out,
                track=job.track,
                progress=lambda fraction: bar.update(task, completed=fraction),
                **options,
            )
    except SepvaeError as error:
        click.echo(f"error: {error}", err=True)
        return error
    if result.loss:
        click.echo(f"error: {job.path}: {result.loss}; what is there has been separated", err=True)
    for warning in result.warnings:
        console.print(f"{job.path}: {warning}")
    console.print(f"{job.path}: {_summary(result, separator)}")
    for path in result:
        click.echo(os.fsencode(path))
    return result


def _summary(result: SeparatedFile, separator: Any) -> str:
    if result.skipped:
        return "skipped, its outputs exist already"
    duration_s = result.frames / result.sample_rate
    speed = duration_s / result.seconds
    text = f"{duration_s:.1f} s separated in {result.seconds:.1f} s ({speed:.1f} times real time)"
    if result.residual_db is not None and result.residual_db > -60:
        stem = separator.model.config.residual_source
        text += f"; {result.residual_db:.0f} dB beyond the model's reach went to {stem}"
    return text


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep decoders written in C, which print on file descriptor 2, from adding lines to our messages."""
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, AttributeError):  # stderr is no file, so theirs is not ours
        yield
        return
    original = sys.stderr
    with os.fdopen(os.dup(descriptor), "w", buffering=1, errors="backslashreplace") as copy:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), descriptor)
        sys.stderr = copy
        try:
            yield
        finally:
            sys.stderr = original
            os.dup2(copy.fileno(), descriptor)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--print", "print_only", is_flag=True, help="Print the composed recipe and stop.")
def train(recipe: str, overrides: tuple[str, ...], print_only: bool) -> None:
    """Train the RECIPE of this name or path."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from sepvae.training.run import train as run

    result = run(recipe, overrides, print_only=print_only)
    if not print_only:
        click.echo(os.fsencode(result))


@cli.command()
@click.argument("model")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report.json and the pictures.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--gates", is_flag=True, help="Also measure the gates of the design.")
@click.option("--mask-net", metavar="MODEL", help="The peer with masks instead of latents.")
@click.option("--frozen", metavar="MODEL", help="The model before its decoders were trained on.")
@click.option(
    "--static-eq-from",
    metavar="DATASET",
    type=click.Path(path_type=Path),
    help="Training set of the static EQ.",
)
@click.option("--no-museval", is_flag=True, help="Leave out the BSSEval v4 scores.")
@click.option("--max-seconds", type=float, help="Take no more than this much of each song.")
def evaluate(
    model: str,
    dataset: Path,
    out: Path | None,
    device: str,
    gates: bool,
    mask_net: str | None,
    frozen: str | None,
    static_eq_from: Path | None,
    no_museval: bool,
    max_seconds: float | None,
) -> None:
    """Score MODEL on DATASET, a folder in the stems layout."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from sepvae.evaluation.report import evaluate as run

    run(
        model,
        dataset,
        out=out,
        device=device,
        gates=gates,
        mask_net=mask_net,
        frozen=frozen,
        static_eq_from=static_eq_from,
        museval=not no_museval,
        max_seconds=max_seconds,
    )


@cli.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the bundled models, or show one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@models.command("list")
def list_models() -> None:
    """Print a table of the bundled models."""
    from rich.console import Console
    from rich.table import Table

    from sepvae import pretrained

    table = Table("name", "sources", "rate", "parameters", "size", "SI-SDRi", "data", "licence")
    for row in map(pretrained.model_row, pretrained.available()):
        scores = "\n".join(f"{name} {score:.1f} dB" for name, score in row.scores.items())
        table.add_row(
            row.name,
            ", ".join(row.sources),
            f"{row.sample_rate} Hz",
            f"{row.parameters / 1e6:.1f} M",
            f"{row.size_bytes / 1e6:.1f} MB",
            scores,
            ", ".join(row.data),
            row.licence,
        )
    Console().print(table)


@models.command("show")
@click.argument("name")
def show_model(name: str) -> None:
    """Print the card of the model NAME, or of a checkpoint folder."""
    import json

    from sepvae.card import read_card
    from sepvae.pretrained import find

    click.echo(json.dumps(read_card(find(name)), indent=2, ensure_ascii=False))


@cli.group()
def data() -> None:
    """Build datasets."""


@data.command()
@click.argument("name")
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path),
    envvar="SEPVAE_DATA",
    help="Folder of the raw material.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the sets.")
@click.option("--seed", default=0, show_default=True)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Processes.")
@click.option("--only", multiple=True, metavar="CORPUS", help="Take this corpus only; can be repeated.")
@click.option(
    "--soundfont",
    "soundfonts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="SoundFont to render with; can be repeated.",
)
@click.option(
    "--variations",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Renderings of each MIDI song.",
)
def prepare(
    name: str,
    root: Path,
    out: Path,
    seed: int,
    jobs: int,
    only: tuple[str, ...],
    soundfonts: tuple[Path, ...],
    variations: int,
) -> None:
    """Build the dataset NAME in the layout that the recipes read, or finish one that was interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from sepvae.data.prepare import prepare as run

    manifest = run(
        name, root, out, seed=seed, jobs=jobs, only=only or None, soundfonts=soundfonts, variations=variations
    )
    click.echo(os.fsencode(manifest))


def main() -> None:
    """Entry point of the command `sepvae`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so no half files stay
    cli()
