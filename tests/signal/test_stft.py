"""The STFT inverts exactly, for every length, and lies on a global grid."""

import pytest
import torch

from sepvae.errors import ShapeError
from sepvae.signal.stft import STFT

SIZES = [(64, 16), (64, 32), (128, 16), (96, 32)]


@pytest.mark.parametrize(("n_fft", "hop_length"), SIZES)
def test_inverse_is_exact_for_every_length(n_fft: int, hop_length: int) -> None:
    stft = STFT(n_fft, hop_length)
    generator = torch.Generator().manual_seed(0)
    for length in [*range(1, 2 * n_fft), 1000, 1001]:
        x = torch.randn(2, length, generator=generator)
        X = stft(x)
        assert X.shape == (2, n_fft // 2 + 1, stft.frames(length))
        torch.testing.assert_close(stft.inverse(X, length), x, atol=2e-6, rtol=0)  # float32 rounding


def test_white_noise_has_its_variance_in_every_bin() -> None:
    stft = STFT(256, 64)
    x = 0.3 * torch.randn(400_000, generator=torch.Generator().manual_seed(1))
    P = stft(x)[1:-1, 8:-8].abs().square()
    assert P.mean().item() == pytest.approx(0.09, rel=0.02)  # 6000 frames
    torch.testing.assert_close(P.mean(1), torch.full((127,), 0.09), atol=0.01, rtol=0)


@pytest.mark.parametrize("hop_length", [40, 64, 80, 100])
def test_stretched_a_tone_is_as_strong_and_the_inverse_as_exact(hop_length: int) -> None:
    stft = STFT(1024, 64).stretched(hop_length)
    assert (stft.n_fft, stft.hop_length) == (16 * hop_length, hop_length)
    x = torch.sin(2 * torch.pi * torch.arange(20_000, dtype=torch.float64) / 16).float()
    X = stft(x)
    level = X[:, 50:100].abs().square().sum(0)
    expected = STFT(1024, 64)(x)[:, 50:100].abs().square().sum(0)
    torch.testing.assert_close(level.mean(), expected.mean(), rtol=1e-3, atol=0)
    torch.testing.assert_close(stft.inverse(X, len(x)), x, atol=2e-6, rtol=0)


def test_a_part_on_the_hop_grid_has_the_frames_of_the_whole() -> None:
    stft = STFT(64, 16)
    x = torch.randn(640, generator=torch.Generator().manual_seed(2))
    whole, part = stft(x), stft(x[160:480])
    torch.testing.assert_close(part[:, 3:-3], whole[:, 13:30])


def test_a_tone_lies_in_its_bin() -> None:
    stft = STFT(1024, 256)
    x = torch.sin(2 * torch.pi * 100 / 1024 * torch.arange(8192))
    assert stft(x)[:, 10].abs().argmax() == 100


def test_agrees_with_torch_on_inner_frames() -> None:
    stft = STFT(128, 32)
    x = torch.randn(1024, generator=torch.Generator().manual_seed(3))
    reference = torch.stft(x, 128, 32, window=stft.window, center=False, return_complex=True)
    torch.testing.assert_close(stft(x)[:, 3:-3], reference, atol=1e-5, rtol=1e-5)


def test_bad_sizes_and_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="multiple"):
        STFT(100, 33)
    with pytest.raises(ShapeError, match="one sample"):
        STFT(64, 16)(torch.zeros(0))
    with pytest.raises(ShapeError, match="shape"):
        STFT(64, 16).inverse(torch.zeros(33, 5, dtype=torch.complex64), 100)
