"""Voices and sounds that come with free programs: who speaks, and what makes noise, in which of their files.

LibriSpeech's three training speakers read English; these are some forty voices more, in twenty-one languages, most of
which say single words. A folder holds one unpacked Debian package per sub-folder of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sepvae.errors import DataError

AUDIO = (".ogg", ".wav", ".flac", ".mp3", ".g722")
SMALLEST_BYTES = 2000
"""Smaller files hold a click, or nothing."""


@dataclass(frozen=True)
class Voice:
    """One speaker, or the few that one package has for a language.

    Args:
        name: of the tracks that are made of it.
        package: the Debian package.
        pattern: of the files, from any folder of the package on.
    """

    name: str
    package: str
    pattern: str


def _voices(package: str, short: str, pattern: str, *names: str) -> list[Voice]:
    return [Voice(f"{short}-{name}".lower(), package, pattern.format(name)) for name in names]


VOICES = [
    Voice("msu-ru", "festvox-ru", "msu_ru_nsh_clunits/wav/*.wav"),
    Voice("asterisk-en", "asterisk-core-sounds-en-g722", "en_US_f_Allison/**/*.g722"),
    Voice("asterisk-es", "asterisk-core-sounds-es-g722", "es_MX_f_Allison/**/*.g722"),
    Voice("asterisk-ru", "asterisk-core-sounds-ru-g722", "ru_RU_f_IvrvoiceRU/**/*.g722"),
    Voice("fillets-cs", "fillets-ng-data-cs", "cs/*-m-*.ogg"),
    Voice("fillets-nl", "fillets-ng-data-nl", "nl/*-m-*.ogg"),
    *_voices("tuxpaint-stamps-default", "tuxpaint", "*_desc_{}.ogg", "be", "bg", "ca", "el", "es", "ru"),
    *_voices(
        "klettres-data",
        "klettres",
        "klettres/{}/**/*.ogg",
        *("cs", "da", "de", "en", "en_GB", "es", "it", "lt", "pt_BR", "ru", "tn", "uk"),
    ),
    *_voices(
        "ktuberling-data",
        "ktuberling",
        "sounds/{}/*.*",
        "ca",
        "el",
        "ga",
        "it",
        "lt",
        "pt",
        "sl",
        "sv",
        "uk",
        "wa",
    ),
    *_voices("kajongg", "kajongg", "voices/de/{}/*.ogg", "female1", "male1", "male2"),
    *_voices("hedgewars-data", "hedgewars", "voices/{}/*.ogg", "British", "Mobster", "Russian", "Russian_pl"),
]
"""A sample of each voice's files was checked with the speech weights P9 (docs/experiments.md): in at least half of them
the noise lies 20 dB or more below the voice."""

HELD_OUT_VOICES = [
    Voice("asterisk-fr", "asterisk-core-sounds-fr-g722", "fr_CA_f_June/**/*.g722"),
    Voice("asterisk-it", "asterisk-core-sounds-it-g722", "it_IT_m_Carlo/**/*.g722"),
]
"""A woman and a man for validation."""


@dataclass(frozen=True)
class Sounds:
    """The noises of one package.

    Args:
        package: the Debian package.
        folder: part of their paths that all of them share.
        excluded: parts of the paths of files that are left out: voices, music, or tunes.
    """

    package: str
    folder: str
    excluded: tuple[str, ...] = ()


SOUNDS = [
    Sounds("redeclipse-data", "/data/sounds/", ("/voice/", "/announcer/", "/player/", "/music/")),
    Sounds("supertuxkart-data", "/sfx/", ("ugh", "horn")),
    Sounds(
        "wesnoth-1.16-data", "/sounds/", ("die", "hit", "groan", "human", "leave", "laugh", "mermen", "lich")
    ),
    Sounds("torcs-data", "/sound/", ("locked.wav",)),  # which is damaged
    Sounds("minetest-data", "/sounds/"),
    Sounds("searchandrescue-data", "/sounds/"),
    Sounds("lincity-ng-data", "/sounds/", ("residential", "shanty", "market", "health")),
    Sounds("colobot-common-sounds", "/sounds/", ("music",)),
    Sounds("qabcs-data", "/noises/"),
    Sounds("tuxpaint-stamps-default", "/stamps/", ("_desc", "/people/")),
    Sounds("hydrogen-drumkits-effects", "/drumkits/"),
]
HELD_OUT_SOUNDS = [
    Sounds("widelands-data", "/sound/", ("tavern", "lobby")),
    Sounds("bucklespring-data", "/wav/"),
]


def voices_under(root: Path, voices: list[Voice]) -> Mapping[Voice, list[Path]]:
    """The files of every voice whose package is there, in order of their names.

    Raises:
        DataError: there is none of them.
    """
    found = {
        voice: sorted(filter(_is_audio, (root / voice.package).rglob(voice.pattern))) for voice in voices
    }
    if not any(found.values()):
        raise DataError(f"no voices of {', '.join(sorted({v.package for v in voices}))} under {root}")
    return {voice: files for voice, files in found.items() if files}


def sounds_under(root: Path, sounds: list[Sounds]) -> Mapping[Sounds, list[Path]]:
    """The files of every package of sounds that is there, in order of their names.

    Raises:
        DataError: there is none of them.
    """
    found = {each: _files(root / each.package, each) for each in sounds}
    if not any(found.values()):
        raise DataError(f"no sounds of {', '.join(each.package for each in sounds)} under {root}")
    return {each: files for each, files in found.items() if files}


def _is_audio(path: Path) -> bool:
    return path.suffix in AUDIO and path.stat().st_size >= SMALLEST_BYTES


def _files(folder: Path, sounds: Sounds) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if _is_audio(path)
        and sounds.folder in (inside := f"/{path.relative_to(folder).as_posix()}".lower())
        and not any(word in inside for word in sounds.excluded)
    )
