"""The report on a batch: what became of every input, as JSON that other programs can read."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sepvae.atomic import write_whole
from sepvae.audio import AUDIO_ENDINGS
from sepvae.audio.encoding import LOSSLESS
from sepvae.batch.jobs import Job
from sepvae.errors import OutputError
from sepvae.separator import SeparatedFile

REPORT_VERSION = 1
STATUSES = ("done", "skipped", "incomplete", "failed", "unfinished")
"""What can become of an input; anything but the first two is a reason for exit code 1."""

Entry = dict[str, Any]
"""What the report tells about one input, as plain JSON values."""


def success(job: Job, result: SeparatedFile) -> Entry:
    """Entry of an input that was separated, as far as there was something to read, or skipped."""
    entry: Entry = {
        "input": str(job),
        "status": "incomplete" if result.loss else "skipped" if result.skipped else "done",
        "input_sha256": result.input_sha256,
        "outputs": {
            stem: {"path": str(path), "sha256": result.output_sha256.get(stem)}
            for stem, path in result.outputs.items()
        },
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "subtype": result.subtype,
        "gain": result.gain,
        "loss": result.loss,
        "warnings": list(result.warnings),
    }
    if result.skipped:
        return entry | {"skipped": True}
    duration_s = result.frames / result.sample_rate
    error = result.sum_error
    exact = error is not None and result.subtype in LOSSLESS
    return entry | {
        "frames": result.frames,
        "duration_s": duration_s,
        "output_sample_rate": result.output_rate,
        "extra_frames": None if error is None else error.extra_frames,
        "null_error": error.peak if error is not None and exact else None,
        "sum_error_db": None if error is None or error.db is None else round(error.db, 2),
        "residual_db": result.residual_db,
        "seconds": round(result.seconds, 3),
        "real_time_factor": round(duration_s / max(result.seconds, 1e-3), 2),
    }


def failure(job: Job, error: str, traceback: str | None = None) -> Entry:
    """Entry of an input that could not be separated."""
    entry = {"input": str(job), "status": "failed", "error": error}
    return entry if traceback is None else entry | {"traceback": traceback}


def unfinished(job: Job) -> Entry:
    """Entry of an input whose turn had not come, or had not ended, when the batch was stopped."""
    return {"input": str(job), "status": "unfinished"}


def count(entries: Iterable[Entry]) -> dict[str, int]:
    """How many inputs have which status, for those that occur."""
    found = Counter(entry["status"] for entry in entries)
    return {status: found[status] for status in STATUSES if found[status]}


def check_report(path: Path) -> None:
    """Refuse to put a report in the place of anything else, or where nothing can be written.

    Raises:
        OutputError: the name is one of audio, its folder cannot be written, or there is something there that is no
            report.
    """
    if path.suffix.lower() in AUDIO_ENDINGS:
        raise OutputError(f"{path}: a report is JSON, so its name cannot end in {path.suffix}")
    if path.is_dir():
        raise OutputError(f"{path}: the report cannot be written (is a folder)")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise OutputError(f"{path}: the report cannot be written, {path.parent} is not a writable folder")
    if not path.exists():
        return
    known = False
    try:
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(1000)
            known = not head or re.match(rb'\s*\{\s*"report_version"', head) is not None
    except OSError as error:
        raise OutputError(f"{path}: the report cannot be written ({error.strerror})") from error
    if not known:
        raise OutputError(f"{path}: exists and is no report of sepvae")


def write_report(path: str | os.PathLike[str], head: Mapping[str, Any], entries: list[Entry]) -> None:
    """Write the report on a batch, all at once.

    Args:
        path: the file.
        head: what all inputs share: model, settings, device, ...
        entries: of the inputs, in their order.

    Raises:
        OutputError: it cannot be written.
    """
    report = {"report_version": REPORT_VERSION, **head, "counts": count(entries), "files": entries}
    try:
        write_whole(Path(path), (json.dumps(report, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{path}: the report cannot be written ({error.strerror})") from error
