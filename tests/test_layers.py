"""The imports of the package only point down."""

import ast
import sys
from pathlib import Path

import pytest

import sepvae.errors

PACKAGE = Path(sepvae.errors.__file__).parent
LAYERS = (
    "errors",
    "atomic",
    "resources",
    "progress",
    "download",
    "audio.resample",
    "audio.patches",
    "audio.containers",
    "audio.phrases",
    "audio.chunks",
    "audio.mpeg",
    "audio.surround",
    "audio.decoders.base",
    "audio.decoders.ffmpeg",
    "audio.decoders.libsndfile",
    "audio.decoders",
    "audio.reader",
    "audio.tags",
    "audio.headers",
    "audio.encoding",
    "audio.outputs",
    "audio.sounds",
    "audio.verify",
    "audio.stdio",
    "audio",
    "signal",
    "models",
    "generation",
    "codec",
    "card",
    "checkpoint",
    "remote",
    "pretrained",
    "separation.quality",
    "separation.selection",
    "separation.estimation",
    "separation.highs",
    "separation.views",
    "separation.streaming",
    "separation.provenance",
    "separation.result",
    "separation.arrays",
    "separation",
    "separator",
    "batch.jobs",
    "batch.report",
    "batch.workers",
    "batch.processes",
    "batch.cluster",
    "batch",
    "data",
    "evaluation",
    "training",
    "cli",
)
"""Low to high; a module belongs to the longest name that its own begins with, and imports that and those before it."""
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
CORE = {"av", "click", "numpy", "rich", "safetensors", "soundfile", "soxr", "torch"}
NEEDS_ONLY_CORE = LAYERS[: LAYERS.index("separator") + 1]


def layer(name: str) -> str | None:
    """Layer of a dotted name below `sepvae`; None if it belongs to none."""
    parts = name.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in LAYERS), None)


def dotted(module: Path) -> str:
    return ".".join(module.with_suffix("").parts).removesuffix(".__init__")


def imports(module: Path) -> list[tuple[str, int]]:
    """Absolute names that a module imports anywhere in it, with their lines; relative ones are resolved."""
    found = []
    package = ("sepvae", *module.parent.parts)
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            if name == "sepvae":
                found += [(f"sepvae.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((name, node.lineno))
    return found


@pytest.mark.parametrize("module", [m for m in MODULES if m.name != "__main__.py"], ids=str)
def test_imports_point_down(module: Path) -> None:
    if module == Path("__init__.py"):  # the package's face hands names out lazily, from any layer
        return
    own = layer(dotted(module))
    assert own is not None, f"{module} belongs to no layer of the design"
    for name, line in imports(module):
        if name.startswith("sepvae."):
            if name == "sepvae.__version__":
                continue
            target = layer(name.removeprefix("sepvae."))
            assert target is not None, f"{module}:{line} imports {name}, which belongs to no layer"
            assert LAYERS.index(target) <= LAYERS.index(own), f"{module}:{line} imports upward: {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if layer(dotted(m)) in NEEDS_ONLY_CORE], ids=str)
def test_separation_needs_only_the_core_dependencies(module: Path) -> None:
    foreign = {name.split(".")[0] for name, _ in imports(module)} - set(sys.stdlib_module_names) - {"sepvae"}
    assert foreign <= CORE, f"{module} imports {sorted(foreign - CORE)}, which a plain install lacks"
