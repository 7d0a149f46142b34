"""From a recipe to a trained model folder."""

from __future__ import annotations

import logging
import shutil
import signal
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from sepvae import atomic, checkpoint
from sepvae.atomic import draft_folder, publish_folder
from sepvae.data.corpora import stem_names
from sepvae.errors import RecipeError, SepvaeError
from sepvae.models.build import build
from sepvae.models.features import LevelScale
from sepvae.models.separation import SeparationModel, SeparationVAE
from sepvae.models.widening import widened
from sepvae.training import records
from sepvae.training.added import AddedModule, link_material, shape_stages
from sepvae.training.base import SpectrogramModule, mean_levels
from sepvae.training.callbacks import LAST_NAME, read_checkpoint
from sepvae.training.data import MixtureData
from sepvae.training.modules import MODULES as COMMON_MODULES
from sepvae.training.objectives import LossConfig, OptimConfig
from sepvae.training.recipe import Plan, compose, lacks, plain, plan, typed, unfold, with_path
from sepvae.training.trainer import TrainerConfig, build_trainer

logger = logging.getLogger(__name__)

LEVEL_BATCHES = 24
SEPARATES = ("separation", "encoders", "mask_net", "added")
"""Stages whose model separates, so that its scores belong in its card."""

MODULES = COMMON_MODULES | {"added": (AddedModule, SeparationVAE)}
"""Stage of a recipe -> its module and the kind of model it trains."""

__all__ = ["compose", "composed", "sweep", "train"]


def train(recipe: str, overrides: Sequence[str] = ()) -> Path:
    """Train a recipe, or the stages of a folder of recipes, and write a model folder.

    A run folder that holds a checkpoint is resumed, a stage that is finished is not trained again.

    Args:
        recipe: name under `recipes/`, path of a YAML file, or either for a folder with recipes of several stages.
        overrides: `key=value` changes.

    Returns:
        The model folder.

    Raises:
        RecipeError, DataError, CheckpointError: before anything starts.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    todo = with_solo_stage(plan(recipe, overrides), recipe, overrides)
    for config in todo.stages:
        if config.stage == "added":
            link_material(config)
    for config in todo.stages[1:]:
        check(config)
    model = todo.run_dir / "model"
    for config in todo.stages:
        model = fit(config)
    if model != todo.run_dir / "model":
        rank_zero_only(replace_folder)(model, todo.run_dir / "model")
    return todo.run_dir / "model"


def composed(recipe: str, overrides: Sequence[str] = ()) -> str:
    """The recipes that `train` would train, one after the other, as YAML; what is still to be given may be missing.

    Raises:
        RecipeError: an unknown recipe, or overrides that do not fit it.
    """
    todo = plan(recipe, overrides, complete=False)
    whole = not any(map(lacks, todo.stages))
    if whole:
        todo = with_solo_stage(todo, recipe, overrides)
    return "---\n".join(OmegaConf.to_yaml(config, resolve=whole) for config in todo.stages)


def sweep(recipe: str, overrides: Sequence[str]) -> list[Path]:
    """Train a recipe once for every combination of the values that the overrides list, one after the other.

    Each run has a folder in that of the recipe, named after its overrides.

    Returns:
        The model folders.
    """
    jobs = unfold(overrides)
    varied = [{job[i] for job in jobs} for i in range(len(overrides))]
    models = []
    for job in jobs:
        own = [value for i, value in enumerate(job) if len(varied[i]) > 1]
        folder = plan(recipe, job).run_dir / (",".join(own).replace("/", "_") or "0")
        logger.info("sweep: %s", folder)
        others = (value for value in job if not value.startswith("run_dir="))
        models.append(train(recipe, [*others, with_path("run_dir", folder)]))
    return models


def with_solo_stage(todo: Plan, recipe: str, overrides: Sequence[str]) -> Plan:
    """Put the VAE of an added source, trained by the recipe's neighbour, before its head."""
    head = todo.stages[0]
    if head.stage != "added":
        return todo
    ours = ("init=", "run_dir=", "add_source=", "others=", "material=", "stage=", "added.")
    changes = [value for value in overrides if not value.startswith(ours)]
    solo = plan(recipe, [*changes, "stage=vae"]).stages[0]
    shape_stages(solo, head)
    return Plan((solo, head), todo.run_dir)


def check(config: DictConfig) -> None:
    """Find what is wrong with a later stage before the first one starts: its values, its model, its data."""
    typed(TrainerConfig, config.trainer, "trainer")
    typed(OptimConfig, config.optim, "optim")
    typed(LossConfig, config.losses, "losses")
    build_trainer(config, MixtureData(config, _model(config)), Path(config.run_dir))


def fit(config: DictConfig) -> Path:
    """Train one stage, or go on with it, and write its model folder."""
    run_dir = Path(config.run_dir)
    folder = run_dir / "model"
    if records.is_finished(config):
        logger.info("%s is finished; to train it anew remove it, or give another run_dir=", run_dir)
        return folder
    lightning.seed_everything(config.seed, verbose=False)
    typed(TrainerConfig, config.trainer, "trainer")
    module = build_module(config)
    data = MixtureData(config, module.model)
    others = sorted(stem_names(config.data.train) - set(module.model.config.sources))
    if config.stage in ("separation", "mask_net") and others:
        logger.warning("left out of the mixtures, the recipe has no such source: %s", ", ".join(others))
    trained_on = Path(config.data.train).resolve()
    if any(Path(root).resolve() == trained_on for root in config.data.valid):
        logger.warning(
            "%s is trained on and in data.valid: its scores say nothing of other sound", trained_on
        )
    sets = data.sets
    trainer = build_trainer(config, data, run_dir)
    data.share(trainer.global_rank, trainer.world_size)  # tells now what cannot be split
    last = run_dir / "checkpoints" / LAST_NAME
    resume = last if last.is_file() else None
    if resume is not None or folder.exists():
        records.check_resume(config, sets)
    if trainer.is_global_zero:
        sweep_run(run_dir)
        records.write_records(run_dir, config, sets)
    if resume is None:
        set_levels(module, data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*treespec.*")  # Lightning's own use of a torch interface
        # A run folder that is not empty, and a metric that is zero on all ranks, are as they should be.
        warnings.filterwarnings("ignore", ".*(exists and is not empty|across ranks is zero).*")
        _run(trainer, module, data, resume)
    if trainer.is_global_zero:
        best = config.trainer.export == "best"
        steps = take_best(module, run_dir) if best else trainer.global_step
        records.export(module.model, config, folder, steps, sets)
        if config.stage in SEPARATES and config.trainer.score_seconds != 0:
            records.score(
                folder,
                data.scored_sets(),
                config.trainer.score_seconds,
                present=bool(config.losses.given),
            )
        records.write_state(run_dir, config, finished=True)
    trainer.strategy.barrier()
    return folder


def sweep_run(run_dir: Path) -> None:
    """Remove what killed runs have left unfinished in a run folder."""
    for folder in (run_dir, run_dir / "checkpoints"):
        atomic.sweep(folder)
    for name in ("model", "frozen"):
        atomic.remove_drafts(run_dir, name)


def _run(
    trainer: lightning.Trainer, module: SpectrogramModule, data: MixtureData, resume: Path | None
) -> None:
    """Train, with what ends a training as it was before Lightning and the loader's processes dressed it up.

    Raises:
        KeyboardInterrupt: Ctrl-C, which Lightning turns into `sys.exit(1)`.
        SepvaeError: also of a process that loads data, without its traceback.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_interrupt)  # Lightning had it ignored
        raise KeyboardInterrupt from None
    except SepvaeError as error:
        lines = str(error).splitlines()
        if len(lines) == 1:
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error  # the last line of the traceback there


def _model(config: DictConfig) -> SeparationModel:
    """Model of a recipe with fresh weights.

    Raises:
        RecipeError: an unknown stage, or nothing to separate.
    """
    if config.stage not in MODULES:
        raise RecipeError(f"stage is one of {', '.join(MODULES)}, found {config.stage!r}")
    values = plain(config.model)
    checkpoint.check_values(values)  # now, not when the trained model is to be read
    model = build({"class": MODULES[config.stage][1].__name__, **values})
    if config.stage in SEPARATES and len(model.config.sources) < 2:
        raise RecipeError(
            f"stage={config.stage} needs two or more sources, found only {model.config.sources[0]!r}; "
            "stage=vae trains the VAE of a single one"
        )
    return model


def build_module(config: DictConfig) -> SpectrogramModule:
    """Model and Lightning module of a recipe, with the weights of `init` where the names and shapes agree."""
    model = _model(config)
    taken = take_weights(model, config)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optim, losses = typed(OptimConfig, config.optim, "optim"), typed(LossConfig, config.losses, "losses")
    module = MODULES[config.stage][0](model, optim, losses, seed=config.seed)
    module.taken = taken
    return module


def take_weights(model: SeparationModel, config: DictConfig) -> frozenset[str]:
    """Take what fits of the models that `init` names, a later one's over an earlier one's.

    A model with more latents or channels takes those of one with fewer (`widened`). Of a model with other
    sources that has only been trained on solos, the VAEs alone are taken: the rest of it is as it was made.

    Returns:
        The names of all tensors that were taken.

    Raises:
        RecipeError: nothing of a model fits, or a stage that trains only a part, at first or ever, lacks weights of the
            rest.
    """
    mine = model.state_dict()
    taken: dict[str, torch.Tensor] = {}
    for folder in records.origins(config):
        source, card = checkpoint.load(folder)
        solos = card.get("training", {}).get("recipe", {}).get("stage") == "vae"
        only_vaes = solos and source.config.sources != model.config.sources
        theirs = {
            name: tensor
            for name, tensor in source.state_dict().items()
            if name.startswith("vaes.") or not only_vaes
        }
        fitting = {
            name: tensor
            for name, tensor in theirs.items()
            if name in mine and mine[name].shape == tensor.shape
        }
        if isinstance(source, SeparationVAE) and isinstance(model, SeparationVAE):
            fitting |= widened(source, model)
        if not fitting:
            raise RecipeError(f"init={folder} has no weight that fits the model of the recipe")
        logger.info("took %d of %d tensors from %s", len(fitting), len(mine), folder)
        rest = {name: tensor for name, tensor in theirs.items() if name not in fitting}
        _warn_of_rest(source, model, rest, folder)
        taken |= fitting
    fresh = {name for name in mine.keys() - taken.keys() if not name.startswith("mixture.added.")}
    if config.stage in ("encoders", "added") and fresh:
        raise RecipeError(
            f"stage={config.stage} needs an init= with the same sources and shape; missing: {min(fresh)}"
        )
    random = sorted(name for name in fresh if name.startswith("vaes."))
    if config.stage == "separation" and config.losses.frozen_steps > 0 and random:
        raise RecipeError(
            f"losses.frozen_steps={config.losses.frozen_steps} freezes VAEs that init= does not give ({random[0]}): "
            "give an init= with VAEs of the same sources and shape, or losses.frozen_steps=0"
        )
    model.load_state_dict(taken, strict=False)
    return frozenset(taken)


def _warn_of_rest(
    source: SeparationModel, model: SeparationModel, rest: Mapping[str, torch.Tensor], folder: str | Path
) -> None:
    """Say which tensors of a trained model are left, though they were wanted; those of other sources are not missed."""
    mine = model.state_dict()
    alike = type(source) is type(model) and source.config.sources == model.config.sources
    for why, names in (
        ("their shapes differ", [name for name, tensor in rest.items() if _unlike(tensor, mine.get(name))]),
        ("the recipe's model lacks them", [name for name in rest if alike and name not in mine]),
    ):
        if names:
            logger.warning("left %d tensors of %s, %s: %s, ...", len(names), folder, why, names[0])


def _unlike(tensor: torch.Tensor, mine: torch.Tensor | None) -> bool:
    """Whether a tensor is there in the other model too, in another shape."""
    return mine is not None and mine.shape != tensor.shape


def set_levels(module: SpectrogramModule, data: MixtureData) -> None:
    """Centre what has no weights from elsewhere on the mean level of the training mixtures."""
    fresh = [
        part
        for name, part in module.model.named_modules()
        if isinstance(part, LevelScale) and f"{name}.mean" not in module.taken
    ]
    if fresh:
        level = mean_levels(module.model, data.first_batches(LEVEL_BATCHES))
        for scale in fresh:
            scale.mean.copy_(level)


def take_best(module: SpectrogramModule, run_dir: Path) -> int:
    """Take the weights of the best checkpoint by the validation score.

    Returns:
        The steps that they were trained for.
    """
    found = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    module.load_state_dict(found["state_dict"])
    return int(found["global_step"])


def replace_folder(source: Path, target: Path) -> None:
    """Copy a model folder to another place, at once."""
    atomic.remove_drafts(target.parent, target.name)
    with draft_folder(target) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True)
        publish_folder(draft, target)
