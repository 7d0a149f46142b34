"""Music and speech source separation with one variational autoencoder per source."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepvae.separator import Separator

try:
    __version__ = version("sepvae")
except PackageNotFoundError:  # imported from a checkout that is not installed
    __version__ = "unknown"

__all__ = ["Separator", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the separator on first use: torch takes seconds, `import sepvae` should not."""
    if name == "Separator":
        from sepvae.separator import Separator

        return Separator
    raise AttributeError(f"module 'sepvae' has no attribute {name!r}")
