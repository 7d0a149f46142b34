"""Files in the making: complete under their name or not there, and swept up after a kill."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sepvae import atomic
from sepvae.atomic import (
    PartialFile,
    draft_folder,
    locked,
    publish_folder,
    remove_drafts,
    restored_on_failure,
    sweep,
    whole_file,
    write_whole,
)

MAKER = """
import sys, time
from pathlib import Path
from sepvae.atomic import PartialFile
partial = PartialFile(Path(sys.argv[1]))
print("made", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_only_what_a_killed_process_left_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".sepvae-notes.txt").touch()
    command = [sys.executable, "-c", MAKER, str(tmp_path / "a.wav")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        sweep(tmp_path)
        assert len(list(tmp_path.glob(".sepvae-*.part"))) == 1
        process.kill()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".sepvae-notes.txt"]


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"one")
    partial = PartialFile(tmp_path / "a")
    partial.temporary.write_bytes(b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    partial.publish()
    partial.discard()
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="No such file"):
        write_whole(tmp_path / "no" / "a", b"")


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_one_at_a_time_is_in_a_locked_folder_and_nothing_stays_there(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter(_: int) -> None:
        nonlocal inside, most
        with locked(tmp_path):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))
    assert most == 1
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "missing"):  # there is nothing to be alone in
        pass


def half_a_file(folder: Path) -> None:
    with whole_file(folder / "a") as file:
        file.write(b"two")
        raise KeyboardInterrupt


def interrupted_after_a_file(folder: Path) -> None:
    with restored_on_failure(folder / "a"):
        write_whole(folder / "a", b"new")
        raise KeyboardInterrupt


def half_a_folder(folder: Path) -> None:
    with draft_folder(folder / "model") as draft:
        (draft / "card").write_bytes(b"two")
        raise KeyboardInterrupt


def test_a_maker_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for path in (tmp_path / "a", tmp_path / "model" / "card"):
        path.write_bytes(b"one")
    for half_written in (half_a_file, half_a_folder):
        with pytest.raises(KeyboardInterrupt):
            half_written(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "model"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "model" / "card").read_bytes() == b"one"
    with draft_folder(tmp_path / "model") as draft:
        publish_folder(draft, tmp_path / "model")
    assert not any((tmp_path / "model").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "model"]


def test_a_folder_that_loses_the_race_for_its_name_leaves_no_other_behind(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()

    class Winner(type(path)):
        """Another process takes the name once it is free."""

        def rename(self, target: Path) -> Path:
            (path / "card").mkdir(parents=True)
            return super().rename(target)

    with pytest.raises(OSError, match="not empty"), draft_folder(path) as draft:
        publish_folder(Winner(draft), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert (path / "card").is_dir()


def test_without_links_a_failure_leaves_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_after_a_file(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_of_drafts_only_those_are_removed_that_were_made_here(tmp_path: Path) -> None:
    names = [".a.new-0123abcd", ".a.b.new-0123abcd", ".a.0123abcd.old", ".stfolder", ".a.new", "a"]
    for name in names:
        (tmp_path / name).mkdir()
    remove_drafts(tmp_path, "a")
    assert {entry.name for entry in tmp_path.iterdir()} == {*names[3:], names[1]}
    remove_drafts(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {*names[3:]}


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_a_file_system_without_locks_gets_its_file_and_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refused)
    made = PartialFile(tmp_path / "a")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [made.temporary]
    made.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_file_is_renamed_while_it_is_open_where_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "fcntl", None)  # as on Windows
    made = PartialFile(tmp_path / "a")
    descriptor = made._lock
    os.fstat(descriptor)

    def replace(source: Path, target: Path) -> None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        raise PermissionError

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError):
        made.publish()
    made.discard()
    assert not any(tmp_path.iterdir())
