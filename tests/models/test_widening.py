"""A model with more latents or blocks separates as the one it was made from, and has something new to learn."""

from dataclasses import replace

import pytest
import torch

from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.models.widening import widened

from ..conftest import stir


def with_latents(config: SeparationConfig, latents: tuple[int, int, int]) -> SeparationVAE:
    torch.manual_seed(len(latents) + sum(latents))
    model = SeparationVAE(replace(config, vae=replace(config.vae, latent_channels=latents)))
    stir(model)
    return model.eval()


@pytest.fixture
def trained(tiny_model: SeparationVAE) -> SeparationVAE:
    return with_latents(tiny_model.config, tiny_model.config.vae.latent_channels)


def test_more_latents_change_no_output(trained: SeparationVAE, generator: torch.Generator) -> None:
    few = trained.config.vae.latent_channels
    model = with_latents(trained.config, tuple(d + extra for d, extra in zip(few, (1, 0, 3), strict=True)))
    mine = model.state_dict()
    alike = {k: v for k, v in trained.state_dict().items() if v.shape == mine[k].shape}
    model.load_state_dict(alike | widened(trained, model), strict=False)
    P = torch.rand(1, 2, model.config.vae.bands, 16, generator=generator)
    side = torch.rand(1, model.config.vae.bands, 16, generator=generator) / 4
    torch.testing.assert_close(model.band_log_variances(P, side), trained.band_log_variances(P, side))
    old, new = trained.source_vae("bass"), model.source_vae("bass")
    torch.testing.assert_close(new.decode(new.encode(P).mean), old.decode(old.encode(P).mean))
    kept = slice(0, few[2])
    for before, after in zip(trained.posteriors(P, side), model.posteriors(P, side), strict=True):
        torch.testing.assert_close(after.levels[2].log_sd[:, kept], before.levels[2].log_sd)
        assert after.levels[2].mean[:, few[2] :].std() > 0  # new latents say something, to be learnt from


def test_wider_layers_change_no_output(trained: SeparationVAE, generator: torch.Generator) -> None:
    vae, few = trained.config.vae, trained.config.vae.latent_channels
    shape = replace(
        trained.config,
        trunk_channels=tuple(2 * c for c in trained.config.trunk_channels),
        trunk_blocks=tuple(n + 1 for n in trained.config.trunk_blocks),
        vae=replace(
            vae,
            encoder_channels=(3 * vae.encoder_channels[0], *vae.encoder_channels[1:]),
            decoder_channels=tuple(2 * c for c in vae.decoder_channels),
            latent_channels=(*few[:2], 2 * few[2]),
        ),
    )
    torch.manual_seed(5)
    model = SeparationVAE(shape)
    mine = model.state_dict()
    alike = {k: v for k, v in trained.state_dict().items() if v.shape == mine[k].shape}
    model.load_state_dict(alike | widened(trained, model), strict=False)
    P = torch.rand(1, 2, model.config.vae.bands, 16, generator=generator)
    side = torch.rand(1, model.config.vae.bands, 16, generator=generator) / 4
    out = model.band_log_variances(P, side)
    torch.testing.assert_close(out, trained.band_log_variances(P, side), rtol=1e-4, atol=1e-4)
    old, new = trained.source_vae("bass"), model.source_vae("bass")
    torch.testing.assert_close(
        new.decode(new.encode(P).mean), old.decode(old.encode(P).mean), rtol=1e-4, atol=1e-4
    )
    out.square().mean().backward()
    kernel = model.mixture.trunk.unet.bottom_up.down[0].weight
    half = len(kernel) // 2, kernel.shape[1] // 2
    assert not torch.allclose(kernel.grad[: half[0]], kernel.grad[half[0] :])  # the copies part ways
    assert not torch.allclose(kernel.grad[:, : half[1]], kernel.grad[:, half[1] :])


def test_other_shapes_are_left_alone(trained: SeparationVAE) -> None:
    few = trained.config.vae.latent_channels
    assert widened(trained, with_latents(trained.config, few)) == {}
    assert widened(with_latents(trained.config, (few[0], few[1], few[2] + 1)), trained) == {}
    uneven = replace(trained.config, trunk_channels=tuple(c + 1 for c in trained.config.trunk_channels))
    assert widened(trained, with_latents(uneven, few)) == {}


def test_more_blocks_change_no_output(trained: SeparationVAE, generator: torch.Generator) -> None:
    deeper = replace(trained.config, trunk_blocks=tuple(n + 1 for n in trained.config.trunk_blocks))
    model = SeparationVAE(deeper).eval()
    kept = model.load_state_dict(trained.state_dict(), strict=False)
    assert kept.missing_keys
    assert not kept.unexpected_keys
    P = torch.rand(1, 2, model.config.vae.bands, 16, generator=generator)
    side = torch.rand(1, model.config.vae.bands, 16, generator=generator) / 4
    out = model.band_log_variances(P, side)
    torch.testing.assert_close(out, trained.band_log_variances(P, side))
    out.square().mean().backward()
    moved = [
        name for name, tensor in model.named_parameters() if tensor.grad is not None and tensor.grad.any()
    ]
    assert any(name in kept.missing_keys for name in moved)  # new blocks learn from the first step on
