"""Corpora with licences, and `Item`: one track of a set, with the function that makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepvae.errors import DataError


@dataclass(frozen=True)
class Corpus:
    """One source of raw material: its folder under the raw root, its licence and whom to credit."""

    folder: str
    title: str
    licence: str
    credit: str


CORPORA = {
    "album": Corpus(
        "everything-is-free",
        "the album Everything is Free, seven multitrack songs summed into stems",
        "CC0 1.0",
        "ichbinsoftware (ichbinsoftware/everythingisfree, ichbinsoftware/everythingisremixed)",
    ),
    "demo": Corpus(
        "demo", "one song as five instrument tracks", "CC0 1.0", "mdn/webaudio-examples, multi-track"
    ),
    "composed": Corpus(
        "", "songs written and played by sepvae.data.composer and sepvae.data.producer", "CC0 1.0", "sepvae"
    ),
    "sonic-pi": Corpus(
        "sonic-pi", "drum hits and loops, bass one-shots", "CC0 1.0", "sonic-pi-net/sonic-pi, etc/samples"
    ),
    "midi": Corpus(
        "midi/freedoom",
        "multi-channel MIDI, rendered to stems",
        "BSD-3-Clause",
        "Contributors to the Freedoom project (freedoom/freedoom)",
    ),
    "fluidr3": Corpus("", "the SoundFont FluidR3_GM", "MIT", "Frank Wen (Debian package fluid-soundfont-gm)"),
    "musescore": Corpus(
        "",
        "the SoundFont MuseScore_General",
        "MIT",
        "S. Christian Collins and others (Debian package musescore-general-soundfont-lossless)",
    ),
    "avldrums": Corpus(
        "",
        "the drum kits Black Pearl and Red Zeppelin",
        "CC BY-SA 3.0",
        "Glen MacArthur (Debian package avldrums.lv2-soundfont)",
    ),
    "opl3": Corpus(
        "", "the SoundFont OPL-3_FM_128M", "see the Debian package opl3-soundfont", "opl3-soundfont"
    ),
    "timgm6mb": Corpus(
        "", "the SoundFont TimGM6mb", "GPL-2", "Tim Brechbill (Debian package timgm6mb-soundfont)"
    ),
    "lmms": Corpus(
        "",
        "the demo songs of the studio program LMMS, played source by source",
        "Artistic-2.0, BSD-2-Clause, CC BY-SA 3.0, CC BY-SA 4.0, GPL-2+, by song",
        "the songs' authors, named in their files (Debian packages lmms, lmms-common)",
    ),
    "fretsonfire-songs-muldjord": Corpus(
        "",
        "guitars of four metal songs",
        "CC BY-SA 3.0",
        "El Senator of Muldjord (Debian package fretsonfire-songs-muldjord)",
    ),
    "fretsonfire-songs-sectoid": Corpus(
        "",
        "guitars of four metal songs",
        "MIT",
        "Carlos Viola Iborra (Debian package fretsonfire-songs-sectoid)",
    ),
    **{
        package: Corpus(
            "", f"music of {game}, without singing", licence, f"{credit} (Debian package {package})"
        )
        for package, game, licence, credit in (
            ("wesnoth-1.16-music", "Battle for Wesnoth", "GPL-2+", "the composers of the Wesnoth project"),
            ("singularity-music", "Endgame: Singularity", "CC BY-SA 3.0", "Max McCracken"),
            ("supertux-data", "SuperTux", "CC BY-SA 3.0, GPL-2+", "Marek Moeckel and others"),
            ("ardentryst", "Ardentryst", "GPL-3+", "Jordan Trudgett"),
            ("hyperrogue-music", "HyperRogue", "CC BY-SA 3.0", "Shawn Parrotte, Lincoln Domina, Will Savino"),
        )
    },
    **{
        package: Corpus("", title, licence, f"{credit} (Debian package {package})")
        for package, title, licence, credit in (
            ("openttd-openmsx", "songs as MIDI files, rendered to stems", "GPL-2", "the OpenMSX project"),
            (
                "simutrans-data",
                "songs as MIDI files, rendered to stems",
                "Artistic-1.0",
                "the Simutrans team",
            ),
            ("planetblupi-music-midi", "songs as MIDI files, rendered to stems", "GPL-3+", "EPSITEC SA"),
            (
                "festvox-ru",
                "the recordings of a Russian voice for Festival",
                "BSD-like",
                "Nickolay V. Shmyrev",
            ),
            *(
                (f"asterisk-core-sounds-{language}-g722", "telephone prompts", licence, credit)
                for language, licence, credit in (
                    ("en", "CC BY-SA 3.0", "Allison Smith"),
                    ("es", "CC BY-SA 3.0", "Allison Smith"),
                    ("fr", "CC BY-SA 3.0", "June Wallack"),
                    ("it", "CC BY 3.0", "Carlo Flora"),
                    ("ru", "CC BY 3.0", "Maxim, ivrvoice.ru"),
                )
            ),
            ("fillets-ng-data-cs", "voices of the game Fish Fillets", "GPL-2", "ALTAR interactive"),
            ("fillets-ng-data-nl", "voices of the game Fish Fillets", "GPL-2", "the Fish Fillets NG team"),
            (
                "tuxpaint-stamps-default",
                "spoken names and sounds of Tux Paint's stamps",
                "GPL-2",
                "Bill Kendrick and others",
            ),
            (
                "klettres-data",
                "spoken letters and syllables of KLettres",
                "GPL-2+",
                "Anne-Marie Mahfouf and others",
            ),
            ("ktuberling-data", "spoken words of KTuberling", "GPL-2+", "the KTuberling team"),
            ("kajongg", "spoken calls of the game Kajongg", "GPL-2+", "Wolfgang Rohdewald and others"),
            ("hedgewars-data", "voices of the game Hedgewars", "GFDL-1.3", "the Hedgewars project"),
            (
                "redeclipse-data",
                "sounds of the game Red Eclipse",
                "CC BY-SA 3.0, CC BY 3.0, CC0",
                "its authors",
            ),
            (
                "supertuxkart-data",
                "sounds and music of the game SuperTuxKart",
                "CC BY-SA 3.0, CC BY-SA 4.0, CC BY 3.0, CC0, GPL, by file",
                "its authors",
            ),
            ("wesnoth-1.16-data", "sounds of Battle for Wesnoth", "GPL-2+", "the Wesnoth project"),
            ("torcs-data", "sounds of the game TORCS", "GPL-2+", "Eric Espié and others"),
            ("minetest-data", "sounds of Minetest", "CC BY-SA 3.0, CC BY 3.0, CC0", "the Minetest project"),
            ("searchandrescue-data", "sounds of Search and Rescue", "GPL", "WolfPack Entertainment"),
            ("lincity-ng-data", "sounds of LinCity-NG", "GPL-2+", "the LinCity-NG team"),
            (
                "colobot-common-sounds",
                "sounds of Colobot",
                "GPL-3+",
                "Daniel Roux, EPSITEC SA, TerranovaTeam",
            ),
            ("qabcs-data", "sounds of animals and things of qABCs", "GPL-3+", "DanSoft"),
            (
                "hydrogen-drumkits-effects",
                "sound effects and guitars as kits for Hydrogen",
                "GPL-2+, CC BY-SA 3.0, CC BY 3.0, CC0, by kit",
                "the kits' authors",
            ),
            ("widelands-data", "sounds and music of the game Widelands", "GPL-2+", "the Widelands team"),
            ("bucklespring-data", "keys of a keyboard", "GPL-2+", "Ico Doornekamp"),
        )
    },
    "presets": Corpus(
        "",
        "synthesizer presets of LMMS and ZynAddSubFX",
        "GPL-2+",
        "their authors, named in the files (Debian packages lmms-common, zynaddsubfx-data)",
    ),
    "hydrogen-data": Corpus(
        "",
        "the drum kits GMRockKit and TR808EmulationKit of the drum machine Hydrogen",
        "GPL-2+",
        "Glen MacArthur, Sebastian Moors, Artemiy Pavlov (Debian package hydrogen-data)",
    ),
    "hydrogen-drumkits": Corpus(
        "",
        "fourteen drum kits for the drum machine Hydrogen",
        "CC0 1.0 (Audiophob), CC BY 3.0 (rumpf_kit), CC BY-SA 3.0 (BJA_Pacific, circAfrique), "
        "GPL-2 (Black Pearl, Forzee, Gimme A Hand, Millo), "
        "GPL-2+ (Colombo, with an exception for compositions; ElectricEmpire, HardElectro1, VariBreaks)",
        "audiophobdubstep, Emanuel Rumpf, Luc Tanguay and Bransin James Anderson, Jim Harney, Glen MacArthur, "
        "Vladimir Sadovnikov, Alexander Belokurov, Emiliano Grilli, Marcos Guglielmetti, Artemiy Pavlov "
        "(Debian package hydrogen-drumkits)",
    ),
    **{
        f"tracker-{package}": Corpus(
            "", "tracker modules, played source by source", licence, f"{credit} (Debian package {package})"
        )
        for package, licence, credit in (
            ("ballz-data", "BSD-3-Clause", "Olof Naessen and Per Larsson"),
            ("bb", "GPL-2+", "AA-group"),
            ("biniax2-data", "zlib", "Jordan Tuzsuzov"),
            ("ceferino-data", "GPL-2+", "Hugo Ruscitti and others"),
            ("criticalmass-data", "GPL-2+", "Frank Becker"),
            ("dodgindiamond2", "GPL-2+", "Juan J. Martinez"),
            ("gl-117-data", "GPL-2", "Thomas Drexl"),
            ("gltron", "GPL-2+", "Andreas Umbach and others"),
            ("heroes-sound-tracks", "GPL-2+", "Alexandre Liverneaux and others"),
            ("monsterz-data", "public domain", "MenTaLguY"),
            ("njam-data", "GPL-2+", "Milan Babuskov"),
            ("open-invaders-data", "GPL-2+", "Darryl LeCount and others"),
            ("pekka-kana-2-data", "BSD-2-Clause", "Janne Kivilahti"),
            ("penguin-command", "GPL-2+", "Karl Bartel and others"),
            ("pingus-data", "GPL-2+", "Ingo Ruhnke and others"),
            ("rafkill-data", "LGPL-2", "Jon Rafkind"),
            ("ri-li-data", "GPL-2 or GPL-3", "Dominique Roux-Serret, Maf464"),
            ("rockdodger", "GPL-2+", "Paul Holt and others"),
            ("solarwolf", "LGPL-2.1", "Pete Shinners"),
            ("tecnoballz-data", "GPL-3+", "TLK Games"),
            ("tomatoes-data", "zlib", "Mika Halttunen"),
            ("tuxmath-data", "public domain", "Mystra, Groo, Tjoppbass"),
            ("vodovod", "GPL-2+", "Milan Babuskov"),
        )
    },
    "speech": Corpus(
        "librispeech", "read speech", "CC BY 4.0", "LibriSpeech (OpenSLR 12), Panayotov et al. 2015"
    ),
    "noise": Corpus(
        "olpc-noise",
        "recordings of street, rail, rain, machines, household",
        "CC BY 3.0",
        "OLPC Berklee Sound Library (via Tonejs/audio)",
    ),
    "generated-noise": Corpus(
        "", "coloured noise and hum made by sepvae.data.acoustics", "CC0 1.0", "sepvae"
    ),
    "digits": Corpus(
        "fsdd",
        "Free Spoken Digit Dataset",
        "CC BY-SA 4.0",
        "Jackson et al. (Jakobovski/free-spoken-digit-dataset)",
    ),
}


@dataclass(frozen=True)
class Item:
    """One track folder to be made.

    Args:
        split: the set that it belongs to, a folder under the output root.
        name: the track folder's name.
        corpora: keys of `CORPORA` that it is derived from.
        make: writes the folder it is given.
    """

    split: str
    name: str
    corpora: tuple[str, ...]
    make: Callable[[Path], object]


def rng_for(seed: int, *words: str) -> np.random.Generator:
    """A generator that depends on the seed and on what is made, not on the order in which it is made."""
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def raw_files(root: Path, corpus: str, pattern: str) -> list[Path]:
    """The files of a corpus under the raw root, in order of their names.

    Raises:
        DataError: there is none.
    """
    files = sorted((root / CORPORA[corpus].folder).glob(pattern))
    if not files:
        raise DataError(f"no {pattern} in {root / CORPORA[corpus].folder}")
    return files
