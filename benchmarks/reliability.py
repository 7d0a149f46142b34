"""What becomes of odd, damaged and hostile inputs, and of files in many formats: `python benchmarks/reliability.py`.

Prints a Markdown table, one row per case: what was tried, how often, what happened. `--merge` takes the rows that
`benchmarks/batch.py --json` and `benchmarks/fuzz.py --json` wrote, so that one table has them all; `--docs` puts the
table into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from sepvae.audio import AudioReader
from sepvae.errors import SepvaeError

ROOT = Path(__file__).resolve().parents[1]
SONG = ROOT / "examples" / "instrumental.ogg"
DOCS = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table -->", "<!-- /table -->"
RATE = 44100
KILLS = 20

Row = dict[str, Any]

# name, container of soundfile or codec of PyAV, sample format, rate, channels
FORMATS = (
    ("u8.wav", "WAV", "PCM_U8", 44100, 2),
    ("s16.wav", "WAV", "PCM_16", 44100, 2),
    ("s24.wav", "WAV", "PCM_24", 48000, 2),
    ("s32.wav", "WAV", "PCM_32", 44100, 2),
    ("f32.wav", "WAV", "FLOAT", 96000, 2),
    ("f64.wav", "WAV", "DOUBLE", 44100, 2),
    ("mono.wav", "WAV", "PCM_16", 8000, 1),
    ("low.wav", "WAV", "PCM_16", 4000, 2),
    ("high.wav", "WAV", "PCM_24", 192_000, 2),
    ("six.wav", "WAV", "PCM_24", 48000, 6),
    ("eight.wav", "WAV", "FLOAT", 44100, 8),
    ("rf64.wav", "RF64", "PCM_24", 44100, 2),
    ("w64.w64", "W64", "PCM_16", 22050, 2),
    ("s16.aiff", "AIFF", "PCM_16", 44100, 2),
    ("s24.caf", "CAF", "PCM_24", 32000, 2),
    ("s16.flac", "FLAC", "PCM_16", 44100, 2),
    ("s24.flac", "FLAC", "PCM_24", 96000, 3),
    ("alac.m4a", "av", "alac", 44100, 2),
    ("v.mp3", "MP3", "MPEG_LAYER_III", 44100, 2),
    ("lame.mp3", "av", "libmp3lame", 22050, 2),
    ("v.ogg", "OGG", "VORBIS", 44100, 2),
    ("o.opus", "OGG", "OPUS", 48000, 2),
    ("aac.m4a", "av", "aac", 44100, 2),
    ("aac.mkv", "av", "aac", 48000, 2),
    ("opus.webm", "av", "libopus", 48000, 2),
)
DAMAGED = (
    "s16.wav",
    "s16.aiff",
    "s16.flac",
    "v.mp3",
    "v.ogg",
    "o.opus",
    "aac.m4a",
    "aac.mkv",
    "opus.webm",
)
LOSSY = ("MPEG_LAYER_III", "libmp3lame", "VORBIS", "OPUS", "aac", "libopus")


def write(path: Path, kind: str, subtype: str, audio: np.ndarray, rate: int) -> None:
    """Write [C, L] through soundfile, or through ffmpeg's libraries."""
    if kind != "av":
        soundfile.write(path, audio.T, rate, subtype, format=kind)
        return
    options = {"movflags": "faststart"} if path.suffix == ".m4a" else {}
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(subtype, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        convert = av.AudioResampler(stream.format.name, "stereo", rate, frame_size=1024)
        for part in [*convert.resample(frame), *convert.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def read(path: Path) -> tuple[np.ndarray, str | None]:
    """All samples [C, L], and what is said to be lost."""
    with AudioReader(path) as reader:
        blocks = list(reader.blocks())
    return np.concatenate(blocks, axis=1), reader.loss


def decibels(error: np.ndarray, signal_: np.ndarray) -> str:
    """Energy of an error relative to a signal's."""
    ratio = float(np.vdot(error, error)) / max(float(np.vdot(signal_, signal_)), 1e-20)
    return "exact" if ratio == 0 else f"{10 * np.log10(ratio):.0f} dB"


def formats(folder: Path, seconds: float, model: str) -> Iterator[Row]:
    """The demo song in many formats through `separate_file`: length, reading error, sum of the written stems."""
    from sepvae import Separator

    separator = Separator.from_pretrained(model, device="cpu")
    song, rate_in = soundfile.read(SONG, frames=round(seconds * RATE), start=20 * RATE, dtype="float32")
    for name, kind, subtype, rate, channels in FORMATS:
        audio = song if rate == rate_in else soxr.resample(song, rate_in, rate)
        audio = np.clip(0.9 * audio.T[np.arange(channels) % 2], -1, 1).astype(np.float32)
        path = folder / name
        write(path, kind, subtype, audio, rate)
        decoded, _ = read(path)
        result = separator.separate_file(path, folder / "stems", existing="overwrite")
        stems = [soundfile.read(out, dtype="float64", always_2d=True)[0].T for out in result]
        error = np.sum(stems, axis=0) / result.gain - decoded
        step = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 1e-6}[result.subtype]
        same = min(decoded.shape[1], audio.shape[1])
        happened = (
            f"read with {decibels(decoded[:, :same] - audio[:, :same], audio)} of error, "
            f"{decoded.shape[1] - audio.shape[1]:+d} samples; stems {result.subtype}, "
            f"{stems[0].shape[1] - decoded.shape[1]:+d} samples, sum off by at most "
            + (
                f"{np.abs(error).max():.1e}"
                if result.subtype == "FLOAT"
                else f"{np.abs(error).max() / step:.2f} steps"
            )
        )
        lossy = "lossy" if subtype in LOSSY else "lossless"
        yield {
            "case": f"format: {subtype}, {path.suffix[1:]}, {rate} Hz, {channels} ch ({lossy})",
            "tried": 1,
            "happened": happened,
        }
        path.unlink()


def damaged(folder: Path, tries: int) -> Iterator[Row]:
    """Files that are cut, or overwritten in one place, at random: what was read and said."""
    rng = random.Random(0)
    song = soundfile.read(SONG, frames=8 * RATE, start=20 * RATE, dtype="float32")[0].T
    for name, kind, subtype, rate, channels in FORMATS:
        if name not in DAMAGED:
            continue
        path = folder / name
        write(path, kind, subtype, song[np.arange(channels) % 2], rate)
        data = path.read_bytes()
        whole, _ = read(path)
        for what in ("cut", "overwritten"):
            counts: collections.Counter[str] = collections.Counter()
            for _ in range(tries):
                at = rng.randrange(len(data) // 4, len(data) - 2000)
                changed = data[:at] if what == "cut" else data[:at] + rng.randbytes(500) + data[at + 500 :]
                path.write_bytes(changed)
                counts[outcome_of_reading(path, whole, what)] += 1
            yield {
                "case": f"{what}: {subtype}, {path.suffix[1:]}",
                "tried": tries,
                "happened": ", ".join(f"{n} {text}" for text, n in counts.most_common()),
            }
        path.unlink()


def outcome_of_reading(path: Path, whole: np.ndarray, damage: str) -> str:
    """What becomes of a file that held `whole`, `[C, L]`, and has been `cut` or `overwritten`."""
    try:
        found, loss = read(path)
    except SepvaeError:
        return "refused in one line"
    if loss is None:
        return "nothing missing" if np.array_equal(found, whole) else "not noticed"
    end = slice(-RATE // 2, None)
    if damage == "cut" or found.shape != whole.shape:
        return "loss reported"
    in_place = np.allclose(found[:, end], whole[:, end], atol=0.05)
    return "loss reported, the rest in its place" if in_place else "loss reported"


def refused(folder: Path) -> Iterator[Row]:
    """Inputs that hold no audio, or promise what cannot be: one line, time and memory."""
    good = folder / "good.wav"
    soundfile.write(good, np.zeros((RATE, 2)), RATE, "PCM_16")
    data = good.read_bytes()

    def patched(at: int, content: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(data[:at] + content + data[at + len(content) :])

    cases: dict[str, Callable[[Path], object]] = {
        "missing file": lambda path: None,
        "folder": lambda path: path.mkdir(),
        "empty file": lambda path: path.touch(),
        "text": lambda path: path.write_text("no audio\n" * 100),
        "random bytes": lambda path: path.write_bytes(random.Random(1).randbytes(100_000)),
        "header without samples": lambda path: path.write_bytes(data[:44]),
        "half a header": lambda path: path.write_bytes(data[:20]),
        "zero channels": patched(22, bytes(2)),
        "65535 channels": patched(22, b"\xff\xff"),
        "rate 0": patched(24, bytes(4)),
        "rate 2147483647": patched(24, b"\xff\xff\xff\x7f"),
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "link to itself": lambda path: path.symlink_to(path),
        "NaN samples": lambda path: soundfile.write(
            path, np.full((99, 2), np.nan), RATE, "FLOAT", format="WAV"
        ),
        "header that promises 2 GB": patched(40, b"\x00\x00\x00\x7f"),
    }
    for number, (name, make) in enumerate(cases.items()):
        path = folder / f"input {number}"
        make(path)
        begun = time.process_time()
        try:
            found, loss = read(path)
            happened = f"{found.shape[1]} samples read; {loss}"
        except SepvaeError as error:
            lines = len(str(error).splitlines())
            happened = f"refused in {lines} line: {str(error).removeprefix(f'{path}: ')}"
        yield {
            "case": f"input: {name}",
            "tried": 1,
            "happened": f"{happened} ({time.process_time() - begun:.2f} s)",
        }


def system(folder: Path, model: str) -> Iterator[Row]:
    """Full disks, kills, forbidden folders, changing files, no GPU: through the command line."""
    song = folder / "song.wav"
    excerpt = soundfile.read(SONG, frames=20 * RATE, dtype="float32")[0]
    soundfile.write(song, excerpt, RATE, "PCM_16")

    def command(out: Path, *more: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "sepvae",
            "separate",
            "-q",
            "-m",
            model,
            str(song),
            "-o",
            str(out),
            *more,
        ]

    def run(out: Path, *more: str, **options: Any) -> str:
        done = subprocess.run(command(out, *more), capture_output=True, text=True, check=False, **options)
        left = [path.name for path in out.rglob("*") if path.is_file()] if out.is_dir() else []
        lines = done.stderr.strip().splitlines()
        said = lines[-1].replace(str(folder), "...") if lines else "nothing"
        return f"exit code {done.returncode}, {len(lines)} line: {said}; {len(left)} files left"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    yield {
        "case": "files limited to 1 MB",
        "tried": 1,
        "happened": run(folder / "limited", preexec_fn=small_files),
    }
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False).returncode == 0:
        try:
            happened = run(disk / "out")
        finally:
            subprocess.run(["umount", disk], check=True)
        yield {"case": "disk full (8 MB, the stems need 14)", "tried": 1, "happened": happened}
    if os.geteuid():
        (folder / "closed").mkdir(mode=0o500)
        yield {"case": "read-only folder", "tried": 1, "happened": run(folder / "closed")}
    else:
        yield {
            "case": "folder that cannot be written (/proc)",
            "tried": 1,
            "happened": run(Path("/proc/sepvae")),
        }
    yield {
        "case": "no GPU",
        "tried": 1,
        "happened": run(folder / "gpu", "--device", "cuda", env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}),
    }
    yield killed(folder, command, len(excerpt))
    for what in ("changes", "vanishes"):
        yield unsteady(folder / f"{what}.wav", excerpt, what)


def killed(folder: Path, command: Callable[[Path], list[str]], frames: int) -> Row:
    """Kill a separation early and late: how many files stand under their final names, and are whole."""
    counts: collections.Counter[str] = collections.Counter()
    for number in range(KILLS):
        out = folder / f"killed-{number}"
        with subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not any(out.rglob("*.part")):
                time.sleep(0.01)
            time.sleep(4.0 * number / KILLS)
            process.kill()
        named = [path for path in out.rglob("*.wav") if not path.name.startswith(".")]
        whole = sum(soundfile.info(path).frames == frames for path in named)
        counts[f"{len(named)} files under their final names, {whole} of them whole"] += 1
    return {
        "case": "killed 0 to 4 s after the first byte was written",
        "tried": KILLS,
        "happened": ", ".join(f"{n} times {text}" for text, n in counts.items()),
    }


def unsteady(path: Path, excerpt: np.ndarray, what: str) -> Row:
    """Read a file that `changes` or `vanishes` meanwhile; excerpt `[L, C]`."""
    soundfile.write(path, excerpt, RATE, "PCM_16")
    with AudioReader(path) as reader:
        for _ in reader.blocks():
            if what == "changes":
                os.utime(path, ns=(1, 1))
            else:
                path.unlink(missing_ok=True)
    return {
        "case": f"file that {what} while it is read",
        "tried": 1,
        "happened": f"{reader.frames_read - len(excerpt):+d} samples; said: {reader.loss}",
    }


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| case | tried | what happened |", "|---|---|---|"]
    lines += [
        f"| {row['case']} | {row['tried']} | {str(row['happened']).replace('|', '/')} |" for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the groups asked for, print the table, write it where asked to."""
    groups = ("refused", "damaged", "system", "formats")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", nargs="*", choices=groups, default=list(groups))
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the song's excerpt")
    parser.add_argument("--tries", type=int, default=20, help="damaged files of each kind")
    parser.add_argument("--model", default="music")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], help="JSON files with more rows")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    av.logging.set_level(av.logging.PANIC)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sepvae-reliability-") as name:
        folder = Path(name)
        found = {
            "refused": lambda: refused(folder),
            "damaged": lambda: damaged(folder, options.tries),
            "system": lambda: system(folder, options.model),
            "formats": lambda: formats(folder, options.seconds, options.model),
        }
        for group in options.groups:
            for row in found[group]():
                rows.append(row)
                print(f"{row['case']}: {row['happened']}", file=sys.stderr, flush=True)
    for path in options.merge:
        rows += json.loads(path.read_text())
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.docs:
        text = DOCS.read_text(encoding="utf-8")
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        DOCS.write_text(f"{head}{BEGIN}\n{table(rows)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
