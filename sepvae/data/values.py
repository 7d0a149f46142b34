"""What a recipe may give as a number or a range; all else is one line that names it."""

from __future__ import annotations

import math
from typing import Any

from sepvae.errors import RecipeError


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    whole: bool = False,
) -> None:
    """Refuse what is not a finite number between its bounds.

    Args:
        name: what to call it.
        value: anything.
        least, most: bounds that it may be, None for no bound.
        above: a bound that it may not be.
        whole: whether it must be a whole number.

    Raises:
        RecipeError: saying what was expected and found.
    """
    if not _fits(value, least, above, most, whole):
        kind = _described(least, above, most, "a whole number" if whole else "a number")
        raise RecipeError(f"{name} must be {kind}, found {value!r}")


def check_range(name: str, value: Any, **bounds: float) -> None:
    """Refuse what is not a tuple of two numbers in ascending order, both between the bounds of `check_number`.

    Raises:
        RecipeError: saying what was expected and found.
    """
    two = isinstance(value, tuple) and len(value) == 2
    least, above, most = (bounds.get(key) for key in ("least", "above", "most"))
    if not two or not all(_fits(each, least, above, most, False) for each in value) or value[0] > value[1]:
        kind = _described(least, above, most, "a range of two numbers")
        raise RecipeError(f"{name} must be {kind}, found {list(value) if two else value!r}")


def _fits(value: Any, least: float | None, above: float | None, most: float | None, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return (
        math.isfinite(value)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
    )


def _described(least: float | None, above: float | None, most: float | None, kind: str) -> str:
    if most is not None:
        return f"{kind} from {least} to {most}"
    return kind + (
        f" from {least} on" if least is not None else f" above {above}" if above is not None else ""
    )
