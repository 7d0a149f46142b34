"""Speed and peak memory of separating 44.1 kHz stereo files on the CPU: `python benchmarks/separate.py`.

Every case runs in a process of its own, reads one wav file and writes one wav file per stem. sepvae runs
through `Separator.separate_file`. The peers have random weights, which cost the same time as trained ones.

- In blocks: open-unmix (umxhq) and torchaudio's HDemucs (hdemucs_high) get the file in blocks of 10 s without
  overlap, their cheapest use, and the shortest file only: their time grows in proportion to the length.
- Whole: open-unmix and demucs (htdemucs) get the file as their own command lines give it to them, all of it at
  once, at every length up to the first that they do not master within the limits of time and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
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
IN_BLOCKS = ("open-unmix", "hdemucs")
RF64_BYTES = 4e9


def write_song(path: Path, minutes: float) -> None:
    """Write the instrumental example song over and over until the file is long enough."""
    song, _ = soundfile.read(SONG, dtype="float32")  # [L, C]
    left = round(minutes * 60 * SAMPLE_RATE)
    form = "RF64" if left * 4 > RF64_BYTES else "WAV"
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, "PCM_16", format=form) as out:
        while left:
            part = song[:left]
            out.write(part)
            left -= len(part)


def run_sepvae(path: Path, out: Path, model: str) -> Callable[[], object]:
    """Load sepvae's model; the result separates the file, of more than 4 GB into the first stem alone."""
    from sepvae import Separator

    separator = Separator.from_pretrained(model, device="cpu")
    stems = separator.sources[:1] if path.stat().st_size > RF64_BYTES else None
    return lambda: separator.separate_file(path, out, stems=stems)


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


def run_open_unmix_whole(path: Path, out: Path, model: str) -> Callable[[], object]:
    """Build open-unmix with random weights; the result does what its command line does."""
    import openunmix
    from openunmix.predict import separate

    separator = openunmix.umxhq(pretrained=False, device="cpu").eval()
    return lambda: separate_whole(
        lambda mix: separate(mix, SAMPLE_RATE, separator=separator, device="cpu"), path, out
    )


def run_demucs_whole(path: Path, out: Path, model: str) -> Callable[[], object]:
    """Build demucs (htdemucs) with random weights; the result does what its command line does."""
    import torch
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    network = HTDemucs(sources=list(STEMS), channels=48, bottom_channels=512, segment=39 / 5).eval()

    def network_of(mix: torch.Tensor) -> dict[str, torch.Tensor]:
        ref = mix.mean(0)
        stems = apply_model(
            network, ((mix - ref.mean()) / ref.std())[None], shifts=1, split=True, overlap=0.25
        )
        return dict(zip(STEMS, stems[0] * ref.std() + ref.mean(), strict=True))

    return lambda: separate_whole(network_of, path, out)


RUNNERS = {
    "sepvae": run_sepvae,
    "open-unmix": run_open_unmix,
    "hdemucs": run_hdemucs,
    "open-unmix-whole": run_open_unmix_whole,
    "demucs-whole": run_demucs_whole,
}


def separate_whole(network: Callable[..., Any], path: Path, out: Path) -> None:
    """Run a network mix [C, L] -> {stem: [..., C, L]} over a file at once."""
    import torch

    out.mkdir(parents=True, exist_ok=True)
    audio = soundfile.read(path, dtype="float32")[0]  # [L, C]
    with torch.inference_mode():
        for name, stem in network(torch.from_numpy(np.ascontiguousarray(audio.T))).items():
            soundfile.write(out / f"{name}.wav", stem.squeeze(0).clamp(-1, 1).T.numpy(), SAMPLE_RATE)


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


def measure(
    minutes: list[float], systems: list[str], model: str, threads: int, limit_s: float, limit_gb: float
) -> Iterator[dict[str, Any]]:
    """Run every case in a fresh process; peers on the lengths that the module's docstring names."""
    failed = set()
    with tempfile.TemporaryDirectory(prefix="sepvae-bench-") as folder:
        for length in sorted(minutes):
            mix = Path(folder) / "mix.wav"
            write_song(mix, length)
            for system in systems:
                if system in failed or (system in IN_BLOCKS and length != min(minutes)):
                    continue
                limits = (None, None) if system == "sepvae" else (limit_s, limit_gb)
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    case = [system, str(mix), out, model, str(threads)]
                    result = run_process(case, threads, *limits)
                if "stopped" in result:
                    failed.add(system)
                else:
                    result["times_real_time"] = length * 60 / result["separate_s"]
                yield {"system": system, "minutes": length, **result}


def run_process(
    case: list[str], threads: int, limit_s: float | None, limit_gb: float | None
) -> dict[str, Any]:
    """Run one case in a fresh process.

    Returns:
        What `run_case` returns, or under `stopped` why the case did not come to its end.
    """

    def limit() -> None:
        if limit_gb is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gb * 1e9),) * 2)

    command = [sys.executable, __file__, "--case", *case]
    process = subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if limit_gb else None,
        text=True,
        preexec_fn=limit,
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        peak_mb = peak_of(process.pid)
        process.kill()
        process.communicate()
        return {"stopped": f"after {limit_s:g} s", "peak_rss_mb": peak_mb}
    if process.returncode == 0:
        return json.loads(output.splitlines()[-1])
    out_of_memory = "memory" in (errors or "").lower() or process.returncode == -signal.SIGKILL
    if limit_gb is None or not out_of_memory:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    return {"stopped": f"more than {limit_gb:g} GB wanted"}


def peak_of(pid: int) -> float:
    """Peak resident memory of a running process so far, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


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
        cells = [row["system"], f"{row['minutes']:g}"]
        if "stopped" in row:
            peak = f"{row['peak_rss_mb']:.0f} by then" if "peak_rss_mb" in row else "-"
            cells += [f"stopped: {row['stopped']}", "-", peak, "-"]
        else:
            cells += [
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
    parser.add_argument("--systems", nargs="+", choices=RUNNERS, default=list(RUNNERS))
    parser.add_argument("--model", default="music", help="name or folder of sepvae's model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit-s", type=float, default=600, help="time that a peer may take for a file")
    parser.add_argument("--limit-gb", type=float, default=16, help="memory that a peer may ask for")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        system, path, out, model, threads = options.case
        print(json.dumps(run_case(system, Path(path), Path(out), model, int(threads))))
        return
    results = []
    cases = measure(
        options.minutes, options.systems, options.model, options.threads, options.limit_s, options.limit_gb
    )
    for row in cases:
        results.append(row)
        print(f"{row['system']}, {row['minutes']:g} min: {row}", file=sys.stderr)
    facts = machine(options.threads)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
