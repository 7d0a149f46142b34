"""From a recipe to a trained model folder; the only place that knows Hydra."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import lightning
import torch
from hydra.errors import HydraException
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.utils.data import ConcatDataset, DataLoader

from sepvae import checkpoint, pretrained
from sepvae.card import read_card
from sepvae.data.clips import ValidationWindows
from sepvae.data.mixing import ExcerptStream, MixingConfig, Mixture
from sepvae.errors import RecipeError
from sepvae.models.build import build
from sepvae.models.separation import SeparationModel
from sepvae.resources import resource_dir
from sepvae.training.modules import MODULES, LossConfig, OptimConfig, SpectrogramModule, mean_levels

logger = logging.getLogger(__name__)

LEVEL_BATCHES = 24


def compose(recipe: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose a recipe by its name under `recipes/` or by the path of a YAML file.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value that is missing.
    """
    folder, name = resource_dir("recipes"), recipe.removesuffix(".yaml")
    search: list[str] = []
    path = Path(recipe)
    if path.suffix == ".yaml" and path.is_file():
        search = [f"hydra.searchpath=[file://{folder}]"]
        folder, name = path.resolve().parent, path.stem
    elif not (folder / f"{name}.yaml").is_file():
        known = sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.glob("*/*.yaml"))
        raise RecipeError(f"no recipe {recipe!r}; a path ends in .yaml, the names are {', '.join(known)}")
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            config = hydra.compose(name, [*overrides, *search])
        missing = OmegaConf.missing_keys(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise RecipeError(f"recipe {recipe!r}: {' '.join(str(error).split())}") from error
    if missing:
        needed = ", ".join(f"{key}=..." for key in sorted(missing))
        raise RecipeError(f"recipe {recipe!r} needs {needed}")
    return config


def train(recipe: str, overrides: Sequence[str] = (), *, print_only: bool = False) -> Path:
    """Train a recipe and write its model folder; a run folder that holds a checkpoint is resumed.

    Args:
        recipe: name under `recipes/` or path of a YAML file.
        overrides: `key=value` changes.
        print_only: print the composed recipe and stop.

    Returns:
        The model folder, or the run folder if nothing was trained.

    Raises:
        RecipeError, DataError, CheckpointError: before anything starts.
    """
    config = compose(recipe, overrides)
    run_dir = Path(config.run_dir)
    if print_only:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return run_dir
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, verbose=False)
    module = build_module(config)
    run_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run_dir / "recipe.yaml", resolve=True)
    (run_dir / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n", encoding="utf-8")
    data = MixtureData(config, module.model)
    last = run_dir / "checkpoints" / "last.ckpt"
    resume = last if last.is_file() else None
    if resume is None and config.init is None:
        module.model.set_level(mean_levels(module.model, data.first_batches(LEVEL_BATCHES)))
    trainer = build_trainer(config, module, run_dir)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    return export(module.model, config, run_dir / "model", trainer.global_step)


def build_module(config: DictConfig) -> SpectrogramModule:
    """Model and Lightning module of a recipe, with the weights of `init` where the names and shapes agree."""
    if config.stage not in MODULES:
        raise RecipeError(f"stage is one of {', '.join(MODULES)}, found {config.stage!r}")
    module_class, model_class = MODULES[config.stage]
    model = build({"class": model_class.__name__, **_plain(config.model)})
    if config.init is not None:
        source, _ = checkpoint.load(pretrained.find(config.init))
        mine = model.state_dict()
        taken = {n: t for n, t in source.state_dict().items() if n in mine and mine[n].shape == t.shape}
        if not taken:
            raise RecipeError(f"init={config.init} has no weight that fits the model of the recipe")
        if config.stage == "encoders" and len(taken) < len(mine):
            raise RecipeError(f"stage encoders keeps a whole model, init={config.init} is not the recipe's")
        logger.info("took %d of %d tensors from %s", len(taken), len(mine), config.init)
        model.load_state_dict(taken, strict=False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optim, losses = OptimConfig(**_plain(config.optim)), LossConfig(**_plain(config.losses))
    return module_class(model, optim, losses, seed=config.seed)


class MixtureData(lightning.LightningDataModule):
    """Training mixtures from the step at which the trainer stands, and validation windows."""

    def __init__(self, config: DictConfig, model: SeparationModel) -> None:
        super().__init__()
        self.config, self.shape = config.data, model.config
        self.seed = config.seed
        hop, overlap = model.config.hop_length, model.stft.overlap
        mixing = _plain(config.data.mixing)
        frames = mixing.pop("frames")
        if frames % model.frame_multiple or frames <= overlap:
            raise RecipeError(
                f"data.mixing.frames must be a multiple of {model.frame_multiple}, found {frames}"
            )
        mixing |= {name: tuple(mixing[name]) for name in ("level_db", "speed")}
        self.mixing = MixingConfig(length=(frames - overlap + 1) * hop, **mixing)
        self.valid = [
            ValidationWindows(root, self.shape.sources, self.shape.sample_rate, config.data.valid_windows)
            for root in config.data.valid
        ]
        self.stream(0)

    def stream(self, start: int) -> ExcerptStream:
        """Mixtures from batch `start` on."""
        return ExcerptStream(
            self.config.train,
            self.shape.sources,
            self.shape.sample_rate,
            self.mixing,
            seed=self.seed,
            start=start,
        )

    def first_batches(self, count: int) -> list[Mixture]:
        """The first batches of the stream."""
        stream = self.stream(0)
        return [stream.batch(index) for index in range(count)]

    def train_dataloader(self) -> DataLoader[Mixture]:
        start = self.trainer.global_step if self.trainer else 0
        return DataLoader(self.stream(start), batch_size=None, num_workers=self.config.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(ConcatDataset(self.valid), batch_size=None)


def build_trainer(config: DictConfig, module: SpectrogramModule, run_dir: Path) -> lightning.Trainer:
    """Lightning trainer with the callbacks and loggers of every run."""
    every = int(config.trainer.val_every)
    callbacks: list[Callback] = [
        ModelCheckpoint(
            run_dir / "checkpoints",
            every_n_train_steps=int(config.trainer.checkpoint_every),
            save_top_k=0,
            save_last=True,
        ),
        WeightEMA(float(config.trainer.ema_decay), int(config.trainer.ema_start)),
        LearningRateMonitor("step"),
    ]
    if config.trainer.progress:
        callbacks.append(RichProgressBar(refresh_rate=10))
    if config.stage == "separation":
        callbacks.append(FrozenExport(lambda model, step: export(model, config, run_dir / "frozen", step)))
    loggers = [
        CSVLogger(run_dir, name="csv", flush_logs_every_n_steps=20),
        TensorBoardLogger(run_dir, name="", version="tensorboard"),
    ]
    return lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        precision=config.trainer.precision,
        max_steps=config.optim.max_steps,
        gradient_clip_val=config.trainer.gradient_clip,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        log_every_n_steps=20,
        num_sanity_val_steps=0,
        enable_progress_bar=bool(config.trainer.progress),
        enable_model_summary=False,
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=run_dir,
    )


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


def export(model: SeparationModel, config: DictConfig, folder: Path, steps: int) -> Path:
    """Write a model folder whose card says where the weights come from."""
    training: dict[str, Any] = {"recipe": _without_folders(config), "steps": steps, **versions()}
    card = _plain(config.card)
    if config.init is not None:
        before = read_card(pretrained.find(config.init))
        training["init"] = {"sha256": before["weights"]["sha256"], **before.get("training", {})}
        if config.stage == "encoders":  # the separation is that of the model it started from
            card |= {key: before[key] for key in ("name", "description", "scores") if key in before}
    card["training"] = training
    checkpoint.save(folder, model, card, storage_dtype=torch.bfloat16)
    return folder


def _without_folders(config: DictConfig) -> dict[str, Any]:
    """The recipe as composed, less what names folders of one machine and what the card says elsewhere."""
    recipe = _plain(config)
    for name in ("run_dir", "init", "model", "card"):
        recipe.pop(name, None)
    recipe["data"] = {k: v for k, v in recipe["data"].items() if k not in ("root", "train", "valid")}
    return recipe


def versions() -> dict[str, str]:
    """Versions of the packages that training depends on, and the commit of a checkout."""
    names = ("sepvae", "torch", "torchaudio", "lightning", "numpy")
    found = {name: importlib.metadata.version(name) for name in names if _installed(name)}
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {**found, "commit": commit.stdout.strip()} if commit.returncode == 0 else found


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _plain(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, Mapping)
    return {str(key): value for key, value in values.items()}
