"""Where the files that belong to the package but are no code lie: recipes and trained models."""

from __future__ import annotations

from pathlib import Path

from sepvae.errors import SepvaeError


def resource_dir(name: str) -> Path:
    """Folder `recipes` or `pretrained`: inside an installed package, beside the package in a checkout.

    Args:
        name: name of the folder.

    Raises:
        SepvaeError: the installation lacks the folder.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise SepvaeError(f"this installation of sepvae has no folder {name!r}; install it again")
