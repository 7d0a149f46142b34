"""The command line from end to end with a tiny model."""

import ast
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import sepvae.cli
from sepvae import checkpoint
from sepvae.audio.resample import MAX_RATE
from sepvae.cli import cli
from sepvae.cli.loading import ComputingCommand, signals_wait
from sepvae.errors import DataError
from sepvae.models.separation import SeparationVAE

RATE = 44100
SOURCES = ("vocals", "drums", "bass", "other")


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory, tiny_model: SeparationVAE) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(folder, tiny_model, {"name": "tiny", "licence": "CC0-1.0"})
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def separate(model: str, *arguments: str | Path) -> Result:
    return run("separate", "-m", model, "--device", "cpu", *arguments)


def test_a_file_becomes_four_files_whose_paths_are_the_output(
    folder: Path, model: str, noise: np.ndarray
) -> None:
    soundfile.write("song.wav", noise.T, RATE)
    result = separate(model, "song.wav")
    assert result.exit_code == 0
    assert result.stdout.split() == [f"separated/song/{source}.wav" for source in SOURCES]
    assert "cpu" in result.stderr
    stems = [soundfile.read(path)[0] for path in result.stdout.split()]
    np.testing.assert_array_equal(np.sum(stems, axis=0), soundfile.read("song.wav")[0])


def test_bad_inputs_get_one_line_each_and_the_good_ones_are_done(
    folder: Path, model: str, noise: np.ndarray
) -> None:
    soundfile.write("good.wav", noise.T, RATE)
    soundfile.write("-dash ä'\".flac", noise.T, RATE)
    Path("text.wav").write_text("no audio\n" * 100)
    Path("empty.mp3").touch()
    late = np.tile(noise, 4).T.copy()
    late[-1] = np.nan
    soundfile.write("nan.wav", late, RATE, subtype="FLOAT")
    soundfile.write("cut.wav", noise.T, RATE)
    Path("cut.wav").write_bytes(Path("cut.wav").read_bytes()[:-4000])
    bad = ["missing.wav", "text.wav", "empty.mp3", "nan.wav", "cut.wav"]
    result = separate(model, "--report", "report.json", "-q", *bad, "good.wav", "--", "-dash ä'\".flac")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert [line.split(":")[:2] for line in lines] == [["error", f" {name}"] for name in bad]
    done = {path.name for path in Path("separated").iterdir()}
    assert done == {"good", "-dash ä'\"", "cut"}
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert "\n\n" not in result.stderr
    report = json.loads(Path("report.json").read_text())
    statuses = [entry["status"] for entry in report["files"]]
    assert statuses == ["failed"] * 4 + ["incomplete"] + ["done"] * 2


def test_same_named_inputs_do_not_overwrite_each_other(folder: Path, model: str, noise: np.ndarray) -> None:
    for parent, gain in (("a", 1.0), ("b", 0.5)):
        Path(parent).mkdir()
        soundfile.write(f"{parent}/song.wav", gain * noise.T, RATE)
    result = separate(model, "a/song.wav", "b/song.wav", "--two-stems", "vocals")
    assert result.exit_code == 0
    assert "b/song.wav: written as song-2, since a/song.wav has the same name" in result.stderr
    for parent, track in (("a", "song"), ("b", "song-2")):
        stems = [soundfile.read(f"separated/{track}/{stem}.wav")[0] for stem in ("vocals", "no_vocals")]
        np.testing.assert_array_equal(sum(stems), soundfile.read(f"{parent}/song.wav")[0])


def test_existing_results_are_skipped_or_stop_or_give_way(
    folder: Path, model: str, noise: np.ndarray
) -> None:
    soundfile.write("song.wav", noise.T, RATE)
    assert separate(model, "song.wav", "--stems", "bass, drums").exit_code == 0
    again = separate(model, "song.wav", "--stems", "bass,drums", "--existing", "fail")
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    skipped = separate(model, "song.wav", "--stems", "drums,bass")
    assert skipped.exit_code == 0
    assert "skipped" in skipped.stderr
    Path("separated/song/vocals.wav").write_text("mine")
    mine = separate(model, "song.wav")
    assert mine.exit_code == 1
    assert "no record of sepvae" in mine.stderr
    assert separate(model, "song.wav", "--existing", "overwrite").exit_code == 0
    assert len(list(Path("separated/song").iterdir())) == 4


def test_one_stem_goes_through_pipes(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("song.wav", noise.T, RATE, subtype="FLOAT")
    arguments = ["separate", "-m", model, "--device", "cpu", "-", "-o", "-", "--report", "r.json"]
    audio = Path("song.wav").read_bytes()
    parts = []
    for stem in ("vocals", "no_vocals"):
        result = CliRunner().invoke(cli, [*arguments, "--stems", stem], input=audio, catch_exceptions=False)
        assert result.exit_code == 0
        assert "times real time" in result.stderr
        samples, rate = soundfile.read(io.BytesIO(result.stdout_bytes), dtype="float32")
        assert rate == RATE
        parts.append(samples)
    np.testing.assert_allclose(sum(parts), noise.T, atol=2e-7)
    assert np.abs(parts[0]).max() > 1e-3
    report = json.loads(Path("r.json").read_text())
    assert report["files"][0]["input"] == "-"
    assert sorted(path.name for path in folder.iterdir()) == ["r.json", "song.wav"]


def test_stdin_can_be_written_to_files_too(folder: Path, model: str, noise: np.ndarray) -> None:
    audio = io.BytesIO()
    soundfile.write(audio, noise.T, RATE, format="FLAC")
    arguments = ["separate", "-m", model, "--device", "cpu", "-q", "--", "-"]
    result = CliRunner().invoke(cli, arguments, input=audio.getvalue(), catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.split() == [f"separated/stdin/{source}.wav" for source in SOURCES]
    broken = CliRunner().invoke(cli, arguments, input=b"no audio" * 99, catch_exceptions=False)
    assert broken.exit_code == 1
    assert broken.stderr.startswith("error: stdin: not audio")
    empty = CliRunner().invoke(cli, arguments, input=b"", catch_exceptions=False)
    assert empty.stderr == "error: stdin: the file is empty\n"


def test_inputs_come_from_lists_folders_and_patterns(folder: Path, model: str, noise: np.ndarray) -> None:
    for name in ("a/1.wav", "a/2.wav", "b/3.wav", "list, a.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, noise.T[:2000], RATE)
    Path("list.txt").write_text("# mine\nlist, a.wav\na\n")
    result = separate(model, "b/*.wav", "--manifest", "list.txt", "--exclude", "2.*", "--stems", "bass")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"separated/{track}/bass.wav" for track in ("3", "list, a", "1")]


def test_names_of_all_kinds_stay_one_line(folder: Path, model: str, noise: np.ndarray) -> None:
    names = ["-x.wav", "a\nb.wav", "\x1b[31m.wav", "'\".wav", "[*?].wav", "ä €.wav", "y" * 251 + ".wav", "-"]
    names.append(os.fsdecode(b"\xff.wav"))
    for name in names:
        soundfile.write(os.fsencode(folder / name), noise.T[:500], RATE, format="WAV")
    result = separate(model, "--report", "r.json", "--", *(f"./{name}" for name in names))
    assert result.exit_code == 0, result.stderr
    assert all(Path("separated", Path(name).stem, "bass.wav").is_file() for name in names)
    assert len(result.stderr.splitlines()) == len(names) + 2  # model, one each, total
    assert "\x1b" not in result.stderr
    report = json.loads(Path("r.json").read_text())
    assert [Path(entry["input"]).name for entry in report["files"]] == names


def test_the_report_has_what_proves_a_result(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("song.wav", noise.T, 48000, subtype="PCM_24")
    result = separate(model, "song.wav", "missing.wav", "--report", "r.json", "--seed", "7")
    assert result.exit_code == 1
    report = json.loads(Path("r.json").read_text())
    assert report["model_sha256"] == json.loads((Path(model) / "card.json").read_text())["weights"]["sha256"]
    assert (report["device"], report["seed"], report["interrupted"]) == ("cpu", 7, False)
    assert report["counts"] == {"done": 1, "failed": 1}
    entry, missing = report["files"]
    assert missing == {"input": "missing.wav", "status": "failed", "error": "missing.wav: no such file"}
    assert entry["input_sha256"] == hashlib.sha256(Path("song.wav").read_bytes()).hexdigest()
    for stem in SOURCES:
        output = entry["outputs"][stem]
        assert output["sha256"] == hashlib.sha256(Path(output["path"]).read_bytes()).hexdigest()
    assert entry["null_error"] <= 2.0**-23
    assert entry["peak_memory_bytes"] > 1 << 20
    assert (entry["frames"], entry["extra_frames"], entry["subtype"]) == (noise.shape[1], 0, "PCM_24")


def test_the_same_command_again_skips_everything(folder: Path, model: str, noise: np.ndarray) -> None:
    """In each way to put stems where the next run looks for inputs."""
    beside = ["-o", ".", "--template", "{track}_{stem}.{ext}"]
    for index, (inputs, options, results) in enumerate(
        [
            (["**/*.wav"], [], 2),
            (["*"], ["--format", "flac"], 2),
            (["."], ["-o", "."], 2),
            (["a.wav"], beside, 0),
            (["*.wav"], beside, 2),
        ]
    ):
        root = folder / str(index)
        root.mkdir()
        os.chdir(root)
        soundfile.write("a.wav", noise.T[:3000], RATE)
        arguments = [*inputs, "--two-stems", "vocals", *options]
        first = separate(model, *arguments)
        assert first.exit_code == 0
        assert "left out" not in first.stderr
        paths = set(root.rglob("*"))
        again = separate(model, *arguments)
        assert again.exit_code == 0
        assert again.stderr.count("skipped") == 1
        assert (f"left out: {results}\n" in again.stderr) == bool(results)
        assert set(root.rglob("*")) == paths
    expanded = separate(model, *sorted(root.glob("*.wav")), "--two-stems", "vocals", *beside)
    assert (expanded.exit_code, expanded.stderr.count("skipped")) == (0, 1)
    assert set(root.rglob("*")) == paths
    named = separate(model, "a_vocals.wav", "--two-stems", "vocals", *beside)
    assert named.stdout.split() == ["a_vocals_vocals.wav", "a_vocals_no_vocals.wav"]
    only = separate(model, "a_*.wav", *beside)
    assert only.exit_code == 1
    assert "no audio files in a_*.wav but results in the output folder: 4" in only.stderr


def test_no_input_is_replaced_by_a_report(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("a.wav", noise.T[:3000], RATE)
    shutil.copy("a.wav", "b.wav")
    shutil.copy("a.wav", "audio")
    before = Path("a.wav").read_bytes()
    for report in ("a.wav", "b.wav", "audio", "new.flac"):
        result = separate(model, "a.wav", "--report", report)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {report}: ")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() == Path("audio").read_bytes() == before
    assert separate(model, "a.wav", "--report", "-").exit_code == 1
    assert not Path("-").exists()
    for _ in range(2):
        assert separate(model, "a.wav", "--report", "r.json").exit_code == 0


def test_where_a_report_cannot_be_is_told(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("a.wav", noise.T[:3000], RATE)
    Path("place").mkdir()
    for report, why in (("place", "(is a folder)"), ("none/r.json", "none is not a writable folder")):
        result = separate(model, "a.wav", "--report", report)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {report}: the report cannot be written")
        assert result.stderr.endswith(f"{why}\n")


def test_no_input_is_replaced_by_a_stem_of_another(folder: Path, model: str, noise: np.ndarray) -> None:
    Path("d/song").mkdir(parents=True)
    for name in ("d/song.wav", "d/song/vocals.wav"):
        soundfile.write(name, noise.T[:3000], RATE)
    before = Path("d/song/vocals.wav").read_bytes()
    arguments = ["d/song.wav", "d/song/vocals.wav", "-o", "d", "--existing", "overwrite"]
    result = separate(model, *arguments, "-q")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: d/song/vocals.wav: this stem of d/song.wav would overwrite the input d/song/vocals.wav\n"
    )
    assert Path("d/song/vocals.wav").read_bytes() == before
    assert separate(model, *arguments, "--stems", "bass").exit_code == 0


@pytest.mark.parametrize("options", [["--existing", "overwrite"], ["--jobs", "2"], []])
def test_no_stem_is_replaced_by_a_stem_of_another_input(
    folder: Path, model: str, noise: np.ndarray, options: list[str]
) -> None:
    for name in ("song.wav", "song_no.wav"):
        soundfile.write(name, noise.T[:3000], RATE)
    arguments = ["song.wav", "song_no.wav", "--template", "{track}_{stem}.{ext}", *options]
    result = separate(model, *arguments, "--two-stems", "vocals", "-q")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: template '{track}_{stem}.{ext}': gives a stem of song_no.wav and of song.wav the name "
        "song_no_vocals.wav\n"
    )
    assert not Path("separated").exists()
    assert separate(model, *arguments).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--two-stems", "no_vocals"], "expected one of the sources"),
        (["--template", "../{stem}.{ext}"], "outside the output folder"),
        (["--template", "{track}"], "template"),
        (["--stems", "piano"], "expected stems among"),
        (["--stems", "bass", "--two-stems", "bass"], "either"),
        (["--format", "flac", "--subtype", "FLOAT"], "PCM_16 or PCM_24"),
        (["--device", "abacus"], "device"),
        (["--segment", "-1"], "segment"),
        (["-m", "no such model"], "no model"),
        (["-o", "song.wav/out"], "output folder"),
        (["-o", "song.wav"], "cannot be"),
        (["--report", "no/report.json"], "report"),
        (["song-2.wav", "--template", "{stem}.{ext}"], "needs {track}"),
        (["-o", "x" * 300], "output folder"),
        (["-o", "-"], "one stem"),
        (["-o", "-", "--stems", "bass", "--format", "flac"], "float"),
        (["-o", "-", "--stems", "bass", "x.wav"], "one input"),
        (["--manifest", "no.txt"], "manifest"),
        (["-", "-"], "once"),
        (["--jobs", "2", "y.wav", "-m", "no such model"], "no model"),
        (["--segment", "1e308"], "segment"),
        (["--device", "meta"], "device"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, model: str, noise: np.ndarray, arguments: list[str], message: str
) -> None:
    soundfile.write("song.wav", noise.T, RATE)
    result = separate(model, "-q", "song.wav", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["song.wav"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a folder that nobody can write to")
def test_an_output_folder_that_cannot_be_made_is_one_line(
    folder: Path, model: str, noise: np.ndarray
) -> None:
    soundfile.write("song.wav", noise.T, RATE)
    result = separate(model, "-q", "song.wav", "-o", "/proc/sepvae")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: /proc/sepvae")
    assert result.stderr.count("\n") == 1


def test_a_name_longer_than_any_file_system_takes_is_one_line(folder: Path, model: str) -> None:
    result = separate(model, "-q", "x" * 300, "--existing", "skip")
    assert result.exit_code == 1
    assert "File name too long" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a device that is always full")
def test_a_stem_is_not_written_into_its_own_input(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("song.wav", noise.T, RATE)
    before = Path("song.wav").read_bytes()
    command = [
        sys.executable,
        "-m",
        "sepvae",
        "separate",
        "song.wav",
        "--stems",
        "bass",
        "-o",
        "-",
        "-m",
        model,
    ]
    with Path("song.wav").open("ab") as file:
        done = subprocess.run(
            [*command, "--device", "cpu"], stdout=file, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: song.wav: stdout is this very file\n")
    assert Path("song.wav").read_bytes() == before


def test_a_batch_outlives_its_stdout(folder: Path, model: str, noise: np.ndarray) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(name, noise.T[:2000], RATE)
    command = [sys.executable, "-m", "sepvae", "separate", "-q", "a.wav", "b.wav", "-m", model]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*command, "--device", "cpu"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert result.stderr == "error: stdout: cannot be written (No space left on device)\n"
    assert len(list(Path("separated").rglob("*.wav"))) == 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models"], ["models", "--help"]])
def test_what_cannot_be_printed_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "sepvae", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "error: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_signal_waits_until_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(number: int, frame: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGTERM, stop)
    told = []
    try:
        with signals_wait(), ThreadPoolExecutor(1) as pool:  # any thread of a process may be given a signal
            pool.submit(os.kill, os.getpid(), signal.SIGTERM).result()
            told.append("not yet")
    except InterruptedError:
        told.append("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == ["not yet", "stopped"]
    computing = {name for name, command in cli.commands.items() if isinstance(command, ComputingCommand)}
    assert computing == cli.commands.keys() - {"data", "models"}


def test_a_run_that_is_stopped_before_its_first_input_leaves_a_report(
    folder: Path, model: str, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write("a.wav", noise.T, RATE)

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sepvae.batch.processes.make_crew", stopped)
        assert separate(model, "a.wav", "--report", "r.json").exit_code == 130
    report = json.loads(Path("r.json").read_text())
    assert (report["interrupted"], report["counts"]) == (True, {"unfinished": 1})
    assert separate("nowhere", "a.wav", "--report", "other.json").exit_code == 1
    assert not Path("other.json").exists()


def test_a_report_does_not_take_the_place_of_a_stem(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("a.wav", noise.T, RATE)
    Path("out").mkdir()
    result = separate(model, "a.wav", "-o", "out", "--template", "{track}_{stem}", "--report", "out/a_drums")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "error: out/a_drums: the report would overwrite a stem of a.wav",
    )
    assert not any(Path("out").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="terminals of posix")
def test_no_sound_is_written_to_a_terminal(folder: Path, model: str, noise: np.ndarray) -> None:
    soundfile.write("a.wav", noise.T, RATE)
    command = [sys.executable, "-m", "sepvae", "separate", "a.wav", "-m", model, "--stems", "bass", "-o", "-"]
    ours, theirs = os.openpty()
    result = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert result.returncode == 1
    assert (
        result.stderr
        == "error: stdout: is a terminal, which shows no sound: lead it into a file or a player\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors as a shell does")
@pytest.mark.parametrize(
    ("arguments", "closed", "message"),
    [
        (["-"], 0, "stdin: is closed"),
        (["--manifest", "-"], 0, "stdin: is closed"),
        (["a.wav", "--stems", "bass", "-o", "-"], 1, "stdout: is closed"),
    ],
)
def test_a_pipe_that_is_closed_is_one_line(
    folder: Path, model: str, noise: np.ndarray, arguments: list[str], closed: int, message: str
) -> None:
    soundfile.write("a.wav", noise.T[:2000], RATE)
    command = [sys.executable, "-m", "sepvae", "separate", "-q", "-m", model, "--device", "cpu", *arguments]
    result = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, check=False, preexec_fn=lambda: os.close(closed)
    )
    assert (result.returncode, result.stderr) == (1, f"error: {message}\n")


@pytest.mark.parametrize("seed", ["-1", str(10**20)])
def test_a_seed_that_no_generator_takes_is_refused(folder: Path, model: str, seed: str) -> None:
    for arguments in (["separate", "a.wav"], ["sample", "bass", "-o", "a.wav"]):
        result = run(*arguments, "-m", model, "--seed", seed)
        assert result.exit_code == 2
        assert "--seed" in result.stderr


def test_a_folder_without_audio_is_an_error(folder: Path, model: str) -> None:
    result = separate(model, ".")
    assert result.exit_code == 1
    assert "no audio files" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "code", "jobs"),
    [
        (signal.SIGINT, 130, 1),
        (signal.SIGTERM, 143, 1),
        (getattr(signal, "SIGHUP", 1), 129, 1),
        (signal.SIGINT, 130, 2),
    ],
)
def test_an_interrupt_keeps_what_is_finished_and_leaves_no_half_files(
    folder: Path, model: str, number: int, code: int, jobs: int
) -> None:
    noise = np.random.default_rng(0).integers(-3000, 3000, RATE, np.int16)
    soundfile.write("long.wav", np.tile(noise, 600), RATE)
    soundfile.write("short.wav", noise[:2000], RATE)
    command = [sys.executable, "-m", "sepvae", "separate", "short.wav", "long.wav", "late.wav", "-m", model]
    command += ["--device", "cpu", "--report", "r.json", "--jobs", str(jobs)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # which a job in the background may ignore
    ) as process:
        assert process.stdout is not None
        paths = [process.stdout.readline().strip() for _ in SOURCES]
        deadline = time.monotonic() + 120
        while not list(folder.glob("separated/long/.*.part")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert paths == [f"separated/short/{source}.wav" for source in SOURCES]
    assert stdout == ""
    assert "Traceback" not in stderr
    assert stderr.endswith("interrupted; what was finished is kept, the same command goes on from there\n")
    assert {path.name for path in folder.rglob("*")} == {
        *("long.wav", "short.wav", "r.json", "separated", "short"),
        *(f"{source}.wav" for source in SOURCES),
    }
    report = json.loads(Path("r.json").read_text())
    assert report["interrupted"]
    assert [entry["status"] for entry in report["files"]][:2] == ["done", "unfinished"]
    assert "skipped" in separate(model, "short.wav").stderr


def test_what_decoders_print_does_not_join_our_lines(folder: Path, model: str) -> None:
    """libmpg123 comments on junk on file descriptor 2."""
    Path("junk.mp3").write_bytes(np.random.default_rng(1).bytes(200_000))
    command = [sys.executable, "-m", "sepvae", "separate", "-q", "junk.mp3", "-m", model, "--device", "cpu"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: junk.mp3")
    assert result.stderr.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    """What keeps it under half a second on any machine."""
    code = "import sys, sepvae.cli; sepvae.cli.cli(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "separate" in out
    assert not {"'torch'", "'numpy'", "'soundfile'", "'rich'"} & set(
        out.splitlines()[-1].strip("[]").split(", ")
    )


def test_a_set_gets_no_rate_that_nothing_reads() -> None:
    for rate in (999, MAX_RATE + 1):
        result = run("data", "prepare", "stems", "--root", "raw", "--out", "sets", "--rate", str(rate))
        assert result.exit_code == 2
        assert f"1000<=x<={MAX_RATE}" in result.stderr


def commands_under(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """A command and all below it, each by its words on the command line."""
    yield names
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands_under(child, *names, name)


def test_every_command_says_what_it_does() -> None:
    found = list(commands_under(cli))
    assert {("separate",), ("models", "show"), ("data", "prepare")} <= set(found)
    for names in found:
        result = run(*names, "--help")
        assert result.exit_code == 0
        usage, *rest = result.output.strip().split("\n\n")
        assert usage.startswith("Usage")
        assert rest, names
        assert not rest[0].startswith("Options"), names


def test_models_are_listed_and_shown(model: str) -> None:
    assert run("models").exit_code == 0
    assert run("models", "list").output == run("models").output
    shown = json.loads(run("models", "show", model).output)
    assert shown["licence"] == "CC0-1.0"
    assert shown["sources"] == list(SOURCES)


def test_a_card_is_shown_with_or_without_earlier_trainings(model: str, tmp_path: Path) -> None:
    model = str(shutil.copytree(model, tmp_path / "tiny"))
    path = Path(model) / "card.json"
    card = json.loads(path.read_text())
    first = {"sha256": "b", "steps": 5, "recipe": {"optim": {"lr": 1}}}
    parent = {"sha256": "a", "steps": 7, "recipe": {"optim": {"lr": 2}}, "mean_of": [first]}
    card["training"] = {"steps": 9, "recipe": {"optim": {"lr": 3}}, "init": [parent]}
    path.write_text(json.dumps(card))
    assert json.loads(run("models", "show", model, "--history").output) == card
    shown = json.loads(run("models", "show", model).output)
    brief = {"sha256": "a", "steps": 7}
    assert shown.pop("training") == {"steps": 9, "recipe": {"optim": {"lr": 3}}, "init": [brief]}
    card.pop("training")
    assert shown == card


def test_a_card_with_half_a_character_is_shown(model: str, tmp_path: Path) -> None:
    path = shutil.copytree(model, tmp_path / "tiny") / "card.json"
    card = json.loads(path.read_text()) | {"description": "a\ud800b"}
    path.write_text(json.dumps(card))
    assert "a\\ud800b" in run("models", "show", str(path.parent)).output


def test_a_missing_extra_is_one_line_that_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['hydra'] = None; import sepvae.cli; sepvae.cli.cli(['train', 'music/vae'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: hydra is not installed: pip install 'sepvae[train]'\n"


def test_every_package_of_the_extra_train_is_known_as_such() -> None:
    package = Path(sepvae.cli.__file__).parents[1]
    imported = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    core = {"av", "click", "numpy", "rich", "safetensors", "sepvae", "soundfile", "soxr", "torch"}
    assert imported - core - set(sys.stdlib_module_names) - {"ray"} <= sepvae.cli._TRAIN_EXTRA


def test_the_commands_hand_their_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def note(*arguments: object, **options: object) -> Path:
        calls.append((arguments, options))
        return tmp_path

    pytest.importorskip("lightning")
    monkeypatch.setattr("sepvae.training.run.train", note)
    monkeypatch.setattr("sepvae.evaluation.report.evaluate", note)
    monkeypatch.setattr("sepvae.evaluation.tables.show", lambda report: None)
    monkeypatch.setattr("sepvae.data.own_sets.prepare", note)
    assert run("train", "music/vae", "seed=1", "+x=2").exit_code == 0
    assert calls.pop() == (("music/vae", ("seed=1", "+x=2")), {})
    printed = run("train", "music/vae", "seed=1", "data.root=nowhere", "--print")
    assert (printed.exit_code, "stage: vae" in printed.stdout, calls) == (0, True, [])
    assert run("evaluate", "music", "songs", "--gates", "--no-museval", "--max-seconds", "9").exit_code == 0
    arguments, options = calls.pop()
    assert tuple(map(str, arguments)) == ("music", "songs")
    assert (options["gates"], options["museval"], options["max_seconds"]) == (True, False, 9.0)
    assert run("data", "prepare", "music", "--root", "raw", "--out", "sets", "--jobs", "2").exit_code == 0
    arguments, options = calls.pop()
    assert arguments == ("music", Path("raw"), Path("sets"))
    assert options["jobs"] == 2

    def refuse(*arguments: object, **options: object) -> None:
        raise DataError("no such folder")

    monkeypatch.setattr("sepvae.data.own_sets.prepare", refuse)
    result = run("data", "prepare", "music", "--root", "raw", "--out", "sets")
    assert (result.exit_code, result.stderr) == (1, "error: no such folder\n")

    def forbid(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "raw/closed")

    monkeypatch.setattr("sepvae.data.own_sets.prepare", forbid)
    result = run("data", "prepare", "music", "--root", "raw", "--out", "sets")
    assert (result.exit_code, result.stderr) == (1, "error: raw/closed: Permission denied\n")
    for more in ((), ("--check", "raw"), ("--seed", "1")):
        result = run("data", "prepare", "musdb19", *more)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: no such dataset: musdb19 (known: stems, solos, musdb18hq, ")
        assert result.stderr.endswith(", music, speech)\n")
