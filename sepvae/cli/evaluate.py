"""`sepvae evaluate`: scores of a model, or of any other tool's stems."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from sepvae.cli import options as common
from sepvae.cli.loading import ComputingCommand

_MODEL_ONLY = (
    "device",
    "quality",
    "refine",
    "present",
    "gates",
    "mask_net",
    "frozen",
    "static_eq_from",
    "into_card",
)


def _names(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read SOURCE=NAME pairs."""
    pairs = [value.partition("=") for value in values]
    for source, _, name in pairs:
        if not source or not name:
            raise click.BadParameter("expected SOURCE=NAME, such as other=accompaniment")
    return {source: name for source, _, name in pairs}


@click.command(cls=ComputingCommand)
@click.argument("positional", nargs=-1, required=True, metavar="[MODEL] DATASET")
@click.option(
    "--estimates",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Score the stems DIR/<track>/<stem>.<ext> of any tool instead of a model.",
)
@click.option(
    "--map",
    "names",
    multiple=True,
    metavar="SOURCE=NAME",
    callback=_names,
    help="With --estimates: what the tool calls this source; can be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report.json and the pictures.")
@common.device
@common.quality
@common.refine
@click.option("--present", is_flag=True, help="Tell the model which sources each track has.")
@click.option(
    "--gates",
    is_flag=True,
    help="Also measure oracles, baselines and whether the latents matter (docs/experiments.md).",
)
@click.option(
    "--mask-net", metavar="MODEL", help="A mask network trained on the same data, scored beside MODEL."
)
@click.option("--frozen", metavar="MODEL", help="The same model before its decoders were fine-tuned.")
@click.option(
    "--static-eq-from",
    metavar="DATASET",
    type=click.Path(path_type=Path),
    help="Set whose mean spectra make the static EQ, a baseline.",
)
@click.option("--no-museval", is_flag=True, help="Leave out the BSSEval v4 scores.")
@click.option("--max-seconds", type=float, help="Take no more than this much of each song.")
@click.option("--into-card", is_flag=True, help="Write the scores into the model's card.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    positional: tuple[str, ...],
    estimates: Path | None,
    names: dict[str, str],
    out: Path | None,
    no_museval: bool,
    max_seconds: float | None,
    into_card: bool,
    **model_options: Any,
) -> None:
    """Score MODEL, or the stems of another tool, on DATASET, a folder in the stems layout."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(positional) != (2 if estimates is None else 1):
        raise click.UsageError("expected MODEL and DATASET, or --estimates DIR and DATASET without a MODEL")
    settings: dict[str, Any] = {"out": out, "museval": not no_museval, "max_seconds": max_seconds}
    from sepvae.evaluation.tables import show

    if estimates is not None:
        for name in _MODEL_ONLY:
            if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                raise click.UsageError(f"--{name.replace('_', '-')} needs a MODEL, not --estimates")
        from sepvae.evaluation.estimates import evaluate_estimates

        show(evaluate_estimates(estimates, positional[0], names=names, **settings))
        return
    if names:
        raise click.UsageError("--map goes with --estimates")
    from sepvae import pretrained
    from sepvae.evaluation import scores
    from sepvae.evaluation.report import evaluate as run

    model, dataset = positional
    report = run(model, dataset, **settings, **model_options)
    show(report)
    if into_card:
        scores.into_card(pretrained.find(model), report)
