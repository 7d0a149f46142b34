"""`sepvae separate`: files, folders, lists and pipes in; one file per source, or one stem on stdout, out."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepvae.cli import options as common
from sepvae.cli.loading import ComputingCommand
from sepvae.cli.messages import Messages, quiet_libraries
from sepvae.errors import OutputError, SepvaeError

if TYPE_CHECKING:
    from sepvae.batch.jobs import Job
    from sepvae.batch.report import Entry
    from sepvae.batch.workers import Crew, Task

PIPE = "-"
"""Stdin among the inputs, stdout as the output folder."""


@click.command(cls=ComputingCommand, epilog="More, with examples: docs/usage.md")
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--out", default="separated", show_default=True, help="Output folder, or - for stdout.")
@common.model
@click.option("--stems", help="Stems to write, such as vocals,no_drums; all sources by default.")
@click.option("--two-stems", metavar="STEM", help="Write this stem and no_STEM, the exact rest.")
@click.option(
    "--present",
    metavar="SOURCES",
    help="The sources that the recording is known to have, such as drums,bass,other; the other stems are silent.",
)
@click.option(
    "--format", type=click.Choice(["wav", "flac", "mp3", "ogg", "opus"]), default="wav", show_default=True
)
@click.option(
    "--subtype",
    type=click.Choice(["PCM_16", "PCM_24", "FLOAT"]),
    help="Sample format of wav and flac; by default that of the input, or PCM_24 for lossy inputs.",
)
@click.option(
    "--template",
    default="{track}/{stem}.{ext}",
    show_default=True,
    help="Path of an output inside the output folder.",
)
@click.option(
    "--existing",
    type=click.Choice(["skip", "overwrite", "fail"]),
    default="skip",
    show_default=True,
    help="What to do with outputs that exist; skip needs the same input, model and settings.",
)
@click.option(
    "--manifest",
    "lists",
    multiple=True,
    metavar="FILE",
    help="Take inputs from this list too, one on each line or ended by null bytes; - for stdin.",
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Take only these files from folders.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out these files of folders.")
@click.option(
    "--report",
    metavar="FILE",
    help="Write a JSON report on all files; the stems are read back and measured for it.",
)
@common.device
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
@common.quality
@common.refine
@click.option("--seed", default=0, show_default=True, type=common.SEED, help="Random seed.")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Number of worker processes."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads per worker, no more than cores; by default the cores are shared.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the workers run: here, or on a Ray cluster.",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="Address of the Ray cluster; default: RAY_ADDRESS, else a new local cluster.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks, only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the decoders say, too.")
def separate(
    inputs: tuple[str, ...],
    lists: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    out: str,
    stems: str | None,
    present: str | None,
    segment: float | None,
    report: str | None,
    jobs: int,
    threads: int | None,
    engine: str,
    ray_address: str | None,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Write one audio file per source of every INPUT.

    INPUT may be files, folders with all they contain, quoted patterns such as 'music/**/*.flac', and - for
    stdin. The paths of the results go to stdout, all else to stderr. The exit code is 0 only if every input
    was separated from beginning to end.
    """
    from sepvae.batch.report import count, unfinished
    from sepvae.batch.workers import Task, share_of_threads

    logging.getLogger("sepvae").addHandler(logging.NullHandler())  # its warnings are in the results too
    if segment is not None:
        options["segment_s"] = segment
    task = Task(
        Path(out),
        stems=common.names(stems),
        present=common.names(present),
        verify=report is not None,
        **options,
    )
    _check(task, to_stdout=out == PIPE, report=report)
    with ExitStack() as stack:
        if not verbose:
            stack.enter_context(quiet_libraries())
        messages = stack.enter_context(Messages(quiet=quiet))
        batch = _find(inputs, lists, include, exclude, task, messages, stack)
        workers = min(jobs, len(batch))
        task = replace(task, threads=threads or share_of_threads(workers))
        head = {**asdict(task), "out": out, "jobs": workers, "engine": engine}
        entries = [unfinished(job) for job in batch]
        stack.enter_context(_reported(report, head, entries))
        if out == PIPE:
            _check_stdout(batch)
            crew = stack.enter_context(_stdout_crew(task, len(batch)))
        else:
            crew = stack.enter_context(_crew(task, workers, engine, ray_address))
            _check_outputs(batch, task, crew, report)
        head |= crew.info
        messages.start(task.model, crew.info, workers, batch)
        with closing(crew.run(batch, messages.progress)) as results:
            for index, entry in results:
                entries[index] = entry
                messages.result(index, entry, crew.info["residual_source"])
    if len(batch) > 1:
        messages.total(count(entries))
    if messages.stdout_failed or any(entry["status"] not in ("done", "skipped") for entry in entries):
        sys.exit(1)


@contextmanager
def _reported(report: str | None, head: dict[str, Any], entries: list[Entry]) -> Iterator[None]:
    """Write the report at the end, also when interrupted; not where an error came before the first input's turn."""
    from sepvae import __version__
    from sepvae.batch.report import write_report

    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    untouched = list(entries)
    interrupted = True
    try:
        yield
        interrupted = False
    except Exception:
        if entries == untouched:
            report = None
        raise
    finally:
        if report is not None:
            head |= {"interrupted": interrupted, "started": started, "seconds": time.monotonic() - clock}
            write_report(report, {"sepvae": __version__, **head}, entries)


def _check(task: Task, *, to_stdout: bool, report: str | None) -> None:
    """Refuse at once what could not be done at the end."""
    from sepvae.audio.encoding import choose_encoding
    from sepvae.audio.outputs import output_paths
    from sepvae.batch.report import check_report

    choose_encoding(task.format, task.subtype, depth="PCM_24", channels=1, sample_rate=8000)
    output_paths(task.out, task.template, "track", ["stem"], task.format)
    if to_stdout and (task.format, task.subtype or "FLOAT") != ("wav", "FLOAT"):
        raise OutputError("stdout gets a wav of float samples: leave out --format and --subtype")
    if report == PIPE:
        raise OutputError("a report is a file: stdout gets the names of the stems, or one of them")
    if report is not None:
        check_report(Path(report))


def _find(
    inputs: Sequence[str],
    lists: Sequence[str],
    include: Sequence[str],
    exclude: Sequence[str],
    task: Task,
    messages: Messages,
    stack: ExitStack,
) -> list[Job]:
    """The inputs as a list of jobs; what comes from stdin is kept until the stack is closed."""
    from sepvae.audio.stdio import spooled
    from sepvae.batch.jobs import find_jobs, read_input_list

    if not inputs and not lists:
        raise click.UsageError("Missing argument 'INPUT...'.")
    if [*inputs, *lists].count(PIPE) > 1:
        raise SepvaeError("stdin can be read only once, so - can be only one of the inputs and manifests")
    wanted = list(inputs)
    for name in lists:
        if name == PIPE:
            _check_stdin()
        try:
            with click.open_file(name, "rb") as file:
                wanted += read_input_list(file)
        except OSError as error:
            raise SepvaeError(f"{name}: the manifest cannot be read ({error.strerror})") from error
    stdin = None
    if PIPE in inputs:
        _check_stdin()
        stdin = stack.enter_context(spooled(sys.stdin.buffer))
    results: list[Path] = []
    batch = find_jobs(
        wanted, task.out, include=include, exclude=exclude, stdin=stdin, on_result=results.append
    )
    if not batch:
        but = f" but results in the output folder: {len(results)}" if results else ""
        raise SepvaeError(f"no audio files in {', '.join([*inputs, *lists])}{but}")
    if results:
        messages.remark(f"results of earlier runs in the output folder, left out: {len(results)}")
    if len(batch) > 1 and "{track}" not in task.template:
        raise OutputError(f"template {task.template!r}: needs {{track}} to tell {len(batch)} inputs apart")
    return batch


def _check_stdin() -> None:
    if sys.stdin is None:
        raise SepvaeError("stdin: is closed")


def _check_stdout(batch: Sequence[Job]) -> None:
    """Refuse a stdout that is one of the inputs, as with `>> song.wav`."""
    with suppress(OSError, AttributeError, ValueError):  # it is no file
        target = os.fstat(sys.stdout.fileno())
        for job in batch:
            if stat.S_ISREG(target.st_mode) and os.path.samestat(target, os.stat(job.path)):
                raise OutputError(f"{job}: stdout is this very file")


def _check_outputs(batch: Sequence[Job], task: Task, crew: Crew, report: str | None) -> None:
    """Refuse to replace an input, or a stem of one, by a stem of another one or by the report."""
    from sepvae.batch.jobs import check_inputs_stay, check_outputs_differ, check_report_apart
    from sepvae.separation.selection import Selection

    info = crew.info
    stems = Selection(info["sources"], info["residual_source"], task.stems, task.two_stems).names
    check_outputs_differ(batch, task.template, stems, task.format)
    if report is not None:
        check_report_apart(Path(report), batch, task.out, task.template, stems, task.format)
    if task.existing == "overwrite" and len(batch) > 1:  # otherwise nothing foreign is replaced
        check_inputs_stay(batch, task.out, task.template, stems, task.format)


def _crew(task: Task, count: int, engine: str, ray_address: str | None) -> Crew:
    """The workers that the options ask for."""
    if engine == "ray":
        from sepvae.batch.cluster import RayCrew

        return RayCrew(task, count, ray_address)
    from sepvae.batch.processes import make_crew

    return make_crew(task, count)


def _stdout_crew(task: Task, inputs: int) -> Crew:
    """A worker that writes its one stem to stdout."""
    from sepvae.batch.workers import InProcessCrew, PipeWorker

    if sys.stdout is None:
        raise OutputError("stdout: is closed")
    if sys.stdout.isatty():
        raise OutputError("stdout: is a terminal, which shows no sound: lead it into a file or a player")
    if inputs != 1:
        raise OutputError(f"stdout takes the stem of one input, found {inputs}")
    return InProcessCrew(PipeWorker(task, sys.stdout.buffer))
