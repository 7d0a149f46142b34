"""`sepvae separate`: files and folders in, one file per source out."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepvae.errors import OutputError, SepvaeError

if TYPE_CHECKING:
    from rich.console import Console

    from sepvae.batch import Job
    from sepvae.separator import SeparatedFile, Separator


@click.command()
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
        raise OutputError(f"{report}: the report cannot be written, {report.parent} is no folder to write to")
    jobs = find_jobs(inputs, out)
    if not jobs:
        raise SepvaeError(f"no audio files in {', '.join(map(str, inputs))}")
    if len(jobs) > 1 and "{track}" not in template:
        raise OutputError(f"template {template!r}: needs {{track}} to tell {len(jobs)} inputs apart")
    with contextlib.nullcontext() if verbose else _quiet_libraries():
        console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
        separator = Separator.from_pretrained(
            model, device, precision=precision, segment_s=SEGMENT_S if segment is None else segment
        )
        separator.select(chosen, two_stems)
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
    separator: Separator, job: Job, console: Console, out: Path, **options: Any
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


def _summary(result: SeparatedFile, separator: Separator) -> str:
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
