"""Programs of the system that material is made with."""

from __future__ import annotations

import shutil

from sepvae.errors import DataError


def find_program(name: str) -> str:
    """The path of a program that a Debian package of the same name has.

    Raises:
        DataError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise DataError(f"{name} is not installed: install the Debian package {name}")
    return path
