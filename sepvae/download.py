"""Fetching large files: resumed where they stopped, verified by their hash, whole or not at all.

Why not a library: pooch does not resume, huggingface_hub resumes only what its own hub serves, and the clients of
object stores expect theirs. What is needed is one header of HTTP, so the standard library does.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sepvae.errors import DownloadError

BLOCK_BYTES = 1 << 20
ALGORITHMS = ("md5", "sha256")
TIMEOUT_S = 60.0
"""How long a server may be silent."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be better the next time."""
OnBytes = Callable[[int, int | None], None]
"""Called with the bytes that are there and those of the whole file, None where the server does not say."""


def download(
    url: str,
    path: str | Path,
    *,
    checksum: str | None = None,
    progress: OnBytes = lambda done, total: None,
    attempts: int = 6,
    pause_s: float = 1.0,
) -> Path:
    """Fetch a file; a partial one beside it (`<name>.part`) is continued, now or by a later call.

    A lost connection is taken up again where it broke; only attempts that bring nothing are counted.

    Args:
        url: http or https.
        path: where the file will lie; it is there only when complete. One that is there already is kept if it fits.
        checksum: `md5:<hex>` or `sha256:<hex>`; None takes what comes.
        progress: called while bytes arrive.
        attempts: how often in a row it may fail, > 0.
        pause_s: wait before the second attempt, doubled each time.

    Returns:
        The path.

    Raises:
        DownloadError: not found, no connection, not the expected bytes, or no folder to put them in.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"expected an http or https address, found {url}")
    if checksum is not None and checksum.partition(":")[0] not in ALGORITHMS:
        raise DownloadError(f"expected md5:... or sha256:..., found {checksum}")
    if path.is_file():
        if checksum is None or digest(path, checksum.partition(":")[0]) == checksum:
            return path
        raise DownloadError(f"{path} is there but is not {url}: delete it or choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{path.parent} cannot be made ({error.strerror})") from error
    part = path.with_name(f"{path.name}.part")

    def fetch() -> bool:
        return _fetch(url, part, checksum is not None, progress)

    _until_complete(fetch, url, part, attempts, pause_s)
    if checksum is not None and (found := digest(part, checksum.partition(":")[0])) != checksum:
        part.unlink()
        raise DownloadError(f"{url}: expected {checksum}, found {found}; the file was deleted")
    os.replace(part, path)
    _validator(part).unlink(missing_ok=True)
    return path


def _until_complete(fetch: Callable[[], bool], url: str, part: Path, attempts: int, pause_s: float) -> None:
    """Call `fetch`, which appends to a part and tells whether it is complete, until it is or has failed too often."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if fetch():
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code not in PASSING:
                raise DownloadError(f"{url}: {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
        failures = 0 if _size(part) > before else failures + 1
        if failures >= attempts:
            kept = f"; what came so far is kept in {part}, the same command goes on" if _size(part) else ""
            raise DownloadError(f"{url}: {reason}{kept}")
        time.sleep(pause_s * 2 ** max(failures - 1, 0))


def digest(path: Path, algorithm: str) -> str:
    """Hash of a file, as `<algorithm>:<hex>`."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _validator(part: Path) -> Path:
    """File that remembers which version of the remote file the part belongs to."""
    return part.with_name(f"{part.name}.etag")


def _fetch(url: str, part: Path, verified: bool, progress: OnBytes) -> bool:
    """Append to a part from where it ends; whether the file is complete.

    Args:
        verified: whether a hash will tell if the rest belongs to the part; else the server has to say so.
    """
    done, etag = _size(part), _validator(part)
    headers = {"User-Agent": "sepvae", "Accept-Encoding": "identity"}
    if done and (etag.is_file() or verified):
        headers["Range"] = f"bytes={done}-"
        if etag.is_file():
            headers["If-Range"] = etag.read_text(encoding="utf-8")
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == 416 and total == str(done):
            return True  # the part was complete already
        if error.code == 416:
            part.unlink()
            return False
        raise
    with response:
        if response.status != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total_bytes = done + int(length) if length is not None else None
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if tag and not tag.startswith("W/"):
            etag.write_text(tag, encoding="utf-8")
        else:
            etag.unlink(missing_ok=True)
        with part.open("ab" if done else "wb") as file:
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                done += len(block)
                progress(done, total_bytes)
    return total_bytes is None or done == total_bytes
