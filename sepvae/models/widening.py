"""More latents for a trained model, which separates as before until it is trained further."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from sepvae.models.latents import GaussianHeads
from sepvae.models.separation import SeparationVAE
from sepvae.models.vae import LadderDecoder


def widened(source: SeparationVAE, model: SeparationVAE) -> dict[str, Tensor]:
    """What a model with more latents per cell takes of a trained one beside the tensors of equal shape.

    The latents that both have keep their weights. New ones keep the random weights of `model` in posteriors and priors,
    and zeros where they enter a decoder, so no output changes.

    Args:
        source: the trained model.
        model: one of the same shape but for more latents at some levels.

    Returns:
        Name of a tensor of `model` -> its value; {} where the shapes differ otherwise or not at all.

    Source:
        Chen, Goodfellow & Shlens 2016, "Net2Net", for wider layers that compute the same function.
    """
    theirs, mine = asdict(source.config), asdict(model.config)
    old, new = theirs["vae"].pop("latent_channels"), mine["vae"].pop("latent_channels")
    if theirs != mine or old == new or any(n < o for o, n in zip(old, new, strict=True)):
        return {}
    found: dict[str, Tensor] = {}
    known = dict(source.named_modules())
    for name, module in model.named_modules():
        other = known[name]
        if isinstance(module, GaussianHeads) and isinstance(other, GaussianHeads):
            count, kept = module.latent_channels, other.latent_channels
            for tensor in ("weight", "bias"):
                made, trained = getattr(module.project, tensor), getattr(other.project, tensor)
                parts = made.detach().clone().unflatten(0, (-1, count))  # of each source: means, log SDs
                parts[:, :kept] = trained.detach().unflatten(0, (-1, kept))
                found[f"{name}.project.{tensor}"] = parts.flatten(0, 1)
        elif isinstance(module, LadderDecoder) and isinstance(other, LadderDecoder):
            for level, (made, trained) in enumerate(zip(module.inputs, other.inputs, strict=True)):
                columns = torch.zeros_like(made.get_parameter("weight"))
                weight = trained.get_parameter("weight").detach()
                columns[:, : weight.shape[1]] = weight
                found[f"{name}.inputs.{level}.weight"] = columns
    return found
