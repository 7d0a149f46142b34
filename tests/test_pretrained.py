"""Bundled models are found by name from anywhere, and what they claim about themselves is true."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sepvae import checkpoint, pretrained
from sepvae.card import CARD_FILE, WEIGHTS_FILE, read_card
from sepvae.errors import CheckpointError, SepvaeError
from sepvae.models.separation import SeparationVAE
from sepvae.resources import resource_dir

BUNDLED = [card["name"] for card in pretrained.available()]
MAX_COMMITTED_BYTES = 16_000_000
CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bundle(tmp_path: Path, tiny_model: SeparationVAE, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled models that holds one, `tiny`."""
    root = tmp_path / "bundle"
    root.mkdir()
    scores = [{"set": "a", "protocol": "p", "si_sdr_improvement_db": {"vocals": 3.0, "mean": 2.0}}]
    data = [{"name": "corpus", "licence": "CC0 1.0", "credit": "somebody"}]
    checkpoint.save(root / "tiny", tiny_model, {"data": data, "scores": scores, "licence": "CC0 1.0"})
    monkeypatch.setattr(pretrained, "resource_dir", lambda name: root)
    return root


def test_a_name_is_found_and_a_path_is_taken_as_it_is(bundle: Path, tmp_path: Path) -> None:
    assert pretrained.find("tiny") == bundle / "tiny"
    assert pretrained.find(str(bundle / "tiny")) == bundle / "tiny"
    assert pretrained.find(bundle / "tiny") == bundle / "tiny"


def test_an_object_that_stands_for_a_path_is_taken_for_it(bundle: Path) -> None:
    @dataclass(frozen=True)
    class Named:
        name: str

        def __fspath__(self) -> str:
            return self.name

    assert pretrained.find(Named("tiny")) == bundle / "tiny"
    with pytest.raises(CheckpointError, match="no model 'nowhere'"):
        pretrained.find(Named("nowhere"))


def test_a_bundled_name_wins_over_a_folder_here(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / CARD_FILE).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert pretrained.find("tiny") == bundle / "tiny"
    assert pretrained.find("./tiny") == Path("tiny")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../bundle/tiny/..", "tiny/../tiny/x", "TINY", "tiny\0", "a" * 5000, "~", "file:///tiny"],
)
def test_a_trick_in_a_name_reaches_nothing(bundle: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected a checkpoint folder or a bundled name \(tiny\)"):
        pretrained.find(name)


def test_a_dotted_name_never_leaves_the_working_folder_for_the_bundle(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (bundle.parent / "outside").mkdir()
    with pytest.raises(CheckpointError):
        pretrained.find("../outside")  # next to the bundle there is no card, and the bundle is not the base
    with pytest.raises(CheckpointError):
        pretrained.find("../tiny")


def test_the_table_shows_what_the_card_holds(bundle: Path, tiny_model: SeparationVAE) -> None:
    (card,) = pretrained.available()
    row = pretrained.model_row(card)
    assert row.name == "tiny"
    assert row.sources == ("vocals", "drums", "bass", "other")
    assert row.sample_rate == 44100
    assert row.parameters == sum(p.numel() for p in tiny_model.parameters())
    assert row.size_bytes == (bundle / "tiny" / WEIGHTS_FILE).stat().st_size
    assert row.scores == {"a": 2.0}
    assert row.data == ("corpus",)
    assert row.licence == "CC0 1.0"


@pytest.mark.parametrize("name", BUNDLED)
def test_a_published_card_names_no_folder_of_the_machine_that_trained_it(name: str) -> None:
    def texts(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        if isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    rooted = [
        text for text in texts(read_card(pretrained.find(name))) if re.match(r"/|~|\.\./|[A-Za-z]:\\", text)
    ]
    assert rooted == []


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_what_its_card_says(name: str) -> None:
    folder = pretrained.find(name)
    content = (folder / WEIGHTS_FILE).read_bytes()
    model, card = checkpoint.load(folder)
    assert hashlib.sha256(content).hexdigest() == card["weights"]["sha256"]
    assert len(content) < MAX_COMMITTED_BYTES
    assert card["weights"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert tuple(card["sources"]) == model.config.sources
    assert card["sample_rate"] == model.config.sample_rate
    assert card["stft"]["n_fft"] == model.config.n_fft
    assert card["stft"]["hop_length"] == model.config.hop_length
    assert card["name"] == name
    for field in ("training", "data", "scores", "licence"):
        assert card.get(field), f"the card of {name} lacks {field}"
    for entry in card["data"]:
        assert entry["name"]
        assert entry["licence"]
        assert entry["credit"]
    for score in card["scores"]:
        assert score["protocol"]
        figures = score["si_sdr_improvement_db"]
        sources = [figures[source] for source in figures if source != "mean"]
        assert figures["mean"] == pytest.approx(
            sum(sources) / len(sources), abs=0.02
        )  # figures have two decimals


def test_a_missing_resource_is_one_clear_error() -> None:
    with pytest.raises(SepvaeError, match="has no folder 'nothing-like-it'"):
        resource_dir("nothing-like-it")


def test_listing_models_never_imports_torch() -> None:
    code = "import sys; from sepvae import pretrained; pretrained.available(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("sepvae-*.whl")
    return path


def test_the_wheel_carries_recipes_and_models(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "sepvae/py.typed" in names
    for folder in ("recipes", "pretrained"):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file():
                assert f"sepvae/{path.relative_to(CHECKOUT).as_posix()}" in names
    assert not any(name.startswith(("tests/", "examples/", "benchmarks/")) for name in names)


def test_an_unpacked_wheel_finds_its_resources_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from sepvae import pretrained, resources\n"
        "models = [pretrained.find(card['name']) for card in pretrained.available()]\n"
        "print(resources.__file__, resources.resource_dir('recipes'), *models, sep='\\n')"
    )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=True
    )
    paths = [Path(word) for word in done.stdout.splitlines()]
    assert all(path.is_relative_to(tmp_path / "site") for path in paths), paths
    assert len(paths) == 2 + len(BUNDLED)
