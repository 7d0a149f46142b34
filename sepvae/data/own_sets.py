"""The sets of our own recipes, `music` and `speech`: built from raw material, in the stems layout."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path

from sepvae.atomic import remove_drafts, write_whole
from sepvae.data import basslines, compositions, drumkits, found, music, noisy_speech, presets
from sepvae.data.corpora import MANIFEST_NAME, SAMPLE_RATE
from sepvae.data.items import CORPORA, Item
from sepvae.data.pool import process_pool
from sepvae.data.programs import find_program
from sepvae.data.render import find_soundfont
from sepvae.errors import DataError, OutputError

ON_REQUEST = (
    "projects",
    "modules",
    "guitars",
    "presets",
    "drumkits",
    "scores",
    "singers",
    "soundtracks",
    "packages",
)
"""Parts that are made only when they are named, since their raw material lies in folders of its own."""
SAMPLE_RATES = {"music": SAMPLE_RATE, "speech": noisy_speech.SAMPLE_RATE}
"""Name of a set that can be built from the raw material -> its rate in hertz."""
logger = logging.getLogger(__name__)


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
        name: "music" or "speech".
        root: folder of the raw material.
        out: folder of the sets, one sub-folder per split.
        seed: decides every random choice.
        jobs: processes, > 0.
        only: parts to make; of music album, demo, speech, midi, composed, basses, projects, modules, guitars,
            presets, drumkits, scores and singers, of speech speech, noise, mixtures, soundtracks and packages;
            None makes all but `ON_REQUEST`.
        soundfonts: folders to look for SoundFonts in, before the usual places.
        variations: versions of each training MIDI file, > 0, rendered in turn as `music.VARIATIONS` says.
        songs: how many songs to compose, >= 0.

    Returns:
        The path of `manifest.json`.

    Raises:
        DataError: an unknown name, missing material, a missing tool, or a folder that was made with another seed.
        OutputError: the output folder cannot be written.
        SepvaeError: a process was killed.
    """
    root, out = Path(root), Path(out)
    if name not in SAMPLE_RATES:
        raise DataError(f"no such dataset: {name} (known: {', '.join(SAMPLE_RATES)})")
    if not root.is_dir():
        raise DataError(f"no such folder of raw material: {root}")
    makers = makers_of(name, root, seed, soundfonts, variations, songs)
    if unknown := set(only or ()) - set(makers):
        raise DataError(f"no such part of {name}: {', '.join(sorted(unknown))} (known: {', '.join(makers)})")
    parts = [part for part in makers if (part not in ON_REQUEST if only is None else part in only)]
    if {"midi", "composed", "scores"} & set(parts):
        find_program("fluidsynth")
        needed = compositions.SOUNDFONTS if "composed" in parts else ()
        if "midi" in parts:
            needed = (*needed, *music.midi_soundfonts(variations))
        if "scores" in parts:
            needed = (*needed, *music.score_soundfonts())
        for soundfont in needed:
            find_soundfont(soundfont, soundfonts)
    known = read_manifest(out)
    for key, value in (("dataset", name), ("seed", seed)):
        if known.get(key, value) != value:
            raise DataError(f"{out} was made with {key} {known[key]}, not {value}")
    items = [item for part in parts for item in makers[part]()]
    build(items, out, jobs=jobs)
    return write_manifest(items, out, name=name, seed=seed)


def makers_of(
    name: str, root: Path, seed: int, soundfonts: Sequence[str | Path], variations: int, songs: int
) -> dict[str, Callable[[], list[Item]]]:
    """The parts of a set, each with the function that plans its tracks."""
    if name == "speech":
        return {
            "speech": lambda: noisy_speech.speech_items(root, seed),
            "noise": lambda: noisy_speech.noise_items(root, seed),
            "mixtures": lambda: noisy_speech.mixture_items(root, seed),
            "soundtracks": lambda: noisy_speech.soundtrack_items(root, seed),
            "packages": lambda: noisy_speech.package_items(root, seed),
        }
    return {
        "album": lambda: music.album_items(root),
        "demo": lambda: music.demo_items(root),
        "speech": lambda: music.speech_items(root, seed),
        "midi": lambda: music.midi_items(root, seed, soundfonts, variations),
        "composed": lambda: compositions.composed_items(root, seed, soundfonts, songs),
        "basses": lambda: basslines.bass_items(root, seed),
        "projects": lambda: found.project_items(root),
        "modules": lambda: found.module_items(root),
        "guitars": lambda: found.guitar_items(root),
        "presets": lambda: presets.preset_items(root, seed),
        "drumkits": lambda: drumkits.drumkit_items(root, seed),
        "scores": lambda: music.score_items(root, seed, soundfonts, variations),
        "singers": lambda: compositions.singer_items(root, seed),
    }


def make(item: Item, out: Path) -> None:
    """Make one track, and take away what an interrupted run left of it."""
    remove_drafts(out / item.split, item.name)
    item.make(out / item.split / item.name)


def build(items: Iterable[Item], out: Path, *, jobs: int = 1) -> None:
    """Make the items whose folder is not there yet."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error}") from error
    missing = [item for item in items if not (out / item.split / item.name).is_dir()]
    logger.info("%d tracks to make under %s", len(missing), out)
    if jobs <= 1:
        for index, item in enumerate(missing, 1):
            make(item, out)
            logger.info("%d/%d %s/%s", index, len(missing), item.split, item.name)
        return
    with process_pool(jobs) as pool:
        futures = {pool.submit(make, item, out): item for item in missing}
        for index, future in enumerate(as_completed(futures), 1):
            future.result()
            logger.info("%d/%d %s/%s", index, len(missing), futures[future].split, futures[future].name)


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


def write_manifest(items: Sequence[Item], out: Path, *, name: str, seed: int) -> Path:
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
        "dataset": name,
        "seed": seed,
        "sample_rate": SAMPLE_RATES[name],
        "corpora": {key: asdict(corpus) for key, corpus in CORPORA.items() if key in used},
        "splits": splits,
    }
    path = out / MANIFEST_NAME
    write_whole(path, (json.dumps(manifest, indent=1) + "\n").encode())
    return path
