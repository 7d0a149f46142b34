"""Which sources a recording has, and which stems are wanted of it: sources, and the exact rest of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from sepvae.errors import OptionError

REST = "no_"
"""Prefix of a stem that holds everything but one source."""


def listed(names: Iterable[str]) -> tuple[str, ...]:
    """Names as they were given, those of a set in the order of the alphabet; a single name is a list of one."""
    if isinstance(names, str):
        return (names,)
    return tuple(sorted(names, key=str) if isinstance(names, Set) else names)


class Presence:
    """The sources that a recording is known to have; the stems of all others are silent.

    Args:
        sources: of the model.
        residual_source: the one that takes up what the model does not reach.
        names: of those that are there; None for all.

    Raises:
        OptionError: an unknown name, or none at all.
    """

    def __init__(
        self, sources: Sequence[str], residual_source: str, names: Iterable[str] | None = None
    ) -> None:
        given = listed(sources if names is None else names)
        unknown = [name for name in given if name not in sources]
        if unknown or not given:
            found = ", ".join(map(repr, unknown)) or "none"
            raise OptionError(f"expected present sources among {', '.join(sources)}, found {found}")
        self.indices = tuple(k for k, source in enumerate(sources) if source in given)
        """Their places among the model's sources."""
        self.names = tuple(sources[k] for k in self.indices)
        """Their names, in the model's order."""
        self.residual_source = residual_source if residual_source in given else given[0]
        """The model's residual source, or the first one named where that is absent."""
        self.complete = len(self.indices) == len(sources)
        """Whether the model's sources are all there."""


class Selection:
    """The stems to give out of all that a model separates.

    Args:
        sources: of the model.
        residual_source: the one that takes up what the model does not reach.
        stems: names of sources, or `no_<source>` for all but one; None for all sources.
        two_stems: short for the stems `<source>` and `no_<source>`.

    Raises:
        OptionError: an unknown name, or both arguments at once.
    """

    def __init__(
        self,
        sources: Sequence[str],
        residual_source: str,
        stems: Iterable[str] | None = None,
        two_stems: str | None = None,
    ) -> None:
        if stems is not None and two_stems is not None:
            raise OptionError("choose either stems or two_stems")
        if two_stems is not None and two_stems not in sources:
            raise OptionError(f"expected one of the sources {', '.join(sources)}, found {two_stems!r}")
        chosen = listed(sources if stems is None else stems)
        if two_stems is not None:
            chosen = two_stems, REST + two_stems
        parts = {source: np.array([other == source for other in sources]) for source in sources}
        parts |= {REST + source: ~part for source, part in parts.items()}
        unknown = [name for name in chosen if name not in parts]
        if unknown or not chosen:
            found = ", ".join(map(repr, unknown)) or "none"
            raise OptionError(f"expected stems among {', '.join(sources)} or no_<source>, found {found}")
        self._parts = {name: part for name, part in parts.items() if name in chosen}
        self.whole = bool(np.all(np.sum(list(self._parts.values()), axis=0) == 1))
        """Whether the stems add up to the input."""
        residual = sources.index(residual_source)
        self.absorber = (
            next(name for name in self._parts if self._parts[name][residual]) if self.whole else None
        )
        """The stem that takes up rounding errors; None where the stems do not add up to the input."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stems in their order."""
        return tuple(self._parts)

    def pick(self, stems: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reduce all stems to those chosen.

        Shape: stems `[K, C, n]` -> `[len(names), C, n]`, the array itself where all are wanted in their order.
        """
        if all(part.sum() == 1 for part in self._parts.values()):
            order = [int(part.argmax()) for part in self._parts.values()]
            return stems if order == list(range(len(stems))) else stems[order]
        summed = [stems[part].sum(axis=0, dtype=np.float64) for part in self._parts.values()]
        return np.stack(summed).astype(np.float32)
