"""Separation models: a mixture's spectrogram in, one spectrogram per source out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae.errors import ShapeError
from sepvae.models.blocks import receptive_frames
from sepvae.models.features import LevelScale
from sepvae.models.latents import Latents, Posterior
from sepvae.models.mixture import AddedHeads, MaskHead, MixtureEncoder, MixtureTrunk
from sepvae.models.vae import FRAME_MULTIPLE, PAN_LEVEL, LadderDecoder, SourceVAE, VAEConfig
from sepvae.signal import wiener
from sepvae.signal.bands import Bands
from sepvae.signal.stft import STFT, in_blocks


@dataclass(frozen=True)
class SeparationConfig:
    """Shape of a separation model.

    Args:
        sources: names of the K sources, each once.
        residual_source: the source that takes what the model cannot reach, one of `sources`.
        sample_rate: hertz.
        n_fft, hop_length: of the STFT, samples.
        kept_bins: low bins that stay single.
        band_width: bins per band above.
        trunk_channels: channels of the trunk's four levels, finest first.
        trunk_blocks: dual-axis blocks of these levels, in each direction.
        vae: shape of the source VAEs.
        vae_names: VAE of each source; sources with the same name share it and are interchangeable, so training is
            permutation-invariant among them. () gives every source its own.
        added: how many of the sources, the last ones, were added to a trained model; each has a head of its own.
        told: whether the trunk receives a 0/1 vector of the sources present (all ones if unknown).
    """

    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    residual_source: str = "other"
    sample_rate: int = 44100
    n_fft: int = 4096
    hop_length: int = 1024
    kept_bins: int = 384
    band_width: int = 13
    trunk_channels: tuple[int, int, int, int] = (40, 80, 128, 192)
    trunk_blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    vae: VAEConfig = field(default_factory=VAEConfig)
    vae_names: tuple[str, ...] = ()
    added: int = 0
    told: bool = False

    def __post_init__(self) -> None:
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise ShapeError(f"a model needs sources with different names, found {self.sources}")
        if self.residual_source not in self.sources:
            raise ShapeError(f"residual_source must be one of {self.sources}, found {self.residual_source!r}")
        if self.vae_names and len(self.vae_names) != len(self.sources):
            raise ShapeError(f"{len(self.sources)} sources need as many vae_names, found {self.vae_names}")
        if not 0 <= self.added < len(self.sources):
            raise ShapeError(f"of {len(self.sources)} sources fewer can be added, found {self.added}")

    def vae_name(self, source: str) -> str:
        """Name of a source's VAE."""
        return self.vae_names[self.sources.index(source)] if self.vae_names else source

    @property
    def told_sources(self) -> int:
        """Number of sources in the vector of presence that the trunk receives; sources added later are not in it."""
        return len(self.sources) - self.added if self.told else 0

    @property
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """Groups of sources that share a VAE, as indices; sources with a VAE of their own are in none."""
        groups: dict[str, list[int]] = {}
        for k, source in enumerate(self.sources):
            groups.setdefault(self.vae_name(source), []).append(k)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


class SeparationModel(nn.Module):
    """What all separation models share: the spectrogram, its bands, and the Wiener filter.

    Subclasses implement `band_log_variances`.
    """

    frame_multiple = FRAME_MULTIPLE

    def __init__(self, config: SeparationConfig) -> None:
        super().__init__()
        self.config = config
        self.stft = STFT(config.n_fft, config.hop_length)
        self.bands = Bands(config.n_fft // 2 + 1, config.kept_bins, config.band_width)
        if self.bands.count != config.vae.bands:
            raise ShapeError(f"the STFT gives {self.bands.count} bands, the VAEs expect {config.vae.bands}")

    def set_level(self, mean_log_power: Tensor) -> None:
        """Centre all networks on the mean log-power of the training data.

        Shape: mean_log_power `[N]`.
        """
        for module in self.modules():
            if isinstance(module, LevelScale):
                module.mean.copy_(mean_log_power)

    def band_powers(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Banded power of both channels and of half their difference.

        Shape: X `[B, 2, F, T]` -> `[B, 2, N, T]`, `[B, N, T]`.
        """
        both = [self.banded_power(block) for block in in_blocks(X)]
        side = [self.banded_power((block[:, 0] - block[:, 1]) / 2) for block in in_blocks(X)]
        return torch.cat(both, -1), torch.cat(side, -1)

    def banded_power(self, X: Tensor) -> Tensor:
        """Mean power of the bins of every band.

        Shape: X complex `[..., F, T]` -> `[..., N, T]`.
        """
        return self.bands.merge(power(X))

    def pad_frames(self, x: Tensor) -> Tensor:
        """Add silent frames at the end, up to the next multiple of `frame_multiple`.

        Shape: `[..., T]` -> `[..., T']`.
        """
        return functional.pad(x, (0, -x.shape[-1] % self.frame_multiple))

    def band_log_variances(
        self, P: Tensor, P_side: Tensor, *, present: Tensor | None = None, frames: slice | None = None
    ) -> Tensor:
        """Log-variances of all sources from the mixture's banded powers, z at its mean.

        Args:
            frames: those that are wanted, with bounds that are multiples of 8; None for all. Those within
                `_head_context` of a bound may differ from what they are among all frames.

        Shape: P `[B, 2, N, T]`, P_side `[B, N, T]`, T a multiple of 8, present as in `log_variances` ->
        `[B, K, 2, N, T]`, or as many frames as are wanted.
        """
        raise NotImplementedError

    def log_variances(self, X: Tensor, present: Tensor | None = None) -> Tensor:
        """Log-variances of all sources from a mixture's STFT of any number of frames.

        Absent sources get some too. Only a model that is told (`SeparationConfig.told`) looks at `present`.

        Shape: X complex `[B, 2, F, T]`, present `[B, K]` of 0 and 1 (None: all are there) -> `[B, K, 2, N, T]`,
        float32.

        Raises:
            ShapeError: X is not complex or has another shape.
        """
        if X.ndim != 4 or X.shape[1] != 2 or X.shape[2] != self.bands.n_bins or not X.is_complex():
            raise ShapeError(
                f"expected a complex STFT [B, 2, {self.bands.n_bins}, T], found {X.dtype} {list(X.shape)}"
            )
        return self.log_variances_within(*self.band_powers(X), frames=slice(0, X.shape[-1]), present=present)

    def log_variances_within(
        self, P: Tensor, P_side: Tensor, *, frames: slice, present: Tensor | None = None
    ) -> Tensor:
        """The same of some frames, from the banded powers of all; the others are only looked at, which takes less time.

        Shape: P `[B, 2, N, T]`, P_side `[B, N, T]` -> `[B, K, 2, N, t]`, float32.
        """
        P, P_side = self.pad_frames(P), self.pad_frames(P_side)
        unit, around = self.frame_multiple, self._head_context
        start = max(0, frames.start - around) // unit * unit
        stop = min(P.shape[-1], -(-(frames.stop + around) // unit) * unit)
        log_variance = self.band_log_variances(P, P_side, present=present, frames=slice(start, stop))
        return log_variance[..., frames.start - start : frames.stop - start].float()

    def separate_frames(self, X: Tensor) -> Tensor:
        """Wiener-filtered estimates of all sources; they add up to the mixture.

        Shape: X complex `[B, 2, F, T]` -> complex `[B, K, 2, F, T]`.
        """
        M = wiener.masks(self.log_variances(X))  # [B, K, 2, N, T]
        return self.bands.scale(X.unsqueeze(1), M)

    @property
    def context_frames(self) -> int:
        """Frames on each side of a chunk that its result depends on, a multiple of `frame_multiple`."""
        blocks = self.config.trunk_blocks
        both_ways = [2 * n for n in blocks[:-1]] + [blocks[-1]]
        frames = receptive_frames(both_ways) + self._head_context + FRAME_MULTIPLE
        return -(-frames // FRAME_MULTIPLE) * FRAME_MULTIPLE

    @property
    def _head_context(self) -> int:
        """Frames on each side that the result depends on through what follows the trunk."""
        return 0


def power(X: Tensor) -> Tensor:
    """|X|^2 of a complex tensor, same shape."""
    return X.real.square() + X.imag.square()


def _key(name: str) -> str:
    """A name under which torch takes a module: without dots, and none that a ModuleDict has itself, such as `keys`."""
    key = name.replace(".", "_")
    return f"{key}_" if hasattr(nn.ModuleDict(), key) else key


class SeparationVAE(SeparationModel):
    """Source VAEs and a mixture encoder that infers the latents of all of them.

    The source VAEs' own encoders serve training only; separation runs the mixture encoder and the decoders.
    """

    def __init__(self, config: SeparationConfig) -> None:
        super().__init__(config)
        names = dict.fromkeys(map(config.vae_name, config.sources))
        if len({_key(name) for name in names}) < len(names):
            raise ShapeError(
                f"names of VAEs must differ in more than dots and a last _, found {', '.join(names)}"
            )
        self.vaes = nn.ModuleDict({_key(name): SourceVAE(config.vae) for name in names})
        bands, patch, latent_channels = config.vae.bands, config.vae.patch, config.vae.latent_channels
        self.mixture = MixtureEncoder(
            MixtureTrunk(bands, patch, config.trunk_channels, config.trunk_blocks, config.told_sources),
            config.trunk_channels,
            patch,
            latent_channels,
            len(config.sources) - config.added,
            [AddedHeads(bands, config.trunk_channels, patch, latent_channels) for _ in range(config.added)],
        )

    @property
    def _head_context(self) -> int:
        pan_smoothing = 1 << PAN_LEVEL
        added = AddedHeads.context_frames if self.config.added else 0
        return LadderDecoder.context_frames + pan_smoothing + added

    def source_vae(self, source: str) -> SourceVAE:
        """The VAE of one source, which other sources may share."""
        vae = self.vaes[_key(self.config.vae_name(source))]
        assert isinstance(vae, SourceVAE)
        return vae

    def posteriors(
        self, P: Tensor, P_side: Tensor, *, present: Tensor | None = None, frames: slice | None = None
    ) -> list[Posterior]:
        """q(z_k | x) of every source, in the order of `config.sources`.

        Shape: P `[B, 2, N, T]`, P_side `[B, N, T]`, T a multiple of 8, present and frames as in
        `band_log_variances`.
        """
        return self.mixture(P, P_side, present=present, frames=frames)

    def decode(self, latents: Sequence[Latents]) -> Tensor:
        """Log-variances of the latents of every source.

        Shape: `[B, K, 2, N, T]`.
        """
        return torch.stack(
            [self.source_vae(s).decode(z) for s, z in zip(self.config.sources, latents, strict=True)], 1
        )

    def band_log_variances(
        self, P: Tensor, P_side: Tensor, *, present: Tensor | None = None, frames: slice | None = None
    ) -> Tensor:
        posteriors = self.posteriors(P, P_side, present=present, frames=frames)
        return self.decode([posterior.mean for posterior in posteriors])


class MaskNet(SeparationModel):
    """The same trunk with softmax masks instead of latents and decoders: the peer of `SeparationVAE`."""

    def __init__(self, config: SeparationConfig) -> None:
        super().__init__(config)
        self.trunk = MixtureTrunk(
            config.vae.bands,
            config.vae.patch,
            config.trunk_channels,
            config.trunk_blocks,
            config.told_sources,
        )
        self.head = MaskHead(config.trunk_channels[0], config.vae.patch, len(config.sources))

    def band_log_variances(
        self, P: Tensor, P_side: Tensor, *, present: Tensor | None = None, frames: slice | None = None
    ) -> Tensor:
        pyramid, balance = self.trunk(P, P_side, present=present, frames=frames)
        return self.head(pyramid[0], balance)
