"""A download comes whole or not at all, and goes on where it stopped; all servers are on loopback."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sepvae.cli import cli
from sepvae.data.datasets import DATASETS
from sepvae.data.datasets.base import Archive
from sepvae.data.datasets.digits import FSDD
from sepvae.data.download import fetch, unpack
from sepvae.download import download
from sepvae.errors import DataError, DownloadError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Serves what it is told to, and breaks off when it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.breaks: list[int] = []
        """Bytes after which the next answers end, one for each."""
        self.errors: list[int] = []
        self.ranges: list[str | None] = []
        self.takes_ranges = True
        self.etag = '"one"'

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers["Range"])
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        content = server.files[self.path]
        start = 0
        same = self.headers["If-Range"] in (None, server.etag)
        if self.headers["Range"] and server.takes_ranges and same:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + server.breaks.pop(0) if server.breaks else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("checksum", [None, SHA256, MD5])
def test_a_file_comes_whole_and_with_progress(server: Server, tmp_path: Path, checksum: str | None) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download(
        server.url(), tmp_path / "a" / "file", checksum=checksum, progress=lambda *at: seen.append(at)
    )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert download(server.url(), path, checksum=checksum) == path
    assert len(server.ranges) == 1  # what is there is not fetched again


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 1, 50_000]
    path = download(server.url(), tmp_path / "file", checksum=SHA256, attempts=1, pause_s=0)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=100001-", "bytes=150001-"]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks, server.errors = [200_000], []
    real = server.files.copy()

    def lost(done: int, total: int | None) -> None:
        server.files.clear()

    with pytest.raises(DownloadError, match="404"):
        download(server.url(), tmp_path / "file", pause_s=0, progress=lost)
    assert not (tmp_path / "file").exists()
    server.files.update(real)
    assert download(server.url(), tmp_path / "file", pause_s=0).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=200000-"


def test_a_file_that_changed_meanwhile_starts_over(server: Server, tmp_path: Path) -> None:
    server.breaks = [200_000]

    def replaced(done: int, total: int | None) -> None:
        server.files["/file"], server.etag = CONTENT[::-1], '"two"'

    path = download(server.url(), tmp_path / "file", pause_s=0, progress=replaced)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_or_tags_starts_over(server: Server, tmp_path: Path) -> None:
    server.takes_ranges, server.breaks = False, [200_000]
    assert download(server.url(), tmp_path / "a", checksum=MD5, pause_s=0).read_bytes() == CONTENT
    server.takes_ranges, server.etag, server.breaks, server.ranges = True, "", [200_000], []
    assert download(server.url(), tmp_path / "b", pause_s=0).read_bytes() == CONTENT
    assert server.ranges == [None, None]  # nothing says that the rest would fit
    server.breaks, server.ranges = [200_000], []
    assert download(server.url(), tmp_path / "c", checksum=MD5, pause_s=0).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=200000-"]  # the hash will tell


def test_a_part_that_is_complete_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert download(server.url(), tmp_path / "file", checksum=SHA256).read_bytes() == CONTENT


def test_errors_that_pass_are_waited_for_and_others_not(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429]
    assert download(server.url(), tmp_path / "a", pause_s=0).read_bytes() == CONTENT
    server.errors = [500] * 3
    with pytest.raises(DownloadError, match="500"):
        download(server.url(), tmp_path / "b", attempts=3, pause_s=0)
    with pytest.raises(DownloadError, match="404"):
        download(server.url("/none"), tmp_path / "c")
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="refused"):
        download(server.url(), tmp_path / "d", attempts=2, pause_s=0)


def test_other_bytes_than_expected_are_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected md5:00"):
        download(server.url(), tmp_path / "file", checksum="md5:00")
    assert list(tmp_path.glob("file*")) in ([], [tmp_path / "file.part.etag"])
    (tmp_path / "file").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="is there but is not"):
        download(server.url(), tmp_path / "file", checksum=MD5)
    for url, checksum in (("ftp://x/y", None), (server.url(), "crc:1")):
        with pytest.raises(DownloadError, match="expected"):
            download(url, tmp_path / "new", checksum=checksum)


def zipped(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(names: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_archives_are_unpacked_from_one_piece_or_several(tmp_path: Path) -> None:
    names = {"a/one.wav": b"1" * 5000, "b/two.wav": b"2"}
    (tmp_path / "x.zip").write_bytes(zipped(names))
    unpack([tmp_path / "x.zip"], tmp_path / "zip")
    whole = tarred(names)
    pieces = [tmp_path / f"x.tar.gz.{i}" for i in range(3)]
    for path, start in zip(pieces, range(0, len(whole), len(whole) // 3 + 1), strict=True):
        path.write_bytes(whole[start : start + len(whole) // 3 + 1])
    unpack(pieces, tmp_path / "tar")
    for folder in ("zip", "tar"):
        for name, content in names.items():
            assert (tmp_path / folder / name).read_bytes() == content


@pytest.mark.parametrize("make", [zipped, tarred])
def test_archives_write_nothing_outside_their_folder(make: object, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(make({"../outside.txt": b"no"}))  # type: ignore[operator]
    with pytest.raises(DataError, match="cannot unpack"):
        unpack([tmp_path / "x"], tmp_path / "in" / "side")
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize(
    "content", [b"neither", tarred({"a": b"1" * 90_000})[:-30], zipped({"a": b"1"})[:40]]
)
def test_damaged_archives_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot unpack .*broken\.zip"):
        unpack([tmp_path / "broken.zip"], tmp_path / "out")


def test_a_dataset_is_fetched_unpacked_and_not_fetched_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped({"free/recordings/0_jackson_7.wav": b"RIFF"})
    server.files["/fsdd.zip"] = content
    server.breaks = [len(content) // 2]
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    archive = Archive((server.url("/fsdd.zip"),), "fsdd.zip", (checksum,))
    monkeypatch.setattr(FSDD, "archives", (archive,))
    monkeypatch.setattr("sepvae.download.time.sleep", lambda seconds: None)
    root = tmp_path / "root"
    result = CliRunner().invoke(cli, ["data", "prepare", "fsdd", "--download", str(root)])
    assert result.exit_code == 0, result.output
    assert (root / "free" / "recordings" / "0_jackson_7.wav").is_file()
    asked = len(server.ranges)
    (root / "archives" / "fsdd.zip").unlink()  # to save space
    fetch(DATASETS["fsdd"], root)
    assert len(server.ranges) == asked == 2


def test_public_archives_are_complete_and_over_http() -> None:
    for dataset in DATASETS.values():
        for archive in dataset.archives:
            assert all(url.startswith(("https://", "http://download.tensorflow.org/")) for url in archive.url)
            assert len(archive.checksums) <= len(archive.url)
            assert all(sum.partition(":")[0] in ("md5", "sha256") for sum in archive.checksums)
            assert all(len(sum.partition(":")[2]) in (32, 64) for sum in archive.checksums)
