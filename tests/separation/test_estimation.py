"""What is done beyond the plain Wiener filter keeps the promises of the stream: sums, chunks, bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sepvae.card import read_card
from sepvae.errors import OptionError
from sepvae.models.separation import MaskNet, SeparationModel, SeparationVAE
from sepvae.resources import resource_dir
from sepvae.separation.estimation import mask_stream
from sepvae.separation.quality import QUALITIES, Quality, choose
from sepvae.separator import Separator
from sepvae.signal import gains, hearing

RATE = 44100
FULL = Quality(refine=4, percussive=0.5, sharpness=0.7, levels_db=(-6.0, 0.0, 3.0), speeds=(0.8, 1.1))


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gains, "HALF_WINDOW", 32)


@pytest.fixture
def model(stirred_model: SeparationVAE) -> SeparationVAE:
    return stirred_model


@pytest.fixture
def song(rng: np.random.Generator) -> np.ndarray:
    """One second of noise whose level and colour change. `[2, L]`."""
    noise = 0.1 * rng.standard_normal((2, RATE)).cumsum(axis=1)
    return (noise / np.abs(noise).max() * np.linspace(0.1, 0.9, RATE)).astype(np.float32)


def separate(model: SeparationModel, song: np.ndarray, quality: Quality, segment_s: float) -> np.ndarray:
    separator = Separator(model, "cpu", precision="float32", segment_s=segment_s, quality=quality)
    return np.stack(list(separator.separate(song, RATE).values()))


@pytest.mark.parametrize(
    "quality",
    [
        Quality(refine=3),
        Quality(percussive=1.0),
        Quality(levels_db=(-6, 0)),
        Quality(speeds=(0.8, 1.1)),
        FULL,
    ],
    ids=str,
)
def test_chunks_give_what_the_whole_gives(model: SeparationVAE, song: np.ndarray, quality: Quality) -> None:
    whole = separate(model, song, quality, segment_s=10)
    for segment_s in (0.05, 0.11, 0.3):
        np.testing.assert_allclose(separate(model, song, quality, segment_s), whole, atol=2e-5)
    assert np.abs(whole - separate(model, song, Quality(), 10)).max() > 1e-3


@pytest.mark.parametrize("quality", [*QUALITIES.values(), FULL], ids=str)
def test_stems_add_up_and_repeat(model: SeparationVAE, song: np.ndarray, quality: Quality) -> None:
    stems = separate(model, song, quality, segment_s=0.3)
    np.testing.assert_allclose(stems.sum(0), song, atol=1e-6)
    np.testing.assert_array_equal(stems, separate(model, song, quality, segment_s=0.3))


def test_silence_and_the_shortest_signals_stay_finite(model: SeparationVAE, song: np.ndarray) -> None:
    assert not separate(model, np.zeros_like(song), FULL, 0.2).any()
    for length in (1, 50, 1000):
        part = song[:, -length:]
        np.testing.assert_allclose(separate(model, part, FULL, 0.2).sum(0), part, atol=1e-6)


def test_refinement_finds_a_source_that_is_louder_than_the_model_believes(
    taught: tuple[SeparationVAE, np.ndarray, np.ndarray],
) -> None:
    model, mixture, drums = taught
    errors = [np.square(separate(model, mixture, Quality(refine=n), 10)[1] - drums).mean() for n in (0, 5)]
    assert errors[1] < 0.9 * errors[0]


@pytest.fixture
def taught(
    tiny_model: SeparationVAE, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> tuple[SeparationVAE, np.ndarray, np.ndarray]:
    """A model that knows when drums (bursts) and bass (the rest) play, but takes the drums for 15 dB softer."""
    envelope = np.where(np.arange(RATE) // 4000 % 2, 0.3, 0.003)
    drums = (envelope * rng.standard_normal((2, RATE))).astype(np.float32)
    bass = ((0.303 - envelope) * rng.standard_normal((2, RATE))).astype(np.float32)
    stft, bands = tiny_model.stft, tiny_model.bands
    S = stft(torch.from_numpy(np.stack([1e-4 * drums, 10 ** (-15 / 20) * drums, bass, 1e-4 * bass])))
    level = bands.merge(S.abs().square()).mean((1, 2), keepdim=True)  # [K, 1, 1, T]
    known = torch.log(level + 1e-10).expand(-1, 2, bands.count, -1)[None]

    def log_variances(
        P: torch.Tensor, P_side: torch.Tensor, *, frames: slice, present: torch.Tensor
    ) -> torch.Tensor:
        assert P.shape[-1] == known.shape[-1]  # the whole in one chunk
        return known[..., frames]

    monkeypatch.setattr(tiny_model, "log_variances_within", log_variances)
    return tiny_model, drums + bass, drums


def test_hits_go_to_the_drums_and_notes_away_from_them(
    tiny_model: SeparationVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undecided(
        P: torch.Tensor, P_side: torch.Tensor, *, frames: slice, present: torch.Tensor
    ) -> torch.Tensor:
        return torch.zeros(1, 4, *P[0, ..., frames].shape)

    monkeypatch.setattr(tiny_model, "log_variances_within", undecided)
    song = np.zeros((2, RATE), np.float32)
    song[:, RATE // 4] = 0.9
    song[:, RATE // 2 :] = 0.3 * np.sin(2 * np.pi * 440 / RATE * np.arange(RATE // 2))
    quality = Quality(percussive=0.5)
    drums = separate(tiny_model, song, quality, 10)[1] / 0.25  # a quarter is an even share
    hit, note = slice(RATE // 4 - 200, RATE // 4 + 200), slice(7 * RATE // 10, 4 * RATE // 5)
    assert np.abs(drums[:, hit]).max() > 1.5 * np.abs(song[:, hit]).max()
    assert np.abs(drums[:, note]).max() < 0.6 * np.abs(song[:, note]).max()
    three = Separator(tiny_model, "cpu", precision="float32", quality=quality)
    held = three.separate(song, RATE, present=["bass", "other"])
    assert not held["drums"].any()


def test_a_mask_network_has_nothing_to_refine(model: SeparationVAE, song: np.ndarray) -> None:
    torch.manual_seed(0)
    network = MaskNet(model.config).eval()
    plain = separate(network, song, Quality(), 0.3)
    np.testing.assert_array_equal(separate(network, song, Quality(refine=5), 0.3), plain)
    plain = mask_stream(model, Quality()).context_frames
    assert mask_stream(network, Quality(refine=5)).context_frames == network.context_frames + hearing.REACH
    assert mask_stream(model, Quality(refine=5)).context_frames == plain + 2 * gains.HALF_WINDOW


def test_presets_come_from_the_card_where_it_has_some() -> None:
    assert choose("fast", {}) == Quality()
    assert choose("best", {}) == QUALITIES["best"]
    card = {"quality": {"balanced": {"sharpness": 0.5, "refine": 3}, "best": {"sharpness": 0.6}}}
    assert choose("balanced", card) == Quality(refine=3, sharpness=0.5)
    assert choose("best", card) == Quality(sharpness=0.6, levels_db=QUALITIES["best"].levels_db)
    assert choose("balanced", card, refine=0).refine == 0
    assert choose("fast", card, refine=7) == Quality(refine=7)


def test_bundled_models_have_presets_that_can_be_read() -> None:
    for path in resource_dir("pretrained").glob("*/card.json"):
        card = read_card(path.parent)
        presets = [choose(name, card) for name in QUALITIES]
        costs = [len(preset.speeds) * len(preset.levels_db) for preset in presets]
        assert costs[0] == 1
        assert costs == sorted(costs), "each takes at least as long as the one before it"
    assert choose("balanced", read_card(resource_dir("pretrained") / "music")).sharpness < 1
    assert choose("fast", read_card(resource_dir("pretrained") / "speech")) == Quality(), (
        "the plain Wiener filter"
    )


@pytest.mark.parametrize(
    ("name", "card", "refine"),
    [
        ("perfect", {}, None),
        ("fast", {}, -1),
        ("fast", {"quality": {"fast": {"speed": 9}}}, None),
        ("fast", {"quality": {"fast": {"sharpness": 0}}}, None),
        ("fast", {"quality": {"fast": {"levels_db": []}}}, None),
        ("fast", {"quality": {"fast": {"levels_db": "loud"}}}, None),
        ("fast", {"quality": {"fast": {"speeds": []}}}, None),
        ("fast", {"quality": {"fast": {"speeds": [1, 0]}}}, None),
        ("fast", {"quality": ["fast"]}, None),
    ],
)
def test_nonsense_is_refused(name: str, card: dict, refine: int | None) -> None:
    with pytest.raises(OptionError):
        choose(name, card, refine)
