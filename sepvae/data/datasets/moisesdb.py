"""MoisesDB: 240 songs in eleven kinds of stems, each made of several recordings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepvae.data.datasets.base import Dataset, Problem, RawTrack, StemFile, held_out_count
from sepvae.errors import DataError

STEMS = (
    "vocals",
    "bass",
    "drums",
    "guitar",
    "piano",
    "percussion",
    "other_plucked",
    "other_keys",
    "bowed_strings",
    "wind",
    "other",
)
GROUPINGS = {
    "4": ("vocals", "drums", "bass"),
    "5": ("vocals", "drums", "bass", "guitar"),
    "6": ("vocals", "drums", "bass", "guitar", "piano"),
    "all": STEMS,
}
"""Sources of their own; every other stem goes to `other`."""
SONGS = 240


@dataclass(frozen=True)
class MoisesDB(Dataset):
    """MoisesDB: `<provider>/<uuid>/data.json` and `<provider>/<uuid>/<stem>/<id>.wav`.

    Args:
        grouping: 4, 5 or 6 sources, or `all`.
        valid, test: shares of the songs kept apart; the dataset has no split of its own.
        bleed: whether songs with recordings that bleed into each other are taken.
    """

    name = "moisesdb"
    title = "MoisesDB, 240 songs (14 h) in eleven kinds of stems"
    licence = "CC BY-NC-SA 4.0, research only"
    credit = "Pereira, Araújo, Korzeniowski & Vogl 2023, arXiv:2307.15913"
    homepage = "https://music.ai/research/"
    size = "about 80 GB as a zip file, after registration"
    sample_rate = 44100
    channels = 2

    grouping: str = "4"
    valid: float = 0.1
    test: float = 0.1
    bleed: bool = True

    def tracks(self, root: Path) -> list[RawTrack]:
        if self.grouping not in GROUPINGS:
            raise DataError(f"grouping is one of {', '.join(GROUPINGS)}, found {self.grouping!r}")
        songs = [
            path.parent
            for path in sorted(root.glob("**/data.json"))
            if len(path.relative_to(root).parts) <= 4
        ]
        if not songs:
            raise DataError(f"expected <provider>/<uuid>/data.json under {root}")
        read = [track for song in songs if (track := self._track(song)) is not None]
        names = [track.name for track in read]
        test = _spread(names, self.test)
        valid = _spread(set(names) - test, self.valid)
        return [
            RawTrack(
                "test" if track.name in test else "valid" if track.name in valid else "train",
                track.name,
                track.stems,
                missing=track.missing,
            )
            for track in read
        ]

    def sources(self, tracks: Sequence[RawTrack]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*GROUPINGS[self.grouping], "other")))

    def expected(self, root: Path, tracks: Sequence[RawTrack]) -> Iterator[Problem]:
        if self.bleed and len(tracks) != SONGS:
            yield Problem("missing", root, f"{len(tracks)} songs of {SONGS}")

    def _track(self, folder: Path) -> RawTrack | None:
        path = folder / "data.json"
        try:
            stems = json.loads(path.read_text(encoding="utf-8"))["stems"]
            listed = [
                (str(stem["stemName"]), f"{track['id']}.{track['extension']}", bool(track.get("has_bleed")))
                for stem in stems
                for track in stem["tracks"]
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"cannot read {path}: {error!r}") from error
        if not self.bleed and any(bleeds for _, _, bleeds in listed):
            return None
        parts: dict[str, list[StemFile]] = defaultdict(list)
        missing = []
        for stem, name, _ in listed:
            file = folder / stem / name
            if file.is_file():
                parts[stem if stem in GROUPINGS[self.grouping] else "other"].append(StemFile(file))
            else:
                missing.append(file)
        if not parts:
            return None
        found = {source: tuple(files) for source, files in sorted(parts.items())}
        return RawTrack("train", folder.name, found, missing=tuple(missing))


def _spread(names: Iterable[str], share: float) -> set[str]:
    """A share of the names, spread evenly over their order: the set is fixed, so the split is too."""
    ordered = sorted(names)
    count = held_out_count(len(ordered), share)
    return {ordered[int((i + 0.5) * len(ordered) / count)] for i in range(count)}
