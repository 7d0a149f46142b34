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
