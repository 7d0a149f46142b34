"""Speed and peak memory of separating 44.1 kHz stereo files on the CPU: `python benchmarks/separate.py`.

Every case runs in a process of its own, reads one wav file and writes one wav file per stem. sepvae runs
through `Separator.separate_file`. The peers, open-unmix (umxhq) and torchaudio's HDemucs (hdemucs_high),
have random weights, which cost the same time as trained ones, and are given the file in blocks of 10 s
without overlap, their cheapest use. The peers are timed on the shortest file only: their time grows in
proportion to the length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SAMPLE_RATE = 44100
BLOCK_S = 10
SONG = Path(__file__).resolve().parents[1] / "examples" / "instrumental.ogg"
STEMS = ("vocals", "drums", "bass", "other")
SYSTEMS = ("sepvae", "open-unmix", "hdemucs")


def write_song(path: Path, minutes: float) -> None:
    """Write the instrumental example song over and over until the file is long enough."""
    song, _ = soundfile.read(SONG, dtype="float32")  # [L, C]
    left = round(minutes * 60 * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, "PCM_16") as out:
        while left:
            part = song[:left]
            out.write(part)
            left -= len(part)


def run_sepvae(path: Path, out: Path, model: str) -> Callable[[], object]:
    """Load sepvae's model; the result separates the file."""
    from sepvae import Separator

    separator = Separator.from_pretrained(model, device="cpu")
    return lambda: separator.separate_file(path, out)


def run_open_unmix(path: Path, out: Path, model: str) -> Callable[[], object]:
    """Build open-unmix with random weights; the result separates the file."""
    import openunmix

    separator = openunmix.umxhq(pretrained=False, device="cpu").eval()
    return lambda: separate_in_blocks(lambda mix: separator(mix)[0], path, out)


def run_hdemucs(path: Path, out: Path, model: str) -> Callable[[], object]:
    """Build torchaudio's HDemucs with random weights; the result separates the file."""
    from torchaudio.models import hdemucs_high

    network = hdemucs_high(sources=list(STEMS)).eval()
    return lambda: separate_in_blocks(lambda mix: network(mix)[0], path, out)


RUNNERS = dict(zip(SYSTEMS, (run_sepvae, run_open_unmix, run_hdemucs), strict=True))


def separate_in_blocks(network: Callable[..., Any], path: Path, out: Path) -> None:
    """Run a network mix [1, C, L] -> stems [K, C, L] over a file, block by block."""
    import torch

    out.mkdir(parents=True, exist_ok=True)
    files = [soundfile.SoundFile(out / f"{name}.wav", "w", SAMPLE_RATE, 2, "PCM_16") for name in STEMS]
    with torch.inference_mode():
        for block in soundfile.blocks(path, BLOCK_S * SAMPLE_RATE, dtype="float32"):
            stems = network(torch.from_numpy(np.ascontiguousarray(block.T))[None])  # [K, C, L]
            for file, stem in zip(files, stems, strict=True):
                file.write(stem[:, : len(block)].clamp(-1, 1).T.numpy())
    for file in files:
        file.close()


def run_case(system: str, path: Path, out: Path, model: str, threads: int) -> dict[str, float]:
    """Time one separation in this process.

    Returns:
        Seconds to load and to separate, and the peak resident memory of the process in MB.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    start = time.perf_counter()
    separate = RUNNERS[system](path, out, model)
    loaded = time.perf_counter()
    separate()
    done = time.perf_counter()
    # The system counts the parent's memory at the fork as well, so the parent must not import torch before.
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"load_s": loaded - start, "separate_s": done - loaded, "peak_rss_mb": peak / 1e6}


def measure(minutes: list[float], systems: list[str], model: str, threads: int) -> Iterator[dict[str, Any]]:
    """Run every case in a fresh process; peers only on the shortest file."""
    with tempfile.TemporaryDirectory(prefix="sepvae-bench-") as folder:
        for length in sorted(minutes):
            mix = Path(folder) / "mix.wav"
            write_song(mix, length)
            for system in systems:
                if system != "sepvae" and length != min(minutes):
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    case = [system, str(mix), out, model, str(threads)]
                    command = [sys.executable, __file__, "--case", *case]
                    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
                    done = subprocess.run(
                        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
                    )
                result = json.loads(done.stdout.splitlines()[-1])
                speed = length * 60 / result["separate_s"]
                yield {"system": system, "minutes": length, "times_real_time": speed, **result}


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":")[1].strip() if lines else name
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| system | audio (min) | time (s) | x real time | peak memory (MB) | loading (s) |",
        "|---|---|---|---|---|---|",
    ]
    for row in results:
        cells = [
            row["system"],
            f"{row['minutes']:g}",
            f"{row['separate_s']:.1f}",
            f"{row['times_real_time']:.1f}",
            f"{row['peak_rss_mb']:.0f}",
            f"{row['load_s']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a Markdown table, and write JSON when asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60], help="lengths of the files")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--model", default="music", help="name or folder of sepvae's model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        system, path, out, model, threads = options.case
        print(json.dumps(run_case(system, Path(path), Path(out), model, int(threads))))
        return
    results = []
    for row in measure(options.minutes, options.systems, options.model, options.threads):
        results.append(row)
        print(f"{row['system']}, {row['minutes']:g} min: {row['times_real_time']:.1f} x", file=sys.stderr)
    facts = machine(options.threads)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
