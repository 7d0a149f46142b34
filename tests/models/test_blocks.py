"""Layers of the networks, by themselves."""

import pytest
import torch

from sepvae.models.blocks import ChannelNorm


@pytest.mark.parametrize("channels", [3, 40])
def test_channel_norm_in_bfloat16_is_the_float32_result_rounded(
    channels: int, generator: torch.Generator
) -> None:
    norm = ChannelNorm(channels)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    x = (3 + torch.randn(2, channels, 8, 5, generator=generator)).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x)
    exact = norm(x.float())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, exact.bfloat16(), rtol=0, atol=0)
    out.float().square().mean().backward()
    gradients = [norm.weight.grad.clone(), norm.bias.grad.clone()]
    norm.zero_grad()
    exact.square().mean().backward()
    for low, high in zip(gradients, (norm.weight.grad, norm.bias.grad), strict=True):
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, high, rtol=0.02, atol=0.01)
