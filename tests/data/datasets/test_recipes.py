"""Every dataset's recipes compose, build, and learn on what its reader makes of a tiny dataset in its layout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sepvae.data.datasets import DATASETS
from sepvae.data.prepared import prepare
from sepvae.errors import RecipeError
from sepvae.models.separation import SeparationVAE
from sepvae.resources import resource_dir
from sepvae.training.data import MixtureData
from sepvae.training.modules import SeparationModule, VAEModule
from sepvae.training.recipe import compose
from sepvae.training.run import build_module

RATE = 8000
LEARNING = [
    f"model.sample_rate={RATE}",
    "data.mixing.frames=24",
    "optim.lr=1e-2",
]
"""Overrides that let a tiny model learn in a few steps."""
OPTIONS = {
    "librimix1": ("librimix", {"speakers": "1"}),
    "librimix3": ("librimix", {"speakers": "3"}),
    "fsdd": ("fsdd", {"mixtures": "5"}),
    "speech_commands": ("speech_commands", {"mixtures": "5"}),
}
"""Recipes whose dataset has another name, or options."""
RECIPES = (
    "stems",
    "solos",
    "musdb18hq",
    "musdb18",
    "moisesdb",
    "slakh2100",
    "dnr",
    "voicebank",
    "librimix",
    "librimix1",
    "librimix3",
    "fsdd",
    "speech_commands",
)
TWINS = {"musdb18", "librimix1", "speech_commands"}
"""Recipes that say the same of another dataset as one of the others; their steps are left to -m slow."""
LEARN = [pytest.param(r, marks=pytest.mark.slow) if r in TWINS else r for r in RECIPES]
SEPARATIONS = (*(f"{name}/separation" for name in RECIPES), "fsdd/joint")
SEPARATE = [
    pytest.param(path, marks=pytest.mark.slow) if path.split("/")[0] in TWINS else path
    for path in SEPARATIONS
]
STEPS = 12


@pytest.fixture(scope="module")
def prepared(
    layouts: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A tiny dataset as its recipe reads it, made once."""
    made: dict[str, Path] = {}

    def out(recipe: str) -> Path:
        if recipe not in made:
            name, options = OPTIONS.get(recipe, (recipe, {}))
            made[recipe] = tmp_path_factory.mktemp("prepared") / recipe
            prepare(
                DATASETS[name].with_options(options), layouts(name), made[recipe], sample_rate=RATE, jobs=1
            )
        return made[recipe]

    return out


def learn(module: VAEModule | SeparationModule, data: MixtureData) -> tuple[float, float]:
    """Loss of one batch before and after some steps on it, the sampled latents the same."""
    batch = data.stream(0).batch(0)
    module.log_terms = lambda terms: None  # type: ignore[method-assign]  # there is no trainer to log to
    module.model.set_level(torch.full((32,), -9.0))
    optimizer = torch.optim.AdamW(module.parameters(), module.optim.lr)
    losses = []
    for _ in range(STEPS):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


@pytest.mark.parametrize("recipe", LEARN)
def test_solo_training_learns(recipe: str, prepared: Callable[[str], Path], tiny_recipe: list[str]) -> None:
    settings = [*tiny_recipe, *LEARNING, f"data.root={prepared(recipe)}", "trainer.accelerator=cpu"]
    config = compose(f"{recipe}/vae", settings)
    torch.manual_seed(0)
    module = build_module(config)
    assert isinstance(module, VAEModule)
    data = MixtureData(config, module.model)
    manifest = json.loads((prepared(recipe) / "manifest.json").read_text())
    assert list(module.model.config.sources) == manifest["sources"]
    before, after = learn(module, data)
    assert after < before - 1.0  # nats: the likelihood of every bin has grown by a factor of e


@pytest.mark.parametrize("path", SEPARATE)
def test_separation_training_learns_and_validates(
    path: str, prepared: Callable[[str], Path], tiny_recipe: list[str]
) -> None:
    data_root = f"data.root={prepared(path.split('/')[0])}"
    settings = [*tiny_recipe, *LEARNING, data_root, "init=null", "losses.frozen_steps=0"]
    config = compose(path, settings)
    torch.manual_seed(0)
    module = build_module(config)
    assert isinstance(module, SeparationModule)
    data = MixtureData(config, module.model)
    before, after = learn(module, data)
    assert after < before - 1.0  # of its terms, weighted: nats and tenths of decibels
    with torch.no_grad():
        estimates = module.validation_step((0, *data.valid[0][0]), 0)
    assert estimates.shape[0] == len(module.model.config.sources)
    assert module.found


@pytest.mark.parametrize("path", SEPARATIONS)
def test_the_recipe_as_it_is_builds_its_model(path: str, prepared: Callable[[str], Path]) -> None:
    recipe = path.split("/")[0]
    root = prepared(recipe)
    config = compose(path, [f"data.root={root}", "init=null", "losses.frozen_steps=0"])
    with torch.device("meta"):
        model = build_module(config).model
    assert isinstance(model, SeparationVAE)
    if recipe.startswith("librimix") and recipe != "librimix1":
        assert set(model.vaes) == {"speech", "noise"}
    dataset = DATASETS[OPTIONS.get(recipe, (recipe, {}))[0]]
    assert model.config.sample_rate == dataset.sample_rate  # so prepare needs no --rate
    readme = (resource_dir("recipes") / recipe / "README.md").read_text(encoding="utf-8")
    for words in (f"sepvae data prepare {dataset.name}", f"sepvae train {recipe}", "Licence", "Size"):
        assert words in readme, words


def test_every_recipe_of_a_dataset_is_tested_here() -> None:
    folders = {path.parent.name for path in resource_dir("recipes").glob("*/separation.yaml")}
    assert folders - {"music", "speech"} == set(RECIPES)


def test_own_sources_come_from_the_manifest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=re.escape("names no sources")):
        compose("stems/vae", [f"data.root={tmp_path}"])
    with pytest.raises(RecipeError, match=r"needs data\.root"):
        compose("stems/vae")
    config = compose("stems/vae", [f"data.root={tmp_path}", "model.sources=[a,b]"])
    assert config.model.residual_source == "b"
