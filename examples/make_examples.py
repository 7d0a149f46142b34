"""Makes the examples again from their tracks: `python examples/make_examples.py DATA_ROOT`.

`DATA_ROOT` holds `demo/` (one instrumental song as five MP3 tracks), `everything-is-free/sodium/` (a song with
singing as four stems), `librispeech/8226/` and `olpc-noise/test/`; the licence files beside the examples say where
they come from.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

INSTRUMENTS = {"drums": ("drums",), "bass": ("bassguitar",), "other": ("leadguitar", "clav", "horns")}
REFERENCE_START_S = 5.0
"""The 10 s of the instrumental song whose stems the tests score the bundled model on."""
REFERENCE_S = 10.0
STEMS = ("vocals", "drums", "bass", "other")
EXCERPT_START_S = 170.5
"""The 30 s of the song in which bass (first half) and singing (second half) are both heard longest."""
EXCERPT_S = 30.0
SPEECH_RATE = 16000
SPEECH_S = 12.0
SPEECH_SNR_DB = 5.0
NOISE = "clothesdryer"
BLOCK = 65536


def mix(
    files: Iterable[Path], start_s: float = 0.0, duration_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Sum audio files of one sample rate, the shorter ones padded with silence.

    Returns:
        The sum [L, C] and its sample rate.
    """
    tracks, rates = [], set()
    for file in files:
        with soundfile.SoundFile(file) as audio:
            rates.add(audio.samplerate)
            audio.seek(round(start_s * audio.samplerate))
            frames = -1 if duration_s is None else round(duration_s * audio.samplerate)
            tracks.append(audio.read(frames, always_2d=True))  # [L, C]
    if len(rates) != 1:
        raise SystemExit(f"expected one sample rate, found {sorted(rates)}")
    total = np.zeros((max(map(len, tracks)), 2))
    for track in tracks:
        total[: len(track)] += track
    return total, rates.pop()


def write(path: Path, audio: np.ndarray, sample_rate: int, subtype: str, compression: float) -> None:
    """Write an Ogg file in blocks (the encoders overrun their stack on one long write)."""
    with soundfile.SoundFile(
        path, "w", sample_rate, audio.shape[1], subtype, format="OGG", compression_level=compression
    ) as out:
        for start in range(0, len(audio), BLOCK):
            out.write(audio[start : start + BLOCK])
    print(
        f"{path.name}: {len(audio) / sample_rate:.1f} s, {sample_rate} Hz, {path.stat().st_size / 1e6:.2f} MB"
    )


def noisy_speech(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first seconds of the test speaker and a household noise at a fixed signal-to-noise ratio.

    Returns:
        Speech and noise, each [L, 1] at 16 kHz; their sum peaks at 0.9.
    """
    count = round(SPEECH_S * SPEECH_RATE)
    spoken = [soundfile.read(path)[0] for path in sorted((data / "librispeech" / "8226").glob("*.opus"))[:4]]
    speech = np.concatenate(spoken)[:count]
    noise, rate = soundfile.read(data / "olpc-noise" / "test" / f"{NOISE}.opus")
    noise = np.resize(soxr.resample(noise, rate, SPEECH_RATE), count)
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-SPEECH_SNR_DB / 20)
    gain = 0.9 / np.abs(speech + noise).max()
    return gain * speech[:, None], gain * noise[:, None]


def main() -> None:
    """Write the examples and the references of the tests into this checkout or the folder named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds the raw material")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    options = parser.parse_args()
    examples, assets = options.out / "examples", options.out / "tests" / "assets"
    for folder in (examples, assets):
        folder.mkdir(parents=True, exist_ok=True)

    def tracks(stem: str) -> list[Path]:
        return [options.data / "demo" / f"{name}.mp3" for name in INSTRUMENTS[stem]]

    song, rate = mix(path for stem in INSTRUMENTS for path in tracks(stem))
    gain = 0.9 / np.abs(song).max()
    write(examples / "instrumental.ogg", gain * song, rate, "VORBIS", 0.6)
    for stem in INSTRUMENTS:
        song, rate = mix(tracks(stem), REFERENCE_START_S, REFERENCE_S)
        write(assets / f"{stem}.ogg", gain * song, rate, "VORBIS", 0.7)

    sodium = options.data / "everything-is-free" / "sodium"
    song, rate = mix((sodium / f"{name}.opus" for name in STEMS), EXCERPT_START_S, EXCERPT_S)
    write(examples / "singing.opus", song * min(1.0, 0.95 / np.abs(song).max()), rate, "OPUS", 0.8)

    speech, noise = noisy_speech(options.data)
    write(examples / "noisy-speech.opus", speech + noise, SPEECH_RATE, "OPUS", 0.8)
    for stem, audio in (("speech", speech), ("noise", noise)):
        write(assets / f"{stem}.opus", audio, SPEECH_RATE, "OPUS", 0.8)


if __name__ == "__main__":
    main()
