"""What runs beside the training steps: averages, checkpoints, examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from sepvae.atomic import whole_file
from sepvae.errors import CheckpointError, NonFiniteError, OutputError, RecipeError
from sepvae.evaluation.plots import spectrograms
from sepvae.models.blocks import BottomUp, UNet
from sepvae.models.separation import SeparationModel

WEIGHTS = ("state_dict", "current_model_state")
"""Where a checkpoint holds weights: their average, and those that train."""
LAST_NAME = "last.ckpt"
"""Name of the checkpoint that a run goes on from."""
PARTS = {
    "callbacks",
    "epoch",
    "global_step",
    "loops",
    "lr_schedulers",
    "optimizer_states",
    "pytorch-lightning_version",
    "state_dict",
}
"""What every checkpoint of a training has."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill at any moment leaves a whole one.

    Weights that are not finite are a `NonFiniteError`, and what was there stays.

    Raises:
        OutputError: a checkpoint cannot be written.
        CheckpointError: the one to go on from is none, or damaged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        target = Path(path)
        if not all_finite([tensor for part in WEIGHTS for tensor in checkpoint.get(part, {}).values()]):
            raise diverged("the weights are", checkpoint["global_step"], target.with_name(LAST_NAME))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch hides the system's error in its own
            hidden = error if isinstance(error, OSError) else error.__context__
            reason = hidden.strerror if isinstance(hidden, OSError) else str(error).partition("\n")[0]
            raise OutputError(f"{target}: cannot be written ({reason})") from error

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        if not weights_only:  # what a process of Lightning's hands back, which is no whole checkpoint
            return super().load_checkpoint(Path(path), weights_only=True)
        return read_checkpoint(path)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint of a training holds, on the CPU; no code in it runs.

    Raises:
        CheckpointError: it cannot be read, or is none.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # what damage leads to cannot be foreseen
        raise damaged(path) from error
    if not isinstance(found, dict) or not found.keys() >= PARTS:
        raise damaged(path)
    return found


def damaged(path: str | os.PathLike[str], what: str = "damaged") -> CheckpointError:
    """The error of a checkpoint that nothing can go on from, with the way out."""
    return CheckpointError(f"{path}: {what}; remove it to begin anew, or give another run_dir=")


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no number is NaN or infinite; one wait for the device in all."""
    found = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not found or bool(torch.stack(found).all())


def diverged(what: str, step: int, last: Path) -> NonFiniteError:
    """The error of a training that has gone astray, with the way out.

    Args:
        what: is not finite.
        step: at which it was found.
        last: where the last checkpoint is, if there is one.
    """
    smaller = "the same command with a smaller optim.lr= or trainer.gradient_clip="
    way_out = (
        f"the last checkpoint is from before: {smaller} goes on from there"
        if last.is_file()
        else f"there is no checkpoint from before: {smaller} begins anew"
    )
    return NonFiniteError(f"{what} not finite at step {step}; {way_out}")


class FiniteLoss(Callback):
    """Ends a training whose loss is not finite; it is looked at where terms are logged, and before a validation.

    Args:
        last: where the last checkpoint is, if there is one.

    Raises:
        NonFiniteError: in every process alike.
    """

    loss: Tensor | None = None

    def __init__(self, last: Path) -> None:
        self.last = last

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.loss = outputs["loss"].detach()
        if trainer.global_step % trainer.log_every_n_steps == 0:  # each look waits for the device
            self.check(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.check(trainer)

    def check(self, trainer: Any) -> None:
        """Look at the last loss."""
        finite = self.loss is None or bool(self.loss.isfinite())
        if not trainer.strategy.reduce_boolean_decision(finite):
            raise diverged("the loss is", trainer.global_step, self.last)


class WeightEMA(WeightAveraging):
    """Exponential moving average of the weights, which validation and the exported model take.

    What does not train keeps every bit: the average moves by a share of the distance, and buffers are copied.

    Args:
        decay: weight of the old average, in [0, 1]; with 1 it stays what it was at `start`.
        start: first step whose weights are averaged; until then the average is a copy of them.
    """

    def __init__(self, decay: float, start: int) -> None:
        self.start, self.step = start, 0

        def average(averaged: Any, current: Any, count: Any) -> None:
            torch._foreach_lerp_(averaged, current, 1 - decay if self.step > start else 1.0)

        super().__init__(use_buffers=False, multi_avg_fn=average)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is None:
            return False
        self.step = step_idx
        return True

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the average in the module also where a resumed run had no step left, so that no training ended."""
        self.on_train_end(trainer, pl_module)

    @property
    def averaged(self) -> Any:
        """The module with the average as its weights, while it trains."""
        assert self._average_model is not None
        return self._average_model.module


class BestCheckpoint(ModelCheckpoint):
    """Writes `best.ckpt` at the best validation score so far, which a moved or copied run folder remembers.

    Without the file there is nothing to remember.

    Args:
        folder: of the checkpoint.
        monitor: name of the score, higher is better.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__(folder, "best", monitor=monitor, mode="max", enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here = Path(self.dirpath or "")

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: moved(state_dict[name]) for name in names}
        if Path(paths["best_model_path"]).is_file():
            models = {moved(path): score for path, score in state_dict["best_k_models"].items()}
            super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": models})


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` every so many steps and at the end; where a validation falls on the step, after it.

    So what is resumed knows of every validation before it: which checkpoint is the best, and how long none was better.

    Args:
        path: of the checkpoint.
        every: steps, > 0.
        val_every: steps between two validations; None where there are none.
    """

    def __init__(self, path: Path, every: int, val_every: int | None) -> None:
        self.path, self.every, self.val_every = path, every, val_every
        self.saved = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.val_every is None or trainer.global_step % self.val_every:
            self.save(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.save(trainer, pl_module)

    def save(self, trainer: Any, pl_module: Any) -> None:
        """Write the checkpoint if this step is one for it and has none yet."""
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps or trainer.should_stop
        if due and step != self.saved:  # a step may have several batches
            self.saved = step
            if not all_finite(list(pl_module.parameters())):  # here every process finds it
                raise diverged("the weights are", step, self.path)
            trainer.save_checkpoint(self.path)


class FrozenExport(Callback):
    """Writes the averaged model as it is when the source VAEs are released, for the frozen-against-joint gate.

    Args:
        average: of the weights, the one that the last model takes too.
        write: writes a model after so many steps.
    """

    def __init__(self, average: WeightEMA, write: Callable[[SeparationModel, int], Path]) -> None:
        self.average, self.write, self.done = average, write, False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        released = trainer.global_step == pl_module.losses.frozen_steps > 0
        if released and trainer.is_global_zero and not self.done:
            self.write(self.average.averaged.model, trainer.global_step)
            self.done = True  # a step may have several batches


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

    Raises:
        RecipeError: torch has no such backend.
    """

    def __init__(self, backend: str) -> None:
        if backend not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())
            raise RecipeError(
                f"trainer.compile must be null or a backend of torch.compile ({known}), found {backend!r}"
            )
        self.backend = backend

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for part in pl_module.modules():
            if isinstance(part, UNet | BottomUp):
                part.compile(dynamic=False, backend=self.backend)
