"""Recipes: what the command line makes of them, without training."""

import dataclasses
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sepvae import checkpoint
from sepvae.card import read_card
from sepvae.data.mixing import MixingConfig
from sepvae.errors import CheckpointError, DataError, RecipeError
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training import records, run
from sepvae.training.objectives import LossConfig, OptimConfig
from sepvae.training.recipe import compose, for_stage, lacks, plain, plan, typed, unfold, value_of, with_path
from sepvae.training.trainer import TrainerConfig, strategy

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
        ("music/vae", ["data.root=DATA", f"optim.lr={lr}", f"run_dir='runs/music/vae/optim.lr={lr}'"])
        for lr in ("0.001", "0.002")
    ]


def test_a_sweep_trains(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 1)
    models = run.sweep("music/mask_net", settings(tmp_path / "s", "optim.lr=1e-3,2e-3", "seed=0,1"))
    assert len({read_card(model)["weights"]["sha256"] for model in models}) == 4


@pytest.mark.parametrize("name", ["a b", "a=b,c", "it's", "back\\", "back\\'s", "$(x)[y]{z}"])
def test_a_path_of_any_characters_is_an_override(name: str) -> None:
    assert value_of(with_path("run_dir", Path(name))) == name


def test_overrides_of_a_stage_reach_this_stage_only() -> None:
    overrides = ["seed=1", "vae.optim.lr=2", "separation.seed=3", "model.vae.patch=2"]
    assert for_stage(overrides, "vae") == ["seed=1", "optim.lr=2", "model.vae.patch=2"]
    assert for_stage(overrides, "separation") == ["seed=1", "seed=3", "model.vae.patch=2"]


def test_a_single_recipe_sees_the_overrides_of_its_own_stage_only() -> None:
    overrides = ["data.root=DATA", "vae.optim.max_steps=7", "separation.optim.max_steps=8"]
    (solo,) = plan("music/vae", overrides).stages
    (tuned,) = plan("music/finetune", overrides).stages
    (head,) = plan("music/added", [*overrides, "add_source=flute"]).stages
    assert [config.optim.max_steps for config in (solo, tuned, head)] == [7, 8, 1500]


@pytest.mark.parametrize("seed", ["abc", "-5", "99999999999999999999", "1.5", "null"])
def test_a_seed_that_no_generator_takes_is_refused(seed: str) -> None:
    with pytest.raises(RecipeError, match="seed must be a whole number from 0"):
        compose("music/vae", ["data.root=DATA", f"seed={seed}"])


@pytest.mark.parametrize("content", [b"a: [", b"a: \xff"])
def test_a_recipe_that_is_no_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.yaml") as caught:
        compose(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(caught.value)


def test_a_recipe_can_be_planned_without_what_is_still_to_be_given() -> None:
    todo = plan("music", ["seed=3"], complete=False)
    assert [lacks(config) for config in todo.stages] == [["data.root"]] * 3
    assert [config.seed for config in todo.stages] == [3] * 3


def test_a_prepared_set_that_is_not_there_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        compose("stems/vae", [f"data.root={tmp_path}"])
    assert str(caught.value).startswith(f"{tmp_path}/manifest.json names no sources")


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        (["trainer.devices=1"], True),
        (["trainer.devices=auto", "trainer.accelerator=cpu"], True),
        (["trainer.devices=auto"], False),
        (["trainer.devices=2", "trainer.accelerator=cpu"], False),
        (["trainer.devices=1", "trainer.num_nodes=2"], False),
    ],
)
def test_one_device_of_several_needs_no_ddp(
    changes: list[str], alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = compose("music/vae", ["data.root=DATA", *changes])
    assert (strategy(typed(TrainerConfig, config.trainer, "trainer")) == "auto") == alone


def test_sets_of_one_name_are_refused(settings: Settings, songs: Path, tmp_path: Path) -> None:
    twice = f"data.valid=[{songs}/valid,{tmp_path}/other/valid]"
    shutil.copytree(songs / "valid", tmp_path / "other" / "valid")
    with pytest.raises(RecipeError, match="told apart by the names of their folders"):
        run.train("music/vae", settings(tmp_path / "run", twice))
    assert not (tmp_path / "run").exists()


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
        ("trainer.accumulate=0", "trainer.accumulate"),
        ("trainer.val_every=0", "trainer.val_every"),
        ("trainer.val_every=often", "trainer: .*often"),
        ("trainer.ema_decay=2", "trainer.ema_decay"),
        ("trainer.precision=bf17", "Precision 'bf17' is invalid"),
        ("trainer.strategy=foo", "invalid strategy name"),
        ("trainer.compile=foo", "trainer.compile must be null or a backend .* inductor.*, found 'foo'"),
        ("trainer.compile=true", "trainer.compile must be null .*, found 'True'"),
        ("data.workers=-1", "data.workers"),
        ("data.valid=nowhere", "data.valid"),
        ("data.mixing.batch_size=0", "data.mixing.batch_size"),
        ("data.mixing.frames=x", "data.mixing.frames"),
        ("data.mixing.frames=30", "data.mixing.frames must be a multiple of 8, found 30"),
        ("data.mixing.frames=8000000", "data.mixing.frames must be a whole number from 5 to 450003, found"),
        ("data.mixing.aligned=2", "data.mixing.aligned"),
        ("data.mixing.speed=1", "data.mixing.speed"),
        ("data.mixing.level_db=[3,-14]", "data.mixing.level_db"),
        ("data.mixing.sounding=9", "data.mixing.sounding"),
        ("data.mixing.sounding=abc", "data.mixing.sounding must be a whole number above 0, found 'abc'"),
        ("data.mixing.sounding=1.5", "data.mixing.sounding must be a whole number"),
        ("data.mixing.gain_sd_db=abc", "data.mixing.gain_sd_db must be a number from 0 on"),
        ("data.mixing.tone_db=abc", "data.mixing.tone_db"),
        ("data.mixing.groups=3", "data.mixing.groups must map names to weights"),
        ("+data.mixing.groups.x=-1", "data.mixing.groups: the weight of 'x'"),
        ("data.mixing.speed=[0,0]", "data.mixing.speed must be a range of two numbers above 0"),
        ("data.mixing.level_db=[a,b]", "data.mixing.level_db must be a range of two numbers"),
        ("data.mixing.effects=null", "data.mixing.effects must name effects"),
        ("data.mixing.effects.eq=3", "data.mixing.effects.eq must have settings"),
        ("data.mixing.effects.eq.chance=abc", "effects.eq.chance must be a number from 0 to 1"),
        ("data.mixing.effects.eq.chance=2", "effects.eq.chance must be a number from 0 to 1"),
        ("data.mixing.effects.pitch.range=[3]", "effects.pitch.range must be a range"),
        (
            "data.mixing.effects.tempo.range=[0,1]",
            "effects.tempo.range must be a range of two numbers above 0",
        ),
        ("data.mixing.effects.codec.formats=mp3", "codec formats are a list of"),
        ("data.mixing.effects.codec.formats=[]", "codec formats are a list of"),
        ("data.mixing=null", "data.mixing must have settings"),
        ("data.train=3", "data.train must be text"),
        ("data.valid=[3]", "data.valid must be a list of folders"),
        ("optim.weight_decay=-1", "optim.weight_decay must be a number from 0 on"),
        ("optim.warmup_steps=-3", "optim.warmup_steps"),
        ("optim.decay_steps=-3", "optim.decay_steps"),
        ("optim.lr=inf", "optim.lr"),
        ("optim=null", "recipe 'music/vae': "),
        ("losses.beta=-1", "losses.beta must be a number from 0 on"),
        ("losses.coded_db=nan", "losses.coded_db"),
        ("losses.frozen_steps=-1", "losses.frozen_steps"),
        ("losses.contrast_most=0", "losses.contrast_most must be a number above 0"),
        ("trainer.devices=abc", "trainer: .*devices"),
        ("trainer.accumulate=abc", "trainer: .*abc"),
        ("trainer.gradient_clip=-1", "trainer.gradient_clip must be a number from 0 on"),
        ("card=null", "recipe 'music/vae': "),
        ("card.name=2024", "card.name must be text, found 2024"),
        ("card.name=null", "card.name must be text"),
        ("card.licence=null", "card.licence must be text, found None"),
        ("card.description=[a]", "card.description must be text"),
        ("init=[3]", "init must be a model or a list of models"),
    ],
)
def test_a_value_that_does_not_fit_is_told_before_anything_starts(
    change: str, message: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        run.train("music/vae", settings(tmp_path / "run", change))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["trainer.devices=abc", "data.mixing.tone_db=-1", "trainer.compile=foo"])
def test_a_value_of_a_later_stage_is_told_before_the_first_one_starts(
    change: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(RecipeError, match=r"trainer|tone_db"):
        run.train("music", settings(tmp_path / "run", f"separation.{change}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["stems", "music/mask_net"])
def test_a_single_source_is_nothing_to_separate(recipe: str, tmp_path: Path, settings: Settings) -> None:
    one = ["model.sources=[bass]", "model.residual_source=bass"]
    with pytest.raises(
        RecipeError, match=r"^stage=\w+ needs two or more sources, found only 'bass'; stage=vae"
    ):
        run.train(recipe, settings(tmp_path / "run", *one))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["run_dir=3", "run_dir=null"])
def test_a_run_folder_is_text(change: str) -> None:
    with pytest.raises(RecipeError, match="run_dir must be text, found"):
        compose("music/vae", ["data.root=DATA", change])


@pytest.mark.parametrize("change", ["model.sources=[a.b,c]", "model.sample_rate=9000000"])
def test_a_model_that_could_not_be_read_again_is_refused_before_anything_starts(
    change: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(CheckpointError, match=r"name of a source|sample_rate must lie between"):
        run.train("music/vae", settings(tmp_path / "run", change, "model.residual_source=c"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["losses.given=true", "model.told=true"])
def test_a_mask_net_is_not_trained_with_knowledge_that_it_would_not_get(
    change: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(RecipeError, match="stage=mask_net goes with neither"):
        run.train("music/mask_net", settings(tmp_path / "run", change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "names"),
    [("stem", "dnr, fsdd, .*, stems, voicebank, and .*, such as dnr/vae"), ("music/vea", "music/added, .*")],
)
def test_an_unknown_recipe_is_told_the_names_that_there_are(recipe: str, names: str) -> None:
    with pytest.raises(
        RecipeError, match=f"no recipe '{recipe}'; a path ends in .yaml, the names are {names}$"
    ):
        plan(recipe)


def test_a_validation_set_that_is_trained_on_is_told(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 1)
    with caplog.at_level(logging.WARNING):
        run.train("music/mask_net", settings(tmp_path, "data.valid=['${data.train}']", "optim.max_steps=1"))
    assert [text for text in caplog.messages if "is trained on and in data.valid" in text]


def test_sources_that_a_recipe_lacks_are_named(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 1)
    two = ["model.sources=[vocals,drums]", "model.residual_source=drums", "optim.max_steps=1"]
    with caplog.at_level(logging.WARNING):
        run.train("music/mask_net", settings(tmp_path / "run", *two))
    assert "left out of the mixtures, the recipe has no such source: bass, other" in caplog.messages


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
    changes = [f"init=[{','.join(folders)}]", "losses.frozen_steps=0"]  # two of four
    config = compose("music/separation", settings(tmp_path / "sep", *changes))
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
    sets = {"train": {"tracks": 1, "hours": 1}, "valid": {"tracks": 2, "hours": 2}}
    card = read_card(records.export(model, config, tmp_path / "model", 1, sets))
    assert [entry["name"] for entry in card["data"]] == ["theirs", "own recordings"]
    assert card["licence"] == "CC0-1.0; of own recordings: not stated"
    assert card["data"][1]["what"] == "1 tracks, 1 h"
    config.card.licence = "CC-BY-4.0"
    card = read_card(records.export(model, config, tmp_path / "model", 1, sets))
    assert card["licence"] == "CC0-1.0; of own recordings: CC-BY-4.0"
    assert card["data"][1]["licence"] == "CC-BY-4.0"
    assert card["training"]["init"][0]["sha256"] == read_card(tmp_path / "trained")["weights"]["sha256"]


def test_a_model_from_several_has_the_licence_of_each() -> None:
    parents = [{"licence": "CC-BY-SA-4.0"}, {"licence": "CC-BY-NC-4.0"}, {}, {"licence": "CC-BY-SA-4.0"}]
    assert records.inherited(parents, {"name": "own"})["licence"] == "CC-BY-SA-4.0; CC-BY-NC-4.0"


def test_a_model_of_own_recordings_has_the_licence_that_was_stated_once() -> None:
    own = {"name": "own", "licence": "not stated"}
    before = {"data": [own], "licence": "not stated"}
    assert records.inherited([before], own)["licence"] == "not stated"
    both = "MIT; of own recordings: not stated"
    assert records.inherited([{"licence": "MIT"}, before], own)["licence"] == both
    again = {"name": "own", "what": "more", "licence": "not stated"}
    assert records.inherited([{"licence": both}], again)["licence"] == both
    assert records.inherited([{"licence": "MIT"}], {"name": "own", "licence": "MIT"})["licence"] == "MIT"


@pytest.mark.parametrize("recipe", ["stems/vae", "solos/vae", "music/finetune", "music/added"])
def test_the_licence_of_own_recordings_can_be_stated(recipe: str) -> None:
    needed = (
        ["model.sources=[a,b]", "model.residual_source=b"] if recipe != "music/added" else ["add_source=a"]
    )
    changes = ["data.root=DATA", "card.licence=CC0-1.0", *needed]
    assert compose(recipe, changes).card.licence == "CC0-1.0"


def test_weights_that_init_has_in_another_shape_are_named(
    tmp_path: Path, settings: Settings, tiny_config: SeparationConfig, caplog: pytest.LogCaptureFixture
) -> None:
    model = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=8000))
    checkpoint.save(tmp_path / "before", model, {})
    same = settings(tmp_path / "run", f"init={tmp_path / 'before'}")
    with caplog.at_level(logging.WARNING):
        run.build_module(compose("music/finetune", same))
        assert not caplog.messages
        run.build_module(compose("music/finetune", [*same, "model.trunk_channels=[6,6,6,8]"]))
    assert "their shapes differ: mixture.trunk" in caplog.text


def test_blocks_that_init_has_and_the_recipe_lacks_are_named(
    tmp_path: Path, settings: Settings, tiny_config: SeparationConfig, caplog: pytest.LogCaptureFixture
) -> None:
    deep = dataclasses.replace(tiny_config, sample_rate=8000, trunk_blocks=(1, 1, 1, 2))
    checkpoint.save(tmp_path / "deep", SeparationVAE(deep), {})
    with caplog.at_level(logging.WARNING):
        run.build_module(compose("music/finetune", settings(tmp_path / "run", f"init={tmp_path / 'deep'}")))
    assert "the recipe's model lacks them: mixture.trunk.unet.bottom_up.levels.3.1." in caplog.text


def test_a_commit_is_told_of_a_checkout_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "sepvae" / "training"
    package.mkdir(parents=True)
    monkeypatch.setattr(records, "__file__", str(package / "records.py"))

    def no_git(*args: object, **options: object) -> None:
        raise FileNotFoundError("git")

    with monkeypatch.context() as within:
        within.setattr(subprocess, "run", lambda *a, **o: subprocess.CompletedProcess(a, 0, "abc\n"))
        assert "commit" not in records.versions()  # that of whoever's repository this is
        (tmp_path / "site" / ".git").touch()
        assert records.versions()["commit"] == "abc"
    monkeypatch.setattr(subprocess, "run", no_git)
    assert "commit" not in records.versions()


def test_an_old_model_stays_until_its_successor_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(name)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if target == tmp_path / "old" and not self.name.endswith(".old"):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as within:
        within.setattr(Path, "rename", refused)
        within.setattr(Path, "replace", refused)
        with pytest.raises(KeyboardInterrupt):
            run.replace_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "card.json").read_text() == "old"
    run.replace_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "card.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
