"""The mean of the weights of related models: `python benchmarks/average.py MODELS... --out OUT`.

Of models that were trained one from another, such a mean often does better on new material than each of them
(Wortsman et al. 2022, "Model soups"). The card of the last model is kept; `training.mean_of` tells what the mean is of.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from sepvae import checkpoint
from sepvae.models.separation import SeparationModel, SeparationVAE
from sepvae.models.widening import widened
from sepvae.pretrained import find

DERIVED = ("weights", "format_version", "model", "sources", "sample_rate", "stft", "scores")
"""Entries of a card that belong to one set of weights."""


def in_shape_of(model: SeparationModel, other: SeparationModel) -> dict[str, torch.Tensor]:
    """The weights of another model, with those latents of `model` that it lacks, which its decoders do not hear."""
    state = other.state_dict()
    if other.config != model.config:
        wider = (
            isinstance(model, SeparationVAE) and isinstance(other, SeparationVAE) and widened(other, model)
        )
        if not wider or state.keys() != model.state_dict().keys():
            raise click.ClickException("the models have different shapes")
        state |= wider
    return state


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new model.")
@click.option("--compact", is_flag=True, help="Store its largest matrices in eight bits.")
def main(models: tuple[str, ...], out: Path, compact: bool) -> None:
    """Write the mean of MODELS, names or folders, in the shape of the last.

    Earlier ones may have fewer latents or channels.

    One model alone is only stored again.
    """
    loaded = [checkpoint.load(find(name)) for name in models]
    model, card = loaded[-1]
    states = [in_shape_of(model, each) for each, _ in loaded]
    mean = {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[-1]}
    model.load_state_dict({name: tensor.to(states[-1][name].dtype) for name, tensor in mean.items()})
    kept = {key: value for key, value in card.items() if key not in DERIVED}
    if len(loaded) > 1:
        kept["training"] = {
            "mean_of": [
                {"sha256": each["weights"]["sha256"], **each.get("training", {})} for _, each in loaded
            ]
        }
    checkpoint.save(out, model, kept, storage_dtype=checkpoint.stored_dtype(card), compact=compact)


if __name__ == "__main__":
    main()
