"""A source added to a trained model: the rest of it keeps every bit."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sepvae import checkpoint
from sepvae.errors import RecipeError
from sepvae.models.separation import SeparationConfig, SeparationVAE
from sepvae.separator import Separator
from sepvae.training.added import link_material
from sepvae.training.run import train

from .conftest import PITCHES, write_song

Settings = Callable[..., list[str]]


@pytest.fixture
def base(tmp_path: Path, tiny_config: SeparationConfig) -> Path:
    """A model folder of four sources."""
    torch.manual_seed(0)
    model = SeparationVAE(dataclasses.replace(tiny_config, sample_rate=8000))
    checkpoint.save(
        tmp_path / "base", model, {"data": [{"name": "a"}], "licence": "MIT"}, storage_dtype=torch.bfloat16
    )
    return tmp_path / "base"


@pytest.fixture
def solos(tmp_path: Path) -> Path:
    """Solos of a flute."""
    for split in ("train", "valid"):
        write_song(tmp_path / "solos" / split / "tune", {"flute": 1500})
    return tmp_path / "solos"


@pytest.mark.parametrize("material", ["real", "sampled"])
def test_an_added_source_leaves_the_others_alone(
    material: str,
    settings: Settings,
    songs: Path,
    solos: Path,
    base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_dir = tmp_path / "run"
    others = [f"others={songs}"] if material == "real" else []
    changes = [
        "trainer.ema_decay=0.5",
        f"init={base}",
        "add_source=flute",
        f"data.root={solos}",
        "losses.frozen_steps=2",
        "losses.solo_every=1",
    ]
    folder = train("music/added", settings(run_dir, *changes, *others, "trainer.score_seconds=60"))
    (before, _), (after, card) = checkpoint.load(base), checkpoint.load(folder)
    assert card["sources"] == [*PITCHES, "flute"]
    assert "their shapes differ" not in caplog.text  # of the network that the solo's VAE does not bring
    sets = 2 if material == "real" else 1  # solos, and mixtures with the others' stems
    assert [entry["name"] for entry in card["data"]] == ["a", *["own recordings"] * sets]
    assert bool(card.get("scores")) == (material == "real")
    assert card["description"] == "A trained model with one more source, flute."
    assert card["licence"] == "MIT; of own recordings: not stated"
    assert str(tmp_path) not in (folder / "card.json").read_text()
    old, new = before.state_dict(), after.state_dict()
    for name, tensor in old.items():
        assert torch.equal(new[name].view(torch.uint8), tensor.view(torch.uint8)), name
    own = {name.split(".")[1] for name in new.keys() - old.keys()}
    assert own == {"flute", "added"}
    solo = checkpoint.load(run_dir / "vae" / "model")[0].state_dict()
    assert not torch.equal(solo["vaes.flute.decoder.output.weight"], new["vaes.flute.decoder.output.weight"])
    mix = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    stems = Separator(after, "cpu").separate(mix, 8000)
    assert list(stems) == [*PITCHES, "flute"]
    torch.testing.assert_close(sum(stems.values()), mix, atol=1e-4, rtol=0)


def test_a_source_that_is_there_cannot_be_added(settings: Settings, base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="separates vocals"):
        train("music/added", settings(tmp_path / "run", f"init={base}", "add_source=vocals"))


def test_material_is_that_of_the_last_call(tmp_path: Path) -> None:
    def material(name: str) -> dict[str, str]:
        for split in ("train", "valid"):
            write_song(tmp_path / name / split / f"{name}-song", PITCHES)
            write_song(tmp_path / f"{name}-solos" / split / "tune", {"flute": 1500})
        head = {
            "add_source": "flute",
            "others": str(tmp_path / name),
            "material": "real",
            "model": {"sources": [*PITCHES, "flute"]},
            "data": {"root": str(tmp_path / f"{name}-solos")},
            "run_dir": str(tmp_path / "run"),
        }
        for _ in range(2):
            link_material(OmegaConf.create(head))
        folder = tmp_path / "run" / "material"
        return {str(path.relative_to(folder)): str(path.resolve()) for path in folder.rglob("*.wav")}

    assert len(material("old")) == 10
    found = material("new")
    assert len(found) == 10
    assert {Path(path).relative_to(tmp_path).parts[0] for path in found.values()} == {"new", "new-solos"}
