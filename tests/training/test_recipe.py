"""Recipes: what the command line makes of them, without training."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sepvae import checkpoint
from sepvae.card import read_card
from sepvae.data.mixing import MixingConfig
from sepvae.errors import DataError, RecipeError
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training import records, run
from sepvae.training.objectives import LossConfig, OptimConfig
from sepvae.training.recipe import compose, for_stage, plain, plan, typed, unfold

Settings = Callable[..., list[str]]


def test_a_sweep_takes_every_combination() -> None:
    assert unfold(["seed=1", "optim.lr=1e-3,2e-3", "model.sources=[a,b]", "x=range(1,3)"]) == [
        ["seed=1", "optim.lr=0.001", "model.sources=[a,b]", "x=1"],
        ["seed=1", "optim.lr=0.001", "model.sources=[a,b]", "x=2"],
        ["seed=1", "optim.lr=0.002", "model.sources=[a,b]", "x=1"],
        ["seed=1", "optim.lr=0.002", "model.sources=[a,b]", "x=2"],
    ]


def test_every_run_of_a_sweep_has_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr(run, "train", lambda recipe, overrides: seen.append((recipe, overrides)) or tmp_path)
    run.sweep("music/vae", ["data.root=DATA", "optim.lr=1e-3,2e-3"])
    assert seen == [
        ("music/vae", ["data.root=DATA", f"optim.lr={lr}", f"run_dir=runs/music/vae/optim.lr={lr}"])
        for lr in ("0.001", "0.002")
    ]


def test_overrides_of_a_stage_reach_this_stage_only() -> None:
    overrides = ["seed=1", "vae.optim.lr=2", "separation.seed=3", "model.vae.patch=2"]
    assert for_stage(overrides, "vae") == ["seed=1", "optim.lr=2", "model.vae.patch=2"]
    assert for_stage(overrides, "separation") == ["seed=1", "seed=3", "model.vae.patch=2"]


def test_the_chain_starts_each_stage_from_the_one_before() -> None:
    todo = plan("music", ["data.root=DATA", "run_dir=there", "vae.optim.max_steps=7"])
    assert [config.stage for config in todo.stages] == ["vae", "separation", "encoders"]
    assert [config.init for config in todo.stages] == [None, "there/vae/model", "there/separation/model"]
    assert [config.optim.max_steps for config in todo.stages] == [7, 8000, 1000]


@pytest.mark.parametrize("recipe", ["music", "music/separation"])
def test_stage_picks_a_recipe_of_the_folder(recipe: str) -> None:
    (config,) = plan(recipe, ["data.root=DATA", "stage=vae", "source=drums"]).stages
    assert config == compose("music/vae", ["data.root=DATA", "source=drums"])
    assert config.model.sources == ["drums"]
    assert config.run_dir == "runs/music/vae-drums"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage=none"], "no stage 'none'"),
        (["stage=vae", "source=flute"], "sources are vocals"),
        (["stage=separation", "init=x", "source=drums"], "goes with stage=vae"),
    ],
)
def test_what_does_not_go_together_is_told(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plan("music", ["data.root=DATA", *overrides])


def test_a_missing_folder_is_told_before_anything_starts(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(DataError, match="no such dataset folder"):
        run.train("music", settings(tmp_path / "run", "separation.data.root=nowhere"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lr=fast", "optim"),
        ("optim.schedule=step", "linear or cosine"),
        ("+losses.gamma=1", "losses"),
        ("trainer.export=first", "last or best"),
        ("trainer.accumulate=3", "split evenly"),
    ],
)
def test_a_value_that_does_not_fit_is_told_before_anything_starts(
    change: str, message: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(RecipeError, match=message):
        run.train("music/vae", settings(tmp_path / "run", change))
    assert not (tmp_path / "run").exists()


def test_schedules_rise_to_the_peak_and_end_at_zero() -> None:
    for schedule, middle in (("linear", 1.0), ("cosine", 0.5)):
        optim = OptimConfig(schedule=schedule, warmup_steps=10, decay_steps=20, max_steps=110)
        factors = [optim.factor(step) for step in range(111)]
        assert factors[0] == pytest.approx(0.1)
        assert max(factors) == pytest.approx(1.0, abs=1e-3)
        assert factors[60] == pytest.approx(middle)
        assert factors[-1] == pytest.approx(0.0)


def test_a_recipe_without_losses_has_the_defaults() -> None:
    config = compose("music/mask_net", ["data.root=DATA"])
    assert typed(LossConfig, config.losses, "losses") == LossConfig(output_db=0.5)


def test_a_recipe_without_mixing_has_the_defaults() -> None:
    mixing = plain(compose("music/finetune", ["data.root=DATA"]).data.mixing)
    del mixing["frames"]
    mixing |= {name: tuple(mixing[name]) for name in ("level_db", "speed")}
    assert MixingConfig(**mixing) == MixingConfig()


def test_vaes_of_single_sources_come_together(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 2)
    made = tmp_path / "vae"
    for source in ("drums", "bass"):
        run.train("music/vae", settings(made, f"source={source}", "optim.max_steps=1"))
    folders = [f"{made}-{source}/model" for source in ("drums", "bass")]
    config = compose("music/separation", settings(tmp_path / "sep", f"init=[{','.join(folders)}]"))
    state = run.build_module(config).model.state_dict()
    for folder in folders:
        model, card = checkpoint.load(folder)
        assert card["sources"] == [folder.removesuffix("/model").rpartition("-")[2]]
        for name, tensor in model.state_dict().items():
            if name.startswith("vaes."):
                assert torch.equal(state[name], tensor)


def test_fine_tuning_starts_from_the_trained_weights(
    tmp_path: Path, settings: Settings, tiny_config: SeparationConfig
) -> None:
    trained = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=8000))
    data = [{"name": "theirs"}]
    checkpoint.save(tmp_path / "trained", trained, {"data": data, "licence": "CC0-1.0"})
    config = compose("music/finetune", settings(tmp_path / "run", f"init={tmp_path / 'trained'}"))
    model = run.build_module(config).model
    for name, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    folder = records.export(model, config, tmp_path / "model", 1, {"train": {"tracks": 1, "hours": 1}})
    card = read_card(folder)
    assert [entry["name"] for entry in card["data"]] == ["theirs", "own recordings"]
    assert card["licence"] == "CC0-1.0"
    assert card["training"]["init"][0]["sha256"] == read_card(tmp_path / "trained")["weights"]["sha256"]
