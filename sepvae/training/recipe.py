"""Recipes: composing, checking, and unfolding them into stages; the only place that knows Hydra."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepvae.card import OPTIONAL as CARD_FIELDS
from sepvae.data.corpora import MANIFEST_NAME
from sepvae.data.values import check_number
from sepvae.errors import RecipeError
from sepvae.resources import resource_dir

CHAIN = ("vae", "separation", "encoders")
"""Stages of `stage=all`, in this order; a folder of recipes may lack the last."""
OWNERS = (*CHAIN, "added")
"""Stages that overrides can be meant for."""

KINDS: dict[type, str] = {str: "text", list: "a list", dict: "a mapping"}

T = TypeVar("T")


def compose(recipe: str, overrides: Sequence[str] = (), *, complete: bool = True) -> DictConfig:
    """Compose a recipe by its name under `recipes/` or by the path of a YAML file.

    Args:
        recipe: name or path.
        overrides: `key=value` changes.
        complete: whether every value must be given; otherwise a recipe that lacks one is returned as it is written.

    Raises:
        RecipeError: no such recipe, no YAML, an unknown key, a value that is missing, or a seed that is none.
    """
    folder, name = resource_dir("recipes"), recipe.removesuffix(".yaml")
    search: list[str] = []
    path = Path(recipe)
    if path.suffix == ".yaml" and path.is_file():
        search = [f"hydra.searchpath=[file://{folder}]"]
        folder, name = path.resolve().parent, path.stem
    elif not (folder / f"{name}.yaml").is_file():
        raise RecipeError(
            f"no recipe {recipe!r}; a path ends in .yaml, the names are {_names(folder, recipe)}"
        )
    OmegaConf.register_new_resolver("prepared", _prepared_sources, replace=True)
    OmegaConf.register_new_resolver("last", lambda values: values[-1], replace=True)
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            config = hydra.compose(name, [*overrides, *search])
        missing = lacks(config)
        if not missing:
            OmegaConf.resolve(config.model)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        if isinstance(error.__context__, RecipeError):  # what a resolver said
            raise error.__context__ from None
        raise RecipeError(f"recipe {recipe!r}: {' '.join(str(error).split())}") from error
    if missing and not complete:
        return config
    if missing:
        needed = ", ".join(f"{key}=..." for key in sorted(missing))
        raise RecipeError(f"recipe {recipe!r} needs {needed}")
    check_types(config)
    return one_source(config)


def _names(folder: Path, recipe: str) -> str:
    """Names of the folders of recipes; of those of one folder, where it is the one that was meant."""
    folders = sorted({path.parent.name for stage in CHAIN[:2] for path in folder.glob(f"*/{stage}.yaml")})
    meant = recipe.partition("/")[0]
    if meant in folders:
        return ", ".join(sorted(f"{meant}/{path.stem}" for path in (folder / meant).glob("*.yaml")))
    return f"{', '.join(folders)}, and those of their recipes, such as {folders[0]}/{CHAIN[0]}"


def check_types(config: DictConfig) -> None:
    """Refuse what cannot be a recipe's text, folder, mapping, card or seed; other values are looked at in their parts.

    Raises:
        RecipeError: saying what was expected and found.
    """
    for name in ("model", "data", "data.mixing", "optim", "trainer", "losses", "logger", "card"):
        if not isinstance(value := OmegaConf.select(config, name), DictConfig):
            raise RecipeError(f"{name} must have settings, found {value!r}")
    for name in ("stage", "run_dir", "data.train"):
        if not isinstance(value := OmegaConf.select(config, name), str):
            raise RecipeError(f"{name} must be text, found {value!r}")
    for name in ("add_source", "others"):
        if not isinstance(value := config.get(name), str | None):
            raise RecipeError(f"{name} must be text, found {value!r}")
    if not _texts(config.data.valid):
        raise RecipeError(f"data.valid must be a list of folders, found {config.data.valid!r}")
    init = config.get("init")
    if not (init is None or isinstance(init, str) or _texts(init)):
        raise RecipeError(f"init must be a model or a list of models, found {init!r}")
    check_number("seed", config.get("seed", 0), least=0, most=(1 << 32) - 1, whole=True)
    card = plain(config.card)
    for name, kind in CARD_FIELDS.items():
        if name in card and not isinstance(card[name], kind):
            raise RecipeError(f"card.{name} must be {KINDS.get(kind, kind.__name__)}, found {card[name]!r}")
    try:
        json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"card: {error}") from error


def _texts(values: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(values, ListConfig) and all(isinstance(value, str) for value in values)


def lacks(config: DictConfig) -> list[str]:
    """Keys of a recipe whose values are still to be given."""
    return list(_missing(OmegaConf.to_container(config, resolve=False)))


def _missing(values: Any, prefix: str = "") -> Iterator[str]:
    """Keys whose values are still to be given, found without looking at what refers to them."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if value == "???":
            yield f"{prefix}{key}"
        yield from _missing(value, f"{prefix}{key}.")


def _prepared_sources(root: str) -> ListConfig:
    """`${prepared:ROOT}`: the sources that the manifest of a prepared set names."""
    path = Path(root) / MANIFEST_NAME
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))["sources"]
        return OmegaConf.create([str(source) for source in sources])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{path} names no sources: build the set with sepvae data prepare, or give model.sources=[...]"
        ) from error


def one_source(config: DictConfig) -> DictConfig:
    """Narrow a recipe to its `source`, if it names one: only this source's VAE, in a run folder of its own.

    Raises:
        RecipeError: the stage is not `vae`, or the recipe has no such source.
    """
    source = config.get("source")
    if source is None:
        return config
    if config.stage != "vae":
        raise RecipeError(f"source={source} goes with stage=vae, this is stage={config.stage}")
    if source not in config.model.sources:
        raise RecipeError(f"source={source}: the recipe's sources are {', '.join(config.model.sources)}")
    if config.model.get("vae_names"):
        config.model.vae_names = [config.model.vae_names[list(config.model.sources).index(source)]]
    config.model.sources, config.model.residual_source = [source], source
    config.run_dir = f"{config.run_dir}-{source}"
    return config


@dataclass(frozen=True)
class Plan:
    """Recipes to train one after the other.

    Args:
        stages: composed recipes; each starts from the model of the one before.
        run_dir: folder of the whole; that of the only stage, or what holds those of all stages.
    """

    stages: tuple[DictConfig, ...]
    run_dir: Path


def plan(recipe: str, overrides: Sequence[str] = (), *, complete: bool = True) -> Plan:
    """Resolve a recipe, or a folder of recipes and a stage, into what there is to train.

    Args:
        recipe: name or path of a recipe; or name or path of a folder that holds `vae` and `separation`.
        overrides: `key=value` changes; `stage=` picks a recipe of the folder or, with `all`, the whole chain. A key
            that starts with the name of a stage, `vae.optim.lr` say, is for this stage alone.
        complete: see `compose`.

    Raises:
        RecipeError: see `compose`.
    """
    stage = next((value for value in reversed(overrides) if value.startswith("stage=")), None)
    overrides = [value for value in overrides if not value.startswith("stage=")]
    siblings = _folder(recipe)
    if siblings is None and stage is None:
        if any(map(_owner, overrides)):
            overrides = for_stage(overrides, compose(recipe, complete=False).get("stage"))
        config = compose(recipe, overrides, complete=complete)
        return Plan((config,), Path(config.run_dir))
    if siblings is None:
        siblings = {path.stem: str(Path(recipe).with_name(path.name)) for path in _neighbours(recipe)}
    wanted = "all" if stage is None else stage.removeprefix("stage=")
    if wanted != "all":
        if wanted not in siblings:
            raise RecipeError(
                f"recipe {recipe!r} has no stage {wanted!r}, it has {', '.join(sorted(siblings))}, all"
            )
        config = compose(siblings[wanted], for_stage(overrides, wanted), complete=complete)
        return Plan((config,), Path(config.run_dir))
    return _chain(recipe, siblings, overrides, complete)


def _chain(recipe: str, siblings: Mapping[str, str], overrides: Sequence[str], complete: bool) -> Plan:
    """All stages that a folder of recipes has, from the VAEs to the separation."""
    if lacking := [stage for stage in CHAIN[:2] if stage not in siblings]:
        raise RecipeError(f"recipe {recipe!r} has no stage {lacking[0]!r}, so there is no chain")
    own = next((value for value in reversed(overrides) if value.startswith("run_dir=")), None)
    folder = Path(recipe) if _folder(recipe) is not None else Path(recipe).parent
    run_dir = Path(value_of(own)) if own else Path("runs") / folder.name
    stages: list[DictConfig] = []
    for stage in CHAIN:
        if stage in siblings:
            changes = [with_path("run_dir", run_dir / stage)]
            if stages:
                changes.append(with_path("init", Path(stages[-1].run_dir) / "model"))
            own_overrides = [*for_stage(overrides, stage), *changes]
            stages.append(compose(siblings[stage], own_overrides, complete=complete))
    return Plan(tuple(stages), run_dir)


def _folder(recipe: str) -> dict[str, str] | None:
    """Recipes of a folder by their stage, None if there is no such folder."""
    bundled = resource_dir("recipes") / recipe
    if (bundled / "separation.yaml").is_file():
        return {path.stem: f"{recipe}/{path.stem}" for path in sorted(bundled.glob("*.yaml"))}
    if (Path(recipe) / "separation.yaml").is_file():
        return {path.stem: str(path) for path in sorted(Path(recipe).glob("*.yaml"))}
    return None


def _neighbours(recipe: str) -> list[Path]:
    """Files of the recipes beside a recipe."""
    path = Path(recipe)
    folder = path.parent if path.is_file() else (resource_dir("recipes") / recipe).parent
    return sorted(folder.glob("*.yaml"))


def for_stage(overrides: Sequence[str], stage: str | None) -> list[str]:
    """Overrides that a stage sees: those for all, and those whose key starts with its name, without it."""
    seen = [override for override in overrides if _owner(override) in (stage, None)]
    return [override.removeprefix(f"{stage}.") for override in seen]


def _owner(override: str) -> str | None:
    """The stage that an override is meant for alone, None for all."""
    owner, dot, _ = override.partition(".")
    return owner if dot and owner in OWNERS else None


def with_path(key: str, path: Path) -> str:
    """An override that gives a key this path, whatever characters it has."""
    text = re.sub(r"(\\*)(?='|$)", r"\1\1", str(path)).replace("'", r"\'")
    return f"{key}='{text}'"


def value_of(override: str) -> str:
    """The text that an override gives its key.

    Raises:
        RecipeError: not an override.
    """
    try:
        return str(OverridesParser.create().parse_override(override).value())
    except HydraException as error:
        raise RecipeError(" ".join(str(error).split())) from error


def unfold(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that a sweep such as `optim.lr=1e-3,2e-3` names, in Hydra's grammar.

    Raises:
        RecipeError: not an override.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
            if item.is_sweep_override()
            else [str(item.input_line)]
            for item in parsed
        ]
    except HydraException as error:
        raise RecipeError(" ".join(str(error).split())) from error
    return [list(job) for job in itertools.product(*values)]


def typed(kind: type[T], values: DictConfig, where: str) -> T:
    """A dataclass from a part of a recipe, its names and types checked.

    Raises:
        RecipeError: naming the part.
    """
    try:
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        raise RecipeError(f"{where}: {str(error).splitlines()[0]}") from error
    assert isinstance(made, kind)
    return made


def plain(config: DictConfig) -> dict[str, Any]:
    """A part of a recipe as plain values."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, Mapping)
    return {str(key): value for key, value in values.items()}
