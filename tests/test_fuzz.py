"""A short run of benchmarks/fuzz.py: damaged files never crash, hang or exhaust what reads them."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.mark.parametrize(("checkpoints", "count"), [("0", "170"), ("1", "30")], ids=["audio", "checkpoints"])
def test_damaged_files_end_in_samples_or_in_one_line(checkpoints: str, count: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--count", count, "--seed", "3", "--checkpoints", checkpoints]
    done = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} files:" in done.stdout
