"""Two spoken digits at once, their labels given: sepvae beside the VAE of Karamatli, Cemgil & Kirbiz 2019.

    sepvae data prepare fsdd --root ROOT --out DATA
    python benchmarks/digits.py train DATA OUT/karamatli     # their network; resumes where it stopped
    python benchmarks/digits.py score DATA --theirs OUT/karamatli --ours RUN/model

docs/digits.md has the whole protocol and the results. Their network is written anew from the paper and from what the
authors' published code says where the paper is silent: the encoder of each given class sees the mixture, its decoder
puts out that source's magnitudes, and the squares of these make the mask.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sepvae import Separator
from sepvae.data.corpora import read_stems, scan
from sepvae.data.datasets.digits import DIGITS
from sepvae.evaluation.bss_eval import museval_metrics
from sepvae.signal.metrics import si_sdr

RATE, LENGTH = 8000, 8000
N_FFT, HOP, FRAMES = 512, 256, 32
FILTERS, LATENTS, HIDDEN = 128, 128, 512
KL_WEIGHT, BATCH = 10.0, 100
SCORES = ("SDR", "SIR", "SAR", "SI-SDRi")

Separate = Callable[[np.ndarray, tuple[str, str]], np.ndarray]
"""Mixture `[L]` and the two digits in it -> estimates `[2, L]`."""


def normalised(layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    """A layer with this many channels of output, batch norm, and a ReLU."""
    return layer, nn.BatchNorm1d(channels), nn.ReLU()


class DigitVAE(nn.Module):
    """Encoder of mixtures and decoder of one digit, on magnitudes.

    Shape: magnitudes `[B, 32, 257]` -> estimate of the same shape, mean and log-variance `[B, 128]`.
    """

    def __init__(self) -> None:
        super().__init__()
        wide, quarter = 2 * FILTERS, FRAMES // 4
        self.encoder = nn.Sequential(
            *normalised(nn.Conv1d(N_FFT // 2 + 1, FILTERS, 1), FILTERS),
            *normalised(nn.Conv1d(FILTERS, FILTERS, 4, stride=2, padding=1), FILTERS),
            *normalised(nn.Conv1d(FILTERS, wide, 4, stride=2, padding=1), wide),
            nn.Flatten(),
            *normalised(nn.Linear(wide * quarter, HIDDEN), HIDDEN),
            nn.Linear(HIDDEN, 2 * LATENTS),
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENTS, wide * quarter),
            *normalised(nn.Unflatten(1, (wide, quarter)), wide),
            *normalised(nn.ConvTranspose1d(wide, FILTERS, 4, stride=2, padding=1), FILTERS),
            *normalised(nn.ConvTranspose1d(FILTERS, FILTERS, 4, stride=2, padding=1), FILTERS),
            nn.Conv1d(FILTERS, N_FFT // 2 + 1, 1),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear | nn.ConvTranspose1d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x.transpose(1, 2)).float().chunk(2, 1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if self.training else mean
        return functional.softplus(self.decoder(z).float()).transpose(1, 2), mean, log_variance


def stft(x: Tensor) -> Tensor:
    """Centred STFT with a Hann window, not normalised: `[B, L]` -> `[B, T, F]`."""
    window = torch.hann_window(N_FFT)
    return torch.stft(x, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True).transpose(1, 2)


def istft(X: Tensor) -> Tensor:
    """`[B, T, F]` -> `[B, L]`."""
    return torch.istft(X.transpose(1, 2), N_FFT, HOP, window=torch.hann_window(N_FFT), length=LENGTH)


def loss_of(vaes: nn.ModuleList, mix: Tensor, sources: Tensor, labels: Tensor) -> Tensor:
    """Generalised Kullback-Leibler divergence up to a constant, and the KL from N(0, I), per source.

    Shape: magnitudes mix `[B, T, F]`, sources `[B, 2, T, F]`, labels `[B, 2]`.
    """
    total = mix.new_zeros(())
    for digit, vae in enumerate(vaes):
        rows, places = torch.nonzero(labels == digit, as_tuple=True)
        if len(rows) > 1:  # batch norm needs two
            guess, mean, log_variance = vae(mix[rows])
            divergence = guess - sources[rows, places] * torch.log(guess + 1e-12)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            total = total + divergence.sum() + (KL_WEIGHT * kl if vae.training else 0)
    return total / labels.numel()


def load_solos(data: Path) -> tuple[Tensor, Tensor]:
    """All training clips `[N, L]` and their digits `[N]`."""
    tracks = [track for track in scan(data / "train", DIGITS) if len(track.files) == 1]
    labels = [DIGITS.index(next(iter(track.files))) for track in tracks]
    clips = [read_stems(track, RATE)[DIGITS[k]].mean(0) for track, k in zip(tracks, labels, strict=True)]
    return torch.from_numpy(np.stack(clips)), torch.tensor(labels)


def load_pairs(folder: Path) -> list[tuple[tuple[str, str], np.ndarray]]:
    """All mixtures of a set: the two digits, and their signals `[2, L]`."""
    pairs = []
    for track in scan(folder, DIGITS):
        stems = {s: audio.mean(0) for s, audio in read_stems(track, RATE).items() if s in track.files}
        pairs.append((tuple(stems), np.stack(list(stems.values()))))
    return pairs


def draw(clips: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Batch number `step`: pairs of clips of different digits `[B, 2, L]` and their labels `[B, 2]`."""
    rng = np.random.default_rng([0, step])
    digits = np.stack([rng.permutation(len(DIGITS))[:2] for _ in range(BATCH)])
    members = [np.flatnonzero(labels.numpy() == digit) for digit in range(len(DIGITS))]
    chosen = np.array([[rng.choice(members[digit]) for digit in pair] for pair in digits])
    return clips[torch.from_numpy(chosen)], torch.from_numpy(digits)


def magnitudes(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitudes of mixtures and sources: `[B, 2, L]` -> `[B, T, F]`, `[B, 2, T, F]`."""
    S = stft(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
    return S.sum(1).abs(), S.abs()


@click.group()
def main() -> None:
    """FSDD: two digits at a time."""


@main.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=2000, show_default=True)
@click.option("--check-every", default=200, show_default=True, help="Steps between two validations.")
@click.option("--patience", default=10, show_default=True, help="Validations without a better one.")
@click.option("--cpu-seconds", type=float, default=float("inf"), help="Stop after this much of training.")
def train(data: Path, out: Path, steps: int, check_every: int, patience: int, cpu_seconds: float) -> None:
    """Train the ten VAEs of the paper under OUT on mixtures of the training clips; the best ones are kept."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    clips, labels = load_solos(data)
    held_out = load_pairs(data / "valid")
    valid = magnitudes(torch.from_numpy(np.stack([pair for _, pair in held_out])))
    valid_labels = torch.tensor([[DIGITS.index(s) for s in pair] for pair, _ in held_out])
    vaes = nn.ModuleList(DigitVAE() for _ in DIGITS)
    optimizer = torch.optim.Adam(vaes.parameters(), lr=1e-3)
    state = {"step": 0, "seconds": 0.0, "best": float("inf"), "best_step": 0}
    if (out / "last.pt").is_file():
        saved = torch.load(out / "last.pt", weights_only=True)
        vaes.load_state_dict(saved["vaes"])
        optimizer.load_state_dict(saved["optimizer"])
        state = saved["state"]
    for step in count(int(state["step"])):
        if (step % check_every == 0 and step > state["step"]) or step == steps:
            vaes.eval()
            with torch.no_grad():
                loss = float(loss_of(vaes, *valid, valid_labels))
            if loss < state["best"]:
                state |= {"best": loss, "best_step": step}
                torch.save(vaes.state_dict(), out / "best.pt")
            state["step"] = step
            torch.save(
                {"vaes": vaes.state_dict(), "optimizer": optimizer.state_dict(), "state": state},
                out / "last.pt",
            )
            (out / "state.json").write_text(json.dumps(state) + "\n")
            print(
                step,
                round(loss, 3),
                f"best {state['best']:.3f} at {state['best_step']}, {state['seconds']:.0f} s CPU",
                flush=True,
            )
            late = step - state["best_step"] >= patience * check_every
            if step == steps or late or state["seconds"] >= cpu_seconds:
                return
        clock = time.process_time()
        torch.manual_seed(step)
        vaes.train()
        pairs, digits = draw(clips, labels, step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(vaes, *magnitudes(pairs), digits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state["seconds"] += time.process_time() - clock


def by_karamatli(folder: Path) -> Separate:
    """Their separation: squared magnitudes of the given classes' decoders make the mask."""
    vaes = nn.ModuleList(DigitVAE() for _ in DIGITS)
    vaes.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    vaes.eval()

    @torch.inference_mode()
    def separate(mix: np.ndarray, pair: tuple[str, str]) -> np.ndarray:
        X = stft(torch.from_numpy(mix)[None])
        guesses = torch.cat([vaes[DIGITS.index(digit)](X.abs())[0] for digit in pair])
        return masked(X, guesses)

    return separate


def by_sepvae(folder: str) -> Separate:
    """Our separation, the present sources given."""
    separator = Separator.from_pretrained(folder, device="cpu")

    def separate(mix: np.ndarray, pair: tuple[str, str]) -> np.ndarray:
        stems = separator.separate(mix, RATE, present=pair)
        return np.stack([stems[digit] for digit in pair])

    return separate


def masked(X: Tensor, magnitude: Tensor) -> np.ndarray:
    """Estimates from the squares of magnitudes: X `[1, T, F]`, magnitude `[2, T, F]` -> `[2, L]`."""
    P = magnitude.square()
    return istft(X * P / (P.sum(0, keepdim=True) + 1e-20)).numpy()


def measure(estimates: np.ndarray, references: np.ndarray) -> np.ndarray:
    """SDR, SIR, SAR and SI-SDR improvement of both sources: `[2, 4]`, dB."""
    sdr, _, sir, sar, _ = museval_metrics().bss_eval(
        references[..., None].astype(np.float64),
        estimates[..., None].astype(np.float64),
        window=np.inf,
        hop=np.inf,
        bsseval_sources_version=True,
    )
    gain = si_sdr(estimates, references) - si_sdr(references.sum(0)[None], references)
    return np.stack([sdr[:, 0], sir[:, 0], sar[:, 0], gain], 1)


@main.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--ours", help="Model folder of fsdd/separation.")
@click.option("--theirs", type=click.Path(path_type=Path), help="Folder of `train`.")
@click.option("--split", default="test", show_default=True)
@click.option("--limit", type=int, help="Only the first mixtures.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the scores.")
def score(
    data: Path, ours: str | None, theirs: Path | None, split: str, limit: int | None, out: Path | None
) -> None:
    """Score the mixture, the oracle mask, their network and our model on the mixtures of DATA/<split>."""
    pairs = load_pairs(data / split)[:limit]
    rows: dict[str, np.ndarray] = {}
    methods: dict[str, Separate | None] = {
        "mixture": lambda mix, pair: np.stack([mix, mix]),
        "oracle mask": None,
    }
    if theirs is not None:
        methods["Karamatli et al."] = by_karamatli(theirs)
    if ours is not None:
        methods["sepvae"] = by_sepvae(ours)
    for name, method in methods.items():
        found = []
        for digits, references in pairs:
            mix = references.sum(0)
            if method is None:
                S = stft(torch.from_numpy(references))
                estimates = masked(S.sum(0, keepdim=True), S.abs())
            else:
                estimates = method(mix, digits)
            found.append(measure(estimates, references))
        rows[name] = np.concatenate(found)  # 2 * mixtures, 4
    oracle = np.median(rows["oracle mask"], 0)
    print(
        f"{len(pairs)} mixtures, medians over {2 * len(pairs)} sources in dB, share of the oracle mask's SDR"
    )
    print(f"| | {' | '.join(SCORES)} | mean SI-SDRi | SDR share | SI-SDRi share |\n|" + "---|" * 8)
    for name, values in rows.items():
        middle = np.median(values, 0)
        cells = [f"{value:.2f}" for value in (*middle, values[:, 3].mean())]
        shares = [f"{100 * middle[i] / oracle[i]:.0f} %" for i in (0, 3)]
        print(f"| {name} | {' | '.join([*cells, *shares])} |")
    if out is not None:
        table = {
            name: dict(zip(SCORES, np.median(v, 0).round(3).tolist(), strict=True))
            for name, v in rows.items()
        }
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
