"""The recipes as they are, on tiny models and generated songs: they compose, learn, resume and leave a model folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sepvae import checkpoint
from sepvae.data.mixing import ExcerptStream, Mixture
from sepvae.errors import RecipeError
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training import records
from sepvae.training.run import build_module, compose, composed, train

from ..conftest import stir

Settings = Callable[..., list[str]]
Weights = Callable[[Path], dict[str, torch.Tensor]]


def test_vae_then_separation_leaves_a_model_that_separates(
    settings: Settings, weights: Weights, tmp_path: Path
) -> None:
    solo = train("music/vae", settings(tmp_path / "vae"))
    init = f"init={solo}"
    folder = train(
        "music/separation",
        settings(tmp_path / "sep", init, "losses.frozen_steps=2", "losses.solo_every=1"),
    )
    model, card = checkpoint.load(folder)
    assert card["training"]["steps"] == 4
    assert card["training"]["recipe"]["optim"]["max_steps"] == 4
    assert str(tmp_path) not in str(card)
    mix = 0.1 * torch.randn(1, 2, 5000)
    S = model.separate_frames(model.stft(mix))
    torch.testing.assert_close(model.stft.inverse(S, 5000).sum(1), mix, atol=1e-5, rtol=0)
    for name in ("recipe.yaml", "versions.json", "csv/version_0/metrics.csv", "frozen/card.json"):
        assert (tmp_path / "sep" / name).is_file()
    before, frozen, after = weights(solo), weights(tmp_path / "sep" / "frozen"), weights(folder)
    decoders = [name for name in before if name.startswith("vaes.") and "decoder" in name]
    trunk = [name for name in before if name.startswith("mixture.") and name.endswith("weight")]
    assert all(torch.equal(before[name], frozen[name]) for name in decoders)
    assert any(not torch.equal(before[name], after[name]) for name in decoders)
    assert any(not torch.equal(before[name], frozen[name]) for name in trunk)


def test_more_latents_than_those_of_init_begin_where_it_stands(
    settings: Settings, tmp_path: Path, tiny_config: SeparationConfig
) -> None:
    model = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=8000)).eval()
    stir(model)
    checkpoint.save(tmp_path / "before", model, {})
    more = ",".join(str(d + 2) for d in tiny_config.vae.latent_channels)
    changes = [f"init={tmp_path / 'before'}", f"model.vae.latent_channels=[{more}]"]
    wider = build_module(compose("music/separation", settings(tmp_path / "run", *changes))).model.eval()
    X = model.stft(0.1 * torch.randn(1, 2, 5000))
    torch.testing.assert_close(
        wider.log_variances(X), checkpoint.load(tmp_path / "before")[0].log_variances(X)
    )
    assert sum(p.numel() for p in wider.parameters()) > sum(p.numel() for p in model.parameters())


def test_a_trunk_from_other_sources_keeps_its_level_and_a_new_vae_gets_one(
    settings: Settings, weights: Weights, tmp_path: Path, tiny_config: SeparationConfig
) -> None:
    names = ("vocals", "other")
    model = SeparationVAE(dataclasses.replace(tiny_config, sources=names, sample_rate=8000))
    model.set_level(torch.full((tiny_config.vae.bands,), -3.0))
    checkpoint.save(tmp_path / "before", model, {})
    changes = [f"init={tmp_path / 'before'}", "optim.max_steps=1", "losses.frozen_steps=0"]
    after = weights(train("music/separation", settings(tmp_path / "run", *changes)))
    for part in ("mixture.trunk", "vaes.vocals", "vaes.other"):
        assert (after[f"{part}.scale.mean"] == -3).all()
    assert not (after["vaes.drums.scale.mean"] == after["vaes.drums.scale.mean"][0]).all()


@pytest.mark.parametrize(
    "change", ["init=null", "model.vae.decoder_channels=[5,5,5]", "model.sources=[vocals,drums,bass,flute]"]
)
def test_vaes_that_nothing_has_trained_are_not_frozen(
    change: str, settings: Settings, vaes: Path, tmp_path: Path
) -> None:
    residual = "model.residual_source=drums"
    recipe = settings(tmp_path / "run", f"init={vaes}", change, residual, "losses.frozen_steps=3")
    with pytest.raises(
        RecipeError, match=r"losses\.frozen_steps=3 freezes VAEs .* or losses\.frozen_steps=0$"
    ):
        build_module(compose("music/separation", recipe))
    build_module(compose("music/separation", [*recipe, "losses.frozen_steps=0"]))


@pytest.mark.parametrize("in_turn", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_refit_of_the_encoders_changes_nothing_else(
    in_turn: bool, settings: Settings, weights: Weights, tmp_path: Path, tiny_config: SeparationConfig
) -> None:
    model = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=8000))
    stir(model)
    card = {"scores": [{"set": "a"}], "quality": {"fast": {"refine": 1}}}
    checkpoint.save(tmp_path / "before", model, card, storage_dtype=torch.bfloat16)
    changes = [f"init={tmp_path / 'before'}", "optim.max_steps=6", f"losses.in_turn={in_turn}"]
    folder = train("music/encoders", settings(tmp_path / "run", *changes))
    before, after = weights(tmp_path / "before"), weights(folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    encoders = {name for name in before if name.split(".")[2:3] in (["bottom_up"], ["heads"])}
    assert changed <= encoders
    assert {name.split(".")[1] for name in changed} == set(tiny_config.sources)
    told = checkpoint.load(folder)[1]
    assert {key: told[key] for key in card} == card
    assert "licence" not in told  # which is that of other recordings in the recipe


def test_mask_net_takes_steps(settings: Settings, tmp_path: Path) -> None:
    model, card = checkpoint.load(train("music/mask_net", settings(tmp_path / "mask")))
    assert type(model).__name__ == "MaskNet"
    assert card["training"]["steps"] == card["training"]["recipe"]["optim"]["max_steps"]


@pytest.mark.parametrize("recipe", ["music/mask_net", pytest.param("music/vae", marks=pytest.mark.slow)])
def test_a_killed_run_resumed_equals_an_uninterrupted_one(
    recipe: str, settings: Settings, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepvae.training.run.LEVEL_BATCHES", 2)
    whole = weights(train(recipe, settings(tmp_path / "whole")))
    draw = ExcerptStream.batch

    def killed(self: ExcerptStream, index: int, rows: range | None = None) -> Mixture:
        if index == 3 and self.start == 0:
            raise SystemExit
        return draw(self, index, rows)

    monkeypatch.setattr(ExcerptStream, "batch", killed)
    with pytest.raises(SystemExit):
        train(recipe, settings(tmp_path / "cut"))
    assert not (tmp_path / "cut" / "model").exists()
    monkeypatch.setattr(ExcerptStream, "batch", draw)
    resumed = weights(train(recipe, settings(tmp_path / "cut")))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0, msg=name)


def test_a_run_that_ends_before_its_average_begins_exports_its_last_weights(
    settings: Settings, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepvae.training.run.LEVEL_BATCHES", 2)
    short = weights(train("music/mask_net", settings(tmp_path / "short", "trainer.ema_start=200")))
    plain = ["trainer.ema_start=0", "trainer.ema_decay=0"]  # the average is the weights themselves
    last = weights(train("music/mask_net", settings(tmp_path / "plain", *plain)))
    for name, tensor in last.items():
        torch.testing.assert_close(short[name], tensor, atol=0, rtol=0, msg=name)


def test_the_frozen_model_is_averaged_like_the_last_one_and_written_once(
    settings: Settings, weights: Weights, vaes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepvae.training.run.LEVEL_BATCHES", 2)
    written, export = [], records.export
    monkeypatch.setattr(records, "export", lambda *a: written.append(a[2].name) or export(*a))
    still = ["trainer.ema_start=0", "trainer.ema_decay=1"]  # the average stays where the first step led
    more = [f"init={vaes}", "losses.frozen_steps=2", "trainer.accumulate=2", *still]
    folder = train("music/separation", settings(tmp_path / "run", *more))
    assert written == ["frozen", "model"]
    frozen = weights(tmp_path / "run" / "frozen")
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(frozen[name], tensor, atol=0, rtol=0, msg=name)


def test_a_recipe_is_composed_without_training(settings: Settings, tmp_path: Path) -> None:
    assert "stage: vae" in composed("music/vae", settings(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_recipe_is_composed_without_data() -> None:
    whole = composed("music", ["seed=3"])
    assert [whole.count(line) for line in ("root: ???", "seed: 3", "stage: vae\n")] == [3, 3, 1]
    assert "add_source: ???" in composed("music/added")


def test_a_recipe_by_path_uses_the_shared_groups(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "defaults:\n  - /base\n  - _self_\nstage: vae\ninit: null\nrun_dir: there\ncard: {}\n"
        "model: {sources: [a, other]}\n"
    )
    config = compose(str(recipe), [f"data.root={tmp_path}"])
    assert config.model.sources == ["a", "other"]
    assert config.model.n_fft == 4096


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("music/none", [], "no recipe"),
        ("music/vae", ["optim.learning_rate=1"], "learning_rate"),
        ("music/vae", [], "data.root"),
        ("music/separation", ["data.root=there"], "needs init"),
    ],
)
def test_bad_recipes_say_what_is_wrong(recipe: str, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compose(recipe, overrides)
