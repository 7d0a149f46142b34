"""Mixtures on the fly are the sum of their sources, repeat under a seed, and differ from batch to batch."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepvae.data.mixing import ExcerptStream, MixingConfig
from sepvae.errors import DataError

RATE = 8000
SOURCES = ("voice", "tone")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two songs whose voice is a constant that tells the song, a song without voice, and a solo."""
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    for name, level in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "voice.wav", level * rng.standard_normal((3 * RATE, 2)), RATE)
        tone = 0.3 * np.sin(2 * np.pi * 440 * time)
        soundfile.write(tmp_path / name / "tone.wav", np.stack([tone, 0.5 * tone], 1), RATE)
    (tmp_path / "speech-c").mkdir()
    soundfile.write(tmp_path / "speech-c" / "voice.wav", 0.05 * rng.standard_normal(RATE), RATE)
    return tmp_path


def stream(root: Path, **changes: object) -> ExcerptStream:
    settings = {"length": 4000, "batch_size": 3, "mono": 0.0, "speed_chance": 0.0, **changes}
    return ExcerptStream(root, SOURCES, RATE, MixingConfig(**settings), seed=5)


def test_a_batch_depends_on_seed_and_index_alone(root: Path) -> None:
    whole = stream(root, speed_chance=0.5, mono=0.5)
    iterator = iter(whole)
    in_order = [next(iterator) for _ in range(4)]
    resumed = next(iter(stream(root, speed_chance=0.5, mono=0.5).part(3)))
    torch.testing.assert_close(resumed.sources, in_order[3].sources, atol=0, rtol=0)
    torch.testing.assert_close(resumed.tone, in_order[3].tone, atol=0, rtol=0)
    assert in_order[0].sources.shape != in_order[1].sources.shape or not torch.equal(
        in_order[0].sources, in_order[1].sources
    )


def test_workers_see_the_same_stream(root: Path) -> None:
    alone = iter(stream(root))
    loader = torch.utils.data.DataLoader(stream(root), batch_size=None, num_workers=2)
    for batch, _ in zip(loader, range(4), strict=False):
        assert torch.equal(batch.sources, next(alone).sources)


def test_shapes_and_mono(root: Path) -> None:
    assert stream(root).batch(0).sources.shape == (3, 2, 2, 4000)
    mono, stereo = stream(root, mono=1.0).batch(0).sources, stream(root).batch(0).sources
    torch.testing.assert_close(mono, stereo.mean(2, keepdim=True))


def test_whether_a_batch_is_mono_says_nothing_about_its_rows(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def first(self: ExcerptStream, rng: np.random.Generator, effects: np.random.Generator) -> np.ndarray:
        drawn.append((rng.random(), effects.random()))
        return np.zeros((2, 2, 1), np.float32)

    monkeypatch.setattr(ExcerptStream, "_excerpt", first)
    batches = stream(root, mono=0.5, batch_size=2)
    mono = np.array([batches.batch(index).sources.shape[2] == 1 for index in range(400)])
    chances = np.array(drawn).reshape(400, 4)  # of which rows 0 and 1 make their first choices
    for part in (mono, ~mono):
        np.testing.assert_allclose(chances[part].mean(0), 0.5, atol=0.1)  # five standard errors


def test_aligned_excerpts_keep_the_balance_of_the_song(root: Path) -> None:
    batch = stream(root, aligned=1.0, silent=0.0, gain_sd_db=0.0, level_db=(0.0, 0.0)).batch(1)
    levels = batch.sources.square().mean((2, 3)).sqrt()  # [B, K]
    ratio = levels[:, 0] / levels[:, 1]
    tone = 0.3 * np.sqrt(0.5 * (1 + 0.25) / 2)
    for value in ratio.tolist():
        assert min(abs(value - 0.1 / tone), abs(value - 0.2 / tone)) < 0.02


def test_silent_chance_silences_but_never_all(root: Path) -> None:
    some = torch.cat([stream(root, silent=1.0, aligned=0.0).batch(i).sources for i in range(8)])
    sounding = some.abs().amax((2, 3)) > 0
    assert (sounding.sum(1) == 1).all()
    none = torch.cat([stream(root, silent=0.0, aligned=0.0).batch(i).sources for i in range(8)])
    assert (none.abs().amax((2, 3)) > 0).all()


def test_level_range_is_kept(root: Path) -> None:
    loud = stream(root, level_db=(0.0, 0.0)).batch(2).sources
    quiet = stream(root, level_db=(-20.0, -20.0)).batch(2).sources
    torch.testing.assert_close(quiet, 0.1 * loud)


def test_speed_changes_pitch_and_tempo(root: Path) -> None:
    fast = stream(root, speed_chance=1.0, speed=(1.25, 1.25), aligned=1.0, silent=0.0, mono=1.0).batch(0)
    spectrum = torch.fft.rfft(fast.sources[0, 1, 0] * torch.hann_window(4000)).abs()
    assert spectrum.argmax().item() * RATE / 4000 == pytest.approx(550, abs=2)


def test_groups_choose_the_tracks(root: Path) -> None:
    pools = stream(root, groups={"speech-": 3.0, "": 1.0}).pools
    chances = {tracks[0].name: chance for chance, tracks in pools["voice"]}
    assert chances == {"a": 0.25, "speech-c": 0.75}
    with pytest.raises(DataError, match="'tone'"):
        stream(root, groups={"speech-": 1.0, "": 0.0})


def test_other_rates_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="16000 Hz"):
        ExcerptStream(root, SOURCES, 16000, MixingConfig())


def test_effects_change_nothing_else(root: Path) -> None:
    plain = stream(root, speed_chance=0.5)
    flat = stream(root, speed_chance=0.5, effects={"eq": {"chance": 1.0, "sd_db": 0.0}})
    for index in range(3):
        torch.testing.assert_close(
            flat.batch(index).sources, plain.batch(index).sources, atol=1e-6, rtol=1e-5
        )


def test_a_song_keeps_together_when_its_tempo_changes(root: Path) -> None:
    settings = {"aligned": 1.0, "silent": 0.0, "mono": 1.0, "length": 8000}
    changed = stream(root, **settings, effects={"tempo": {"chance": 1.0, "range": [1.2, 1.2]}}).batch(0)
    spectrum = torch.fft.rfft(changed.sources[0, 1, 0] * torch.hann_window(8000)).abs()
    assert spectrum.argmax().item() == pytest.approx(440, abs=2)  # not its pitch
    assert not torch.equal(changed.sources, stream(root, **settings).batch(0).sources)


def test_a_fixed_number_of_sources_sounds(root: Path) -> None:
    for count in (1, 2):
        sources = stream(root, sounding=count, silent=0.9).batch(3).sources
        assert ((sources.abs().amax((2, 3)) > 0).sum(1) == count).all()


def test_a_source_may_sound_alone(root: Path) -> None:
    for aligned in (0.0, 1.0):
        sources = torch.cat(
            [stream(root, solo=1.0, silent=0.0, aligned=aligned).batch(i).sources for i in range(8)]
        )
        sounding = sources.abs().amax((2, 3)) > 0
        assert (sounding.sum(1) == 1).all()
        assert sounding.any(0).all()  # each of them at times
    settings = {"silent": 0.3, "aligned": 0.0}
    sources = torch.cat([stream(root, solo=0.3, **settings).batch(i).sources for i in range(30)])
    alone = ((sources.abs().amax((2, 3)) > 0).sum(1) == 1).float().mean()
    assert 0.5 < alone < 0.9  # 0.3 + 0.7 * (2 * 0.3 * 0.7 + 0.3**2) = 0.66


def test_a_doubled_source_is_two_excerpts_at_once(root: Path) -> None:
    def peaks(**changes: float) -> list[int]:
        settings = {"length": RATE, "aligned": 0.0, "silent": 0.0, "speed_chance": 1.0, "speed": (0.7, 1.4)}
        tones = stream(root, **settings, **changes).batch(0).sources[:, 1].mean(1)  # [B, L]
        spectra = torch.fft.rfft(tones * torch.hann_window(RATE)).abs()
        inner = (spectra[:, 1:-1] > spectra[:, :-2]) & (spectra[:, 1:-1] > spectra[:, 2:])
        loud = inner & (spectra[:, 1:-1] > 0.1 * spectra.amax(1, keepdim=True))
        return loud.sum(1).tolist()

    assert peaks() == [1, 1, 1]
    assert peaks(doubled=1.0) == [2, 2, 2]


def test_a_loader_that_pins_memory_reaches_the_arrays_of_a_batch(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = stream(root).batch(1)
    same = torch.utils.data._utils.pin_memory.pin_memory(batch)
    assert [id(tensor) for tensor in pinned] == [id(batch.sources), id(batch.tone)]
    assert same == batch
