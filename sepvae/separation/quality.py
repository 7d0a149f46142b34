"""How much work goes into a separation: the presets behind `--quality`, and what they are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any

from sepvae.errors import OptionError


@dataclass(frozen=True)
class Quality:
    """What happens between a model's latents and the stems.

    Args:
        refine: steps that fit an equaliser for each source to the mixture's likelihood, int >= 0.
        percussive: weight of the evidence that a sound is a hit (`sepvae.signal.percussive`) for the source `drums`,
            from 0 to 1; models without such a source ignore it.
        sharpness: exponent on the variances in the Wiener filter, > 0: below 1 where a model is surer of itself than
            it has reason to be.
        levels_db: the network sees the mixture at each of these levels, and the log-variances are averaged.
        speeds: the network hears the mixture at each of these speeds, pitch included, and the stems are averaged; from
            0.5 to 2, 1 for the mixture as it is.
    """

    refine: int = 0
    percussive: float = 0.0
    sharpness: float = 1.0
    levels_db: tuple[float, ...] = (0.0,)
    speeds: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if (
            isinstance(self.refine, bool)
            or not isinstance(self.refine, Integral)
            or not 0 <= self.refine <= 1000
        ):
            raise OptionError(f"refine must be a whole number from 0 to 1000, found {self.refine!r}")
        object.__setattr__(self, "refine", int(self.refine))
        if not 0 <= self.percussive <= 1:
            raise OptionError(f"percussive must be from 0 to 1, found {self.percussive}")
        if not 0 < self.sharpness <= 10:
            raise OptionError(f"sharpness must be above 0 and at most 10, found {self.sharpness}")
        object.__setattr__(self, "levels_db", tuple(map(float, self.levels_db)))
        if not self.levels_db or not all(
            math.isfinite(level) and abs(level) <= 60 for level in self.levels_db
        ):
            raise OptionError(f"levels_db must be some levels within 60 dB, found {self.levels_db}")
        object.__setattr__(self, "speeds", tuple(map(float, self.speeds)))
        if not self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise OptionError(f"speeds must be some factors from 0.5 to 2, found {self.speeds}")

    def plain(self) -> dict[str, Any]:
        """The same as values that JSON has."""
        return {**asdict(self), "levels_db": list(self.levels_db), "speeds": list(self.speeds)}


QUALITIES = {
    "fast": Quality(),
    "balanced": Quality(),
    "best": Quality(levels_db=(-6.0, 0.0, 6.0)),
}
"""Presets for a model whose card names none: nothing that has to be tuned on music like the model's."""


def choose(name: str, card: Mapping[str, Any], refine: int | None = None) -> Quality:
    """The preset of this name: the card's own, tuned for the model, or else the common one.

    Args:
        name: fast, balanced or best.
        card: of the model.
        refine: steps instead of the preset's.

    Raises:
        OptionError: no such preset, or the card's makes no sense.
    """
    if name not in QUALITIES:
        raise OptionError(f"quality must be one of {', '.join(QUALITIES)}, found {name!r}")
    try:
        values = QUALITIES[name].plain() | dict(card.get("quality", {}).get(name, {}))
        return Quality(**values | ({} if refine is None else {"refine": refine}))
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"the card's settings of quality {name!r} make no sense ({error})") from error
