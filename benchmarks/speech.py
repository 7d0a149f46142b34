"""Quality of noise reduction at every signal-to-noise ratio: `python benchmarks/speech.py DATA/test`.

Scores the speech that a model finds in the mixtures of `sepvae data prepare speech`, beside the noisy input, two
methods without training (spectral gating by noisereduce, a Wiener filter whose noise is estimated by minimum
statistics over the recording), the oracle variance mask, and further models such as the mask net of the same trunk.
PESQ is wide-band and only taken at 16 kHz (`--no-pesq` leaves it out, as for spoken digits, whose band ends at 4 kHz).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import noisereduce
import numpy as np
import torch
from pesq import NoUtterancesError, pesq
from pystoi import stoi

from sepvae import Separator
from sepvae.data.corpora import read_info, read_stems, scan
from sepvae.signal.metrics import si_sdr
from sepvae.signal.stft import STFT

SAMPLE_RATE = 16000
SOURCES = ("speech", "noise")
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]  # mixture, speech -> estimate, all [L]


def main() -> None:
    """Score all methods and print one table per score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="speech", help="name or folder of the model")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=MODEL", help="another model")
    parser.add_argument("--no-pesq", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON file for the scores")
    arguments = parser.parse_args()
    methods: dict[str, Method] = {
        "noisy": lambda mixture, speech: mixture,
        "spectral gating": gate,
        "Wiener": minimum_statistics,
        "oracle mask": oracle_mask,
        "sepvae": by_model(arguments.model),
    }
    methods |= {name: by_model(folder) for name, folder in (peer.split("=", 1) for peer in arguments.peer)}
    scores: dict[str, dict[str, list[dict[str, float]]]] = {name: defaultdict(list) for name in methods}
    for track in scan(arguments.dataset, SOURCES):
        stems = read_stems(track, SAMPLE_RATE)
        speech, mixture = stems["speech"][0], stems["speech"][0] + stems["noise"][0]
        snr = f"{read_info(track.folder)['snr_db']:+d} dB"
        for name, method in methods.items():
            scores[name][snr].append(measure(method(mixture, speech), speech, mixture, arguments.no_pesq))
    table = {
        name: {snr: mean_of(by_snr[snr]) for snr in sorted(by_snr, key=lambda text: int(text.split()[0]))}
        | {"mean": mean_of([entry for entries in by_snr.values() for entry in entries])}
        for name, by_snr in scores.items()
    }
    print(markdown(table))
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def by_model(model: str) -> Method:
    """Speech as a model finds it."""
    separator = Separator.from_pretrained(model, device="cpu")
    return lambda mixture, speech: separator.separate(mixture, SAMPLE_RATE)["speech"]


def gate(mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Spectral gating with its default settings."""
    return noisereduce.reduce_noise(mixture, SAMPLE_RATE).astype(np.float32)


def minimum_statistics(mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Wiener filter with the 20th percentile of every bin's power over the recording as noise."""
    stft = STFT(512, 128)
    X = stft(torch.from_numpy(mixture)[None])[0]  # [F, T]
    power = X.abs().square()
    noise = 2.0 * torch.quantile(power, 0.2, dim=1, keepdim=True)
    M = (1 - noise / (power + 1e-12)).clamp(min=0.1)
    return stft.inverse((X * M)[None], mixture.size)[0].numpy()


def oracle_mask(mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Wiener filter from the true powers of both sources."""
    stft = STFT(512, 128)
    S, X = stft(torch.from_numpy(np.stack([speech, mixture])))
    M = S.abs().square() / (S.abs().square() + (X - S).abs().square() + 1e-12)
    return stft.inverse((X * M)[None], mixture.size)[0].numpy()


def measure(estimate: np.ndarray, speech: np.ndarray, mixture: np.ndarray, no_pesq: bool) -> dict[str, float]:
    """SI-SDR improvement in dB, STOI, and wide-band PESQ unless left out."""
    entry = {
        "si_sdr_improvement": float(si_sdr(estimate, speech) - si_sdr(mixture, speech)),
        "stoi": float(stoi(speech, estimate, SAMPLE_RATE)),
    }
    if not no_pesq:
        try:
            entry["pesq"] = float(pesq(SAMPLE_RATE, speech, estimate, "wb"))
        except NoUtterancesError:  # an estimate in which PESQ finds nothing that is spoken
            entry["pesq"] = 1.0
    return entry


def mean_of(entries: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each score."""
    return {key: round(float(np.mean([entry[key] for entry in entries])), 3) for key in entries[0]}


def markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """One table per score: methods by SNR."""
    lines = []
    columns = list(next(iter(table.values())))
    for score in next(iter(next(iter(table.values())).values())):
        lines += ["", f"| {score} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name, by_snr in table.items():
            lines.append(f"| {name} | {' | '.join(f'{by_snr[c][score]:.2f}' for c in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
