"""What `sepvae separate` tells while it works: paths on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from typing import Self

    from rich.progress import TaskID

    from sepvae.batch.jobs import Job
    from sepvae.batch.report import Entry

_REMARKABLE_DB = -60  # energy beyond the model's reach from here on is worth a word


class Messages:
    """Tells about the files of a batch; on a terminal, with a bar for each that is being worked on.

    Args:
        quiet: errors only.
    """

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
        self._batch: Sequence[Job] = ()
        self._bars: dict[int, TaskID] = {}
        self._progress = None
        if self._console.is_terminal and not quiet:
            text = TextColumn("{task.description}", markup=False)
            self._progress = Progress(
                text,
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
        self._cleanup = contextlib.ExitStack()
        self.stdout_failed = False
        """Whether paths were lost, since stdout is full or its reader has gone."""

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._cleanup.enter_context(self._progress)
        return self

    def __exit__(self, *exc: object) -> None:
        self._cleanup.close()

    def remark(self, text: str) -> None:
        self._console.print(one_line(text))

    def error(self, text: str) -> None:
        self._above_bars(f"error: {one_line(text)}")

    def start(self, model: str, info: Mapping[str, Any], workers: int, batch: Sequence[Job]) -> None:
        """Tell who will work, and which inputs get another name than their own."""
        self._batch = batch
        by = f", {workers} workers" if workers > 1 else ""
        self.remark(
            f"model {model} ({', '.join(info['sources'])}) on {info['device']}, {info['precision']}{by}"
        )
        for job in batch:
            if job.clash is not None:
                self.remark(f"{job}: written as {job.track}, since {job.clash} has the same name")

    def progress(self, index: int, fraction: float) -> None:
        """Move the bar of one input."""
        if self._progress is not None:
            if index not in self._bars:
                name = one_line(self._batch[index].path.name)
                self._bars[index] = self._progress.add_task(name, total=1.0)
            self._progress.update(self._bars[index], completed=fraction)

    def result(self, index: int, entry: Entry, residual_source: str) -> None:
        """Tell what became of one input."""
        job = self._batch[index]
        if self._progress is not None and index in self._bars:
            self._progress.remove_task(self._bars.pop(index))
        if entry["status"] == "failed":
            self.error(entry["error"])
            for line in entry.get("traceback", "").splitlines():
                self.remark(line)
            return
        if entry["loss"]:
            self.error(f"{job}: {entry['loss']}; what is there has been separated")
        for warning in entry["warnings"]:
            self.remark(f"{job}: {warning}")
        self.remark(f"{job}: {_summary(entry, residual_source)}")
        for output in entry["outputs"].values():
            try:
                self._above_bars(os.fsencode(output["path"]), err=False)
            except OSError as error:
                self.stdout_failed = True
                _give_up_stdout()
                self.error(f"stdout: cannot be written ({error.strerror})")

    def total(self, counts: Mapping[str, int]) -> None:
        self.remark(", ".join(f"{number} {status}" for status, number in counts.items()))

    def _above_bars(self, text: str | bytes, *, err: bool = True) -> None:
        """Print past the console, which would hold back what must be seen, with the bars out of the way."""
        if self._progress is not None:
            self._progress.stop()
        try:
            click.echo(text, err=err)
        finally:
            if self._progress is not None:
                self._progress.start()


def one_line(text: str) -> str:
    """Text without control characters, which a file's name may hold, so that it stays one harmless line."""
    return "".join(char if char.isprintable() or ord(char) > 0xFF else ascii(char)[1:-1] for char in text)


def _give_up_stdout() -> None:
    """Let what is still printed vanish, so that neither the next path nor the end of the program fails on it."""
    with open(os.devnull, "wb") as null, contextlib.suppress(OSError):
        os.dup2(null.fileno(), sys.stdout.fileno())


def _summary(entry: Entry, residual_source: str) -> str:
    if entry.get("skipped"):
        return "skipped, the same stems are there already"
    text = (
        f"{entry['duration_s']:.1f} s separated in {entry['seconds']:.1f} s "
        f"({entry['real_time_factor']:.1f} times real time)"
    )
    residual_db = entry["residual_db"]
    if residual_db is not None and residual_db > _REMARKABLE_DB:
        text += f"; {residual_db:.0f} dB beyond the model's reach went to {residual_source}"
    return text


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep decoders written in C, which print on file descriptor 2, from adding lines to our messages."""
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, AttributeError):  # stderr is no file, so theirs is not ours
        yield
        return
    original = sys.stderr
    with os.fdopen(os.dup(descriptor), "w", buffering=1, errors="backslashreplace") as copy:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), descriptor)
        sys.stderr = copy
        try:
            yield
        finally:
            sys.stderr = original
            os.dup2(copy.fileno(), descriptor)
