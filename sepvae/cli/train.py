"""The command `sepvae train`."""

from __future__ import annotations

import logging
import os

import click


@click.command(context_settings={"ignore_unknown_options": True})
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

    if multirun:
        if print_only:
            raise click.UsageError("--print and --multirun do not go together")
        for folder in run.sweep(recipe, overrides):
            click.echo(os.fsencode(folder))
        return
    result = run.train(recipe, overrides, print_only=print_only)
    if not print_only:
        click.echo(os.fsencode(result))
