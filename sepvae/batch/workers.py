"""Workers that separate the inputs of a batch, and the one that does so in this process."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import torch

from sepvae.audio.outputs import TEMPLATE
from sepvae.batch.jobs import STDIN, Job
from sepvae.batch.report import Entry, failure, success
from sepvae.errors import OutputError, SepvaeError
from sepvae.separator import SEGMENT_S, SeparatedFile, Separator

if TYPE_CHECKING:
    from typing import Self

OnJobProgress = Callable[[int, float], None]
"""Takes the index of a job and the fraction of it that is done."""

Entries = Generator[tuple[int, Entry], None, None]
"""Index and entry of every job, in the order in which they get ready; closing it stops the work."""


@dataclass(frozen=True)
class Task:
    """What to do with every input; a worker needs nothing else.

    Args:
        out: output folder.
        model, device, precision, segment_s, quality, refine: of the separator.
        stems, two_stems, present, format, subtype, existing, template, verify: of `Separator.separate_file`.
        seed: of whatever may be drawn at random, set anew for every input.
        threads: of each worker, at most as many as there are cores; None leaves it to torch.
    """

    out: Path
    model: str = "music"
    device: str = "auto"
    precision: str = "auto"
    segment_s: float = SEGMENT_S
    quality: str = "balanced"
    refine: int | None = None
    stems: tuple[str, ...] | None = None
    two_stems: str | None = None
    present: tuple[str, ...] | None = None
    format: str = "wav"
    subtype: str | None = None
    existing: str = "skip"
    template: str = TEMPLATE
    verify: bool = False
    seed: int = 0
    threads: int | None = None


class Worker:
    """A loaded model that separates one input after another.

    Args:
        task: what to do with them.

    Raises:
        SepvaeError: the model, the device or a stem is not there.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # the same bits with one thread and with more
        if task.threads is not None:
            threads = min(task.threads, os.cpu_count() or task.threads)  # more would wait for one another
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)
        self.separator = Separator.from_pretrained(
            task.model,
            task.device,
            precision=task.precision,
            segment_s=task.segment_s,
            quality=task.quality,
            refine=task.refine,
        )
        self.separator.select(task.stems, task.two_stems, task.present)

    def info(self) -> dict[str, Any]:
        """What the report tells about the worker."""
        return {
            "model": self.task.model,
            "model_sha256": self.separator.model_sha256,
            "sources": list(self.separator.sources),
            "residual_source": self.separator.presence(self.task.present).residual_source,
            "device": str(self.separator.device),
            "precision": self.separator.precision,
            "segment_s": self.separator.segment_s,
            "quality": {"name": self.task.quality, **self.separator.quality.plain()},
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def __call__(self, job: Job, progress: Callable[[float], None] = lambda fraction: None) -> Entry:
        """Separate one input; whatever goes wrong with it is told in its entry."""
        torch.manual_seed(self.task.seed)
        _reset_peak_memory()
        try:
            result = self._separate(job, progress)
        except SepvaeError as error:
            text = str(error)
            return failure(job, text.replace(str(job.path), "stdin") if job.name == STDIN else text)
        except MemoryError:
            return failure(job, f"{job}: not enough memory")
        except Exception as error:  # a fault of ours, which must not cost the other inputs
            what = f"{job}: unexpected {type(error).__name__}: {error}"
            return failure(job, what, traceback.format_exc())
        return success(job, result) | {"peak_memory_bytes": _peak_memory()}

    def _separate(self, job: Job, progress: Callable[[float], None]) -> SeparatedFile:
        task = self.task
        return self.separator.separate_file(
            job.path,
            task.out,
            stems=task.stems,
            two_stems=task.two_stems,
            present=task.present,
            format=task.format,
            subtype=task.subtype,
            existing=task.existing,
            template=task.template,
            track=job.track,
            verify=task.verify,
            progress=progress,
        )


class PipeWorker(Worker):
    """A worker that writes its one stem into a pipe.

    Args:
        task: what to do with the input.
        file: where to write.

    Raises:
        SepvaeError: the model, the device or a stem is not there, or the stem is not one.
    """

    def __init__(self, task: Task, file: BinaryIO) -> None:
        super().__init__(task)
        self._file = file
        self._stems = self.separator.select(task.stems, task.two_stems).names
        if len(self._stems) > 1:
            raise OutputError("stdout takes one stem: choose it with --stems")

    def _separate(self, job: Job, progress: Callable[[float], None]) -> SeparatedFile:
        return self.separator.separate_to(
            job.path, self._file, stem=self._stems[0], present=self.task.present, progress=progress
        )


class Crew(Protocol):
    """Workers that share the jobs of a batch; a context manager."""

    info: dict[str, Any]
    """What the report tells about each of them."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def run(self, jobs: Sequence[Job], on_progress: OnJobProgress) -> Entries:
        """Separate the inputs of all jobs."""


class InProcessCrew:
    """A worker in this process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.info = worker.info()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def run(self, jobs: Sequence[Job], on_progress: OnJobProgress) -> Entries:
        for index, job in enumerate(jobs):
            yield index, self._worker(job, partial(on_progress, index))


def share_of_threads(workers: int) -> int:
    """Threads for each of several workers.

    A power of two: with 1, 2, 4, ... threads torch was seen to give the same bits, with 3 or 7 other ones.
    """
    share = max(1, torch.get_num_threads() // workers)
    return 1 << (share.bit_length() - 1)


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int | None:
    """Largest memory of this process in bytes, since the reset where the system allows one, else in all."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    if os.name != "posix":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
