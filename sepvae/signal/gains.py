"""Gains of the sources over frequency that make their variances explain the mixture.

A model that has heard other instruments, rooms or mixes expects sources at other levels than those of the song
at hand. When a source plays is harder to get wrong than how loud and bright it is, and since sources play at
different times, the mixture tells their levels apart. So each source gets an equaliser of a few bands, fitted to
the mixture's likelihood. Dimensions: K sources, C channels, N bands of the model, T frames, E bands of the
equaliser.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sepvae.errors import ShapeError
from sepvae.signal.bands import Bands

HALF_WINDOW = 128
"""Frames from the middle of one window of the equalisers to the middle of the next."""
EQUALISER_BANDS = 48
LOWEST_HZ = 30.0
FLOOR = 1e-8
"""Variance of a noise that is always there (-80 dB below full scale): silence pulls at no gain."""
CAUTION = 0.02
"""Share of a window, counted as if it were explained already: gains of sources that hardly play stay at one."""
SHRINK = 0.9
"""Factor on the log-gains after each step, which bounds them however many steps there are."""
MOST = 4.0
"""A bin's power counts as at most so many times its variance: hits that a decoder draws too weakly raise no gain of
all that its source plays."""


def equaliser(bands: Bands, sample_rate: int, count: int = EQUALISER_BANDS) -> Tensor:
    """Triangles that are evenly spaced along the logarithm of frequency and add up to one.

    Shape: `[E, N]`, E = count.
    """
    n_fft = 2 * (bands.n_bins - 1)
    bins = torch.arange(bands.n_bins, dtype=torch.float32, device="cpu")
    middle = bins.new_zeros(bands.count).index_add_(0, bands.index.cpu(), bins)
    hertz = (middle / bands.sizes.cpu() * sample_rate / n_fft).clamp(min=LOWEST_HZ)
    octave = torch.log2(hertz / LOWEST_HZ)  # [N]
    centres = torch.linspace(0, float(octave.max()), count, dtype=torch.float32, device="cpu")
    width = float(centres[1] - centres[0])
    triangles = (1 - (octave - centres[:, None]).abs() / width).clamp(min=0)
    return (triangles / triangles.sum(0)).to(bands.sizes.device)


def fit_gains(
    P: Tensor,
    V: Tensor,
    sizes: Tensor,
    basis: Tensor,
    *,
    steps: int,
    points: int | None = None,
    shrink: float = SHRINK,
    caution: float = CAUTION,
    most: float = MOST,
) -> Tensor:
    """Fit the equalisers of all sources to one window of a mixture.

    Each step multiplies a gain by the mean of P / V over the source's share of the window, then shrinks it.

    Args:
        P: banded power of the mixture.
        V: banded variances of the sources.
        sizes: bins per band.
        basis: bands of the equaliser.
        steps: int >= 0.
        points: columns of a full window; a part of one at the end of a song is fitted with more caution.
        shrink: factor on the log-gains after each step, 0 < shrink <= 1.
        caution: see CAUTION, >= 0.
        most: see MOST, > 0.

    Shape: P `[N, M]` (M frames), V `[K, N, M]`, sizes `[N]`, basis `[E, N]` -> log-gains `[K, E]`.

    Raises:
        ShapeError: steps < 0, or P and V do not go together.

    Source: the multiplicative updates for the Itakura-Saito divergence of Fevotte, Bertin & Durrieu 2009, with the
    decoded variances as fixed atoms, without their exponent 1/2, with P / V bounded, and with shrinking in place of
    their convergence.
    """
    if steps < 0 or V.ndim != 3 or P.shape != V.shape[1:]:
        raise ShapeError(f"expected steps >= 0, P [N, M] and V [K, N, M], found {steps}, {list(V.shape)}")
    gains = V.new_zeros(V.shape[0], basis.shape[0])
    atoms = V.transpose(0, 1)  # [N, K, M]
    counted = (basis * sizes).sum(1, keepdim=True).clamp(min=1e-9)  # narrow triangles may miss all bands
    weights = basis * sizes / (counted * (points or P.shape[1]))  # [E, N]
    for _ in range(steps):
        scale = torch.exp(gains @ basis).T  # [N, K]
        total = (scale[:, None] @ atoms).squeeze(1) + FLOOR  # [N, M]
        excess = ((P + FLOOR) / total).clamp(max=most) / total
        needed = (atoms @ excess[..., None]).squeeze(2) * scale  # [N, K]
        share = (atoms @ total.reciprocal()[..., None]).squeeze(2) * scale
        gains = shrink * (gains + torch.log((weights @ needed + caution) / (weights @ share + caution)).T)
    return gains


def windows(first: int, last: int) -> range:
    """Windows that reach into the frames from `first` to before `last`; window `w` is about frame `w * 128`."""
    return range(first // HALF_WINDOW, (last - 1) // HALF_WINDOW + 2)


def span(window: int) -> tuple[int, int]:
    """First frame of a window and the one after its last; the song may have less."""
    return (window - 1) * HALF_WINDOW, (window + 1) * HALF_WINDOW


def crossfade(first: int, last: int, window: int) -> Tensor:
    """Weight of a window in each frame; the weights of all windows add up to one.

    Shape: `[last - first]`.
    """
    centre = window * HALF_WINDOW
    distance = torch.arange(first - centre, last - centre, dtype=torch.float32, device="cpu").abs()
    distance = distance.clamp(max=HALF_WINDOW)
    return 0.5 + 0.5 * torch.cos(distance * (math.pi / HALF_WINDOW))
