"""The recipes as they are, on tiny models and generated songs: they compose, learn, resume and leave a model folder."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepvae import checkpoint
from sepvae.data.mixing import ExcerptStream, Mixture
from sepvae.errors import RecipeError
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.training.run import compose, train

RATE = 8000
TINY = [
    f"model.sample_rate={RATE}",
    "model.n_fft=256",
    "model.hop_length=64",
    "model.kept_bins=16",
    "model.band_width=7",
    "model.trunk_channels=[4,6,6,8]",
    "model.trunk_blocks=[1,1,1,1]",
    "model.vae.bands=32",
    "model.vae.patch=1",
    "model.vae.latent_channels=[3,2,1]",
    "model.vae.encoder_channels=[4,4,6,6]",
    "model.vae.decoder_channels=[6,4,4]",
    "data.workers=0",
    "data.valid_windows=2",
    "data.mixing.frames=32",
    "data.mixing.batch_size=2",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.progress=false",
    "trainer.examples=false",
    "trainer.score_seconds=0",
    "logger=csv",
    "trainer.val_every=4",
    "trainer.checkpoint_every=2",
    "trainer.ema_start=1",
    "optim.max_steps=4",
    "optim.warmup_steps=1",
    "optim.decay_steps=1",
]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one song of four sources in each set."""
    root = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "valid-midi"):
        folder = root / split / "song"
        folder.mkdir(parents=True)
        time = np.arange(11 * RATE) / RATE
        for source, pitch in (("vocals", 600), ("drums", 0), ("bass", 60), ("other", 300)):
            wave = 0.1 * rng.standard_normal(len(time)) if not pitch else 0.2 * np.sin(6.28 * pitch * time)
            soundfile.write(folder / f"{source}.wav", np.stack([wave, 0.7 * wave], 1), RATE)
    return root


def settings(songs: Path, run_dir: Path, *more: str) -> list[str]:
    return [*TINY, f"data.root={songs}", f"run_dir={run_dir}", *more]


def stir(model: torch.nn.Module) -> None:
    """Give the weights that start at zero a value, so that every path counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder)[0].state_dict()


def test_vae_then_separation_leaves_a_model_that_separates(songs: Path, tmp_path: Path) -> None:
    solo = train("music/vae", settings(songs, tmp_path / "vae"))
    init = f"init={solo}"
    folder = train(
        "music/separation",
        settings(songs, tmp_path / "sep", init, "losses.frozen_steps=2", "losses.solo_every=1"),
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


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_refit_of_the_encoders_changes_nothing_else(
    in_turn: bool, songs: Path, tmp_path: Path, tiny_config: SeparationConfig
) -> None:
    model = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=RATE))
    stir(model)
    card = {"scores": [{"set": "a"}]}
    checkpoint.save(tmp_path / "before", model, card, storage_dtype=torch.bfloat16)
    changes = [f"init={tmp_path / 'before'}", "optim.max_steps=6", f"losses.in_turn={in_turn}"]
    folder = train("music/encoders", settings(songs, tmp_path / "run", *changes))
    before, after = weights(tmp_path / "before"), weights(folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    encoders = {name for name in before if name.split(".")[2:3] in (["bottom_up"], ["heads"])}
    assert changed <= encoders
    assert {name.split(".")[1] for name in changed} == set(tiny_config.sources)
    assert checkpoint.load(folder)[1]["scores"] == [{"set": "a"}]


def test_mask_net_takes_steps(songs: Path, tmp_path: Path) -> None:
    folder = train("music/mask_net", settings(songs, tmp_path / "mask"))
    assert type(checkpoint.load(folder)[0]).__name__ == "MaskNet"


@pytest.mark.parametrize("recipe", ["music/vae", "music/mask_net"])
def test_a_killed_run_resumed_equals_an_uninterrupted_one(
    recipe: str, songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepvae.training.run.LEVEL_BATCHES", 2)
    whole = weights(train(recipe, settings(songs, tmp_path / "whole")))
    draw = ExcerptStream.batch

    def killed(self: ExcerptStream, index: int, rows: range | None = None) -> Mixture:
        if index == 3 and self.start == 0:
            raise SystemExit
        return draw(self, index, rows)

    monkeypatch.setattr(ExcerptStream, "batch", killed)
    with pytest.raises(SystemExit):
        train(recipe, settings(songs, tmp_path / "cut"))
    assert not (tmp_path / "cut" / "model").exists()
    monkeypatch.setattr(ExcerptStream, "batch", draw)
    resumed = weights(train(recipe, settings(songs, tmp_path / "cut")))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0, msg=name)


def test_print_shows_the_recipe_and_trains_nothing(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("music/vae", settings(songs, tmp_path / "none"), print_only=True)
    assert "stage: vae" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_a_recipe_by_path_uses_the_shared_groups(songs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "defaults:\n  - /base\n  - _self_\nstage: vae\ninit: null\nrun_dir: there\ncard: {}\n"
        "model: {sources: [a, other]}\n"
    )
    config = compose(str(recipe), [f"data.root={songs}"])
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
