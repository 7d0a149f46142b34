"""Augmentation in small steps: each takes audio and draws its own choices, and any of them can be left out.

A step changes one source, `[C, L]` to `[C, L]`, and nothing else: what it draws comes from the generator that it is
given, so that an excerpt depends on its seed alone. Steps that change pitch and tempo know how much audio they need.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr

from sepvae.data.effects import compress, saturate
from sepvae.data.values import check_number, check_range
from sepvae.errors import RecipeError

Audio = np.ndarray
Range = tuple[float, float]

TONE_POINTS = (0.0, 60.0, 150.0, 400.0, 1000.0, 2500.0, 6000.0, 15000.0, 24000.0)
"""Frequencies in hertz between which the random tone control is interpolated."""
CODEC_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_BOUNDS: dict[str, Any] = {
    "chance": {"least": 0, "most": 1},
    "amount": {"least": 0, "most": 1},
    "strength": {"least": 0, "most": 1},
    "wet": {"least": 0},
    "sd_db": {"least": 0},
    "seconds": {"above": 0},
    "release_s": {"above": 0},
}


class Step(Protocol):
    """One step of augmentation.

    Shape: `[..., C, L]` -> the same.
    """

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio: ...


def apply(steps: Sequence[Step], audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
    """Apply steps one after the other."""
    for step in steps:
        audio = step(audio, sample_rate, rng)
    return audio


def amplify(audio: Audio, gain_db: float) -> Audio:
    """Multiply by a gain in decibels."""
    return audio * np.float32(10 ** (gain_db / 20))


@dataclass(frozen=True)
class Gain:
    """A gain that is normal in decibels, with this standard deviation."""

    sd_db: float

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        return amplify(audio, rng.normal(0, self.sd_db))


@dataclass(frozen=True)
class Level:
    """A gain that is uniform in decibels, from a range."""

    range_db: Range

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        return amplify(audio, rng.uniform(*self.range_db))


@dataclass(frozen=True)
class Polarity:
    """Turn the waveform upside down, or not."""

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        return audio * np.float32(rng.choice([-1.0, 1.0]))


@dataclass(frozen=True)
class ChannelSwap:
    """Exchange left and right, or not."""

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        return audio[..., :: rng.choice([-1, 1]), :]


@dataclass(frozen=True)
class Sometimes:
    """A random number that is used with a given probability.

    Args:
        chance: probability that a number is drawn, in [0, 1].
        range: of the number.
        rest: the number otherwise, which changes nothing.
    """

    chance: float
    range: Range
    rest: float = 1.0

    def draw(self, rng: np.random.Generator) -> float:
        """A number from the range, or `rest`."""
        change = rng.random() < self.chance
        drawn = rng.uniform(*self.range)
        return float(drawn) if change else self.rest


def frames_for(length: int, speed: float) -> int:
    """How many samples to read so that `length` of them are left after a change of speed."""
    return int(np.ceil(length * speed)) + 1


def change_speed(audio: Audio, speed: float, sample_rate: int, length: int) -> Audio:
    """Play faster or slower, pitch and tempo together.

    Shape: `[C, frames_for(length, speed)]` -> `[C, length]`.
    """
    if speed != 1.0:
        audio = soxr.resample(audio.T, speed * sample_rate, sample_rate, quality="LQ").T
        audio = np.pad(audio, ((0, 0), (0, max(0, length - audio.shape[1]))))
    return audio[:, :length]


def stretch(
    audio: Audio, sample_rate: int, length: int, *, tempo: float = 1.0, semitones: float = 0.0
) -> Audio:
    """Change the tempo and the pitch, neither of which touches the other.

    Args:
        audio: as much as `frames_for(length, tempo)`.
        length: samples of the result.
        tempo: > 1 is faster.
        semitones: > 0 is higher.

    Shape: `[C, L]` -> `[C, length]`.
    """
    if tempo == 1.0 and semitones == 0.0:
        return audio[:, :length]
    from python_stretch import Signalsmith

    engine = Signalsmith.Stretch()
    engine.preset(len(audio), sample_rate)
    engine.timeFactor = tempo
    engine.setTransposeSemitones(semitones)
    changed = np.asarray(engine.process(np.ascontiguousarray(audio, dtype=np.float32)), dtype=np.float32)
    return np.pad(changed, ((0, 0), (0, max(0, length - changed.shape[1]))))[:, :length]


def gains_at(frequencies: Audio, gains_db: Audio) -> Audio:
    """Amplitude factors at some frequencies of a curve that is given in decibels at `TONE_POINTS`."""
    return np.asarray(10 ** (np.interp(frequencies, TONE_POINTS, gains_db) / 20))


@dataclass(frozen=True)
class EQ:
    """A random curve over the spectrum, interpolated in decibels between `TONE_POINTS`.

    Args:
        chance: in [0, 1].
        sd_db: standard deviation of the gain at each point.
    """

    chance: float = 0.0
    sd_db: float = 4.0

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        if rng.random() >= self.chance:
            return audio
        from scipy.fft import irfft, next_fast_len, rfft  # which stay in float32

        length = audio.shape[-1]
        # Longer, so that the filter's tail does not wrap around.
        padded = next_fast_len(length + sample_rate // 10, real=True)
        curve = gains_at(
            np.fft.rfftfreq(padded, 1 / sample_rate), rng.normal(0, self.sd_db, len(TONE_POINTS))
        )
        spectrum = rfft(audio, padded) * curve.astype(np.float32)
        return irfft(spectrum, padded)[..., :length].astype(np.float32)


@dataclass(frozen=True)
class Saturation:
    """A soft clipper, which adds harmonics and keeps the level.

    Args:
        chance: in [0, 1].
        drive_db: range of the RMS at which the sound enters the clipper, relative to 0.3.
    """

    chance: float = 0.0
    drive_db: Range = (-12.0, 4.0)

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        return saturate(audio, rng.uniform(*self.drive_db)) if rng.random() < self.chance else audio


@dataclass(frozen=True)
class Compression:
    """An even level over time, as a compressor makes it.

    Args:
        chance: in [0, 1].
        amount: range, from 0 (as it is) to 1 (the same level everywhere).
        release_s: range of the time in seconds that the level takes to recover, > 0.
    """

    chance: float = 0.0
    amount: Range = (0.1, 0.5)
    release_s: Range = (0.05, 0.25)

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        if rng.random() >= self.chance:
            return audio
        return compress(audio, rng.uniform(*self.amount), rng.uniform(*self.release_s), sample_rate)


@dataclass(frozen=True)
class Reverb:
    """A room: noise that decays exponentially, another one per channel, added to the dry sound.

    Args:
        chance: in [0, 1].
        seconds: range of the time in which it decays by 60 dB, > 0.
        wet: range of its energy as a share of the dry sound's, >= 0.
    """

    chance: float = 0.0
    seconds: Range = (0.1, 0.8)
    wet: Range = (0.02, 0.3)

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        if rng.random() >= self.chance:
            return audio
        from scipy.signal import fftconvolve

        seconds, wet = rng.uniform(*self.seconds), rng.uniform(*self.wet)
        time = np.arange(1, max(round(seconds * sample_rate), 2)) / sample_rate
        tail = rng.standard_normal((audio.shape[-2], len(time))) * 10 ** (-3 * time / seconds)
        tail *= np.sqrt(wet / np.sum(tail**2, axis=1, keepdims=True))
        room = np.concatenate([np.ones((audio.shape[-2], 1)), tail], axis=1)  # C, taps
        return fftconvolve(audio, room.astype(np.float32), axes=-1)[..., : audio.shape[-1]].astype(np.float32)


@dataclass(frozen=True)
class Codec:
    """The damage of a lossy format: encode and decode, without a shift in time.

    Args:
        chance: in [0, 1].
        formats: of mp3, vorbis and opus; opus needs one of its own rates.
        strength: range of the compression level, from 0 (best) to 1 (worst).
    """

    chance: float = 0.0
    formats: tuple[str, ...] = ("mp3", "vorbis")
    strength: Range = (0.2, 0.9)

    def __post_init__(self) -> None:
        known = isinstance(self.formats, tuple) and all(name in CODEC_FORMATS for name in self.formats)
        if not known or not self.formats:
            found = (
                ", ".join(map(str, self.formats)) if isinstance(self.formats, tuple) else repr(self.formats)
            )
            raise RecipeError(
                f"codec formats are a list of {', '.join(CODEC_FORMATS)}, found {found or 'none'}"
            )

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        if rng.random() >= self.chance:
            return audio
        return coded(audio, sample_rate, str(rng.choice(self.formats)), float(rng.uniform(*self.strength)))


def coded(audio: Audio, sample_rate: int, codec: str, strength: float) -> Audio:
    """Encode and decode; the level is brought under full scale meanwhile, so that nothing clips.

    Args:
        codec: key of `CODEC_FORMATS`.
        strength: of the compression, from 0 (best) to 1.

    Shape: `[C, L]` -> `[C, L]`.

    Raises:
        RecipeError: the codec does not have this rate.
    """
    if codec == "opus" and sample_rate not in OPUS_RATES:
        raise RecipeError(f"opus needs a rate of {', '.join(map(str, OPUS_RATES))} Hz, found {sample_rate}")
    peak = float(np.abs(audio).max())
    if peak == 0:
        return audio
    kind, subtype = CODEC_FORMATS[codec]
    buffer = io.BytesIO()
    soundfile.write(
        buffer, audio.T * (0.9 / peak), sample_rate, format=kind, subtype=subtype, compression_level=strength
    )
    buffer.seek(0)
    decoded = soundfile.read(buffer, dtype="float32", always_2d=True)[0].T * np.float32(peak / 0.9)
    return np.pad(decoded, ((0, 0), (0, max(0, audio.shape[-1] - decoded.shape[1]))))[:, : audio.shape[-1]]


@dataclass(frozen=True)
class Loudness:
    """Set the loudness (ITU-R BS.1770) to one drawn from a range; audio too quiet or short to measure stays as it is.

    Args:
        chance: in [0, 1].
        lufs: range of the loudness.
    """

    chance: float = 0.0
    lufs: Range = (-33.0, -20.0)

    def __call__(self, audio: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
        if rng.random() >= self.chance:
            return audio
        wanted = rng.uniform(*self.lufs)
        found = loudness(audio, sample_rate)
        return audio if found is None else amplify(audio, wanted - found)


def loudness(audio: Audio, sample_rate: int) -> float | None:
    """Integrated loudness in LUFS, None for less than 0.4 s or nothing above the gate at -70 LUFS.

    Shape: `[C, L]`.
    """
    meter = _meter(sample_rate)
    if audio.shape[-1] < meter.block_size * sample_rate:
        return None
    found = float(meter.integrated_loudness(audio.T.astype(np.float64)))
    return found if np.isfinite(found) else None


@lru_cache(maxsize=8)
def _meter(sample_rate: int) -> Any:
    import pyloudnorm

    return pyloudnorm.Meter(sample_rate)


@dataclass(frozen=True)
class Effects:
    """What can happen to a source beyond gain, polarity, swap, speed and tone; all of it is off by default.

    Args:
        pitch: chance and range in semitones.
        tempo: chance and range of the factor.
        saturation, compression, eq, reverb, codec, loudness: the steps, which are applied in this order.
    """

    pitch: Sometimes = Sometimes(0.0, (-2.0, 2.0), rest=0.0)
    tempo: Sometimes = Sometimes(0.0, (0.9, 1.1))
    saturation: Saturation = Saturation()
    compression: Compression = Compression()
    eq: EQ = EQ()
    reverb: Reverb = Reverb()
    codec: Codec = Codec()
    loudness: Loudness = Loudness()

    @classmethod
    def from_plain(cls, values: Mapping[str, Mapping[str, Any]]) -> Effects:
        """Effects from the values of a recipe.

        Raises:
            RecipeError: an unknown effect or setting, or a value that cannot be.
        """
        defaults = cls()
        changed = {}
        if not isinstance(values, Mapping):
            raise RecipeError(f"data.mixing.effects must name effects, found {values!r}")
        for name, settings in values.items():
            if name not in {field.name for field in dataclasses.fields(cls)}:
                raise RecipeError(
                    f"no effect {name!r}, there are {', '.join(f.name for f in dataclasses.fields(cls))}"
                )
            if not isinstance(settings, Mapping):
                raise RecipeError(f"data.mixing.effects.{name} must have settings, found {settings!r}")
            tuples = {
                key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
            }
            try:
                changed[name] = dataclasses.replace(getattr(defaults, name), **tuples)
            except TypeError as error:
                raise RecipeError(f"effect {name}: {error}") from error
            for key, value in tuples.items():
                _check_setting(name, key, value)
        return dataclasses.replace(defaults, **changed)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps with a chance above zero, less pitch and tempo, which change how much audio is needed."""
        steps = (self.saturation, self.compression, self.eq, self.reverb, self.codec, self.loudness)
        return tuple(step for step in steps if step.chance > 0)

    @property
    def any(self) -> bool:
        """Whether anything may happen at all."""
        return bool(self.steps) or self.pitch.chance > 0 or self.tempo.chance > 0


def _check_setting(effect: str, key: str, value: Any) -> None:
    """Refuse a value that an effect's setting cannot have."""
    name, bounds = f"data.mixing.effects.{effect}.{key}", _BOUNDS.get(key, {})
    if key == "formats":
        return  # which a codec looks at itself
    if key in ("chance", "sd_db", "rest"):
        check_number(name, value, **bounds)
    else:
        check_range(name, value, **({"above": 0} if (effect, key) == ("tempo", "range") else bounds))


OFF = Effects()
