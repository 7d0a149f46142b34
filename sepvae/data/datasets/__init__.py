"""Datasets by name, each a reader of the layout that it comes in."""

from __future__ import annotations

from sepvae.data.datasets.base import Dataset
from sepvae.data.datasets.digits import FSDD, SpeechCommands
from sepvae.data.datasets.dnr import DnR
from sepvae.data.datasets.librimix import LibriMix
from sepvae.data.datasets.moisesdb import MoisesDB
from sepvae.data.datasets.musdb import Musdb18, Musdb18HQ
from sepvae.data.datasets.slakh import Slakh
from sepvae.data.datasets.stems import Solos, Stems
from sepvae.data.datasets.voicebank import VoiceBank

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Stems(),
        Solos(),
        Musdb18HQ(),
        Musdb18(),
        MoisesDB(),
        Slakh(),
        DnR(),
        VoiceBank(),
        LibriMix(),
        FSDD(),
        SpeechCommands(),
    )
}
