"""Mutation fuzzing of everything that reads foreign bytes: `python benchmarks/fuzz.py --count 20000 --seed 1`.

Small valid files of every format, and a small checkpoint, are damaged at random (bits, numbers, lengths, cuts, splices)
and read as the program reads them. Reading runs in worker processes that may take 1 GiB more address space than they
start with and 10 s for each file. What may come out is the samples, the samples and a word on what is lost, or an
error of the program's own in one line. A crash, a hang, too much memory, or any other exception is a failure; its
input is kept.
"""

from __future__ import annotations

import argparse
import collections
import copy
import hashlib
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tiny import save_tiny_model

LIMIT_S = 10.0  # of computing
WALL_LIMIT_S = 300.0  # a busy machine makes all slow; what waits for ever ends here
LIMIT_BYTES = 1 << 30
RATE = 44100
GOOD = ("whole", "loss reported", "refused")
NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
VALUES: tuple[Any, ...] = (
    0, -1, 1, 3, 1 << 20, 1 << 31, 1 << 62, 1 << 80, 0.5, float("1e308"), "", "../../x", "x" * 5000, None, True, [], {},
    [[]] * 100, [1 << 40] * 4, {"class": "os.system"},
)  # fmt: skip


def tone(frames: int, channels: int = 2) -> np.ndarray:
    """A tone and some noise, [C, L]."""
    rng = np.random.default_rng(0)
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(frames) / RATE)
    return (wave + 0.01 * rng.standard_normal((channels, frames))).astype(np.float32)


def write_audio_seeds(folder: Path) -> None:
    """A valid file of every format that soundfile and PyAV write."""
    import av
    import soundfile

    audio = tone(12_000)
    written = [
        ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAV", "ULAW"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
        ("W64", "PCM_24"),
        ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("AU", "ALAW"), ("CAF", "PCM_24"), ("CAF", "ALAC_16"),
        ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
        ("VOC", "PCM_16"), ("IRCAM", "PCM_16"), ("NIST", "PCM_16"), ("SVX", "PCM_16"), ("PAF", "PCM_16"),
        ("MAT5", "PCM_16"),
        ("MPC2K", "PCM_16"), ("SD2", "PCM_16"), ("HTK", "PCM_16"), ("AVR", "PCM_16"), ("WVE", "ALAW"),
        ("XI", "DPCM_16"),
    ]  # fmt: skip
    for container, subtype in written:
        for channels in (2, 1):
            rate = 48000 if subtype == "OPUS" else RATE
            path = folder / f"{container}-{subtype}".lower()
            try:
                soundfile.write(path, audio[:channels].T, rate, subtype, format=container)
                break
            except (RuntimeError, ValueError):  # not in this build, or mono only
                path.unlink(missing_ok=True)
    coded = [
        ("aac.m4a", "aac"), ("alac.m4a", "alac"), ("aac.mkv", "aac"), ("flac.mkv", "flac"), ("opus.webm", "libopus"),
        ("lame.mp3", "libmp3lame"), ("mp2.mp2", "mp2"), ("adts.aac", "aac"), ("wavpack.wv", "wavpack"),
        ("aac.ts", "aac"),
        ("flac.ogg", "flac"), ("tta.tta", "tta"), ("wma.wma", "wmav2"), ("ac3.ac3", "ac3"), ("aac.flv", "aac"),
        ("pcm.mov", "pcm_s16le"), ("pcm.avi", "pcm_s16le"), ("eac3.eac3", "eac3"), ("aac.3gp", "aac"),
    ]  # fmt: skip
    for name, codec in coded:
        try:
            with av.open(str(folder / name), "w") as container:
                rate = 48000 if codec == "libopus" else RATE
                stream: Any = container.add_stream(codec, rate=rate, layout="stereo")
                frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
                size = stream.codec_context.frame_size or 1024
                convert = av.AudioResampler(stream.format.name, "stereo", rate, frame_size=size)
                for part in [*convert.resample(frame), *convert.resample(None)]:
                    container.mux(stream.encode(part))
                container.mux(stream.encode(None))
        except (OSError, ValueError):  # an encoder that this build lacks
            (folder / name).unlink(missing_ok=True)


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to eight places, its header more often than the rest."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if not out:
            break
        end = len(out) if rng.random() < 0.4 else min(len(out), rng.choice((64, 256, 2048)))
        at = rng.randrange(end)
        kind = rng.randrange(8)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            number = rng.choice(NUMBERS) & ((1 << 8 * size) - 1)
            out[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 3:
            del out[at : at + rng.choice((1, 2, 4, 100, 5000))]
        elif kind == 4:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 100, 5000)))
        elif kind == 5:
            piece = out[at : at + rng.choice((4, 64, 4096))]
            to = rng.randrange(len(out))
            out[to:to] = piece
        elif kind == 6:
            start = rng.randrange(len(other))
            out[at : at + 200] = other[start : start + 200]
        else:
            del out[rng.randrange(len(out)) :]
    return bytes(out)


def mutate_card(card: Any, rng: random.Random) -> None:
    """Put a strange value in the place of one to three values of a card."""
    for _ in range(rng.randint(1, 3)):
        place = card
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and rng.random() < 0.8:
                place = place[key]
                continue
            if isinstance(place, dict) and rng.random() < 0.15:
                del place[key]
            else:
                place[key] = copy.deepcopy(rng.choice(VALUES))
            break


def mutate_model(seed: Path, folder: Path, rng: random.Random) -> None:
    """Write a damaged checkpoint; mostly one whose hash has been made to fit, so that more than the hash is tried."""
    folder.mkdir(exist_ok=True)
    weights, text = (seed / "model.safetensors").read_bytes(), (seed / "card.json").read_bytes()
    card = json.loads(text)
    kind = rng.randrange(4)
    if kind == 0:
        text = mutate(text, weights, rng)
    else:
        if kind == 1:
            mutate_card(card["model"] if rng.random() < 0.7 else card, rng)
        else:
            header = 8 + int.from_bytes(weights[:8], "little")
            part = mutate(weights[:header], text, rng) if kind == 2 else weights[:header]
            weights = part + (mutate(weights[header:], text, rng) if kind == 3 else weights[header:])
        if isinstance(card.get("weights"), dict):
            card["weights"] |= {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
        text = json.dumps(card).encode()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "card.json").write_bytes(text)


def work(surface: str) -> None:
    """Read the files that come by name on stdin, and answer with one line of JSON each."""
    if surface == "decoders":
        from sepvae.audio import AudioReader as Reader
    else:
        from sepvae import checkpoint
    from sepvae.errors import SepvaeError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        answer = {"outcome": "whole", "detail": ""}
        try:
            if surface == "decoders":
                with Reader(line.rstrip("\n")) as reader:
                    for _ in reader.blocks():
                        pass
                if reader.loss:
                    answer = {"outcome": "loss reported", "detail": reader.loss}
            else:
                checkpoint.load(line.rstrip("\n"))
        except SepvaeError as error:
            answer = {"outcome": "refused", "detail": str(error)}
            if "\n" in str(error):
                answer["outcome"] = "more than one line"
            elif "allocate memory" in str(error):  # the decoder was refused what it wanted
                answer["outcome"] = "too much memory"
        except MemoryError as error:
            answer = {"outcome": "too much memory", "detail": str(error)}
        except Exception as error:
            answer = {"outcome": "other exception", "detail": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def cpu_seconds(pid: int) -> float:
    """Time that a process has computed (Linux), else that has passed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A worker process that is started again when it has died."""

    def __init__(self, surface: str) -> None:
        self._surface = surface
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start the process unless it runs, and wait until it is ready."""
        if self._process is None:
            command = [sys.executable, __file__, "--work", self._surface]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert self._process.stdout is not None
            self._process.stdout.readline()
        return self._process

    def ask(self, path: Path) -> dict[str, str]:
        """Read one file; the answer's `outcome` is one of GOOD or says what went wrong."""
        process = self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        begun, computed = time.monotonic(), cpu_seconds(process.pid)
        while not select.select([process.stdout], [], [], 0.5)[0]:
            used = cpu_seconds(process.pid) - computed
            if used > LIMIT_S or time.monotonic() - begun > WALL_LIMIT_S:
                self.stop()
                return {"outcome": "hang", "detail": f"stopped after {used:.0f} s of computing"}
        line = process.stdout.readline()
        if not line:
            process.wait()
            self._process = None
            return {"outcome": "crash", "detail": f"the process ended with code {process.returncode}"}
        answer: dict[str, str] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def run(
    count: int, seed: int, share: float, keep: Path | None
) -> Iterator[tuple[str, str, dict[str, str], float]]:
    """Read `count` damaged files; yields surface, seed file, answer and seconds of each."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="sepvae-fuzz-") as name:
        root = Path(name)
        (root / "seeds").mkdir()
        parts = ["audio"] * (share < 1) + ["model"] * (share > 0)
        for part in parts:  # in processes of their own: this one stays small
            subprocess.run(
                [sys.executable, __file__, "--seeds", part, str(root)], check=True, stderr=subprocess.DEVNULL
            )
        seeds = {path.name: path.read_bytes() for path in sorted((root / "seeds").iterdir())}
        workers = {"decoders": Worker("decoders"), "checkpoint": Worker("checkpoint")}
        try:
            for number in range(count):
                if rng.random() < share:
                    surface, source, path = "checkpoint", "model", root / "damaged-model"
                    mutate_model(root / "model", path, rng)
                else:
                    surface, source = "decoders", rng.choice(list(seeds))
                    path = root / f"damaged{Path(source).suffix}"
                    path.write_bytes(mutate(seeds[source], seeds[rng.choice(list(seeds))], rng))
                workers[surface].start()
                start = time.monotonic()
                answer = workers[surface].ask(path)
                if answer["outcome"] not in GOOD and keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    path.rename(keep / f"{seed}-{number}-{source}")
                yield surface, source, answer, time.monotonic() - start
        finally:
            for worker in workers.values():
                worker.stop()


def main() -> None:
    """Fuzz, print a table of outcomes, and end with 1 if there was a failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="number of damaged files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=float, default=0.2, help="share of them that are checkpoints")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of failures")
    parser.add_argument("--json", type=Path, help="file to write rows {case, tried, happened} to")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    if options.seeds:
        part, root = options.seeds[0], Path(options.seeds[1])
        write_audio_seeds(root / "seeds") if part == "audio" else save_tiny_model(root / "model")
        return
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    slowest = {"decoders": 0.0, "checkpoint": 0.0}
    failures = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        for number, (surface, source, answer, seconds) in enumerate(
            run(options.count, options.seed, options.checkpoints, options.keep)
        ):
            outcomes[surface][answer["outcome"]] += 1
            slowest[surface] = max(slowest[surface], seconds)
            if answer["outcome"] not in GOOD:
                failures += 1
                print(
                    f"file {number} from {source}: {answer['outcome']}: {answer['detail'][:200]}", flush=True
                )
    except (KeyboardInterrupt, SystemExit):
        print("stopped early", flush=True)
    rows = []
    for surface, counts in sorted(outcomes.items()):
        happened = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        happened += f"; the slowest took {slowest[surface]:.1f} s"
        rows.append(
            {"case": f"mutated files, {surface}", "tried": sum(counts.values()), "happened": happened}
        )
        print(f"{surface}: {sum(counts.values())} files: {happened}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
