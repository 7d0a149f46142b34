"""Models by name: the closed table that checkpoints and recipes build from."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from torch import nn

from sepvae.errors import CheckpointError, ShapeError
from sepvae.models.separation import MaskNet, SeparationConfig, SeparationModel, SeparationVAE

MODELS: dict[str, type[SeparationModel]] = {"SeparationVAE": SeparationVAE, "MaskNet": MaskNet}


def config_dict(model: nn.Module) -> dict[str, Any]:
    """Name and config of a model as plain JSON values, which `build` takes.

    Raises:
        CheckpointError: its class is not in the table.
    """
    for name, kind in MODELS.items():
        if type(model) is kind:
            return {"class": name, **dataclasses.asdict(model.config)}
    raise CheckpointError(f"unknown model class {type(model).__name__}, known: {', '.join(MODELS)}")


def build(config: Mapping[str, Any]) -> SeparationModel:
    """Build a model with fresh weights from the result of `config_dict`.

    Raises:
        CheckpointError: the class or a field is unknown, or a value does not fit.
    """
    values = dict(config)
    name = values.pop("class", None)
    if name not in MODELS:
        raise CheckpointError(f"unknown model class {name!r}, known: {', '.join(MODELS)}")
    try:
        return MODELS[name](_dataclass(SeparationConfig, values))
    except (TypeError, ValueError, ShapeError) as error:
        raise CheckpointError(f"the config of the {name} does not fit: {error}") from error


def _dataclass(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Frozen dataclass from plain values: lists become tuples, mappings become the nested dataclass."""
    hints = typing.get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        raise CheckpointError(f"unknown field of {kind.__name__}: {', '.join(sorted(unknown))}")
    return kind(**{name: _value(hints[name], value, name) for name, value in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return _dataclass(hint, value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise CheckpointError(f"{name} must be a list, found {value!r}")
        open_ended = len(arguments) == 2 and arguments[1] is Ellipsis
        if not open_ended and len(arguments) != len(value):
            raise CheckpointError(f"{name} needs {len(arguments)} values, found {len(value)}")
        kinds = [arguments[0]] * len(value) if open_ended else arguments
        return tuple(_value(kind, item, name) for kind, item in zip(kinds, value, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise CheckpointError(f"{name} must be of type {hint.__name__}, found {value!r}")
    return value
