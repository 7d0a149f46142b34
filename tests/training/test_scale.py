"""Several processes, batches in pieces, kills and chains: the outcome is that of one undisturbed process."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sepvae.data.mixing import Share
from sepvae.training import run, trainer

Settings = Callable[..., list[str]]
Weights = Callable[[Path], dict[str, torch.Tensor]]
FORKS = "trainer.strategy=ddp_fork_find_unused_parameters_true"

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA does not survive a fork"),
    pytest.mark.timeout(900),  # starts many runs
]


@pytest.mark.parametrize(("world", "pieces"), [(1, 1), (2, 1), (1, 3), (2, 3), (3, 2)])
def test_shares_cover_every_row_of_a_batch_once(world: int, pieces: int) -> None:
    rows = [
        row for rank in range(world) for i in range(pieces) for row in Share(rank, world, pieces).rows(12, i)
    ]
    assert sorted(rows) == list(range(12))


class Gradients(Callback):
    """Writes the gradients that the optimiser sees at every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.is_global_zero:
            found = {n: p.grad for n, p in pl_module.named_parameters() if p.grad is not None}
            torch.save(found, self.folder / f"{trainer.global_step}.pt")


@pytest.mark.parametrize(
    "split", [["trainer.accumulate=2"], ["trainer.devices=2", FORKS]], ids=["pieces", "ddp"]
)
def test_a_split_batch_gives_the_gradients_of_the_whole(
    split: list[str], settings: Settings, vaes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trainer.callbacks
    monkeypatch.setattr(run, "LEVEL_BATCHES", 2)
    recipe = [f"init={vaes}", "losses.frozen_steps=2", "losses.solo_every=1", "trainer.val_every=100"]
    for name, more in (("whole", ["trainer.devices=1"]), ("split", split)):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(trainer, "callbacks", lambda *a, to=folder: [*plain(*a), Gradients(to)])
        run.train("music/separation", settings(folder, *recipe, *more))
    for step in range(4):
        whole, part = (torch.load(tmp_path / name / f"{step}.pt") for name in ("whole", "split"))
        assert whole.keys() == part.keys()
        assert any("vaes" in name for name in whole) == (step >= 2)
        for name, gradient in whole.items():
            # the same sums in another order, on weights that have drifted apart by as much
            torch.testing.assert_close(
                part[name], gradient, rtol=2e-3, atol=2e-4 * float(gradient.abs().max()) + 1e-7
            )


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_chain_that_is_killed_ends_in_the_weights_of_an_undisturbed_one(
    seed: int, settings: Settings, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 1)
    sources = ["model.sources=[vocals,drums,bass,other]", "model.residual_source=other"]
    chain = [*sources, "optim.max_steps=9", "separation.losses.frozen_steps=3", "trainer.val_every=100"]
    whole = weights(run.train("stems", settings(tmp_path / "whole", *chain)))
    cut = settings(tmp_path / "cut", *chain)
    rng = random.Random(seed)
    fork = multiprocessing.get_context("fork")
    for stage in ("vae", "separation"):
        child = fork.Process(target=run.train, args=("stems", cut))
        child.start()
        while child.is_alive() and not (tmp_path / "cut" / stage / "checkpoints" / "last.ckpt").is_file():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "model").exists()
    resumed = weights(run.train("stems", cut))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0, msg=name)


@pytest.mark.slow
def test_compiled_networks_learn_the_same(
    settings: Settings, weights: Weights, vaes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEVEL_BATCHES", 1)
    recipe = [f"init={vaes}", "optim.max_steps=2", "losses.frozen_steps=1", "trainer.val_every=100"]
    plain = weights(run.train("music/separation", settings(tmp_path / "plain", *recipe)))
    backend = "trainer.compile=aot_eager"
    compiled = weights(run.train("music/separation", settings(tmp_path / "compiled", *recipe, backend)))
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, atol=1e-3, rtol=1e-2, msg=name)
