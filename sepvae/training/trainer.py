"""The Lightning trainer of a recipe: processes, checkpoints, the moving average, loggers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from omegaconf import DictConfig

from sepvae.data.values import check_number
from sepvae.errors import RecipeError
from sepvae.training import records
from sepvae.training.base import SCORE
from sepvae.training.callbacks import (
    LAST_NAME,
    AtomicCheckpoints,
    BestCheckpoint,
    Compile,
    Examples,
    FiniteLoss,
    FrozenExport,
    LastCheckpoint,
    WeightEMA,
)
from sepvae.training.data import MixtureData
from sepvae.training.objectives import OptimConfig
from sepvae.training.recipe import typed


@dataclass(frozen=True)
class TrainerConfig:
    """How a recipe is trained: the keys of its part `trainer`; docs/training.md says when to change which.

    Args:
        accelerator, devices, num_nodes, strategy, precision: as in `lightning.Trainer`.
        accumulate: pieces into which every device cuts its share of a batch, > 0.
        gradient_clip: largest norm of the gradient; None for any.
        compile: backend of `torch.compile` for the convolutional bodies; None for none.
        val_every, checkpoint_every: steps between two validations, and two checkpoints to go on from, > 0.
        early_stopping: validations without a better score after which training ends; None for none.
        export: `last` or `best`, the weights that become the model.
        score_seconds: how much of each validation song is scored for the card; None for all, 0 for nothing.
        examples: write sounds and pictures of a validation window after each validation.
        ema_decay, ema_start: moving average of the weights, and the step until which it equals them.
        progress: show a progress bar.
    """

    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "bf16-mixed"
    accumulate: int = 1
    gradient_clip: float | None = 1.0
    compile: str | None = None
    val_every: int = 250
    checkpoint_every: int = 250
    early_stopping: int | None = None
    export: str = "last"
    score_seconds: float | None = 60
    examples: bool = True
    ema_decay: float = 0.998
    ema_start: int = 200
    progress: bool = True

    def __post_init__(self) -> None:
        if self.export not in ("last", "best"):
            raise RecipeError(f"trainer.export is last or best, found {self.export!r}")
        for name in ("num_nodes", "accumulate", "val_every", "checkpoint_every"):
            check_number(f"trainer.{name}", getattr(self, name), above=0)
        check_number("trainer.ema_decay", self.ema_decay, least=0, most=1)
        for name in ("gradient_clip", "early_stopping", "score_seconds", "ema_start"):
            if getattr(self, name) is not None:
                check_number(f"trainer.{name}", getattr(self, name), least=0)


def build_trainer(config: DictConfig, data: MixtureData, run_dir: Path) -> lightning.Trainer:
    """Lightning trainer with the callbacks and loggers of every run.

    Raises:
        RecipeError: a setting that cannot be here.
    """
    try:
        return _trainer(config, data, run_dir)
    except (
        ValueError,
        TypeError,
        MisconfigurationException,
    ) as error:  # what Lightning does not know or find here
        raise RecipeError(f"trainer: {' '.join(str(error).split())}") from error


def _trainer(config: DictConfig, data: MixtureData, run_dir: Path) -> lightning.Trainer:
    settings = typed(TrainerConfig, config.trainer, "trainer")
    return lightning.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=strategy(settings),
        precision=settings.precision,  # type: ignore[arg-type]  # which it checks itself
        max_steps=typed(OptimConfig, config.optim, "optim").max_steps,
        gradient_clip_val=settings.gradient_clip,
        accumulate_grad_batches=settings.accumulate,
        val_check_interval=settings.val_every * settings.accumulate,
        check_val_every_n_epoch=None,
        log_every_n_steps=20,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=settings.progress,
        enable_model_summary=False,
        callbacks=callbacks(settings, config, data, run_dir),
        logger=loggers(config, run_dir),
        plugins=plugins(),
        default_root_dir=run_dir,
    )


def plugins() -> list[Any]:
    """Checkpoints that are whole, and SLURM without Lightning's requeueing, which writes checkpoints of its own."""
    managed = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # which Lightning prefers
    return [AtomicCheckpoints(), *([SLURMEnvironment(auto_requeue=False)] if managed else [])]


def strategy(settings: TrainerConfig) -> str | Strategy:
    """How several processes share the work: by DDP, since parts of a model rest in some steps."""
    alone = settings.accelerator == "cpu" or torch.cuda.device_count() < 2
    one = settings.devices in (1, "1") or (settings.devices == "auto" and alone)
    if settings.strategy != "auto" or (one and settings.num_nodes == 1):
        return settings.strategy
    return DDPStrategy(find_unused_parameters=True)


def callbacks(
    settings: TrainerConfig, config: DictConfig, data: MixtureData, run_dir: Path
) -> list[Callback]:
    """Checkpoints, the moving average, examples, and what else the recipe asks for.

    Raises:
        RecipeError: values that contradict each other, or an unknown backend of `torch.compile`.
    """
    folder, validates = run_dir / "checkpoints", any(map(len, data.valid))
    last = folder / LAST_NAME
    average = WeightEMA(settings.ema_decay, settings.ema_start)
    made: list[Callback] = [FiniteLoss(last), average]
    if config.logger.csv or config.logger.tensorboard:
        made.append(LearningRateMonitor("step"))
    if validates:
        if settings.export == "best" and settings.val_every > int(config.optim.max_steps):
            raise RecipeError("trainer.export=best needs trainer.val_every within optim.max_steps")
        made.append(BestCheckpoint(folder, SCORE))
        if settings.early_stopping:
            made.append(EarlyStopping(SCORE, mode="max", patience=settings.early_stopping))
        if settings.examples:
            made.append(Examples(run_dir / "examples"))
    elif settings.early_stopping or settings.export == "best":
        raise RecipeError(
            "trainer.early_stopping and trainer.export=best need validation windows, data.valid has none"
        )
    val_every = settings.val_every if validates else None
    made.append(LastCheckpoint(last, settings.checkpoint_every, val_every))  # after the best
    if settings.progress:
        made.append(RichProgressBar(refresh_rate=10))
    if settings.compile:
        made.append(Compile(settings.compile))
    if config.stage == "separation":
        sets = data.sets
        made.append(
            FrozenExport(
                average, lambda model, step: records.export(model, config, run_dir / "frozen", step, sets)
            )
        )
    return made


def loggers(config: DictConfig, run_dir: Path) -> list[Logger]:
    """The loggers that the recipe switches on."""
    made: list[Logger] = []
    if config.logger.csv:
        made.append(CSVLogger(run_dir, name="csv", flush_logs_every_n_steps=20))
    if config.logger.tensorboard:
        made.append(TensorBoardLogger(run_dir, name="", version="tensorboard"))
    return made
