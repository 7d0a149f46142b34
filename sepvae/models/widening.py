"""More latents or wider layers for a trained model, which separates as before until it is trained further."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sepvae.models.latents import GaussianHeads
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.models.vae import LadderDecoder

SPREAD = 0.5
"""Standard deviation of what tells the copies of a weight apart, in standard deviations of the layer's weights."""


def widened(source: SeparationVAE, model: SeparationVAE) -> dict[str, Tensor]:
    """Tensors that a model with more latents or wider layers takes from a trained one, beyond those of equal shape.

    The latents that both have keep their weights. New ones keep the random weights of `model` in posteriors and priors,
    and zeros where they enter a decoder. A channel becomes several of the same value; noise that sums to zero makes the
    weights that read the copies differ, so that they learn different things. No output changes.

    Args:
        source: the trained model.
        model: one of the same shape but for more latents at some levels, whole multiples of its channels, or more
            blocks, which start as identities and are not looked at here.

    Returns:
        Name of a tensor of `model` -> its value; {} where the shapes differ otherwise or not at all.

    Source:
        Chen, Goodfellow & Shlens 2016, "Net2Net", for wider layers that compute the same function.
    """
    rest, latents, channels, blocks = _sizes(source.config)
    my_rest, my_latents, my_channels, my_blocks = _sizes(model.config)
    more = zip((*latents, *blocks), (*my_latents, *my_blocks), strict=True)
    multiples = zip(channels, my_channels, strict=True)
    if rest != my_rest or any(new < old for old, new in more) or any(new % old for old, new in multiples):
        return {}
    theirs, mine = source.state_dict(), model.state_dict()
    found = _repeated(source, model.config)
    known = dict(source.named_modules())
    for name, module in model.named_modules():
        other = known.get(name)
        if isinstance(module, GaussianHeads) and isinstance(other, GaussianHeads):
            for key in (f"{name}.project.weight", f"{name}.project.bias"):
                # Of every source the means, then the log standard deviations.
                parts = mine[key].clone().unflatten(0, (-1, module.latent_channels))
                parts[:, : other.latent_channels] = found[key].unflatten(0, (-1, other.latent_channels))
                found[key] = parts.flatten(0, 1)
        elif isinstance(module, LadderDecoder):
            for level, (old, new) in enumerate(zip(latents, my_latents, strict=True)):
                key = f"{name}.inputs.{level}.weight"
                found[key] = functional.pad(found[key], (0, 0, 0, 0, 0, new - old))
    return {name: tensor for name, tensor in found.items() if tensor.shape != theirs[name].shape}


def _sizes(config: SeparationConfig) -> tuple[dict[str, Any], list[int], list[int], list[int]]:
    """What is left of a shape without its latents, channels and blocks, and these."""
    rest = asdict(config)
    vae = rest["vae"]
    latents = vae.pop("latent_channels")
    channels = [*rest.pop("trunk_channels"), *vae.pop("encoder_channels"), *vae.pop("decoder_channels")]
    return rest, list(latents), channels, list(rest.pop("trunk_blocks"))


def _repeated(source: SeparationVAE, config: SeparationConfig) -> dict[str, Tensor]:
    """The parameters of a model with its channels repeated as often as another shape has them, its latents as they are.

    Shape: `[outputs]` or `[outputs, inputs, ...]` -> the same, with whole multiples of both.
    """
    vae = replace(config.vae, latent_channels=source.config.vae.latent_channels)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in SeparationVAE(replace(config, vae=vae)).named_parameters()}
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, parameter in source.named_parameters():
        shape = shapes[name]
        tensor = parameter.detach().repeat(shape[0] // len(parameter), *(1,) * (parameter.ndim - 1))
        if tensor.ndim > 1 and (copies := shape[1] // tensor.shape[1]) > 1:
            apart = torch.randn((copies, *tensor.shape), generator=generator)
            apart = SPREAD * tensor.std() * (apart - apart.mean(0))
            tensor = torch.cat(list((tensor + apart) / copies), 1)
        found[name] = tensor
    return found
