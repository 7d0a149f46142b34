"""The device that a model computes on, and how it computes there."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sepvae.errors import OptionError


def find_device(name: str) -> torch.device:
    """The device of a name, or the fastest one for `auto`.

    Raises:
        OptionError: it is not there, or torch cannot use it.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # a device such as meta computes nothing
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        # An AssertionError where torch was built without CUDA.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = textwrap.shorten(reason, 200, placeholder=" ...")
        raise OptionError(f"device {name!r} cannot be used ({reason})") from error
    return device


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Compute without gradients, and without the autocast of whoever calls."""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Type for autocast: bfloat16, or None to compute in the weights' own type.

    Args:
        precision: auto, float32 or bfloat16; auto takes bfloat16 where the device is fast in it.

    Raises:
        OptionError: unknown precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise OptionError(f"precision must be auto, float32 or bfloat16, found {precision!r}")
    fast = precision == "bfloat16" or (precision == "auto" and _fast_bfloat16(device))
    return torch.bfloat16 if fast else None


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; an old torch that cannot tell counts as no."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
