"""The command line; heavy imports are inside the commands, so that `sepvae --help` answers at once."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from sepvae.cli.data import data
from sepvae.cli.evaluate import evaluate
from sepvae.cli.generate import COMMANDS as GENERATION
from sepvae.cli.separate import separate
from sepvae.cli.train import train
from sepvae.errors import SepvaeError

_TRAIN_EXTRA = {
    "hydra",
    "librosa",
    "lightning",
    "matplotlib",
    "mido",
    "museval",
    "omegaconf",
    "pyloudnorm",
    "pyroomacoustics",
    "python_stretch",
    "pyworld",
    "scipy",
    "tensorboard",
    "torchaudio",
    "torchmetrics",
    "yaml",
}


_RESUMED = ("separate", "train", "data")
_SIGNALS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
_ENDED = [128 + number for number in _SIGNALS]
"""Exit codes after these signals; Windows knows no SIGHUP."""


class _Group(click.Group):
    """Turns an expected error, or one of the system, into one line and exit code 1, an interrupt into code 130."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _in_one_line():  # printing the help may fail
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _in_one_line():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            self._say_interrupted(ctx)
            ctx.exit(130)
        except SystemExit as end:
            if end.code in _ENDED:
                self._say_interrupted(ctx)
            raise

    def _say_interrupted(self, ctx: click.Context) -> None:
        goes_on = ctx.invoked_subcommand in _RESUMED
        rest = "; what was finished is kept, the same command goes on from there" if goes_on else ""
        with suppress(OSError):  # the terminal may have been closed
            click.echo(f"interrupted{rest}", err=True)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Tell of an error that needs no traceback, and exit."""
    try:
        yield
        return
    except SepvaeError as error:
        text = str(error)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has had enough, which click ends without a word
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        text = f"{place}{error.strerror or error}"
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TRAIN_EXTRA:
            raise
        text = f"{error.name} is not installed: pip install 'sepvae[train]'"
    click.echo(f"error: {text}", err=True)
    raise click.exceptions.Exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="sepvae")
def cli() -> None:
    """Separate music and speech into sources with one variational autoencoder per source."""


cli.add_command(separate)
cli.add_command(evaluate)
cli.add_command(data)
cli.add_command(train)
for command in GENERATION:
    cli.add_command(command)


@cli.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the bundled models, or show one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@models.command("list")
def list_models() -> None:
    """Print a table of the bundled models."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from sepvae import pretrained

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("name", "sources", "rate", "params,\nsize", "SI-SDRi,\ndB", "data", "licence"):
        words = 11 if column == "data" else None
        table.add_column(column, no_wrap=words is None, min_width=words, overflow="fold")
    for row in map(pretrained.model_row, pretrained.available()):
        table.add_row(
            row.name,
            "\n".join(row.sources),
            f"{row.sample_rate / 1000:g} kHz",
            f"{row.parameters / 1e6:.1f} M\n{row.size_bytes / 1e6:.1f} MB",
            "\n".join(f"{name} {score:.1f}" for name, score in row.scores.items()),
            ", ".join(row.data),
            row.licence,
        )
    Console().print(table)


@models.command("show")
@click.argument("name")
@click.option("--history", is_flag=True, help="The recipes of the trainings before the last one too.")
def show_model(name: str, history: bool) -> None:
    """Print the card of the model NAME, or of a checkpoint folder."""
    import json

    from sepvae.card import read_card, without_history
    from sepvae.pretrained import find

    card = read_card(find(name))
    if not history and "training" in card:
        card["training"] = without_history(card["training"])
    text = json.dumps(card, indent=2, ensure_ascii=False)
    click.echo(text.encode(errors="backslashreplace").decode())  # half of a surrogate pair cannot be printed


def main() -> None:
    """Entry point of the command `sepvae`."""
    for number in _SIGNALS:  # unwind, so that no half files stay
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    cli()
