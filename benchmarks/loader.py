"""Training excerpts per second and core, by the format of the files and by what happens to the sound.

    python benchmarks/loader.py [--track-seconds 60] [--batches 6] [--step-seconds 2.0]

Makes a small set of songs of four sources in a temporary folder, once in each format, and draws batches as the recipe
`music` does. Times are seconds of processor time of one process, so other work on the machine does not count; a loader
with N workers on N cores gives N times as many. `demand` is what a training step takes, `--step-seconds` long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from sepvae.data.mixing import ExcerptStream, MixingConfig

RATE = 44100
SOURCES = ("vocals", "drums", "bass", "other")
FORMATS = {
    "WAV, 16 bit (prepared)": (".wav", {"subtype": "PCM_16"}),
    "FLAC": (".flac", {"subtype": "PCM_16"}),
    "MP3": (".mp3", {}),
    "Ogg Vorbis": (".ogg", {"subtype": "VORBIS"}),
}
EFFECTS: dict[str, dict] = {
    "nothing but remix, gain, swap, polarity": {"speed_chance": 0.0},
    "and speed, as `music` has it": {},
    "and EQ of every source": {"effects": {"eq": {"chance": 1.0}}},
    "and reverberation of every source": {"effects": {"reverb": {"chance": 1.0}}},
    "and loudness of every source": {"effects": {"loudness": {"chance": 1.0}}},
    "and MP3 or Vorbis of every source": {"effects": {"codec": {"chance": 1.0}}},
    "and tempo and pitch of every source": {"effects": {"tempo": {"chance": 1.0}, "pitch": {"chance": 1.0}}},
    "the mix of `musdb18hq`": {
        "aligned": 0.3,
        "effects": {"pitch": {"chance": 0.1}, "tempo": {"chance": 0.1}, "eq": {"chance": 0.2}},
    },
}


def write_songs(root: Path, extension: str, options: dict, seconds: float, songs: int = 3) -> Path:
    """Songs of coloured noise with a beat, the same in every format."""
    length = round(seconds * RATE)
    for song in range(songs):
        folder = root / f"song{song}"
        folder.mkdir(parents=True)
        for k, source in enumerate(SOURCES):
            rng = np.random.default_rng([song, k])
            noise = np.cumsum(rng.standard_normal((length, 2)), axis=0)
            noise -= np.convolve(noise.mean(1), np.ones(400) / 400, mode="same")[:, None]
            beat = 0.2 + np.abs(np.sin(np.pi * (k + 1) * np.arange(length) / RATE))[:, None]
            audio = 0.3 * noise * beat / np.abs(noise * beat).max()
            soundfile.write(folder / f"{source}{extension}", audio, RATE, **options)
    return root


def seconds_per_excerpt(root: Path, batches: int, **settings: object) -> float:
    """Processor time of one excerpt of four sources."""
    stream = ExcerptStream(root, SOURCES, RATE, MixingConfig(**settings), seed=1)  # type: ignore[arg-type]
    stream.batch(0)
    start = time.process_time()
    for index in range(1, batches + 1):
        stream.batch(index)
    return (time.process_time() - start) / (batches * stream.config.batch_size)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--track-seconds", type=float, default=60.0)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--step-seconds", type=float, default=2.0, help="of the training, per batch of four")
    arguments = parser.parse_args()
    demand = 4 / arguments.step_seconds
    length_s = MixingConfig().length / RATE
    print(f"excerpts of {length_s:.1f} s, four sources, 44.1 kHz stereo; demand {demand:.1f} excerpts/s\n")
    with tempfile.TemporaryDirectory() as folder:
        roots = {
            name: write_songs(Path(folder, extension[1:]), extension, options, arguments.track_seconds)
            for name, (extension, options) in FORMATS.items()
        }
        print("| files | ms per excerpt | excerpts/s and core | times the demand |\n|---|---|---|---|")
        for name, root in roots.items():
            print_row(name, seconds_per_excerpt(root, arguments.batches), demand)
        print(
            "\n| augmentation, from WAV | ms per excerpt | excerpts/s and core | times the demand |\n|---|---|---|---|"
        )
        prepared = next(iter(roots.values()))
        for name, settings in EFFECTS.items():
            print_row(name, seconds_per_excerpt(prepared, arguments.batches, **settings), demand)


def print_row(name: str, seconds: float, demand: float) -> None:
    """One row of a table."""
    print(f"| {name} | {1000 * seconds:.0f} | {1 / seconds:.0f} | {1 / seconds / demand:.0f} |", flush=True)


if __name__ == "__main__":
    main()
