"""Workers in other processes give what one in this process gives, and outlive what kills them."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepvae import checkpoint
from sepvae.batch.cluster import placed
from sepvae.batch.jobs import Job
from sepvae.batch.processes import Processes, make_crew
from sepvae.batch.workers import InProcessCrew, Task, Worker
from sepvae.errors import SepvaeError
from sepvae.models.separation import SeparationVAE

RATE = 44100


@pytest.fixture
def task(tmp_path: Path, tiny_model: SeparationVAE) -> Task:
    checkpoint.save(tmp_path / "tiny", tiny_model, {"name": "tiny", "licence": "CC0-1.0"})
    return Task(tmp_path / "out", model=str(tmp_path / "tiny"), device="cpu", threads=1)


def song(path: Path, seconds: float) -> Job:
    noise = np.random.default_rng(0).integers(-3000, 3000, (round(seconds * RATE), 1), np.int16)
    soundfile.write(path, noise, RATE)
    return Job(path, path.stem)


def test_a_worker_takes_no_more_threads_than_there_are_cores(task: Task) -> None:
    before = torch.get_num_threads()
    try:
        assert Worker(replace(task, threads=100_000)).info()["threads"] <= (os.cpu_count() or 1)
    finally:
        torch.set_num_threads(before)


def ignore(index: int, fraction: float) -> None:
    pass


def stems(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_worker_costs_the_input_that_it_worked_on(tmp_path: Path, task: Task) -> None:
    long, short = song(tmp_path / "long.wav", 300), song(tmp_path / "short.wav", 1)
    with Processes(task, 1) as crew:
        victim = crew._members[0].process.pid
        assert victim is not None

        def kill(index: int, fraction: float) -> None:
            if index == 0:
                os.kill(victim, signal.SIGKILL)

        entries = dict(crew.run([long, short], kill))
    assert entries[0]["status"] == "failed"
    assert "signal 9" in entries[0]["error"]
    assert entries[1]["status"] == "done"
    with make_crew(replace(task, out=tmp_path / "solo")) as solo:
        assert isinstance(solo, InProcessCrew)
        assert solo.info == crew.info
        [(_, entry)] = solo.run([short], ignore)
    assert entry["status"] == "done"
    assert stems(tmp_path / "solo" / "short") == stems(task.out / "short")
    assert list(task.out.glob("long/.*.part"))  # SIGKILL leaves no time to remove it
    long.path.unlink()
    song(long.path, 0.1)
    assert Worker(task)(long)["status"] == "done"
    assert sorted(path.name for path in (task.out / "long").iterdir()) == [
        "bass.wav",
        "drums.wav",
        "other.wav",
        "vocals.wav",
    ]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_killed_between_two_batches_costs_nothing(tmp_path: Path, task: Task) -> None:
    with Processes(task, 1) as crew:
        victim = crew._members[0].process
        victim.kill()
        victim.join()
        [(_, entry)] = crew.run([song(tmp_path / "short.wav", 0.1)], ignore)
    assert entry["status"] == "done"


def test_machines_of_a_cluster_get_absolute_paths(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = placed(replace(task, out=Path("out"), model="tiny/"))
    assert (there.out, there.model) == (task.out, task.model)
    for kept in ("music", "https://host.invalid/model"):
        assert placed(replace(task, model=kept)).model == kept


def test_an_unexpected_fault_fails_one_input(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(task)
    monkeypatch.setattr(worker.separator, "separate_file", lambda *_, **__: 1 / 0)
    entry = worker(Job(tmp_path / "a.wav", "a"))
    assert entry["status"] == "failed"
    assert "ZeroDivisionError" in entry["error"]
    assert "1 / 0" in entry["traceback"]


def test_what_no_worker_can_do_is_said_before_the_first_input(task: Task) -> None:
    for wrong in (replace(task, stems=("piano",)), replace(task, model="no such model")):
        with pytest.raises(SepvaeError):
            make_crew(wrong)


@pytest.mark.slow
def test_two_workers_on_ray_give_the_same_bytes_and_the_same_report(tmp_path: Path, task: Task) -> None:
    pytest.importorskip("ray")
    from sepvae.batch.cluster import RayCrew

    jobs = [song(tmp_path / f"{n}.wav", 0.5 + n) for n in range(4)]
    jobs.insert(1, Job(tmp_path / "missing.wav", "missing"))
    task = replace(task, verify=True)
    with RayCrew(task, 2) as crew:
        there = dict(crew.run(jobs, ignore))
        info = crew.info
    with make_crew(replace(task, out=tmp_path / "solo")) as solo:
        here = dict(solo.run(jobs, ignore))
        assert info == solo.info
    assert [there[index]["status"] for index in range(5)] == ["done", "failed", "done", "done", "done"]
    assert stems(task.out) == stems(tmp_path / "solo")
    for index, entry in here.items():
        assert there[index].keys() == entry.keys()
        assert there[index].get("null_error") == entry.get("null_error")
        assert there[index].get("error") == entry.get("error")
    with pytest.raises(SepvaeError, match="piano"):
        RayCrew(replace(task, stems=("piano",)), 2)
