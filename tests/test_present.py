"""Known sources: absent stems are silent, the others add up, and the choice is part of what a result is made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from sepvae import Separator, checkpoint
from sepvae.cli import cli
from sepvae.errors import OptionError
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.separation.quality import Quality
from sepvae.separation.selection import Presence, Selection
from sepvae.signal import wiener

RATE = 44100
SOURCES = ("vocals", "drums", "bass", "other")
SUM = 2e-7  # the sum of the float32 stems of a signal below one
ROUNDING = 1e-6  # float32 sums in another order


@pytest.fixture
def separator(tiny_model: SeparationVAE) -> Separator:
    return Separator(tiny_model, "cpu", precision="float32", segment_s=0.1)


@pytest.mark.parametrize("rate", [RATE, 96_000])
@pytest.mark.parametrize("refine", [0, 2])
def test_absent_stems_are_silent_and_the_others_add_up(
    tiny_model: SeparationVAE, noise: np.ndarray, rate: int, refine: int
) -> None:
    separator = Separator(tiny_model, "cpu", precision="float32", quality=Quality(refine=refine))
    audio = noise[:, :9000]
    stems = separator.separate(audio, rate, present=["bass", "drums"])
    assert tuple(stems) == SOURCES
    assert not stems["vocals"].any()
    assert not stems["other"].any()
    np.testing.assert_allclose(stems["bass"].astype(np.float64) + stems["drums"], audio, atol=SUM)
    everything = separator.separate(audio, rate)
    assert all(np.abs(stems[s] - everything[s]).max() > 1e-3 for s in ("bass", "drums"))


def test_the_variances_of_absent_sources_leave_the_wiener_filter(
    separator: Separator, noise: np.ndarray
) -> None:
    model = separator.model
    X = model.stft(torch.tensor(noise)[None])
    kept = [0, 3]
    S = X.unsqueeze(1) * model.bands.expand(wiener.masks(model.log_variances(X)[:, kept]))
    expected = model.stft.inverse(S, noise.shape[1])[0]
    stems = separator.separate(noise, RATE, present=["vocals", "other"])
    for k, source in enumerate(("vocals", "other")):
        np.testing.assert_allclose(stems[source], expected[k], atol=ROUNDING)


def test_a_model_that_is_told_hears_who_is_there(tiny_config: SeparationConfig, noise: np.ndarray) -> None:
    torch.manual_seed(0)
    model = SeparationVAE(replace(tiny_config, told=True)).eval()
    X, kept = model.stft(torch.tensor(noise)[None]), [0, 3]
    V = model.log_variances(X, torch.tensor([[1.0, 0, 0, 1]]))[:, kept]
    S = X.unsqueeze(1) * model.bands.expand(wiener.masks(V))
    expected = model.stft.inverse(S, noise.shape[1])[0].detach()
    stems = Separator(model, "cpu", precision="float32").separate(noise, RATE, present=["vocals", "other"])
    for k, source in enumerate(("vocals", "other")):
        np.testing.assert_allclose(stems[source], expected[k], atol=ROUNDING)


def test_all_present_is_the_same_as_not_knowing(separator: Separator, noise: np.ndarray) -> None:
    named, unnamed = separator.separate(noise, RATE, present=SOURCES), separator.separate(noise, RATE)
    for source in SOURCES:
        np.testing.assert_array_equal(named[source], unnamed[source])


def test_one_present_source_is_the_recording(separator: Separator, noise: np.ndarray) -> None:
    stems = separator.separate(noise, RATE, present=["bass"])
    np.testing.assert_array_equal(stems["bass"], noise)


def test_the_first_one_named_takes_up_what_an_absent_residual_source_would(separator: Separator) -> None:
    """A tone above the model's Nyquist."""
    audio = (0.1 * np.sin(2 * np.pi * 30_000 * np.arange(24_000) / 96_000))[None].astype(np.float32)
    stems = separator.separate(audio, 96_000, present=["drums", "vocals"])
    middle = slice(4000, -4000)
    np.testing.assert_allclose(stems["drums"][0, middle], audio[0, middle], atol=1e-4)
    assert np.abs(stems["vocals"][0, middle]).max() < 1e-4


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_files_of_absent_sources_are_silent_to_the_last_bit(
    tmp_path: Path, separator: Separator, noise: np.ndarray, subtype: str
) -> None:
    soundfile.write(tmp_path / "song.wav", noise.T, RATE, subtype=subtype)
    result = separator.separate_file(
        tmp_path / "song.wav", tmp_path, present=["vocals", "drums"], verify=True
    )
    written = {stem: soundfile.read(path)[0] for stem, path in result.outputs.items()}
    assert tuple(written) == SOURCES
    assert not written["bass"].any()
    assert not written["other"].any()
    total, audio = written["vocals"] + written["drums"], soundfile.read(tmp_path / "song.wav")[0]
    np.testing.assert_allclose(total, audio, atol=0 if subtype == "PCM_16" else SUM, rtol=0)
    assert result.sum_error is not None


def test_a_result_of_other_known_sources_is_made_anew(
    tmp_path: Path, separator: Separator, noise: np.ndarray
) -> None:
    soundfile.write(tmp_path / "song.wav", noise[:, :3000].T, RATE)

    def skipped(present: list[str] | None) -> bool:
        return separator.separate_file(tmp_path / "song.wav", tmp_path, present=present).skipped

    assert not skipped(None)
    assert skipped(list(SOURCES))  # which says nothing new
    assert not skipped(["vocals", "drums"])
    assert skipped(["vocals", "drums"])
    assert not skipped(["drums", "vocals"])  # another one takes the residual
    assert not skipped(["vocals", "other"])
    assert skipped(["other", "vocals"])
    assert not skipped(None)


def test_names_are_checked(separator: Separator, noise: np.ndarray) -> None:
    for bad in (["piano"], []):
        with pytest.raises(OptionError, match="expected present sources among vocals, drums, bass, other"):
            separator.separate(noise, RATE, present=bad)


def test_the_stem_that_holds_the_residual_source_takes_up_rounding_errors() -> None:
    assert Selection(SOURCES, "other", two_stems="vocals").absorber == "no_vocals"
    assert Selection(SOURCES, "vocals", two_stems="vocals").absorber == "vocals"
    assert Selection(SOURCES, "other", ["vocals", "drums"]).absorber is None
    assert Presence(SOURCES, "other", ["bass", "drums"]).residual_source == "bass"
    assert Presence(SOURCES, "other", ["bass", "other"]).residual_source == "other"


def test_the_command_takes_known_sources(
    tmp_path: Path, tiny_model: SeparationVAE, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save(tmp_path / "tiny", tiny_model, {})
    soundfile.write("song.wav", noise.T, RATE)
    common = ["separate", "-m", str(tmp_path / "tiny"), "--device", "cpu", "song.wav"]
    result = CliRunner().invoke(cli, [*common, "--present", "drums, bass"], catch_exceptions=False)
    assert result.exit_code == 0
    stems = {source: soundfile.read(f"separated/song/{source}.wav")[0] for source in SOURCES}
    assert not stems["vocals"].any()
    np.testing.assert_array_equal(stems["drums"] + stems["bass"], soundfile.read("song.wav")[0])
    bad = CliRunner().invoke(cli, [*common, "--present", "drums,piano"], catch_exceptions=False)
    assert bad.exit_code == 1
    assert bad.stderr == "error: expected present sources among vocals, drums, bass, other, found 'piano'\n"
