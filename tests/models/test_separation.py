"""Separation models: complete, symmetric in the channels, independent of what lies beyond their context."""

import dataclasses

import pytest
import torch

from sepvae.errors import CheckpointError, ShapeError
from sepvae.models.build import build, config_dict
from sepvae.models.separation import SeparationModel, SeparationVAE, power
from sepvae.signal import wiener


def mixture(model: SeparationModel, samples: int = 4000, seed: int = 0) -> torch.Tensor:
    x = 0.1 * torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(seed))
    return model.stft(x)


@torch.inference_mode()
def test_sources_add_up_to_the_mixture_at_any_length(model: SeparationModel) -> None:
    for samples in (1, 50, 4000, 4321):
        X = mixture(model, samples)
        S = model.separate_frames(X)
        assert S.shape == (1, 3, *X.shape[1:])
        torch.testing.assert_close(S.sum(1), X, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_swapping_the_channels_swaps_the_sources(model: SeparationModel) -> None:
    X = mixture(model)
    straight, swapped = model.log_variances(X), model.log_variances(X.flip(1))
    torch.testing.assert_close(swapped, straight.flip(2), atol=1e-4, rtol=0)
    assert (straight[:, :, 0] - straight[:, :, 1]).abs().max() > 1e-3


@torch.inference_mode()
def test_equal_channels_give_equal_channels(model: SeparationModel) -> None:
    V = model.log_variances(mixture(model)[:, :1].expand(-1, 2, -1, -1))
    assert torch.equal(V[:, :, 0], V[:, :, 1])


@torch.inference_mode()
def test_context_is_enough_for_the_result_of_the_whole(
    model: SeparationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = model.context_frames
    assert context % model.frame_multiple == 0
    X = mixture(model, 32 * (3 * context + 40)).to(torch.complex128)
    model.double()
    monkeypatch.setattr(
        torch.Tensor, "float", torch.Tensor.double
    )  # float32 rounds other lengths differently
    start, stop = context + 8, context + 24
    whole = model.log_variances(X)[..., start:stop]

    def error(frames: int) -> float:
        part = model.log_variances(X[..., start - frames : stop + frames])[..., frames:-frames]
        return float((part - whole).abs().max())

    assert error(context) < 1e-10
    assert error(context - 32) > 1e-3


@torch.inference_mode()
def test_some_frames_are_those_of_the_whole(model: SeparationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    X = mixture(model, 32 * 203).to(torch.complex128)
    model.double()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    whole, powers = model.log_variances(X), model.band_powers(X)
    for start, stop in [(0, 1), (75, 131), (90, whole.shape[-1]), (0, whole.shape[-1])]:
        part = model.log_variances_within(*powers, frames=slice(start, stop))
        torch.testing.assert_close(part, whole[..., start:stop])


@torch.inference_mode()
def test_what_lies_within_the_context_matters(separation_vae: SeparationVAE) -> None:
    model = separation_vae
    X = mixture(model, 32 * 100)
    V = model.log_variances(X)
    X[..., 48] *= 10
    reach = (model.log_variances(X) - V).abs().amax((0, 1, 2, 3)).nonzero()
    assert reach.min() < 32
    assert reach.max() > 64


@torch.inference_mode()
def test_silence_stays_finite(model: SeparationModel) -> None:
    S = model.separate_frames(torch.zeros(1, 2, 65, 20, dtype=torch.complex64))
    assert S.abs().max() == 0


@torch.inference_mode()
def test_latents_carry_the_separation(separation_vae: SeparationVAE) -> None:
    model = separation_vae
    X = mixture(model, 3168)
    X = X[..., : X.shape[-1] // 8 * 8]
    posteriors = model.posteriors(*model.band_powers(X))
    straight = model.decode([posterior.mean for posterior in posteriors])
    torch.testing.assert_close(straight, model.log_variances(X))
    permuted = model.decode([posteriors[k].mean for k in (1, 2, 0)])
    assert (permuted - straight).abs().mean() > 0.05


def test_level_is_set_in_every_network(separation_vae: SeparationVAE) -> None:
    separation_vae.set_level(torch.linspace(-5, -20, 32))
    for vae in separation_vae.vaes.values():
        torch.testing.assert_close(vae.scale.mean, torch.linspace(-5, -20, 32))
    torch.testing.assert_close(separation_vae.mixture.trunk.scale.mean, torch.linspace(-5, -20, 32))


def test_one_mixture_can_be_overfitted(model: SeparationModel) -> None:
    generator = torch.Generator().manual_seed(7)
    time = torch.arange(3000) / 8000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * time)
    high = 0.3 * torch.sin(2 * torch.pi * 1900 * time) * (time > 0.2)
    noise = 0.05 * torch.randn(3000, generator=generator)
    S = model.stft(torch.stack([high, noise, tone])[:, None].expand(-1, 2, -1))[..., :88]
    X = S.sum(0, keepdim=True)
    P, P_side = model.band_powers(X)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    errors = []
    for _ in range(90):
        M = model.bands.expand(wiener.masks(model.band_log_variances(P, P_side)))
        error = power(M * X.unsqueeze(1) - S).sum()
        optimizer.zero_grad()
        error.log().backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.1 * errors[0]


def test_wrong_spectrograms_are_refused(model: SeparationModel) -> None:
    for X in (
        torch.zeros(2, 65, 9),
        torch.zeros(1, 1, 65, 9),
        torch.zeros(1, 2, 64, 9),
        torch.zeros(1, 2, 65, 9),
    ):
        with pytest.raises(ShapeError, match="complex STFT"):
            model.log_variances(X)


def test_config_makes_the_same_model_again(model: SeparationModel) -> None:
    again = build(config_dict(model))
    assert type(again) is type(model)
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "os.system"}, "unknown model class"),
        ({"sources": "vocals"}, "must be a list"),
        ({"surprise": 1}, "unknown field"),
        ({"hop_length": "32"}, "type int"),
        ({"kept_bins": 17}, "does not fit"),
        ({"residual_source": "flute"}, "does not fit"),
        ({"trunk_channels": [4, 4]}, "needs 4 values"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    separation_vae: SeparationVAE, change: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        build({**config_dict(separation_vae), **change})


def test_sources_must_differ(separation_vae: SeparationVAE) -> None:
    with pytest.raises(ShapeError, match="different names"):
        dataclasses.replace(separation_vae.config, sources=("a", "a"), residual_source="a")
