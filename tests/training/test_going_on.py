"""Runs that are interrupted late, or given again with something changed: what was promised is what comes out."""

import logging
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from sepvae.card import read_card
from sepvae.cli import cli
from sepvae.data.mixing import ExcerptStream, Mixture
from sepvae.errors import CheckpointError, DataError, NonFiniteError, OutputError, RecipeError
from sepvae.training import records, run
from sepvae.training.base import SpectrogramModule
from sepvae.training.callbacks import AtomicCheckpoints
from sepvae.training.data import MixtureData
from sepvae.training.modules import MaskModule, VAEModule
from sepvae.training.objectives import OptimConfig
from sepvae.training.recipe import compose
from sepvae.training.trainer import build_trainer

Settings = Callable[..., list[str]]
Weights = Callable[[Path], dict[str, torch.Tensor]]

pytestmark = pytest.mark.usefixtures("short_levels")


@pytest.fixture
def short_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 1)


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End the process, as far as a test can, when the batch of this step is drawn."""
    draw = ExcerptStream.batch

    def killed(self: ExcerptStream, index: int, rows: range | None = None) -> Mixture:
        if index == step:
            raise SystemExit
        return draw(self, index, rows)

    monkeypatch.setattr(ExcerptStream, "batch", killed)


def test_a_run_killed_before_its_export_gives_the_same_weights(
    settings: Settings, weights: Weights, tmp_path: Path
) -> None:
    recipe = settings(tmp_path / "run", "trainer.ema_decay=0.9")
    whole = weights(run.train("music/mask_net", recipe))
    shutil.rmtree(tmp_path / "run" / "model")
    again = weights(run.train("music/mask_net", recipe))
    for name, tensor in whole.items():
        torch.testing.assert_close(again[name], tensor, atol=0, rtol=0, msg=name)


def test_a_longer_training_that_is_killed_is_not_taken_for_finished(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = settings(tmp_path / "run"), settings(tmp_path / "run", "optim.max_steps=8")
    run.train("music/mask_net", short)
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(SystemExit):
            run.train("music/mask_net", long)
    assert read_card(run.train("music/mask_net", long))["training"]["steps"] == 8


@pytest.mark.parametrize("validated", [True, False])
def test_more_steps_go_on_from_the_last_one_wherever_that_was(
    validated: bool, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    draw = ExcerptStream.batch

    def batch(self: ExcerptStream, index: int, rows: range | None = None) -> Mixture:
        drawn.append(index)
        return draw(self, index, rows)

    rare = ["trainer.checkpoint_every=250", f"trainer.val_every={3 if validated else 250}"]
    run.train("music/mask_net", settings(tmp_path / "run", *rare, "optim.max_steps=3"))
    with monkeypatch.context() as patch:
        patch.setattr(ExcerptStream, "batch", batch)
        run.train("music/mask_net", settings(tmp_path / "run", *rare, "optim.max_steps=5"))
    assert min(drawn) == 3


def test_a_torn_record_does_not_keep_a_run_from_going_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = settings(tmp_path / "run", "optim.max_steps=8")
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(SystemExit):
            run.train("music/mask_net", recipe)
        whole = (tmp_path / "run" / records.RECIPE_NAME).read_text()

        def torn(*_: object) -> None:
            raise SystemExit

        patch.setattr("sepvae.atomic.os.replace", torn)
        with pytest.raises(SystemExit):
            run.train("music/mask_net", recipe)
    assert (tmp_path / "run" / records.RECIPE_NAME).read_text() == whole
    assert read_card(run.train("music/mask_net", recipe))["training"]["steps"] == 8


def test_what_a_kill_left_unfinished_is_removed(settings: Settings, tmp_path: Path) -> None:
    chain = ["model.sources=[vocals,drums,bass,other]", "model.residual_source=other"]
    names = ["separation/.frozen.new-0123abcd", "vae/.model.new-0123abcd", ".model.new-0123abcd"]
    for name in names:
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "vae" / "checkpoints").mkdir()
    for name in ("vae/checkpoints/.sepvae-0123456789abcdef.part", "vae/.sepvae-0123456789abcdef.part"):
        (tmp_path / "run" / name).touch()
        names.append(name)
    short = ["optim.max_steps=1", "separation.losses.frozen_steps=1", "data.valid=[]"]
    run.train("stems", settings(tmp_path / "run", *chain, *short))
    assert not [name for name in names if (tmp_path / "run" / name).exists()]


def test_a_damaged_recipe_does_not_keep_a_run_from_going_on(settings: Settings, tmp_path: Path) -> None:
    config = compose("music/mask_net", settings(tmp_path / "run"))
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "card.json").touch()
    for content in (b"a: [", b"\xff\x00", b"[1]", b"text", b"a: ${b}", b""):
        (tmp_path / "run" / records.RECIPE_NAME).write_bytes(content)
        assert not records.is_finished(config)
        records.check_resume(config, {})


def test_scores_that_a_kill_left_out_are_taken_by_the_next_run(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = settings(tmp_path / "run", "trainer.score_seconds=1")

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(records, "score", killed)
        with pytest.raises(SystemExit):
            run.train("music/mask_net", recipe)
    assert read_card(run.train("music/mask_net", recipe))["scores"]


def test_the_best_of_a_killed_run_is_that_of_an_undisturbed_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {2: 1.0, 4: 5.0, 6: 3.0, 8: 2.0}
    monkeypatch.setattr(VAEModule, "score", lambda self, _: scores[self.global_step])
    recipe = settings(tmp_path / "run", "optim.max_steps=8", "trainer.val_every=2", "trainer.export=best")
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(SystemExit):
            run.train("music/vae", recipe)
    assert read_card(run.train("music/vae", recipe))["training"]["steps"] == 4


def test_a_moved_run_folder_remembers_its_best_score(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    scores = {2: 5.0, 4: 1.0, 6: 3.0}
    monkeypatch.setattr(SpectrogramModule, "score", lambda self, _: scores[self.global_step])
    common = ["trainer.val_every=2", "trainer.export=best"]
    run.train("music/mask_net", settings(tmp_path / "run", *common))
    (tmp_path / "run").rename(tmp_path / "moved")
    more = settings(tmp_path / "moved", *common, "optim.max_steps=6")
    assert read_card(run.train("music/mask_net", more))["training"]["steps"] == 2
    assert not [warning for warning in recwarn if "dirpath" in str(warning.message)]
    (tmp_path / "moved" / "checkpoints" / "best.ckpt").unlink()
    scores[8] = 2.0
    more = settings(tmp_path / "moved", *common, "optim.max_steps=8")
    assert read_card(run.train("music/mask_net", more))["training"]["steps"] == 8


def test_a_run_goes_on_with_the_rates_that_the_recipe_has_now(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.train("music/mask_net", settings(tmp_path / "run"))
    seen = []

    def look(self: SpectrogramModule, optimizer: torch.optim.Optimizer) -> None:
        seen.extend((group["lr"], group["weight_decay"]) for group in optimizer.param_groups)

    monkeypatch.setattr(SpectrogramModule, "on_before_optimizer_step", look)
    changes = ["optim.max_steps=8", "optim.decay_steps=3", "optim.lr=1e-4", "optim.weight_decay=0.5"]
    run.train("music/mask_net", settings(tmp_path / "run", *changes))
    optim = OptimConfig(lr=1e-4, warmup_steps=1, decay_steps=3, max_steps=8)
    assert seen == [(1e-4 * optim.factor(step), 0.5) for step in range(4, 8)]


def test_a_run_goes_on_with_whole_batches_in_another_number_of_pieces(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["data.mixing.batch_size=2", "trainer.val_every=3"]
    run.train("music/mask_net", settings(tmp_path / "run", *common, "optim.max_steps=3"))
    seen = []
    whole = MaskModule.training_step

    def step(self: MaskModule, batch: Mixture, index: int) -> torch.Tensor:
        seen.append((self.global_step, batch.first_row))
        return whole(self, batch, index)

    monkeypatch.setattr(MaskModule, "training_step", step)
    changes = ["optim.max_steps=5", "trainer.accumulate=2"]
    run.train("music/mask_net", settings(tmp_path / "run", *common, *changes))
    assert seen == [(3, 0), (3, 1), (4, 0), (4, 1)]


def test_the_best_of_no_validation_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="val_every"):
        run.train("music/vae", settings(tmp_path / "run", "trainer.export=best", "trainer.val_every=5"))


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        ("music/vae", "optim.max_steps=4", "another stage"),
        ("music/mask_net", "model.trunk_channels=[6,6,6,8]", "another model.trunk_channels"),
        ("music/mask_net", "optim.lr=0.1", "another optim.lr"),
        ("music/mask_net", "optim.max_steps=3", "another optim.max_steps"),
        ("music/mask_net", "trainer.ema_decay=0.5", "another trainer.ema_decay"),
    ],
)
@pytest.mark.parametrize("checkpoint_every", [2, 250])
def test_a_folder_with_another_run_is_refused(
    recipe: str,
    change: str,
    message: str,
    checkpoint_every: int,
    settings: Settings,
    weights: Weights,
    tmp_path: Path,
) -> None:
    common = settings(tmp_path / "run", f"trainer.checkpoint_every={checkpoint_every}")
    folder = run.train("music/mask_net", common)
    before = weights(folder)
    with pytest.raises(RecipeError, match=message):
        run.train(recipe, [*common, change])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(folder).items())


def test_what_has_changed_since_a_run_began_is_told(
    settings: Settings, songs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(songs, tmp_path / "songs")
    own = f"data.root={tmp_path / 'songs'}"
    run.train("music/mask_net", settings(tmp_path / "run", own))
    shutil.copytree(tmp_path / "songs" / "train" / "song", tmp_path / "songs" / "train" / "another")
    with caplog.at_level(logging.WARNING):
        run.train("music/mask_net", settings(tmp_path / "run", own, "optim.max_steps=6"))
    assert "changed since it began: optim.max_steps, the set train" in caplog.text


def test_a_separation_from_vaes_that_have_changed_is_not_taken_for_finished(
    settings: Settings, tmp_path: Path
) -> None:
    chain = ["model.sources=[vocals,drums,bass,other]", "model.residual_source=other"]
    run.train("stems", settings(tmp_path / "run", *chain))
    with pytest.raises(RecipeError, match="separation holds a run with another init"):
        run.train("stems", settings(tmp_path / "run", *chain, "vae.optim.max_steps=6"))


def test_an_interrupt_is_told_as_such_and_the_same_command_goes_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = settings(tmp_path / "run", "optim.max_steps=6", "trainer.val_every=100")
    draw, before = ExcerptStream.batch, signal.getsignal(signal.SIGINT)

    def interrupted(self: ExcerptStream, index: int, rows: range | None = None) -> Mixture:
        if index == 3:
            signal.raise_signal(signal.SIGINT)
        return draw(self, index, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ExcerptStream, "batch", interrupted)
        result = CliRunner().invoke(cli, ["train", "music/mask_net", *recipe])
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("interrupted; what was finished is kept")
    assert signal.getsignal(signal.SIGINT) == before
    assert read_card(run.train("music/mask_net", recipe))["training"]["steps"] == 6


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_signal_of_slurm_writes_no_checkpoint_that_nothing_goes_on_from(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NTASKS", "NTASKS_PER_NODE", "JOB_ID"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    seen = []
    whole = MaskModule.training_step

    def step(self: MaskModule, batch: Mixture, index: int) -> torch.Tensor:
        seen.append(signal.getsignal(signal.SIGUSR1))
        return whole(self, batch, index)

    monkeypatch.setattr(MaskModule, "training_step", step)
    run.train("music/mask_net", settings(tmp_path / "run", "optim.max_steps=1", "data.valid=[]"))
    assert seen == [signal.SIG_DFL]


def test_what_a_loading_process_says_is_one_line(settings: Settings, songs: Path, tmp_path: Path) -> None:
    shutil.copytree(songs, tmp_path / "songs")
    for path in (tmp_path / "songs" / "train" / "song").iterdir():
        soundfile.write(path, np.full((8000, 2), np.nan), 8000, subtype="FLOAT")
    config = compose(
        "music/vae", settings(tmp_path / "run", f"data.root={tmp_path / 'songs'}", "data.workers=1")
    )
    module = run.build_module(config)
    data = MixtureData(config, module.model)
    with pytest.raises(DataError, match=r"^.*\.wav holds NaN or infinite samples$"):
        run._run(build_trainer(config, data, tmp_path / "run"), module, data, None)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def foreign(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, path)


def of_another_model(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    torch.save({**found, "state_dict": {"a": torch.zeros(1)}}, path)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, emptied, foreign, of_another_model])
def test_a_checkpoint_that_nothing_can_go_on_from_is_told_with_the_way_out(
    damage: Callable[[Path], None], settings: Settings, tmp_path: Path
) -> None:
    run.train("music/mask_net", settings(tmp_path / "run", "optim.max_steps=1"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    damage(last)
    more = settings(tmp_path / "run", "optim.max_steps=2")
    with pytest.raises(CheckpointError) as caught:
        run.train("music/mask_net", more)
    what = "of another model" if damage is of_another_model else "damaged"
    assert str(caught.value) == f"{last}: {what}; remove it to begin anew, or give another run_dir="
    last.unlink()
    assert read_card(run.train("music/mask_net", more))["training"]["steps"] == 2


def test_the_best_checkpoint_that_is_damaged_is_told_too(settings: Settings, tmp_path: Path) -> None:
    more = ["trainer.export=best", "trainer.val_every=2"]
    run.train("music/mask_net", settings(tmp_path / "run", *more))
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    emptied(best)
    shutil.rmtree(tmp_path / "run" / "model")
    with pytest.raises(CheckpointError, match=r"best\.ckpt: damaged"):
        run.train("music/mask_net", settings(tmp_path / "run", *more))


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_checkpoint_that_cannot_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    import resource

    path, before = tmp_path / "last.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OutputError) as caught:
            AtomicCheckpoints().save_checkpoint({"a": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == f"{path}: cannot be written (File too large)"
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(
        OutputError, match=r"file.last\.ckpt: cannot be written \(Not a directory|File exists"
    ):
        AtomicCheckpoints().save_checkpoint({}, tmp_path / "file" / "last.ckpt")


def no_number_from(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the loss NaN from this step on."""
    whole = MaskModule.training_step

    def broken(self: MaskModule, batch: Mixture, index: int) -> torch.Tensor:
        loss = whole(self, batch, index)
        return loss * float("nan") if self.global_step >= step else loss

    monkeypatch.setattr(MaskModule, "training_step", broken)


@pytest.mark.parametrize("often", ["trainer.val_every=100", "trainer.val_every=2", "data.valid=[]"])
def test_a_loss_that_is_no_number_ends_the_training_and_the_last_checkpoint_goes_on(
    often: str, settings: Settings, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = settings(tmp_path / "run", "optim.max_steps=8", "trainer.checkpoint_every=2", often)
    with monkeypatch.context() as patch:
        no_number_from(patch, 5)
        with pytest.raises(NonFiniteError, match=r"not finite at step 6; .* smaller optim\.lr=") as caught:
            run.train("music/mask_net", recipe)
    assert "\n" not in str(caught.value)
    found = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in found["state_dict"].values())
    assert not (tmp_path / "run" / "model").exists()
    after = weights(run.train("music/mask_net", recipe))
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_a_loss_that_is_no_number_is_found_where_terms_are_logged(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_number_from(monkeypatch, 1)
    rare = ["optim.max_steps=50", "trainer.checkpoint_every=50", "trainer.val_every=50"]
    with pytest.raises(
        NonFiniteError, match=r"at step 20; there is no checkpoint from before: .* begins anew"
    ):
        run.train("music/mask_net", settings(tmp_path / "run", *rare))


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
def test_weights_that_are_not_finite_replace_no_checkpoint(part: str, tmp_path: Path) -> None:
    path, writer = tmp_path / "last.ckpt", AtomicCheckpoints()
    writer.save_checkpoint({"global_step": 1, part: {"a": torch.ones(2)}}, path)
    with pytest.raises(NonFiniteError, match="the weights are not finite at step 2"):
        writer.save_checkpoint({"global_step": 2, part: {"a": torch.tensor([1.0, torch.inf])}}, path)
    assert torch.load(path, weights_only=True)["global_step"] == 1
