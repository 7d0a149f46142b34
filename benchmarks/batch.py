"""A large batch that is killed twice and restarted: `python benchmarks/batch.py`.

Writes short files of many formats, one in twenty of them bad in one of ten ways, separates them once without
a disturbance and once with a SIGKILL and a SIGINT on the way, and compares: every good input must have all its
stems, with the same bytes in both; every bad one must be reported; nothing else may lie about. The model has
random weights and is tiny, since none of this depends on them; `--model music` takes a real one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tiny import save_tiny_model

RATES = (8000, 22050, 32000, 44100, 48000, 96000)
FORMATS = (
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "PCM_24"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAV", "PCM_U8"),
    ("w64", "W64", "PCM_16"),
    ("aiff", "AIFF", "PCM_24"),
    ("flac", "FLAC", "PCM_16"),
    ("ogg", "OGG", "VORBIS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
    ("opus", "OGG", "OPUS"),
)
STEMS = ("vocals", "drums", "bass", "other")


def write_good(path: Path, kind: tuple[str, str, str], rng: np.random.Generator) -> None:
    """Write 0.3 to 1 s of noise, mono or stereo."""
    _, container, subtype = kind
    rates = {"MPEG_LAYER_III": RATES[:5], "OPUS": (8000, 48000)}.get(subtype, RATES)
    rate = int(rng.choice(rates))
    noise = 0.1 * rng.standard_normal((int(rng.uniform(0.3, 1.0) * rate), int(rng.integers(1, 3))))
    soundfile.write(path, noise, rate, subtype, format=container)


def patched(at: int, content: bytes) -> Callable[[Path, np.random.Generator], None]:
    """Return a writer of wav files with some bytes of the header replaced."""

    def write(path: Path, rng: np.random.Generator) -> None:
        write_good(path, FORMATS[0], rng)
        data = path.read_bytes()
        path.write_bytes(data[:at] + content + data[at + len(content) :])

    return write


def with_sample(value: float) -> Callable[[Path, np.random.Generator], None]:
    """Return a writer of wav files that hold such a sample."""

    def write(path: Path, rng: np.random.Generator) -> None:
        noise = rng.standard_normal(20_000)
        noise[15_000] = value
        soundfile.write(path, noise, 44100, "FLOAT", format="WAV")

    return write


def cut(path: Path, rng: np.random.Generator) -> None:
    """Write a wav file and remove its second half."""
    write_good(path, FORMATS[0], rng)
    os.truncate(path, path.stat().st_size // 2)


BAD: dict[str, Callable[[Path, np.random.Generator], Any]] = {
    "missing": lambda path, rng: None,
    "empty": lambda path, rng: path.touch(),
    "text": lambda path, rng: path.write_text("This is no audio.\n" * 200),
    "noise": lambda path, rng: path.write_bytes(rng.bytes(20_000)),
    "header alone": lambda path, rng: soundfile.write(path, np.zeros((0, 2)), 44100, format="WAV"),
    "no channels": patched(22, bytes(2)),
    "rate 0": patched(24, bytes(4)),
    "NaN": with_sample(float("nan")),
    "infinite": with_sample(float("inf")),
    "cut in half": cut,
}


def write_inputs(folder: Path, count: int, bad: int) -> tuple[list[Path], dict[Path, str]]:
    """Write the files of a batch; return all of them in their order, and what is wrong with the bad ones."""
    rng = np.random.default_rng(0)
    wrong = dict(zip(rng.choice(count, bad, replace=False).tolist(), list(BAD) * bad, strict=False))
    paths, faults = [], {}
    for index in range(count):
        kind = FORMATS[index % len(FORMATS)]
        path = folder / f"{index % 7}" / f"{index:05}.{'wav' if index in wrong else kind[0]}"
        path.parent.mkdir(exist_ok=True)
        if index in wrong:
            BAD[wrong[index]](path, rng)
            faults[path] = wrong[index]
        else:
            write_good(path, kind, rng)
        paths.append(path)
    return paths, faults


def start(work: Path, out: str, model: str, jobs: int) -> subprocess.Popen[bytes]:
    """Start the batch, or what is left of it."""
    command = [sys.executable, "-m", "sepvae", "separate", "-q", "--manifest", str(work / "list.txt")]
    command += ["-o", str(work / out), "-m", model, "--device", "cpu", "--jobs", str(jobs)]
    command += ["--existing", "skip", "--report", str(work / f"{out}.json")]
    log = (work / f"{out}.log").open("ab")
    # a shell may have started us in the background, with SIGINT ignored
    return subprocess.Popen(
        command, stdout=log, stderr=log, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )


def stop_after(process: subprocess.Popen[bytes], out: Path, inputs: int, number: int) -> tuple[int, int]:
    """Send a signal once so many inputs have results; return how many there were, and the exit code."""
    while process.poll() is None and len(list(out.glob("*"))) < inputs:
        time.sleep(0.05)
    process.send_signal(number)
    code = process.wait()
    return len(list(out.glob("*"))), code


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(work: Path, count: int, bad: int, model: str, jobs: int) -> dict[str, Any]:
    """Run the whole comparison; return what happened."""
    (work / "in").mkdir()
    paths, faults = write_inputs(work / "in", count, bad)
    (work / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    began = time.monotonic()
    whole_code = start(work, "whole", model, jobs).wait()
    whole_s = time.monotonic() - began
    (work / "killed").mkdir()
    kills = []
    for share, number in ((0.3, signal.SIGKILL), (0.7, signal.SIGINT)):
        process = start(work, "killed", model, jobs)
        kills.append(stop_after(process, work / "killed", round(share * count), number))
    killed_code = start(work, "killed", model, jobs).wait()

    whole, killed = contents(work / "whole"), contents(work / "killed")
    entries = {
        Path(entry["input"]): entry for entry in json.loads((work / "killed.json").read_text())["files"]
    }
    good = [path for path in paths if path not in faults]
    complete = [
        path
        for path in good
        if entries[path]["status"] in ("done", "skipped")
        and all(killed.get(f"{path.stem}/{stem}.wav") for stem in STEMS)
    ]
    unreported = [
        f"{fault} ({path.name})"
        for path, fault in faults.items()
        if entries[path]["status"] not in ("failed", "incomplete")
    ]
    return {
        "inputs": count,
        "bad": bad,
        "ways": len(set(faults.values())),
        "jobs": jobs,
        "kills": [{"results_by_then": found, "exit_code": code} for found, code in kills],
        "good_complete": len(complete),
        "good": len(good),
        "identical_files": sum(killed.get(name) == content for name, content in whole.items()),
        "files": len(whole),
        "left_over": sorted(killed.keys() - whole.keys()),
        "bad_unreported": unreported,
        "statuses": dict(Counter(entry["status"] for entry in entries.values())),
        "exit_codes": [whole_code, killed_code],
        "seconds_undisturbed": round(whole_s, 1),
    }


def row(found: dict[str, Any]) -> dict[str, str]:
    """What happened, as a row of docs/reliability.md."""
    first, second = found["kills"]
    passed = (
        [kill["exit_code"] for kill in found["kills"]] == [-signal.SIGKILL, 130]
        and found["good_complete"] == found["good"]
        and found["identical_files"] == found["files"]
        and not found["left_over"]
        and not found["bad_unreported"]
        and found["exit_codes"] == [1, 1]
    )
    return {
        "case": "A batch that is killed twice and restarted",
        "tried": (
            f"{found['inputs']} files of 0.3 to 1 s in {len(FORMATS)} formats, {found['bad']} of them bad in "
            f"{found['ways']} ways; --jobs {found['jobs']}; SIGKILL with {first['results_by_then']} and SIGINT with "
            f"{second['results_by_then']} of the results there"
        ),
        "happened": (
            f"{'passed' if passed else 'FAILED'}: {found['good_complete']} of {found['good']} good ones complete, "
            f"{found['identical_files']} of {found['files']} files identical to a run without kills, "
            f"{found['bad'] - len(found['bad_unreported'])} of {found['bad']} bad ones reported, "
            f"{len(found['left_over'])} files left over, exit code {found['exit_codes'][1]}"
        ),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="files (default: %(default)s)")
    parser.add_argument("--bad", type=int, help="bad ones among them (default: one in twenty)")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument("--model", help="name or folder (default: a tiny one with random weights)")
    parser.add_argument(
        "--json", "--out", dest="out", type=Path, help="write the rows for docs/reliability.md here, as JSON"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sepvae-batch-") as folder:
        work = Path(folder)
        model = args.model or str(save_tiny_model(work / "tiny"))
        bad = args.count // 20 if args.bad is None else args.bad
        found = run(work, args.count, bad, model, args.jobs)
    print(json.dumps(found, indent=2))
    rows = [row(found)]
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")
    print(" | ".join(rows[0].values()))
    sys.exit(0 if "passed" in rows[0]["happened"] else 1)


if __name__ == "__main__":
    main()
