"""Makes the pictures and sounds of docs/examples.md: `python examples/make_gallery.py DATA_ROOT`.

`DATA_ROOT` is what make_examples.py takes. The bundled models separate the examples; ten seconds of each become Opus
files, and a picture with the true sources above what was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from make_examples import (
    EXCERPT_S,
    EXCERPT_START_S,
    INSTRUMENTS,
    SPEECH_RATE,
    STEMS,
    mix,
    noisy_speech,
    write,
)

from sepvae import Separator
from sepvae.evaluation.plots import spectrograms

SECONDS = 10.0
STARTS_S = {"instrumental": 20.0, "singing": 14.0, "noisy-speech": 0.0}
OPUS_RATE = 48000


def examples(data: Path) -> Iterator[tuple[str, str, dict[str, np.ndarray], int]]:
    """Name, model, true sources `[L, C]` and rate of every example, whole."""
    files = {stem: [data / "demo" / f"{name}.mp3" for name in names] for stem, names in INSTRUMENTS.items()}
    song, rate = mix(path for paths in files.values() for path in paths)
    gain = 0.9 / np.abs(song).max()
    stems = {stem: gain * mix(paths)[0] for stem, paths in files.items()}
    yield "instrumental", "music", {stem: padded(audio, len(song)) for stem, audio in stems.items()}, rate

    sodium = data / "everything-is-free" / "sodium"
    found = {name: mix([sodium / f"{name}.opus"], EXCERPT_START_S, EXCERPT_S) for name in STEMS}
    rate = next(iter(found.values()))[1]
    gain = min(1.0, 0.95 / np.abs(np.sum([audio for audio, _ in found.values()], axis=0)).max())
    yield "singing", "music", {name: gain * audio for name, (audio, _) in found.items()}, rate

    speech, noise = noisy_speech(data)
    yield "noisy-speech", "speech", {"speech": speech, "noise": noise}, SPEECH_RATE


def padded(audio: np.ndarray, length: int) -> np.ndarray:
    """`[L, C]` with silence behind it: `[length, C]`."""
    return np.pad(audio, ((0, length - len(audio)), (0, 0)))


def main() -> None:
    """Write `docs/images/` and `docs/sounds/` of this checkout or of the folder named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds the raw material")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    options = parser.parse_args()
    images, sounds = options.out / "docs" / "images", options.out / "docs" / "sounds"
    for folder in (images, sounds):
        folder.mkdir(parents=True, exist_ok=True)
    for name, model, sources, rate in examples(options.data):
        separator = Separator.from_pretrained(model, device="cpu")
        mixture = np.sum(list(sources.values()), axis=0).T.astype(np.float32)  # [C, L]
        stems = separator.separate(mixture, rate)
        span = slice(round(STARTS_S[name] * rate), round((STARTS_S[name] + SECONDS) * rate))
        silence = np.zeros_like(mixture)
        truth = np.stack(
            [sources[stem].T if stem in sources else silence for stem in separator.sources]
        )  # [K, C, L]
        estimates = np.stack([stems[stem] for stem in separator.sources])
        spectrograms(
            images / f"{name}.jpg", name, separator.sources, estimates[..., span], truth[..., span], rate
        )
        for stem, audio in {"mixture": mixture, **stems}.items():
            part = soxr.resample(audio[:, span].T, rate, OPUS_RATE)
            write(sounds / f"{name}-{stem}.opus", part.clip(-1, 1), OPUS_RATE, "OPUS", 0.9)


if __name__ == "__main__":
    main()
