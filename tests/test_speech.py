"""What the bundled model `speech` must be able to do with a speaker and a noise that it never heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae import Separator
from sepvae.signal.metrics import si_sdr

ASSETS = Path(__file__).parent / "assets"
FLOOR_DB = 4.0


@pytest.fixture(scope="module")
def separator() -> Separator:
    return Separator.from_pretrained("speech", "cpu", precision="float32")


@pytest.fixture(scope="module")
def references() -> dict[str, np.ndarray]:
    """Twelve seconds of speech and of the noise in the noisy example [L]."""
    return {name: soundfile.read(ASSETS / f"{name}.opus", dtype="float32")[0] for name in ("speech", "noise")}


def test_the_speech_gets_clearer(separator: Separator, references: dict[str, np.ndarray]) -> None:
    mix = references["speech"] + references["noise"]
    estimates = separator.separate(mix, 16000)
    gain_db = float(si_sdr(estimates["speech"], references["speech"]) - si_sdr(mix, references["speech"]))
    assert gain_db > FLOOR_DB
    np.testing.assert_allclose(estimates["speech"] + estimates["noise"], mix, atol=1e-5)  # float32 rounding


def test_clean_speech_stays(separator: Separator, references: dict[str, np.ndarray]) -> None:
    speech = references["speech"]
    assert float(si_sdr(separator.separate(speech, 16000)["speech"], speech)) > 20


def test_noise_alone_is_no_speech(separator: Separator, references: dict[str, np.ndarray]) -> None:
    noise = references["noise"]
    speech = separator.separate(noise, 16000)["speech"]
    assert 10 * np.log10(np.square(noise).mean() / np.square(speech).mean()) > 20


def full_band(audio: np.ndarray) -> np.ndarray:
    """The sound at 48 kHz [3 L], with highs: what lies between 4 and 7 kHz stands again at 9 to 12 kHz."""
    spectrum = np.fft.rfft(audio)
    hertz = round(len(audio) / 16000)  # bins in one
    wide = np.zeros(3 * len(audio) // 2 + 1, complex)
    wide[: len(spectrum)] = spectrum
    wide[9000 * hertz : 12000 * hertz] = spectrum[4000 * hertz : 7000 * hertz]
    return 3 * np.fft.irfft(wide, 3 * len(audio))


def highs(audio: np.ndarray) -> np.ndarray:
    """What lies above 8.5 kHz of a sound at 48 kHz."""
    spectrum = np.fft.rfft(audio)
    spectrum[: round(8500 / 48000 * len(audio))] = 0
    return np.fft.irfft(spectrum, len(audio))


def test_a_voice_at_48_khz_keeps_its_highs(separator: Separator, references: dict[str, np.ndarray]) -> None:
    """Without them the error is 0 dB under the voice's highs; in the mixture it is the noise's highs."""
    voice, noise = (full_band(references[name][: 12 * 16000]) for name in ("speech", "noise"))
    estimates = separator.separate((voice + noise).astype(np.float32), 48000)
    np.testing.assert_allclose(estimates["speech"] + estimates["noise"], voice + noise, atol=1e-5)
    error = np.square(highs(estimates["speech"] - voice)).mean()
    assert 10 * np.log10(np.square(highs(voice)).mean() / error) > 5
    assert 10 * np.log10(np.square(highs(noise)).mean() / error) > 5


def test_the_highs_of_a_noise_stay_with_it(separator: Separator, references: dict[str, np.ndarray]) -> None:
    noise = full_band(references["noise"][: 12 * 16000])
    speech = separator.separate(noise.astype(np.float32), 48000)["speech"]
    assert 10 * np.log10(np.square(highs(noise)).mean() / np.square(highs(speech)).mean()) > 20
