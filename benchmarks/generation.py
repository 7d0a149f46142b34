"""The source autoencoders on their own: `python benchmarks/generation.py samples|codec|denoise MODEL ...`.

`samples MODEL --out DIR`: draws from every source's prior, sounds and a picture of some, and how often each
autoencoder claims them, which is the one with the highest ELBO (of S ~ N_c(0, v) for 64 frames, at -20 dBFS).
`codec MODEL DATASET`: rate and error of coded stems, beside Opus at about the same rates. `denoise MODEL DATASET`:
noisy solos through their own autoencoder and through the separation. Errors of the codecs are root-mean-square
differences of banded log-power over cells above -60 dBFS: neither Griffin-Lim nor a listener keeps the waveform.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepvae import checkpoint, codec, generation, pretrained
from sepvae.audio.sounds import change_rate, write_sound
from sepvae.data import corpora
from sepvae.models.separation import SeparationVAE
from sepvae.separator import Separator
from sepvae.signal import metrics

QUIET_DB = -60.0
BATCH = 16
CLAIMED_FRAMES = 64
OPUS_RATE = 48000


def samples(model: SeparationVAE, options: argparse.Namespace) -> None:
    """Print which autoencoder claims the draws of each; write the first draws and a picture."""
    options.out.mkdir(parents=True, exist_ok=True)
    sources = model.config.sources
    shown: dict[str, list[Tensor]] = {}
    print(f"| draws of | {' | '.join(f'VAE {s}' for s in sources)} |\n{'|---' * (len(sources) + 1)}|")
    for source in sources:
        claims: Counter[str] = Counter()
        for seed in range(0, options.number, BATCH):
            count = min(BATCH, options.number - seed)
            P = drawn_powers(model, source, count, torch.Generator().manual_seed(seed), options.temperature)
            bounds = [
                model.source_vae(name).elbo(P, model.bands.sizes, torch.Generator().manual_seed(seed))
                for name in sources
            ]
            claims.update(sources[k] for k in torch.stack(bounds).argmax(0).tolist())
        for seed in range(options.sounds):
            x = generation.sample(
                model,
                source,
                options.seconds,
                generator=torch.Generator().manual_seed(seed),
                temperature=options.temperature,
                iterations=options.iterations,
            )
            x *= 0.1 / x.square().mean().sqrt()
            shown.setdefault(source, []).append(x)
            write_sound(options.out / f"{source}-{seed}.wav", x.numpy(), model.config.sample_rate)
        print(f"| {source} | {' | '.join(f'{100 * claims[s] / options.number:.0f} %' for s in sources)} |")
    picture(options.out / "samples.png", model, shown)


def drawn_powers(
    model: SeparationVAE, source: str, count: int, generator: torch.Generator, temperature: float
) -> Tensor:
    """Banded power of draws of S ~ N_c(0, v) with v drawn from the prior, at -20 dBFS: `[count, 2, N, T]`."""
    v = model.source_vae(source).sample(CLAIMED_FRAMES, count, generator, temperature).exp()
    speckle = torch.empty(count, 2, model.bands.n_bins, CLAIMED_FRAMES).exponential_(generator=generator)
    P = v * model.bands.merge(speckle)
    level = (P * model.bands.sizes[:, None]).sum((1, 2, 3), keepdim=True) / (
        2 * model.bands.n_bins * CLAIMED_FRAMES
    )
    return 0.01 * P / level


def picture(path: Path, model: SeparationVAE, shown: dict[str, list[Tensor]]) -> None:
    """Draw spectrograms, a row for each source."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(map(len, shown.values()))
    figure = Figure(figsize=(2 * columns, 2.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), columns, sharex=True, sharey=True, squeeze=False)
    for row, (source, drawn) in zip(axes, shown.items(), strict=True):
        for axis, x in zip(row, drawn, strict=False):
            level = 10 * torch.log10(model.banded_power(model.stft(x)).mean(0) + 1e-9)  # [N, T]
            axis.imshow(level, origin="lower", aspect="auto", vmin=-80, vmax=0, cmap="magma")
            axis.set_axis_off()
        row[0].set_title(source, loc="left")
    figure.savefig(path, dpi=80)


def stems(dataset: Path, model: SeparationVAE, seconds: float) -> Iterator[tuple[str, str, np.ndarray]]:
    """Track, source and stereo sound of the stems of a dataset that sound in the middle of the song."""
    for track in corpora.scan(dataset, model.config.sources).songs:
        start = max(0, round((track.seconds - seconds) / 2 * track.sample_rate))
        for source, path in track.files.items():
            audio, rate = corpora.read_audio(path, start=start, frames=round(seconds * track.sample_rate))
            if metrics.is_active(audio):
                yield track.name, source, corpora.resample(audio, rate, model.config.sample_rate)


def log_power(model: SeparationVAE, x: Tensor) -> Tensor:
    """Banded power in decibels, `[2, N, T]`."""
    return 10 * torch.log10(model.banded_power(model.stft(x)) + 1e-10)


def error_db(found: Tensor, truth: Tensor) -> float:
    """Root-mean-square difference of log-powers where the truth is not quiet."""
    return float((found - truth)[truth > QUIET_DB].square().mean().sqrt())


def opus(x: np.ndarray, rate: int, kbit_s: int) -> tuple[np.ndarray, float]:
    """A stereo sound through Opus, and the rate that it took in kbit/s."""
    import av

    wide = change_rate(x, rate, OPUS_RATE)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=OPUS_RATE, layout="stereo")
        stream.bit_rate = 1000 * kbit_s
        for start in range(0, wide.shape[1], 960):
            block = np.pad(wide[:, start : start + 960], ((0, 0), (0, max(0, start + 960 - wide.shape[1]))))
            samples = np.ascontiguousarray(block.T).reshape(1, -1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="stereo")
            frame.sample_rate = OPUS_RATE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    size = buffer.tell()
    buffer.seek(0)
    with av.open(buffer) as back:
        decoded = np.concatenate([frame.to_ndarray() for frame in back.decode(audio=0)], axis=1)
    if decoded.shape[0] == 1:
        decoded = decoded.reshape(-1, 2).T
    decoded = decoded[:, -wide.shape[1] :] if decoded.shape[1] > wide.shape[1] else decoded
    narrow = change_rate(decoded.astype(np.float32), OPUS_RATE, rate)[:, : x.shape[1]]
    narrow = np.pad(narrow, ((0, 0), (0, x.shape[1] - narrow.shape[1])))
    return narrow, 8 * size / 1000 / (x.shape[1] / rate)


def coded(model: SeparationVAE, options: argparse.Namespace) -> None:
    """Print rate against error of the latents and of Opus."""
    steps_of_rounding = 0.5, 1.0, 2.0
    cases = [(refine, step, 0) for refine in (0, 50) for step in steps_of_rounding]
    cases += [(0, step, drop) for drop in (1, 2) for step in steps_of_rounding]
    rows: dict[str, list[tuple[float, ...]]] = {}
    rate = model.config.sample_rate
    for _, source, audio in stems(options.dataset, model, options.seconds):
        x = torch.from_numpy(audio)
        truth = log_power(model, x)
        codes = {refine: generation.encode(model, source, x, refine=refine) for refine in (0, 50)}
        frames = codes[0][0][0].shape[-1] * generation.LATENT_FRAMES[0]
        for refine, step, drop in cases:
            means, spreads = codes[refine]
            levels, steps = codec.quantise(means, spreads, step=step, drop=drop)
            one = codec.CodedStem(source, "", rate, 2, x.shape[1], frames, levels, steps)
            with tempfile.NamedTemporaryFile() as file:
                size = codec.write(file.name, one)
            lv = generation.decode(model, source, one.latents)[..., : truth.shape[-1]]
            sound = generation.synthesise(
                model,
                lv,
                x.shape[1],
                generator=torch.Generator().manual_seed(0),
                iterations=options.iterations,
            )
            errors = error_db(10 / np.log(10) * lv, truth), error_db(log_power(model, sound), truth)
            kbit_s = 8 * size / 1000 / options.seconds
            name = f"refine {refine}, step {step}, drop {drop}"
            rows.setdefault(name, []).append((kbit_s, *errors))
        for kbit_s in (8, 16, 32, 64, 96):
            back, used = opus(audio, rate, kbit_s)
            error = error_db(log_power(model, torch.from_numpy(back)), truth)
            rows.setdefault(f"Opus at {kbit_s}", []).append((used, np.nan, error))
    print("| coding | kbit/s | error of the variances, dB | error of the sound, dB |\n|---|---|---|---|")
    for name, values in rows.items():
        mean = np.mean(values, axis=0)
        print(f"| {name} | " + " | ".join("" if np.isnan(v) else f"{v:.1f}" for v in mean) + " |")


def denoised(model: SeparationVAE, options: argparse.Namespace) -> None:
    """Print SI-SDR of noisy solos, of their decoded posteriors, and of their stem of the separation."""
    separator = Separator(model, "cpu")
    rng = np.random.default_rng(0)
    rows: dict[float, list[tuple[float, ...]]] = {}
    for _, source, audio in stems(options.dataset, model, options.seconds):
        noise = rng.standard_normal(audio.shape).astype(np.float32)
        for snr_db in (0.0, 10.0, 20.0):
            level = np.sqrt(np.square(audio).mean() / np.square(noise).mean()) * 10 ** (-snr_db / 20)
            noisy = audio + np.float32(level) * noise
            own = generation.denoise(model, source, torch.from_numpy(noisy)).numpy()
            stem = separator.separate(noisy, model.config.sample_rate)[source]
            scores = [float(metrics.si_sdr(x.mean(0), audio.mean(0))) for x in (noisy, own, stem)]
            rows.setdefault(snr_db, []).append(tuple(scores))
    print("| white noise at | noisy | own VAE | separation |\n|---|---|---|---|")
    for snr_db, values in rows.items():
        print(f"| {snr_db:.0f} dB | " + " | ".join(f"{v:.1f}" for v in np.mean(values, axis=0)) + " |")


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("samples", samples), ("codec", coded), ("denoise", denoised)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("model")
        command.add_argument("--iterations", type=int, default=generation.GRIFFIN_LIM_ITERATIONS)
        if name == "samples":
            command.add_argument("--out", type=Path, required=True, help="folder for sounds and a picture")
            command.add_argument("--number", type=int, default=64, help="draws that are claimed")
            command.add_argument("--sounds", type=int, default=8, help="draws that become sounds")
            command.add_argument("--temperature", type=float, default=1.0)
            command.add_argument("--seconds", type=float, default=3.0)
        else:
            command.add_argument("dataset", type=Path)
            command.add_argument("--seconds", type=float, default=6.0, help="of each stem, from its middle")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = checkpoint.load(pretrained.find(options.model))
    with torch.inference_mode():
        options.function(generation.with_vaes(model.eval().requires_grad_(False)), options)


if __name__ == "__main__":
    main()
