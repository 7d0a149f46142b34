"""Workers of a batch on a Ray cluster, whose machines see the same files under the same paths."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepvae import pretrained
from sepvae.batch.jobs import Job
from sepvae.batch.report import Entry, failure
from sepvae.batch.workers import Entries, OnJobProgress, Task, Worker
from sepvae.errors import SepvaeError
from sepvae.remote import is_address

if TYPE_CHECKING:
    from typing import Self


class RayCrew:
    """Workers on a Ray cluster, of which a number works at a time.

    Args:
        task: what to do with the inputs.
        count: number of workers, > 0.
        address: of the cluster; None takes the one that RAY_ADDRESS names, or starts one on this machine.

    Raises:
        SepvaeError: Ray is not installed or not there, or the model, the device or a stem is not.
    """

    def __init__(self, task: Task, count: int, address: str | None = None) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise SepvaeError("Ray is not installed: pip install 'sepvae[ray]'") from error
        self._ray: Any = ray
        self._count = count
        self._task = placed(task)
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise SepvaeError(f"the Ray cluster cannot be reached ({error})") from error
        resources = {"num_cpus": min(task.threads or 1, self._largest("CPU"))}
        if task.device.startswith("cuda") or (task.device == "auto" and self._largest("GPU")):
            resources["num_gpus"] = 1
        self._remote: Any = self._ray.remote(max_retries=0, **resources)
        try:
            self.info: dict[str, Any] = ray.get(self._remote(_info).remote(self._task))
        except ray.exceptions.RayTaskError as error:
            self._stop()
            if isinstance(error.cause, SepvaeError):
                raise SepvaeError(str(error.cause)) from None
            raise
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def run(self, jobs: Sequence[Job], on_progress: OnJobProgress) -> Entries:
        """Separate the inputs of all jobs; of progress within one, nothing is told."""
        ray, separate = self._ray, self._remote(_separate)
        waiting = iter(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while True:
                for index, job in waiting:
                    anywhere = replace(job, path=job.path.absolute(), name=str(job))
                    running[separate.remote(self._task, anywhere)] = index
                    if len(running) == self._count:
                        break
                if not running:
                    return
                [ready], _ = ray.wait(list(running))
                index = running.pop(ready)
                try:
                    yield index, ray.get(ready)
                except ray.exceptions.RayError as error:
                    yield index, failure(jobs[index], f"{jobs[index]}: {_first_line(error)}")
        finally:
            for reference in running:
                ray.cancel(reference)  # an interrupt there, which removes what is unfinished
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=60)

    def _largest(self, kind: str) -> int:
        """How many processors of a kind the machine with the most of them has."""
        return int(max((node["Resources"].get(kind, 0) for node in self._ray.nodes()), default=0))

    def _stop(self) -> None:
        if self._ours:
            self._ray.shutdown()


def placed(task: Task) -> Task:
    """The task with absolute paths, since the workers stand in other folders.

    Raises:
        CheckpointError: the model is not there.
    """
    model = task.model
    if not is_address(model) and (folder := pretrained.find(model)) == Path(model):
        model = str(folder.absolute())
    return replace(task, out=task.out.absolute(), model=model)


@functools.cache
def _worker(task: Task) -> Worker:
    """The worker of this process, kept from one input to the next."""
    return Worker(task)


def _info(task: Task) -> dict[str, Any]:
    return _worker(task).info()


def _separate(task: Task, job: Job) -> Entry:
    return _worker(task)(job)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}"
