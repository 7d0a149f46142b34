"""Files in the making: complete under their name or not there, and swept up after a kill."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sepvae.audio.partial import PartialFile, sweep, write_whole

MAKER = """
import sys, time
from pathlib import Path
from sepvae.audio.partial import PartialFile
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
