"""Where the stems of one input go, and what may be replaced there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sepvae.errors import OutputError
from sepvae.separation.provenance import Earlier, Origin, look_for

EXISTING = ("fail", "skip", "overwrite")
_OVERWRITE = "choose another folder, or existing='overwrite' (--existing overwrite)"


@dataclass(frozen=True)
class Destination:
    """The outputs of one input.

    Args:
        source: the input.
        paths: of the outputs, by stem.
        existing: what to do where some are there already, one of `EXISTING`.

    Raises:
        OutputError: no such way to deal with them.
    """

    source: Path
    paths: Mapping[str, Path]
    existing: str

    def __post_init__(self) -> None:
        if self.existing not in EXISTING:
            raise OutputError(f"existing must be one of {', '.join(EXISTING)}, found {self.existing!r}")

    def check(self) -> None:
        """Raise where outputs are in the way of the input, or of an option that leaves no choice.

        Raises:
            OutputError: they are.
        """
        for path in self.paths.values():
            if os.path.exists(path) and os.path.exists(self.source) and os.path.samefile(path, self.source):
                raise OutputError(f"{path}: this output would overwrite its input")
            if self.existing == "fail" and os.path.lexists(path):
                raise OutputError(f"{path}: exists already; {_OVERWRITE}")

    def earlier(self, origin: Origin) -> Earlier | None:
        """What an earlier run has left under these names; None where it does not matter.

        Raises:
            OutputError: something that is not a stem of this input.
        """
        if self.existing != "skip":
            return None
        earlier = look_for(self.paths, origin)
        if earlier.foreign is not None:
            raise OutputError(f"{earlier.foreign}; {_OVERWRITE}")
        return earlier

    def check_again(self, origin: Origin) -> None:
        """Look once more at what is under these names: it may have come during the separation.

        Raises:
            OutputError: what must not be replaced.
        """
        self.check()
        self.earlier(origin)
