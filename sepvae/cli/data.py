"""`sepvae data`: fetch, check and prepare datasets."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepvae.errors import DataError

if TYPE_CHECKING:
    from sepvae.data.datasets.base import Dataset

_OWN_SETS_ONLY = ("seed", "only", "soundfonts", "variations", "songs")


@click.group()
def data() -> None:
    """Fetch, check and prepare datasets."""


@data.command("list")
def list_datasets() -> None:
    """Print a table of the datasets that can be prepared."""
    from rich.console import Console
    from rich.table import Table

    from sepvae.data.datasets import DATASETS

    table = Table("name", "what", "size", "licence", "--download")
    for dataset in DATASETS.values():
        table.add_row(
            dataset.name, dataset.title, dataset.size, dataset.licence, "yes" if dataset.archives else "no"
        )
    Console().print(table)


@data.command()
@click.argument("name")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="SEPVAE_DATA",
    help="Folder of the raw material.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the sets.")
@click.option(
    "--check", "check_root", type=click.Path(path_type=Path), help="Only say what is missing or broken here."
)
@click.option("--thorough", is_flag=True, help="With --check: decode every file instead of reading headers.")
@click.option(
    "--download", "download_root", type=click.Path(path_type=Path), help="Fetch and unpack it here first."
)
@click.option(
    "--set", "options", multiple=True, metavar="KEY=VALUE", help="Option of the dataset; can be repeated."
)
@click.option(
    "--rate",
    type=click.IntRange(1000, 1_536_000),
    help="Sample rate of the sets in Hz, instead of the usual one.",
)
@click.option(
    "--channels", type=click.IntRange(1, 2), help="Channels of the sets, instead of the usual count."
)
@click.option("--seed", default=0, show_default=True, help="Random seed of our own sets.")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Number of worker processes."
)
@click.option(
    "--only",
    multiple=True,
    metavar="PART",
    help="Build only this part of our own sets (recipes/music, recipes/speech); can be repeated.",
)
@click.option(
    "--soundfont",
    "soundfonts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder to look for SoundFonts in, before the usual places; can be repeated.",
)
@click.option(
    "--variations",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Renderings of each MIDI song; up to three differ in their instruments.",
)
@click.option("--songs", default=150, show_default=True, type=click.IntRange(min=0), help="Songs to compose.")
@click.pass_context
def prepare(
    ctx: click.Context,
    name: str,
    root: Path | None,
    out: Path | None,
    check_root: Path | None,
    thorough: bool,
    download_root: Path | None,
    options: tuple[str, ...],
    rate: int | None,
    channels: int | None,
    seed: int,
    jobs: int,
    only: tuple[str, ...],
    soundfonts: tuple[Path, ...],
    variations: int,
    songs: int,
) -> None:
    """Build the dataset NAME in the layout that the recipes read, or finish one that was interrupted.

    NAME is one of `sepvae data list`, or one of our own sets, music and speech.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from sepvae.data.datasets import DATASETS

    if thorough and check_root is None:
        raise click.UsageError("--thorough goes with --check")
    if name not in DATASETS:
        from sepvae.data import own_sets

        if name not in own_sets.SAMPLE_RATES:
            known = ", ".join((*DATASETS, *own_sets.SAMPLE_RATES))
            raise DataError(f"no such dataset: {name} (known: {known})")
        if check_root or download_root or options or rate or channels:
            raise DataError(
                f"{name} has no --check, --download, --set, --rate or --channels (see sepvae data list)"
            )
        manifest = own_sets.prepare(
            name,
            *_root_and_out(root, out),
            seed=seed,
            jobs=jobs,
            only=only or None,
            soundfonts=soundfonts,
            variations=variations,
            songs=songs,
        )
        click.echo(os.fsencode(manifest))
        return
    if any(ctx.get_parameter_source(own) is not click.core.ParameterSource.DEFAULT for own in _OWN_SETS_ONLY):
        raise DataError(
            f"{name} has no --seed, --only, --soundfont, --variations or --songs (music and speech do)"
        )
    dataset = DATASETS[name].with_options(_pairs(options))
    if download_root is not None:
        _download(dataset, download_root)
        root = root or download_root
    if check_root is not None:
        _check(dataset, check_root, thorough=thorough)
    if out is not None or (check_root is None and download_root is None):
        places = _root_and_out(root or check_root, out)
        manifest = _prepare_dataset(dataset, *places, sample_rate=rate, channels=channels, jobs=jobs)
        click.echo(os.fsencode(manifest))


def _download(dataset: Dataset, root: Path) -> None:
    from sepvae.data.download import fetch

    with _bytes_bar() as report:
        fetch(dataset, root, progress=report)


def _check(dataset: Dataset, root: Path, *, thorough: bool) -> None:
    """Print what is missing or broken; it is an error if anything is."""
    from sepvae.data.check import check, lines

    with _tracks_bar("checking") as report_tracks:
        found = check(dataset, root, thorough=thorough, progress=report_tracks)
    for line in lines(found, root):
        click.echo(line)
    if not found.complete:
        raise DataError(f"{dataset.name} under {root} is not complete")


def _prepare_dataset(dataset: Dataset, root: Path, out: Path, **options: Any) -> Path:
    from sepvae.data.prepared import prepare

    with _tracks_bar("preparing") as report_tracks:
        return prepare(dataset, root, out, progress=report_tracks, **options)


def _root_and_out(root: Path | None, out: Path | None) -> tuple[Path, Path]:
    """Both folders, which are options that most calls must give."""
    if root is None:
        raise click.UsageError("Missing option '--root'.")
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    return root, out


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes KEY=VALUE, found {option!r}")
        pairs[key] = value
    return pairs


@contextmanager
def _tracks_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that counts tracks."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def _bytes_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on stderr for each file that is fetched."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield report
