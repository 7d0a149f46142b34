"""The words for what a file lacks, the same for all formats."""

from __future__ import annotations

UNCLOSED = "ends without the mark that closes such a file: its end may be missing"
"""The phrase for an Ogg file without a last page."""

GUESSED = "its header does not tell how its samples are stored (their bits and bytes do not match)"
"""The phrase for a file whose samples a decoder could only guess."""


def cut_short(frames_read: int, promised: int, sample_rate: int) -> str:
    """The phrase for a file that holds less than its header says."""
    found, expected = f"{frames_read / sample_rate:.2f}", f"{promised / sample_rate:.2f}"
    if found == expected:
        return f"lacks the last {promised - frames_read} of the {promised} samples that its header promises"
    return f"ends after {found} s of the {expected} s that its header promises"


def undecodable(frames_read: int, sample_rate: int, why: str) -> str:
    """The phrase for a file whose rest no library decodes."""
    return f"damaged: cannot be decoded beyond {frames_read / sample_rate:.2f} s ({why})"
