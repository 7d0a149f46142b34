"""What a voice gains from its highs: `python benchmarks/highs.py PACKAGES NOISE`.

PACKAGES holds the unpacked Debian packages hedgewars-data, klettres-data and ktuberling-data, NOISE recordings at
48 kHz (`olpc-noise/test`). The voices are at 44.1 kHz and none of those in `sepvae.data.voices`. Each is mixed with
noise at 0, 10 and 20 dB and separated, once as sepvae does it (`sepvae/separation/highs.py`), once with everything
above 8 kHz given to the noise. Scores are the SI-SDR of the speech over the whole band, and the energy of the voice
above 8 kHz over that of its error there, which is 0 dB if the band is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sepvae import Separator
from sepvae.data.corpora import read_audio, resample
from sepvae.signal.metrics import si_sdr

RATE, REACH_HZ, LONGEST_S = 48_000, 8000, 15
SNRS_DB = (0, 10, 20)
VOICES = {
    "Pirate": "hedgewars-data/**/voices/Pirate/*.ogg",
    "Surfer": "hedgewars-data/**/voices/Surfer/*.ogg",
    "Classic": "hedgewars-data/**/voices/Classic/*.ogg",
    "Norwegian": "klettres-data/**/klettres/nb/**/*.ogg",
    "French": "klettres-data/**/klettres/fr/**/*.ogg",
    "German": "ktuberling-data/**/sounds/de/*.ogg",
}


def sound(files: list[Path], rng: np.random.Generator) -> np.ndarray:
    """Files in random order, each at the same level, as mono [L] of at most `LONGEST_S`."""
    pieces: list[np.ndarray] = []
    for index in rng.permutation(len(files)):
        audio, rate = read_audio(files[index])
        audio = resample(audio.mean(axis=0, keepdims=True), rate, RATE)[0]
        pieces.append(audio * (0.05 / max(float(np.sqrt(np.mean(audio**2))), 1e-6)))
        if sum(piece.size for piece in pieces) >= LONGEST_S * RATE:
            break
    return np.concatenate(pieces)[: LONGEST_S * RATE].astype(np.float64)


def split(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What lies below and above the model's reach, each [L]."""
    spectrum = np.fft.rfft(audio)
    spectrum[: round(REACH_HZ / RATE * audio.size)] = 0
    high = np.fft.irfft(spectrum, audio.size)
    return audio - high, high


def main() -> None:
    """Print a table."""
    packages, noises = Path(sys.argv[1]), sorted(Path(sys.argv[2]).glob("*.opus"))
    separator = Separator.from_pretrained("speech", "cpu")
    print("| voice | SNR | SI-SDR without its highs | with its share | above 8 kHz |\n|---|---|---|---|---|")
    rows = []
    for name, pattern in VOICES.items():
        for snr_db in SNRS_DB:
            rng = np.random.default_rng(snr_db)
            voice = sound(sorted(packages.glob(pattern)), rng)
            noise = np.resize(sound(noises, rng), voice.size)
            noise *= np.sqrt(np.mean(voice**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
            speech = separator.separate(voice + noise, RATE)["speech"]
            scores = [float(si_sdr(estimate, voice)) for estimate in (split(speech)[0], speech)]
            high = split(voice)[1]
            error = split(speech)[1] - high
            rows.append([*scores, 10 * np.log10(np.mean(high**2) / np.mean(error**2))])
            print(f"| {name} | {snr_db} dB |", " | ".join(f"{value:.2f}" for value in rows[-1]), "|")
    mean = np.mean(rows, axis=0)
    gains = np.array(rows)[:, 1] - np.array(rows)[:, 0]
    print("| mean | |", " | ".join(f"{value:.2f}" for value in mean), "|")
    print(f"gain {gains.mean():+.2f} dB, at worst {gains.min():+.2f}, at best {gains.max():+.2f}")


if __name__ == "__main__":
    main()
