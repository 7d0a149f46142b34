"""A checkpoint gives back the model that was saved, and anything else is refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sepvae import checkpoint
from sepvae.card import CARD_FILE, WEIGHTS_FILE, read_card
from sepvae.errors import CheckpointError, OutputError
from sepvae.models.build import MODELS
from sepvae.models.separation import SeparationConfig, SeparationVAE

CARD = {"name": "tiny", "training": {"recipe": "none"}, "data": [], "scores": [], "licence": "CC0 1.0"}


@pytest.fixture
def folder(tmp_path: Path, tiny_model: SeparationVAE) -> Path:
    checkpoint.save(tmp_path / "tiny", tiny_model, CARD)
    return tmp_path / "tiny"


def edit_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    change(card)
    (folder / CARD_FILE).write_text(json.dumps(card))


def put_weights(folder: Path, content: bytes) -> None:
    """Exchange the weights' file and make the card vouch for it."""
    (folder / WEIGHTS_FILE).write_bytes(content)
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_card(folder, lambda card: card["weights"].update(facts))


def put_state(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = safetensors.torch.load((folder / WEIGHTS_FILE).read_bytes())
    change(state)
    put_weights(folder, safetensors.torch.save(state))


def one_line_error(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", MODELS.values(), ids=MODELS.keys())
def test_a_loaded_model_gives_the_same_output(
    tmp_path: Path, tiny_config: SeparationConfig, kind: type, generator: torch.Generator
) -> None:
    model = kind(tiny_config).eval()
    written = checkpoint.save(tmp_path / "m", model, CARD)
    loaded, card = checkpoint.load(tmp_path / "m")
    X = torch.randn(1, 2, 129, 11, dtype=torch.complex64, generator=generator)
    with torch.no_grad():
        assert torch.equal(loaded.log_variances(X), model.log_variances(X))
    assert loaded.config == model.config
    assert not loaded.training
    assert card == written
    assert card["sources"] == ["vocals", "drums", "bass", "other"]
    assert card["weights"]["parameters"] == sum(p.numel() for p in model.parameters())


def test_compact_storage_rounds_the_large_matrices_alone(
    tmp_path: Path, tiny_model: SeparationVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LARGE_MATRIX", 500)
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.normal_()  # new blocks end in zeros, which need no rounding
    checkpoint.save(tmp_path / "half", tiny_model, CARD, storage_dtype=torch.bfloat16)
    checkpoint.save(tmp_path / "small", tiny_model, CARD, storage_dtype=torch.bfloat16, compact=True)
    half, small = (checkpoint.load(tmp_path / name)[0].state_dict() for name in ("half", "small"))
    errors = {name for name in half if not torch.equal(half[name], small[name])}
    assert (
        errors
        == {name for name, tensor in half.items() if tensor.ndim > 1 and tensor.numel() >= 500}
        != set()
    )
    for name in errors:
        assert small[name].dtype == torch.float32
        assert (half[name] - small[name]).norm() < 0.05 * half[name].norm()
    sizes = [(tmp_path / name / WEIGHTS_FILE).stat().st_size for name in ("half", "small")]
    assert sizes[1] == pytest.approx(sizes[0] - sum(half[name].numel() for name in errors), abs=1000)


def test_bfloat16_storage_halves_the_file_and_loads_as_rounded_float32(
    tmp_path: Path, folder: Path, tiny_model: SeparationVAE
) -> None:
    checkpoint.save(tmp_path / "half", tiny_model, CARD, storage_dtype=torch.bfloat16)
    loaded, _ = checkpoint.load(tmp_path / "half")
    for name, tensor in loaded.state_dict().items():
        original = tiny_model.state_dict()[name]
        rounded = original.bfloat16().float() if original.ndim > 1 else original
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, rounded), name
    stored = safetensors.torch.load((tmp_path / "half" / WEIGHTS_FILE).read_bytes())
    assert {t.dtype for t in stored.values() if t.ndim > 1} == {torch.bfloat16}
    checkpoint.save(tmp_path / "again", loaded, CARD, storage_dtype=torch.bfloat16)
    assert (tmp_path / "again" / WEIGHTS_FILE).read_bytes() == (tmp_path / "half" / WEIGHTS_FILE).read_bytes()


def test_every_flipped_byte_of_the_weights_is_noticed(folder: Path) -> None:
    content = (folder / WEIGHTS_FILE).read_bytes()
    for position in (0, 8, 100, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        (folder / WEIGHTS_FILE).write_bytes(damaged)
        assert "sha256" in one_line_error(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    content = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(content[:-1])
    assert f"expected {len(content)} bytes, found {len(content) - 1}" in one_line_error(folder)


class Trap:
    """Touches a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_pickle_in_disguise_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    put_weights(folder, pickle.dumps(Trap(tmp_path / "sprung")))
    assert "no safetensors file" in one_line_error(folder)
    torch.save({"weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    put_weights(folder, (tmp_path / "trap.pt").read_bytes())
    assert "no safetensors file" in one_line_error(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "header",
    [
        (1 << 62).to_bytes(8, "little") + b"{}",
        (60).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}',
        b"",
    ],
    ids=["endless header", "endless tensor", "empty"],
)
def test_sizes_that_the_file_cannot_hold_are_refused(folder: Path, header: bytes) -> None:
    put_weights(folder, header)
    assert "no safetensors file" in one_line_error(folder)


def test_a_card_of_a_huge_model_costs_no_memory(folder: Path) -> None:
    edit_card(folder, lambda card: card["model"].update(trunk_channels=[1 << 18] * 4))  # 10 TB of weights
    assert "has the shape" in one_line_error(folder)
    edit_card(
        folder, lambda card: card["model"].update(trunk_channels=[1 << 40] * 4)
    )  # more than a tensor can be
    assert "describes no model" in one_line_error(folder)


@pytest.mark.parametrize(
    "change",
    [
        {
            "n_fft": 1 << 31,
            "band_width": 1 << 27,
        },  # leaves the number of bands, and so all weights, as they were
        {"n_fft": 1 << 16, "hop_length": 1},
        {"hop_length": 1},
        {"sample_rate": 1 << 40},
        {"sample_rate": 0},
        {"trunk_blocks": [1 << 20] * 4},
        {"trunk_blocks": [-1, 1, 1, 1]},
        {"sources": [f"s{number}" for number in range(50_000)], "residual_source": "s0"},
        {"sources": ["../../evil", "drums"], "residual_source": "drums"},
        {"sources": ["a\nb", "drums"], "residual_source": "drums"},
        {"sources": ["a.b", "drums"], "residual_source": "drums"},
        {"trunk_channels": [-4, 6, 6, 8]},
        {"trunk_channels": [0, 0, 0, 0]},
        {"vae": {"patch": 0}},
        {"vae": {"bands": -32}},
        {"vae": {"latent_channels": [1 << 70, 1, 1]}},
        {"vae": [[[]]]},
    ],
    ids=str,
)
def test_a_card_cannot_make_loading_or_separating_endless(folder: Path, change: dict[str, Any]) -> None:
    def edit(card: dict[str, Any]) -> None:
        if isinstance(change.get("vae"), dict):
            card["model"]["vae"].update(change["vae"])
        else:
            card["model"].update(change)

    edit_card(folder, edit)
    start = time.process_time()
    message = one_line_error(folder)
    assert len(message) < 600
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
def test_devices_and_pipes_are_not_read(folder: Path, name: str) -> None:
    """A device tells the size 0 and never ends; a pipe waits for ever."""
    facts = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    edit_card(folder, lambda card: card["weights"].update(facts))
    for make in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        (folder / name).unlink()
        make(folder / name)
        assert "not a regular file" in one_line_error(folder)


def test_the_tensors_must_be_those_of_the_model(folder: Path) -> None:
    name = min(safetensors.torch.load((folder / WEIGHTS_FILE).read_bytes()))
    kept: dict[str, torch.Tensor] = {}
    put_state(folder, lambda state: kept.update({name: state.pop(name)}))
    assert f"1 tensors are missing, the first {name!r}" in one_line_error(folder)
    put_state(folder, lambda state: state.update({name: kept[name], "intruder": torch.zeros(1)}))
    assert "1 tensors are unknown, the first 'intruder'" in one_line_error(folder)
    put_state(folder, lambda state: (state.pop("intruder"), state.update({name: torch.zeros(3, 5, 7)})))
    assert f"{name} has the shape [3, 5, 7]" in one_line_error(folder)
    put_state(folder, lambda state: state.update({name: kept[name].int()}))
    assert f"{name} is torch.int32" in one_line_error(folder)
    put_state(folder, lambda state: state.update({name: torch.full_like(kept[name], float("nan"))}))
    assert f"{name} holds NaN" in one_line_error(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card["model"].update({"class": "os.system"}), "unknown model class 'os.system'"),
        (lambda card: card["model"].update(surprise=1), "surprise"),
        (lambda card: card["model"].update(n_fft="4096"), "n_fft must be of type int"),
        (lambda card: card.update(format_version=2), "newer than 1"),
        (lambda card: card.update(format_version=0), "unknown format version 0"),
        (lambda card: card.update(format_version=True), "'format_version' must be of type int"),
        (lambda card: card.pop("model"), "'model' is missing"),
        (lambda card: card.update(weights={}), "'sha256'"),
        (lambda card: card.update(sources="vocals"), "'sources' must be of type list"),
    ],
)
def test_a_wrong_card_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    edit_card(folder, change)
    assert said in one_line_error(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format_version": 1e999}'])
def test_a_card_that_is_no_card_is_refused(folder: Path, text: str) -> None:
    (folder / CARD_FILE).write_text(text)
    assert CARD_FILE in one_line_error(folder)


def test_missing_pieces_are_named(folder: Path, tmp_path: Path) -> None:
    assert "no such checkpoint folder" in one_line_error(tmp_path / "absent")
    (folder / WEIGHTS_FILE).unlink()
    assert f"{WEIGHTS_FILE}: cannot be read" in one_line_error(folder)
    (folder / CARD_FILE).unlink()
    assert f"{CARD_FILE}: cannot be read" in one_line_error(folder)


def test_saving_replaces_a_checkpoint_and_leaves_nothing_else(
    folder: Path, tiny_model: SeparationVAE
) -> None:
    checkpoint.save(folder, tiny_model, {**CARD, "name": "second"})
    assert read_card(folder)["name"] == "second"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert {path.name for path in folder.iterdir()} == {CARD_FILE, WEIGHTS_FILE}


def test_saving_never_replaces_a_folder_with_other_files(tmp_path: Path, tiny_model: SeparationVAE) -> None:
    (tmp_path / "song.wav").write_text("precious")
    with pytest.raises(OutputError, match=r"holds 'song.wav'"):
        checkpoint.save(tmp_path, tiny_model, CARD)
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


def test_a_failed_save_leaves_the_old_checkpoint(
    folder: Path, tiny_model: SeparationVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / CARD_FILE).read_bytes()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save(folder, tiny_model, {**CARD, "name": "second"})
    assert (folder / CARD_FILE).read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_cannot_be_saved_is_refused(tmp_path: Path, tiny_model: SeparationVAE) -> None:
    with pytest.raises(CheckpointError, match="JSON"):
        checkpoint.save(tmp_path / "m", tiny_model, {**CARD, "scores": [float("nan")]})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        checkpoint.save(tmp_path / "file" / "m", tiny_model, CARD)
    with torch.no_grad():
        next(tiny_model.parameters()).fill_(float("inf"))
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        checkpoint.save(tmp_path / "m", tiny_model, CARD)
    assert not (tmp_path / "m").exists()
