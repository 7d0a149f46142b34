"""The files of one input's stems appear together, inside the output folder, and add up."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.audio.encoding import ENCODINGS, AudioWriter
from sepvae.audio.outputs import TEMPLATE, StemFiles, output_paths
from sepvae.audio.tags import Tags
from sepvae.errors import OutputError

STEMS = ("vocals", "drums", "rest")


@pytest.fixture
def stems(rng: np.random.Generator) -> np.ndarray:
    return (0.1 * rng.standard_normal((3, 2, 70_000))).astype(np.float32)


def files(
    folder: Path, name: str = "wav", subtype: str = "PCM_16", rate: int = 44100, **options: object
) -> StemFiles:
    paths = output_paths(folder, TEMPLATE, "song", STEMS, name)
    return StemFiles(paths, ENCODINGS[name], subtype, rate, 2, **options)  # type: ignore[arg-type]


def write(stems: np.ndarray, folder: Path, *args: object, **options: object) -> tuple[float, np.ndarray, int]:
    with files(folder, *args, **options) as run:  # type: ignore[arg-type]
        for start in range(0, stems.shape[-1], 9000):
            run.write(stems[..., start : start + 9000])
        gain = run.commit()
    read = [soundfile.read(path, always_2d=True) for path in sorted((folder / "song").iterdir(), key=order)]
    return gain, np.stack([audio.T for audio, _ in read]), read[0][1]


def order(path: Path) -> int:
    return STEMS.index(path.stem)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [("wav", "FLOAT", 0), ("wav", "PCM_16", 2**-15), ("flac", "PCM_24", 2**-23)],
)
def test_stems_are_written(
    tmp_path: Path, stems: np.ndarray, name: str, subtype: str, tolerance: float
) -> None:
    gain, out, _ = write(stems, tmp_path, name, subtype)
    assert gain == 1
    np.testing.assert_allclose(out, stems, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2.0**-15), ("PCM_24", 2.0**-23)])
def test_integer_stems_of_a_signal_on_their_grid_null_completely(
    tmp_path: Path, stems: np.ndarray, subtype: str, step: float
) -> None:
    mix = np.rint(stems.sum(0) / step) * step
    exact = stems.copy()
    exact[2] = (mix - stems[:2].sum(0, dtype=np.float64)).astype(np.float32)
    _, out, _ = write(exact, tmp_path, "wav", subtype, absorber="rest")
    np.testing.assert_array_equal(out.sum(0), mix)


def test_a_stem_beyond_full_scale_lowers_all_alike(tmp_path: Path, stems: np.ndarray) -> None:
    stems[1, 0, 300] = -1.25
    gain, out, _ = write(stems, tmp_path, absorber="rest")
    assert gain == pytest.approx(0.8)
    np.testing.assert_allclose(out, 0.8 * stems, atol=2.0**-14, rtol=0)
    assert write(stems, tmp_path / "float", "wav", "FLOAT")[0] == 1


def test_a_codec_without_the_rate_gets_its_next_higher_one(tmp_path: Path) -> None:
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100, dtype=np.float64)
    stems = np.broadcast_to(tone.astype(np.float32), (3, 2, 44100))
    _, out, rate = write(stems, tmp_path, "opus", "OPUS")
    assert rate == 48000
    assert out.shape == (3, 2, 48000)
    expected = 0.2 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    inner = slice(4800, -4800)
    np.testing.assert_allclose(out[..., inner], np.broadcast_to(expected, out.shape)[..., inner], atol=0.02)


@pytest.mark.parametrize("rate", [200_001, 384_000])
def test_a_rate_that_vorbis_cannot_take_is_lowered(tmp_path: Path, stems: np.ndarray, rate: int) -> None:
    """libvorbis would crash."""
    _, out, written = write(stems, tmp_path, "ogg", "VORBIS", rate)
    assert written == 192_000
    assert abs(out.shape[-1] - 70_000 * written / rate) < 2


def test_a_folder_in_the_way_of_one_file_stops_all(tmp_path: Path, stems: np.ndarray) -> None:
    folder = tmp_path / "song" / "rest.wav"
    with files(tmp_path) as run:
        run.write(stems)
        folder.mkdir()
        with pytest.raises(OutputError, match=r"rest\.wav: cannot be written \(is a folder\)"):
            run.commit()
    assert list(folder.parent.iterdir()) == [folder]
    with pytest.raises(OutputError, match="is a folder"):
        files(tmp_path)  # before the work next time


def test_without_commit_nothing_stays(tmp_path: Path, stems: np.ndarray) -> None:
    out = tmp_path / "deep" / "folder"
    with files(out) as run:
        run.write(stems)
        assert list(out.rglob("*.part"))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_at_the_end_spares_the_old_files(
    tmp_path: Path, stems: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of three files fails when all samples are in: none of the new ones may show."""
    write(stems, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "song").iterdir()}
    finish = AudioWriter.finish

    def failing(writer: AudioWriter, tags: Tags) -> None:
        if writer.path.stem == "rest":
            raise OutputError("disk full")
        finish(writer, tags)

    monkeypatch.setattr(AudioWriter, "finish", failing)
    with pytest.raises(OutputError, match="disk full"):
        write(-stems, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "song").iterdir()} == before


@pytest.mark.parametrize("there", [(), ("drums",), STEMS])
def test_a_name_that_cannot_be_given_spares_the_old_files(
    tmp_path: Path, stems: np.ndarray, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...]
) -> None:
    """The last of three files cannot be renamed, as where somebody else owns the one that is there."""
    write(stems, tmp_path)
    for name in set(STEMS) - set(there):
        (tmp_path / "song" / f"{name}.wav").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "song").iterdir()}
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if target.stem == "rest":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match=r"rest\.wav: cannot be written"):
        write(-stems, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "song").iterdir()} == before


def test_the_samples_that_reached_the_disk_are_counted(
    tmp_path: Path, stems: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = soundfile.SoundFile.write
    monkeypatch.setattr(soundfile.SoundFile, "write", lambda file, data: real_write(file, data[:-1]))
    with pytest.raises(OutputError, match="reached the disk"):
        write(stems, tmp_path, "wav", "FLOAT")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        files(tmp_path / "file" / "out")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be"):
        files(tmp_path)


def test_names_follow_the_template(tmp_path: Path) -> None:
    paths = output_paths(tmp_path, "{stem}/{track} ({stem}).{ext}", "cd1/01", ["drums"], "flac")
    assert paths == {"drums": tmp_path / "drums" / "cd1" / "01 (drums).flac"}


@pytest.mark.parametrize(
    "template",
    [
        "{track}.{ext}",
        "../{stem}",
        "/{stem}",
        "{stem}/../../x",
        "{stem.__class__}",
        "{stem!r}",
        "{stem:>9999}",
        "{stem",
    ],
)
def test_templates_that_are_wrong_or_leave_the_folder_are_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(OutputError):
        output_paths(tmp_path, template, "song", STEMS, "wav")


def test_names_of_unfinished_files_and_of_other_formats_are_refused(tmp_path: Path) -> None:
    for template, message in (
        (".sepvae-{stem}.part", "swept away"),
        ("{stem}.mp3", "another format than wav"),
    ):
        with pytest.raises(OutputError, match=message):
            output_paths(tmp_path, template, "song", STEMS, "wav")
    assert output_paths(tmp_path, "{stem}.wave", "song", STEMS, "wav")


def test_a_track_cannot_leave_the_folder_either(tmp_path: Path) -> None:
    for track in ("..", "../..", "/etc"):
        with pytest.raises(OutputError, match="outside"):
            output_paths(tmp_path, TEMPLATE, track, STEMS, "wav")


def test_a_name_that_no_file_system_takes_is_refused_before_the_work(tmp_path: Path) -> None:
    output_paths(tmp_path, TEMPLATE, "ä" * 127, STEMS, "wav")
    with pytest.raises(OutputError, match="255 bytes"):
        output_paths(tmp_path, TEMPLATE, "ä" * 128, STEMS, "wav")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "song").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="outside"):
        output_paths(tmp_path / "out", TEMPLATE, "song", STEMS, "wav")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_that_leads_in_a_circle_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "song").symlink_to(tmp_path / "song")
    with pytest.raises(OutputError):
        files(tmp_path)
