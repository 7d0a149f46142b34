"""The tiny model of the tests, for benchmarks that need some model and not what it has learned."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "tests" / "assets" / "tiny.json"


def save_tiny_model(folder: Path) -> Path:
    """Write a checkpoint of four sources with seeded random weights that takes milliseconds."""
    import torch

    from sepvae import checkpoint
    from sepvae.models.build import build

    torch.manual_seed(0)
    checkpoint.save(
        folder, build(json.loads(CONFIG.read_text())).eval(), {"name": "tiny", "licence": "CC0-1.0"}
    )
    return folder
