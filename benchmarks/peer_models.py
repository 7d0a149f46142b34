"""Peers of sepvae that peers.py trains: Open-Unmix, Conv-TasNet and HDemucs, each with the loss of its authors.

All of them see the same batches as ours, toned in the same STFT, and put out a waveform for every source. Sizes are
arguments of the constructors here; those of peers.py fit a small budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import openunmix.model
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models import ConvTasNet, HDemucs
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from sepvae.data.mixing import Mixture
from sepvae.models.separation import SeparationModel
from sepvae.training.base import SpectrogramModule


class Peer(nn.Module):
    """A network beside what a training needs to know of it.

    Args:
        shape: the model whose sources, rate, STFT and frames per batch hold for all.
    """

    def __init__(self, shape: SeparationModel) -> None:
        super().__init__()
        self.config, self.stft, self.frame_multiple = shape.config, shape.stft, shape.frame_multiple

    def loss(self, S: Tensor) -> Tensor:
        """What training minimises, of the STFTs of sources `[B, K, C, F, T]`."""
        raise NotImplementedError

    def separate(self, mix: Tensor) -> Tensor:
        """Waveforms: `[2, L]` -> `[K, 2, L]`."""
        raise NotImplementedError

    def waves(self, S: Tensor) -> Tensor:
        """Waveforms of the STFTs of sources: `[B, K, C, F, T]` -> `[B, K, C, L]`."""
        hop = self.config.hop_length
        length = (S.shape[-1] - self.stft.overlap + 1) * hop
        return self.stft.inverse(S.flatten(0, 2), length).unflatten(0, S.shape[:3])


class PeerModule(SpectrogramModule):
    """Trains a peer as ours are trained: the same batches, optimiser and validation."""

    model: Peer  # type: ignore[assignment]

    def training_step(self, batch: Mixture, index: int) -> Tensor:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            S = torch.stack(self.spectra(batch), 1)  # [B, K, C, F, T]
        loss = self.model.loss(S)
        self.log_terms({"loss": loss})
        return loss

    def estimates(self, sources: Tensor) -> Tensor:
        return self.model.separate(sources.sum(0))


class OpenUnmix(Peer):
    """One bidirectional LSTM per source on magnitudes, mean squared error, multichannel Wiener filter afterwards.

    Stöter, Uhlich, Liutkus & Mitsufuji 2019, package openunmix.
    """

    def __init__(self, shape: SeparationModel, hidden: int = 256, layers: int = 3) -> None:
        super().__init__(shape)
        bins, config = shape.bands.n_bins, shape.config
        self.targets = nn.ModuleDict(
            {
                source: openunmix.model.OpenUnmix(
                    bins, 2, hidden, layers, max_bin=round(16000 / config.sample_rate * config.n_fft)
                )
                for source in config.sources
            }
        )

    def set_statistics(self, batches: Sequence[Mixture]) -> None:
        """Standardise the input by the mean and deviation of every bin over some mixtures, as its training does."""
        X = torch.cat([self.stft(b.sources.sum(1)).abs().transpose(-1, -2).flatten(0, 2) for b in batches])
        mean, scale = X.mean(0), X.std(0).clamp(min=1e-4 * float(X.std()))
        for target in self.targets.values():
            target.input_mean.data.copy_(-mean[: target.nb_bins])
            target.input_scale.data.copy_(1 / scale[: target.nb_bins])

    def loss(self, S: Tensor) -> Tensor:
        magnitudes = S.abs().expand(-1, -1, 2, -1, -1)
        X = S.sum(1).abs().expand(-1, 2, -1, -1)
        errors = [
            functional.mse_loss(target(X).float(), magnitudes[:, k])
            for k, target in enumerate(self.targets.values())
        ]
        return torch.stack(errors).mean()

    def separate(self, mix: Tensor) -> Tensor:
        separator = openunmix.model.Separator(
            self.targets,
            niter=1,
            sample_rate=self.config.sample_rate,
            n_fft=self.config.n_fft,
            n_hop=self.config.hop_length,
        ).to(mix.device)
        with torch.autocast(mix.device.type, enabled=False):
            return separator(mix[None])[0]


class TasNet(Peer):
    """Conv-TasNet (Luo & Mesgarani 2019, torchaudio) on each channel, negative SI-SDR of the sources that sound."""

    def __init__(
        self,
        shape: SeparationModel,
        kernel: int = 160,
        features: int = 256,
        bottleneck: int = 64,
        hidden: int = 128,
        layers: int = 8,
        stacks: int = 2,
    ) -> None:
        super().__init__(shape)
        self.network = ConvTasNet(
            len(shape.config.sources), kernel, features, 3, bottleneck, hidden, layers, stacks
        )

    def loss(self, S: Tensor) -> Tensor:
        waves = self.waves(S)  # [B, K, C, L]
        guess = self.network(waves.sum(1).flatten(0, 1)[:, None]).float()  # B C, K, L
        truth = waves.transpose(1, 2).flatten(0, 1)
        sounds = truth.square().mean(-1) > 1e-6
        ratios = scale_invariant_signal_distortion_ratio(guess[sounds], truth[sounds], zero_mean=True)
        return -ratios.sum() / sounds.numel()

    def separate(self, mix: Tensor) -> Tensor:
        return self.network(mix[:, None]).transpose(0, 1)


class HybridDemucs(Peer):
    """Hybrid Demucs (Défossez 2021, torchaudio), mean absolute error of the waveforms."""

    def __init__(self, shape: SeparationModel, channels: int = 12, depth: int = 6) -> None:
        super().__init__(shape)
        self.network = _HDemucs(list(shape.config.sources), channels=channels, depth=depth)

    def loss(self, S: Tensor) -> Tensor:
        waves = self.waves(S).expand(-1, -1, 2, -1)  # [B, K, 2, L]
        return functional.l1_loss(self.network(waves.sum(1)).float(), waves)

    def separate(self, mix: Tensor) -> Tensor:
        return self.network(mix[None])[0]


class _HDemucs(HDemucs):
    """Takes what bfloat16 autocast makes of its layers to a complex spectrogram."""

    def _mask(self, m: Tensor) -> Tensor:
        return super()._mask(m.float())
