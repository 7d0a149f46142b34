"""The command `sepvae train`."""

from __future__ import annotations

import logging
import os

import click

from sepvae.cli.loading import ComputingCommand


@click.command(cls=ComputingCommand, context_settings={"ignore_unknown_options": True})
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--print", "print_only", is_flag=True, help="Print the composed recipe and stop.")
@click.option(
    "--multirun", is_flag=True, help="Train once for every combination of values such as optim.lr=1e-3,2e-3."
)
def train(recipe: str, overrides: tuple[str, ...], print_only: bool, multirun: bool) -> None:
    """Train the RECIPE of this name or path, or the stages of a folder of recipes (stage=vae, separation or all)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from sepvae.training import run

    if print_only and multirun:
        raise click.UsageError("--print and --multirun do not go together")
    if print_only:
        click.echo(run.composed(recipe, overrides), nl=False)
        return
    folders = run.sweep(recipe, overrides) if multirun else [run.train(recipe, overrides)]
    if int(os.environ.get("LOCAL_RANK", 0)):  # the first of several processes speaks for all
        return
    for folder in folders:
        click.echo(os.fsencode(folder))
