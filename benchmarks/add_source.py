"""A source added to a small model: its score with real mixtures to learn from, and with sampled ones.

From a prepared `music` dataset: drums and bass at 8 kHz make the base model, vocals are added, once with the songs'
drums and bass to mix from, once with material drawn from the VAEs of the base. Both are scored, as SI-SDR improvement,
on the same windows of 10 s of held-out songs in which at least two of the sources sound.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr

from sepvae import Separator
from sepvae.data.clips import ValidationWindows
from sepvae.signal.metrics import si_sdr

RATE, SECONDS, SKIP_S = 8000, 120, 20
WINDOWS = 24
OLD, NEW = ("drums", "bass"), "vocals"
SHAPE = [
    f"model.sample_rate={RATE}",
    "model.n_fft=512",
    "model.hop_length=128",
    "model.kept_bins=64",
    "model.band_width=3",
    "model.trunk_channels=[12,16,24,32]",
    "model.trunk_blocks=[1,1,1,1]",
    "model.vae.bands=128",
    "model.vae.patch=2",
    "model.vae.latent_channels=[8,4,2]",
    "model.vae.encoder_channels=[8,12,16,24]",
    "model.vae.decoder_channels=[24,16,12]",
]
RUN = [
    "data.mixing.frames=96",
    "data.valid_windows=4",
    "trainer.progress=false",
    "trainer.precision=32-true",
    "trainer.ema_decay=0.98",
    "trainer.ema_start=20",
    "optim.lr=3e-3",
    "optim.warmup_steps=10",
]


def shrink(song: Path, out: Path, split: str) -> None:
    """Write two minutes of a song's stems at a low rate, the new source apart from the others."""
    for source in (*OLD, NEW):
        path = song / f"{source}.wav"
        target = out / ("solos" if source == NEW else "others") / split / song.name / path.name
        if path.is_file() and not target.is_file():
            with soundfile.SoundFile(path) as file:
                file.seek(min(SKIP_S * file.samplerate, file.frames))
                audio = file.read(SECONDS * file.samplerate, always_2d=True, dtype="float32").mean(1)
                audio = soxr.resample(audio, file.samplerate, RATE)
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, np.clip(audio, -1, 1), RATE)


def improvement(model: Path, root: Path) -> dict[str, float]:
    """SI-SDR improvement of every source in dB, mean over the windows in which it sounds, and their mean."""
    separator = Separator.from_pretrained(model, device="cpu")
    found: dict[str, list[float]] = defaultdict(list)
    for _, stems, active in ValidationWindows(root, separator.sources, RATE, WINDOWS):
        references, mix = stems.mean(1).numpy(), stems.sum(0).numpy()
        estimates = separator.separate(mix, RATE)
        for k in active:
            source, reference = separator.sources[k], references[k]
            gain = si_sdr(estimates[source].mean(0), reference) - si_sdr(mix.mean(0), reference)
            found[source].append(float(gain))
    scores = {source: round(float(np.mean(found[source])), 2) for source in separator.sources}
    return {**scores, "mean": round(float(np.mean([*scores.values()])), 2)}


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=400, show_default=True, help="Of each of the trainings.")
@click.option(
    "--held-out", default="francium", show_default=True, help="Song of the training set to score on too."
)
def main(data: Path, out: Path, steps: int, held_out: str) -> None:
    """Take songs with voices from DATA, a prepared music dataset, train under OUT, print both scores."""
    from sepvae.training.run import train

    for song in sorted((data / "train").iterdir()):
        if (song / f"{NEW}.wav").is_file() and (song / "drums.wav").is_file() and song.name[0] != ".":
            shrink(song, out, "valid" if song.name == held_out else "train")
    for song in sorted((data / "valid").iterdir()):
        shrink(song, out, "valid")
    shared = [*RUN, f"optim.max_steps={steps}", f"optim.decay_steps={steps // 4}"]
    base = [
        "model.sources=[drums,bass]",
        *SHAPE,
        *shared,
        f"data.root={out / 'others'}",
        f"run_dir={out / 'base'}",
    ]
    model = train("stems", [*base, "separation.losses.frozen_steps=50"])
    print("base", improvement(model, out / "others" / "valid"))
    for material in ("real", "sampled"):
        added = [
            f"init={model}",
            f"add_source={NEW}",
            *shared,
            f"losses.frozen_steps={steps // 3}",
            f"data.root={out / 'solos'}",
            f"others={out / 'others'}",
            f"material={material}",
            f"run_dir={out / material}",
        ]
        folder = train("music/added", added)
        print(material, improvement(folder, out / material / "material" / "valid"))


if __name__ == "__main__":
    main()
