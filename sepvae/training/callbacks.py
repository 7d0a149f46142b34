"""What runs beside the training steps: averages, checkpoints, examples."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO

from sepvae.evaluation.plots import spectrograms
from sepvae.models.blocks import BottomUp, UNet
from sepvae.models.separation import SeparationModel


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill at any moment leaves a whole one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with draft.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


class WeightEMA(WeightAveraging):
    """Exponential moving average of the weights, which validation and the exported model take.

    What does not train keeps every bit: the average moves by a share of the distance, and buffers are copied.

    Args:
        decay: weight of the old average, in [0, 1).
        start: first step that counts.
    """

    def __init__(self, decay: float, start: int) -> None:
        def average(averaged: Any, current: Any, count: Any) -> None:
            torch._foreach_lerp_(averaged, current, 1 - decay)

        super().__init__(use_buffers=False, multi_avg_fn=average)
        self.start = start

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= self.start


class FrozenExport(Callback):
    """Writes the model as it is when the source VAEs are released, for the frozen-against-joint gate."""

    def __init__(self, write: Callable[[SeparationModel, int], Path]) -> None:
        self.write = write

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == pl_module.losses.frozen_steps > 0 and trainer.is_global_zero:
            self.write(pl_module.model, trainer.global_step)


class Examples(Callback):
    """Writes what the model makes of the first validation window: a picture each time, and the latest audio.

    Args:
        folder: where to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        number, name, sources, _ = batch
        if number != 0 or not trainer.is_global_zero:
            return
        config = pl_module.model.config
        estimates = outputs.float().cpu().numpy()
        references = sources[..., : estimates.shape[-1]].cpu().numpy()
        self.folder.mkdir(parents=True, exist_ok=True)
        spectrograms(
            self.folder / f"step_{trainer.global_step:07d}.png",
            f"{name}, step {trainer.global_step}",
            config.sources,
            estimates,
            references,
            config.sample_rate,
        )
        audio = {"mixture": references.sum(0), **dict(zip(config.sources, estimates, strict=True))}
        for stem, wave in audio.items():
            path = self.folder / f"{stem}.wav"
            soundfile.write(path, wave.clip(-1, 1).T, config.sample_rate, subtype="PCM_16")


class Compile(Callback):
    """Compiles the convolutional bodies of the networks in place, so that names and checkpoints stay the same.

    Args:
        backend: of `torch.compile`, such as `inductor`.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for part in pl_module.modules():
            if isinstance(part, UNet | BottomUp):
                part.compile(dynamic=False, backend=self.backend)
