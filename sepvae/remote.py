"""Models by address: a model folder or a tar archive of one, fetched once and kept."""

from __future__ import annotations

import hashlib
import logging
import lzma
import os
import re
import shutil
import tarfile
import zlib
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from sepvae.atomic import alone
from sepvae.card import CARD_FILE, WEIGHTS_FILE, read_card
from sepvae.download import download
from sepvae.errors import CheckpointError, DownloadError

logger = logging.getLogger(__name__)

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz")
_SHA256 = re.compile(r"sha256=([0-9a-f]{64})")


def is_address(name: str) -> bool:
    """Whether this names a model by its address."""
    return name.startswith(("https://", "http://"))


def cache_dir() -> Path:
    """Folder of the models that were fetched: `SEPVAE_CACHE`, or `sepvae` in the user's folder of caches."""
    own = os.environ.get("SEPVAE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sepvae"


def fetch(address: str) -> Path:
    """Folder of the model at an address, fetched at the first use; an interrupted transfer is taken up again.

    The weights are always checked against the sha256 in the card. A fragment `#sha256=...` pins the archive, or the
    card of a folder.

    Args:
        address: of a model folder with `card.json` and `model.safetensors`, or of a tar archive with the two.

    Raises:
        CheckpointError: what lies there is no model.
        DownloadError: it cannot be fetched or kept, or is not what the hash says.
    """
    url, fragment = urldefrag(address)
    if urlsplit(url).path.endswith(".zip"):
        raise CheckpointError(f"{url}: archives of models end in {', '.join(ARCHIVES)}")
    pinned = _SHA256.fullmatch(fragment)
    if fragment and pinned is None:
        raise CheckpointError(
            f"expected #sha256=<64 hexadecimal digits> after the address, found #{fragment}"
        )
    checksum = f"sha256:{pinned[1]}" if pinned else None
    name = Path(urlsplit(url).path.rstrip("/")).name or "model"
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    folder = cache_dir() / f"{name.partition('.')[0]}-{key}"
    if _is_complete(folder):
        return folder
    draft = folder.with_name(f".{folder.name}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.with_name(f"{folder.name}.lock")):
            if not _is_complete(folder):  # another process may have fetched it meanwhile
                logger.info("fetching %s into %s", url, folder)
                draft.mkdir(exist_ok=True)
                _fill(draft, url, checksum)
                shutil.rmtree(folder, ignore_errors=True)
                draft.rename(folder)
    except OSError as error:
        raise DownloadError(
            f"{draft.parent}: no model can be kept here ({error.strerror}): SEPVAE_CACHE names another folder"
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    return (folder / CARD_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def _fill(draft: Path, url: str, checksum: str | None) -> None:
    """Fetch the two files of a model; of a failure only parts stay that a later call can tell to be good."""
    if urlsplit(url).path.endswith(ARCHIVES):
        archive = download(url, draft / "archive", checksum=checksum)
        try:
            _unpack(archive, draft)
        finally:
            archive.unlink()
    else:
        (draft / CARD_FILE).unlink(missing_ok=True)
        download(f"{url.rstrip('/')}/{CARD_FILE}", draft / CARD_FILE, checksum=checksum)
        weights = read_card(draft)["weights"]["sha256"]
        download(f"{url.rstrip('/')}/{WEIGHTS_FILE}", draft / WEIGHTS_FILE, checksum=f"sha256:{weights}")
    read_card(draft)


def _unpack(archive: Path, folder: Path) -> None:
    """Take the two files of a model out of an archive, wherever in it they lie, and nothing else."""
    found = set()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if name in (CARD_FILE, WEIGHTS_FILE) and member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None
                    with (folder / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
                    found.add(name)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise CheckpointError(f"{archive}: cannot be unpacked ({error})") from error
    if missing := {CARD_FILE, WEIGHTS_FILE} - found:
        raise CheckpointError(f"{archive}: holds no {min(missing)}, so it is no model")
