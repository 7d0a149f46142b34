"""Chunked filtering equals filtering the whole, for all lengths and all ways to cut the stream into blocks."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from sepvae.errors import ShapeError
from sepvae.signal.chunking import ChunkedFilter
from sepvae.signal.stft import STFT

HOP, N_FFT, CONTEXT, MULTIPLE = 4, 16, 5, 2
TOLERANCE = 1e-6  # sums of a few float32 numbers around one, in another order


def split(X: Tensor, core: slice, _: int) -> Iterator[Sequence[Tensor]]:
    """Two shares that depend on CONTEXT frames to each side and, like a strided network, on even frame numbers."""
    level = (X.abs() + 0.1).mean(dim=(0, 1))  # [T]
    level = functional.pad(level, (0, -len(level) % MULTIPLE))
    paired = level.reshape(-1, MULTIPLE).mean(1).repeat_interleave(MULTIPLE)  # [T]
    reach = CONTEXT - MULTIPLE + 1
    kernel = torch.linspace(0.2, 1, 2 * reach + 1)
    spread = functional.conv1d(paired[None, None], kernel[None, None], padding=reach)[0, 0, : X.shape[-1]]
    share = torch.sigmoid(spread - 2)[core]
    yield (X[..., core] * share).split(3, -1)
    yield (X[..., core] * (1 - share)).split(4, -1)


def whole(x: Tensor, stft: STFT) -> Tensor:
    X = stft(x)
    parts = [torch.cat(list(blocks), -1) for blocks in split(X, slice(0, X.shape[-1]), 0)]
    return torch.stack([stft.inverse(S, x.shape[-1]) for S in parts])


def chunked(x: Tensor, stft: STFT, cuts: list[int], core_frames: int, context: int = CONTEXT) -> Tensor:
    run = ChunkedFilter(stft, split, 2, core_frames=core_frames, context_frames=context, multiple=MULTIPLE)
    out = [run.push(block) for block in torch.tensor_split(x, sorted(cuts), dim=-1)]
    return torch.cat([*out, run.finish()], dim=-1)


@pytest.fixture(scope="module")
def stft() -> STFT:
    return STFT(N_FFT, HOP)


@pytest.mark.parametrize("core_frames", [1, 2, 7, 1000])
def test_chunks_equal_the_whole_at_every_length(
    stft: STFT, core_frames: int, generator: torch.Generator
) -> None:
    x = torch.randn(2, 3 * N_FFT + 5 * HOP, generator=generator)
    for length in range(1, x.shape[-1] + 1):
        out = chunked(x[:, :length], stft, [], core_frames)
        assert out.shape == (2, 2, length)
        torch.testing.assert_close(out, whole(x[:, :length], stft), atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(out.sum(0), x[:, :length], atol=TOLERANCE, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 700), core_frames=st.integers(1, 40), cuts=st.lists(st.integers(0, 700), max_size=8)
)
def test_the_cut_into_blocks_does_not_matter(length: int, core_frames: int, cuts: list[int]) -> None:
    stft = STFT(N_FFT, HOP)
    x = torch.randn(2, length, generator=torch.Generator().manual_seed(length))
    out = chunked(x, stft, [min(cut, length) for cut in cuts], core_frames)
    assert torch.equal(out, chunked(x, stft, [], core_frames))
    torch.testing.assert_close(out, whole(x, stft), atol=TOLERANCE, rtol=0)


def test_the_context_is_needed(stft: STFT, generator: torch.Generator) -> None:
    x = torch.randn(2, 700, generator=generator)
    assert (chunked(x, stft, [], 8, context=0) - whole(x, stft)).abs().max() > 1e-3


def test_an_empty_stream_gives_nothing(stft: STFT) -> None:
    run = ChunkedFilter(stft, split, 2, core_frames=8, context_frames=CONTEXT)
    assert run.push(torch.zeros(2, 0)).shape == (2, 2, 0)
    assert run.finish().shape == (2, 2, 0)


def test_no_more_samples_wait_than_the_latency_says(stft: STFT) -> None:
    run = ChunkedFilter(stft, split, 2, core_frames=8, context_frames=CONTEXT, multiple=MULTIPLE)
    waiting = []
    pushed = returned = 0
    for _ in range(400):
        returned += run.push(torch.zeros(2, 3)).shape[-1]
        pushed += 3
        waiting.append(pushed - returned)
    assert max(waiting) <= run.latency + 3
    assert max(waiting) > run.latency - N_FFT


def test_wrong_sizes_are_refused(stft: STFT) -> None:
    with pytest.raises(ShapeError, match="core_frames"):
        ChunkedFilter(stft, split, 2, core_frames=0, context_frames=0)
