"""Random instruments: synthesizers, strings and organs that suit a kind of bass or a role in a song.

What is drawn, and in which order, decides the composed songs of a seed.
"""

from __future__ import annotations

import numpy as np

from sepvae.data.augment import Range
from sepvae.data.kits import Samples
from sepvae.data.synth import FM, Analog, Envelope, Instrument, Organ, Pluck, Wave

SYNTHETIC_BASSES = ("saw", "square", "triangle", "sub", "808", "reese", "fm", "pluck", "drive", "shot")


def bass_instrument(kind: str, samples: Samples, rng: np.random.Generator) -> Instrument:
    """Build a bass of a kind: saw, square, triangle, sub, 808, reese, fm or pluck; any other is a recorded one."""
    glide_s = float(rng.choice((0.0, 0.0, rng.uniform(0.01, 0.05))))
    held = Envelope(
        attack_s=float(rng.uniform(0.003, 0.02)),
        decay_s=float(rng.uniform(0.1, 0.8)),
        sustain=float(rng.uniform(0.4, 1.0)),
        release_s=float(rng.uniform(0.03, 0.15)),
    )
    cutoff_octaves, sweep_octaves = float(rng.uniform(0.8, 3.0)), float(rng.uniform(0.0, 3.5))
    sweep_s = float(rng.uniform(0.05, 0.4))
    match kind:
        case "saw" | "square":
            waves = _stacked_waves("saw" if kind == "saw" else "pulse", rng)
            return Analog(waves, held, cutoff_octaves, sweep_octaves, sweep_s, glide_s)
        case "reese":
            return _reese(held, glide_s, rng)
        case "808":
            return _808(rng)
        case "sub" | "triangle":
            octave_up = Wave("sine", octave=1, level=float(rng.uniform(0, 0.25)))
            return Analog((Wave("sine" if kind == "sub" else "triangle"), octave_up), held, glide_s=glide_s)
        case "fm":
            ratio = float(rng.choice((0.5, 1.0, 1.0, 2.0, 3.0)))
            return FM(ratio, float(rng.uniform(0.8, 5)), float(rng.uniform(0.05, 0.5)), held)
        case "pluck":
            return _string(
                rng, release_s=(0.03, 0.12), ring_s=(1.5, 6), brightness=(0.1, 0.5), position=(0.1, 0.4)
            )
    return samples.bass(rng)


def _stacked_waves(kind: str, rng: np.random.Generator) -> tuple[Wave, ...]:
    """A wave, by chance with a detuned second one and a sine below."""
    waves = [Wave(kind, width=float(rng.uniform(0.2, 0.5)))]
    if rng.random() < 0.5:
        waves.append(Wave(kind, detune_cents=float(rng.uniform(4, 15))))
    if rng.random() < 0.5:
        waves.append(Wave("sine", octave=-1 if rng.random() < 0.3 else 0, level=0.8))
    return tuple(waves)


def _reese(held: Envelope, glide_s: float, rng: np.random.Generator) -> Analog:
    """Saws far out of tune with each other, which beat slowly."""
    cents = float(rng.uniform(8, 35))
    waves = (Wave("saw", -cents), Wave("saw", cents), Wave("saw", 0.3 * cents), Wave("sine"))
    cutoff_octaves, sweep_octaves = float(rng.uniform(1.5, 4)), float(rng.uniform(0, 1))
    return Analog(waves, held, cutoff_octaves, sweep_octaves, sweep_s=0.5, glide_s=glide_s)


def _808(rng: np.random.Generator) -> Analog:
    """A sine that rings on and starts too high, as the kick drum of the TR-808 does."""
    ring = Envelope(
        0.002, float(rng.uniform(0.3, 1.2)), float(rng.uniform(0, 0.3)), float(rng.uniform(0.1, 0.4))
    )
    drop = (float(rng.uniform(5, 24)), float(rng.uniform(0.01, 0.05)))
    return Analog((Wave("sine"),), ring, glide_s=float(rng.uniform(0.01, 0.06)), drop=drop)


def _string(
    rng: np.random.Generator,
    *,
    release_s: Range,
    ring_s: Range,
    brightness: Range,
    position: Range,
    seed: int | None = None,
) -> Pluck:
    """A plucked string, its values drawn from ranges; a seed that is not given is drawn too."""
    hand = Envelope(0.002, 1.0, 1.0, release_s=float(rng.uniform(*release_s)))
    return Pluck(
        ring_s=float(rng.uniform(*ring_s)),
        brightness=float(rng.uniform(*brightness)),
        position=float(rng.uniform(*position)),
        amplitude=hand,
        seed=int(rng.integers(1 << 30)) if seed is None else seed,
    )


def part_instrument(role: str, rng: np.random.Generator) -> Instrument:
    """Build a synthetic instrument that suits a role."""
    seed = int(rng.integers(1 << 30))
    cents = float(rng.uniform(4, 18))
    saws = (Wave("saw", -cents), Wave("saw", cents))
    pulses = (Wave("pulse", -cents / 2, width=float(rng.uniform(0.1, 0.5))), Wave("pulse", cents / 2))
    waves = saws if rng.random() < 0.6 else pulses
    match role:
        case "pad" | "strings":
            return _pad(waves, rng)
        case "power" | "strum" | "riff" | "skank":
            return _string(
                rng,
                release_s=(0.03, 0.15),
                ring_s=(1.5, 5),
                brightness=(0.3, 0.9),
                position=(0.08, 0.4),
                seed=seed,
            )
        case "organ":
            drawbars = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
            levels = tuple((multiple, float(rng.uniform(0, 1))) for multiple in drawbars)
            return Organ(levels, float(rng.uniform(0.8, 7)), float(rng.uniform(0, 0.3)))
        case "brass":
            return _brass(saws, rng)
        case "clav":
            quick = Envelope(0.001, 0.25, 0.3, 0.04)
            if rng.random() < 0.5:
                return Pluck(1.0, 0.9, 0.1, quick, seed)
            return Analog(pulses, quick, 2.5, 2.0, 0.08, poly=True)
        case "lead":
            return _lead(cents, rng)
    return _keys(waves, rng)


def _pad(waves: tuple[Wave, ...], rng: np.random.Generator) -> Analog:
    slow = Envelope(float(rng.uniform(0.05, 0.6)), 1.0, 0.9, float(rng.uniform(0.3, 1.0)))
    cutoff_octaves, sweep_octaves = float(rng.uniform(1, 4)), float(rng.uniform(-1, 1.5))
    return Analog(waves, slow, cutoff_octaves, sweep_octaves, sweep_s=0.8, poly=True)


def _brass(saws: tuple[Wave, ...], rng: np.random.Generator) -> Analog:
    lips = Envelope(float(rng.uniform(0.03, 0.09)), 0.3, 0.8, 0.08)
    cutoff_octaves, sweep_octaves = float(rng.uniform(2, 3)), float(rng.uniform(0.5, 2))
    return Analog(saws, lips, cutoff_octaves, sweep_octaves, sweep_s=0.25, vibrato=(5.2, 0.1), poly=True)


def _lead(cents: float, rng: np.random.Generator) -> Analog:
    """One voice that glides, of two waves out of tune with each other."""
    voice = Envelope(float(rng.uniform(0.005, 0.05)), 0.5, 0.8, 0.12)
    glide_s = float(rng.choice((0.0, 0.03)))
    vibrato = float(rng.uniform(4.5, 6.5)), float(rng.uniform(0, 0.3))
    kind = str(rng.choice(("saw", "pulse", "triangle", "sine")))
    return Analog(
        (Wave(kind), Wave(kind, cents)),
        voice,
        cutoff_octaves=float(rng.uniform(2, 6)),
        sweep_octaves=1.0,
        sweep_s=0.3,
        glide_s=glide_s,
        vibrato=vibrato,
    )


def _keys(waves: tuple[Wave, ...], rng: np.random.Generator) -> Instrument:
    """Short notes, by frequency modulation or from a filtered synthesizer."""
    short = Envelope(
        0.002, float(rng.uniform(0.1, 0.6)), float(rng.uniform(0, 0.5)), float(rng.uniform(0.05, 0.3))
    )
    if rng.random() < 0.4:
        return FM(
            ratio=float(rng.choice((1, 2, 3, 7, 14))),
            index=float(rng.uniform(0.3, 2.5)),
            index_decay_s=float(rng.uniform(0.1, 0.6)),
            amplitude=short,
        )
    return Analog(
        waves,
        short,
        cutoff_octaves=float(rng.uniform(1, 3)),
        sweep_octaves=float(rng.uniform(0.5, 3)),
        sweep_s=float(rng.uniform(0.05, 0.4)),
        poly=True,
    )
