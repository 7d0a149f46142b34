"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import click

SEED = click.IntRange(0, (1 << 32) - 1)
"""Numbers that a generator can be seeded with."""

model = click.option(
    "-m",
    "--model",
    default="music",
    show_default=True,
    help="Name of a bundled model, a checkpoint folder, or the http(s) address of one.",
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
quality = click.option(
    "--quality",
    type=click.Choice(["fast", "balanced", "best"]),
    default="balanced",
    show_default=True,
    help="Speed against quality of the stems; scores and speeds are in docs/refinement.md.",
)
refine = click.option(
    "--refine",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Number of steps that fit the sources' levels and tone to the mixture; by default that of --quality.",
)


def names(text: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
