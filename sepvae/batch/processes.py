"""Workers of a batch in processes of their own, which outlive what kills one of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from sepvae.batch.jobs import Job
from sepvae.batch.report import failure
from sepvae.batch.workers import Crew, Entries, InProcessCrew, OnJobProgress, Task, Worker
from sepvae.errors import SepvaeError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from typing import Self

_STOP_S = 60  # for workers to remove what they have not finished
_PROGRESS_S = 0.1  # between two messages on progress


@dataclass
class _Member:
    process: BaseProcess
    connection: Connection
    index: int | None = None  # of the job that it works on


class Processes:
    """Workers in processes of their own; one that dies costs the input that it worked on, and is replaced.

    Args:
        task: what to do with the inputs.
        count: number of workers, > 0.

    Raises:
        SepvaeError: the model, the device or a stem is not there.
    """

    def __init__(self, task: Task, count: int) -> None:
        self._task = task
        self._members: list[_Member] = []
        try:
            for _ in range(count):
                self._members.append(self._start())
            kind, value = self._members[0].connection.recv()
        except EOFError:
            self._stop(kill_after_s=0)
            raise SepvaeError("a worker process ended before it had begun; try it without --jobs") from None
        except BaseException:
            self._stop(kill_after_s=_STOP_S)
            raise
        if kind == "broken":
            self._stop(kill_after_s=_STOP_S)
            raise SepvaeError(value)
        self.info: dict[str, Any] = value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop(kill_after_s=_STOP_S)

    def run(self, jobs: Sequence[Job], on_progress: OnJobProgress) -> Entries:
        waiting = deque(range(len(jobs)))
        while waiting or any(member.index is not None for member in self._members):
            for member in list(self._members):
                if waiting and member.index is None:
                    self._give(member, waiting.popleft(), jobs)
            busy = {member.connection: member for member in self._members if member.index is not None}
            for connection in wait(list(busy)):
                member = busy[connection]  # type: ignore[index]
                assert member.index is not None
                try:
                    kind, value = member.connection.recv()
                except (EOFError, OSError):
                    self._succeed(member)
                    job = jobs[member.index]
                    yield (
                        member.index,
                        failure(job, f"{job}: the process that worked on it {_end_of(member)}"),
                    )
                    continue
                if kind == "broken":
                    raise SepvaeError(value)
                if kind == "progress":
                    on_progress(member.index, value)
                elif kind == "done":
                    index, member.index = member.index, None
                    yield index, value

    def _start(self) -> _Member:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self._task, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Member(process, ours)

    def _give(self, member: _Member, index: int, jobs: Sequence[Job]) -> None:
        """Send a job to a worker, or to its successor if it has died while it was idle."""
        try:
            member.connection.send(jobs[index])
        except OSError:
            member = self._succeed(member)
            with contextlib.suppress(OSError):  # its death is noticed later
                member.connection.send(jobs[index])
        member.index = index

    def _succeed(self, dead: _Member) -> _Member:
        """Start a worker in the place of a dead one."""
        dead.process.join(_STOP_S)
        fresh = self._members[self._members.index(dead)] = self._start()
        return fresh

    def _stop(self, kill_after_s: float) -> None:
        for member in self._members:
            if member.index is None:
                with contextlib.suppress(OSError):
                    member.connection.send(None)
            else:
                member.process.terminate()
        deadline = time.monotonic() + kill_after_s
        for member in self._members:
            member.process.join(max(0.0, deadline - time.monotonic()))
            if member.process.is_alive():
                member.process.kill()
            member.connection.close()


def make_crew(task: Task, count: int = 1) -> Crew:
    """Get workers for a task: a single one works in this process.

    Raises:
        SepvaeError: the model, the device or a stem is not there.
    """
    return InProcessCrew(Worker(task)) if count == 1 else Processes(task, count)


def _end_of(dead: _Member) -> str:
    """How a process that has been waited for came to its end."""
    code = dead.process.exitcode
    how = f"was killed (signal {-code})" if code is not None and code < 0 else f"ended (exit code {code})"
    return f"{how}, perhaps for lack of memory"


def _work(task: Task, connection: Connection) -> None:
    """What a worker process does until it is sent home, or the process that it works for is gone."""
    for name in ("SIGINT", "SIGHUP"):  # Ctrl-C and a closed terminal reach all; the parent decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so no half files stay
    last = 0.0

    def tell(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last > _PROGRESS_S:
            last = time.monotonic()
            connection.send(("progress", float(fraction)))

    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            worker = Worker(task)
        except SepvaeError as error:
            connection.send(("broken", str(error)))
            return
        connection.send(("ready", worker.info()))
        while (job := connection.recv()) is not None:
            connection.send(("done", worker(job, tell)))
