"""Models by address, from a server on loopback."""

import errno
import hashlib
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from sepvae import checkpoint, pretrained
from sepvae.download import download
from sepvae.errors import CheckpointError, DownloadError, SepvaeError
from sepvae.models.separation import SeparationVAE


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, tiny_model: SeparationVAE) -> Path:
    """A folder with a model, as a folder and as an archive."""
    checkpoint.save(tmp_path / "site" / "tiny", tiny_model, {})
    with tarfile.open(tmp_path / "site" / "tiny.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "site" / "tiny", "some/where")
    return tmp_path / "site"


@pytest.fixture
def address(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the folder is served; the cache is empty."""
    monkeypatch.setenv("SEPVAE_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["tiny", "tiny.tar.gz", "tiny.tar.gz?download=1"])
def test_a_model_is_fetched_once_and_kept(
    name: str, address: str, site: Path, tiny_model: SeparationVAE
) -> None:
    pin = sha256(site / "tiny" / "card.json" if name == "tiny" else site / "tiny.tar.gz")
    url = f"{address}/{name}#sha256={pin}"
    folder = pretrained.find(url)
    (site / "tiny" / "model.safetensors").unlink()
    (site / "tiny.tar.gz").unlink()
    assert pretrained.find(url) == folder
    for a, b in zip(checkpoint.load(folder)[0].parameters(), tiny_model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_transfer_that_broke_off_is_taken_up_again(address: str, site: Path, tmp_path: Path) -> None:
    weights = site / "tiny" / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    with pytest.raises(SepvaeError):
        pretrained.find(f"{address}/tiny")
    (draft,) = (tmp_path / "cache").glob(".tiny-*")
    (draft / "model.safetensors.part").write_bytes(whole[:1000])
    weights.write_bytes(whole)
    assert (pretrained.find(f"{address}/tiny") / "model.safetensors").read_bytes() == whole
    assert not draft.exists()


@pytest.mark.parametrize(("name", "file"), [("tiny", "tiny/card.json"), ("tiny.tar.gz", "tiny.tar.gz")])
def test_a_wrong_answer_is_forgotten(name: str, file: str, address: str, site: Path) -> None:
    whole = (site / file).read_bytes()
    (site / file).write_bytes(b"<html>try again later</html>")
    with pytest.raises(CheckpointError):
        pretrained.find(f"{address}/{name}")
    (site / file).write_bytes(whole)
    assert checkpoint.load(pretrained.find(f"{address}/{name}"))


def test_a_model_that_was_replaced_in_mid_transfer_is_fetched_anew(address: str, site: Path) -> None:
    card, weights = site / "tiny" / "card.json", site / "tiny" / "model.safetensors"
    before, after = weights.read_bytes(), weights.read_bytes()[:-1] + b"x"
    weights.write_bytes(after)
    with pytest.raises(DownloadError, match="expected sha256"):
        pretrained.find(f"{address}/tiny")
    card.write_text(card.read_text().replace(hashlib.sha256(before).hexdigest(), sha256(weights)))
    assert sha256(pretrained.find(f"{address}/tiny") / "model.safetensors") == sha256(weights)


@pytest.mark.parametrize("name", ["tiny", "tiny.tar.gz"])
def test_many_that_ask_at_once_share_one_transfer(
    name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def get(handler: Quiet) -> None:
        asked.append(handler.path)
        time.sleep(0.2)
        SimpleHTTPRequestHandler.do_GET(handler)

    monkeypatch.setattr(Quiet, "do_GET", get)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(pretrained.find, [f"{address}/{name}"] * 4))
    assert len(set(folders)) == 1
    assert len(asked) == len(set(asked))
    assert checkpoint.load(folders[0])


@pytest.mark.parametrize("name", ["tiny", "tiny.tar.gz"])
def test_what_does_not_have_the_pinned_hash_is_refused(name: str, address: str) -> None:
    with pytest.raises(SepvaeError, match="expected sha256:0000"):
        pretrained.find(f"{address}/{name}#sha256={'0' * 64}")


def test_exchanged_weights_are_refused(address: str, site: Path) -> None:
    weights = site / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(SepvaeError, match="expected sha256"):
        pretrained.find(f"{address}/tiny")


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_damaged_archive_is_one_error(address: str, site: Path, kind: str) -> None:
    path = site / f"bad.tar.{kind}"
    for byte in range(40):
        with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
            tar.add(site / "tiny", "tiny")
        whole = bytearray(path.read_bytes())
        whole[len(whole) * byte // 40] ^= 0xFF
        path.write_bytes(whole)
        with suppress(SepvaeError):  # some bytes do not matter
            pretrained.find(f"{address}/bad.tar.{kind}?{byte}")


def test_an_archive_of_something_else_is_no_model(address: str, site: Path) -> None:
    with tarfile.open(site / "other.tar", "w") as tar:
        tar.add(__file__, "card.json")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        pretrained.find(f"{address}/other.tar")


def test_a_fragment_that_is_no_hash_is_refused() -> None:
    with pytest.raises(CheckpointError, match="#sha256="):
        pretrained.find("https://host.invalid/model#main")


def test_a_cache_that_cannot_be_written_is_told_in_one_line(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DownloadError, match="SEPVAE_CACHE"):
        pretrained.find(f"{address}/tiny")

    def refused(_: Path) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr("sepvae.remote.alone", refused)
    monkeypatch.setenv("SEPVAE_CACHE", str(tmp_path / "other"))
    with pytest.raises(DownloadError, match="read-only"):
        pretrained.find(f"{address}/tiny")
    with pytest.raises(DownloadError, match="cannot be made"):
        download(f"{address}/tiny/card.json", tmp_path / "cache" / "a" / "card.json")
