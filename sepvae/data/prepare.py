"""`sepvae data prepare`: build the sets that the recipes read, in the stems layout, from raw material."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from sepvae.data.music import (
    CORPORA,
    SAMPLE_RATE,
    TRAIN_MIDI,
    Item,
    album_items,
    composed_items,
    demo_items,
    midi_items,
    speech_items,
)
from sepvae.data.render import SOUNDFONTS, find_fluidsynth, find_soundfont
from sepvae.errors import DataError, OutputError

MANIFEST_NAME = "manifest.json"
log = logging.getLogger(__name__)


def prepare(
    name: str,
    root: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    only: Sequence[str] | None = None,
    soundfonts: Sequence[str | Path] = (),
    variations: int = 1,
    songs: int = 150,
) -> Path:
    """Build a dataset in the stems layout; what is already complete is kept.

    Args:
        name: "music".
        root: folder of the raw material.
        out: folder of the sets, one sub-folder per split.
        seed: decides every random choice.
        jobs: processes, > 0.
        only: parts to make, of album, demo, speech, midi and composed; None makes all.
        soundfonts: folders to look for SoundFonts in, before the usual places.
        variations: versions of each training MIDI file, > 0; every second one is played by instruments of our own.
        songs: how many songs to compose, >= 0.

    Returns:
        The path of `manifest.json`.

    Raises:
        DataError: an unknown name, missing material, a missing tool, or a folder that was made with another seed.
        OutputError: the output folder cannot be written.
    """
    root, out = Path(root), Path(out)
    if name != "music":
        raise DataError(f"no such dataset: {name} (known: music)")
    if not root.is_dir():
        raise DataError(f"no such folder of raw material: {root}")
    makers: dict[str, Callable[[], list[Item]]] = {
        "album": lambda: album_items(root),
        "demo": lambda: demo_items(root),
        "speech": lambda: speech_items(root, seed),
        "midi": lambda: midi_items(root, seed, soundfonts, variations),
        "composed": lambda: composed_items(root, seed, soundfonts, songs),
    }
    if unknown := set(only or ()) - set(makers):
        raise DataError(f"no such part of {name}: {', '.join(sorted(unknown))} (known: {', '.join(makers)})")
    parts = [part for part in makers if only is None or part in only]
    if {"midi", "composed"} & set(parts):
        find_fluidsynth()
        for soundfont in SOUNDFONTS if "midi" in parts else (TRAIN_MIDI.soundfont,):
            find_soundfont(soundfont, soundfonts)
    known = read_manifest(out)
    if known.get("seed", seed) != seed:
        raise DataError(f"{out} was made with seed {known['seed']}, not {seed}")
    items = [item for part in parts for item in makers[part]()]
    build(items, out, jobs=jobs)
    return write_manifest(items, out, seed=seed)


def make(item: Item, out: Path) -> None:
    """Make one track, and take away what an interrupted run left of it."""
    for draft in (out / item.split).glob(f".{item.name}.*"):
        shutil.rmtree(draft, ignore_errors=True)
    item.make(out / item.split / item.name)


def build(items: Iterable[Item], out: Path, *, jobs: int = 1) -> None:
    """Make the items whose folder is not there yet."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error}") from error
    missing = [item for item in items if not (out / item.split / item.name).is_dir()]
    log.info("%d tracks to make under %s", len(missing), out)
    if jobs <= 1:
        for index, item in enumerate(missing, 1):
            make(item, out)
            log.info("%d/%d %s/%s", index, len(missing), item.split, item.name)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = {pool.submit(make, item, out): item for item in missing}
        try:
            for index, future in enumerate(as_completed(futures), 1):
                future.result()
                log.info("%d/%d %s/%s", index, len(missing), futures[future].split, futures[future].name)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def read_manifest(out: Path) -> dict:
    """What `manifest.json` says, or nothing if it is not there yet.

    Raises:
        DataError: it is no JSON object.
    """
    path = out / MANIFEST_NAME
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def write_manifest(items: Sequence[Item], out: Path, *, seed: int) -> Path:
    """Write `manifest.json`: the licence and credit of each corpus, and the tracks of each split with their corpora.

    Tracks that an earlier run made stay listed while their folders are there.
    """
    splits: dict[str, dict[str, list[str]]] = read_manifest(out).get("splits", {})
    for item in items:
        splits.setdefault(item.split, {})[item.name] = list(item.corpora)
    splits = {
        split: {name: corpora for name, corpora in sorted(tracks.items()) if (out / split / name).is_dir()}
        for split, tracks in sorted(splits.items())
    }
    used = {corpus for tracks in splits.values() for corpora in tracks.values() for corpus in corpora}
    manifest = {
        "dataset": "music",
        "seed": seed,
        "sample_rate": SAMPLE_RATE,
        "corpora": {key: asdict(corpus) for key, corpus in CORPORA.items() if key in used},
        "splits": splits,
    }
    with tempfile.NamedTemporaryFile(
        "w", dir=out, prefix=".manifest.", delete=False, encoding="utf-8"
    ) as file:
        file.write(json.dumps(manifest, indent=1) + "\n")
    path = out / MANIFEST_NAME
    os.replace(file.name, path)
    path.chmod(0o644)
    return path
