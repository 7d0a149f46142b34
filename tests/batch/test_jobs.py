"""Which files many inputs mean, and what their results are called."""

import errno
import io
import os
from pathlib import Path

import pytest

from sepvae.audio import AudioReader
from sepvae.batch.jobs import Job, find_jobs, read_input_list
from sepvae.errors import AudioFileError


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def tracks(jobs: list[Job], root: Path) -> dict[str, str]:
    return {job.path.relative_to(root).as_posix(): job.track for job in jobs}


def test_a_folder_means_the_audio_in_it_and_keeps_its_shape(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.MP3",
        "cd1/a.wav",
        "cd 2/ä'x.flac",
        "notes.txt",
        ".hidden/a.wav",
        "cd1/.a.wav",
        "out/old/bass.wav",
    )
    jobs = find_jobs([tmp_path], tmp_path / "out")
    assert tracks(jobs, tmp_path) == {"b.MP3": "b", "cd 2/ä'x.flac": "cd 2/ä'x", "cd1/a.wav": "cd1/a"}


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/x.wav", "b/y.wav", ".hidden/z.wav")
    scandir = os.scandir

    def forbidding(path: str) -> object:
        if os.path.basename(path) in ("b", ".hidden"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    jobs = find_jobs([tmp_path], tmp_path / "out")
    assert tracks(jobs, tmp_path) == {"a/x.wav": "a/x", "b": "b"}
    assert tracks(find_jobs([tmp_path], tmp_path / "out", exclude=["b"]), tmp_path) == {"a/x.wav": "a/x"}
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(AudioFileError, match="b: is a folder that cannot be read"):
        AudioReader(jobs[1].path)


def test_what_cannot_be_looked_at_in_a_folder_is_an_input_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.wav", "closed/b.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    exists = Path.exists

    def forbidding(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", forbidding)
    jobs = find_jobs([tmp_path], tmp_path / "out")
    assert tracks(jobs, tmp_path) == {"a.wav": "a", "closed/b.wav": "closed/b", "link.wav": "link"}
    with pytest.raises(AudioFileError, match=r"link\.wav: no such file"):
        AudioReader(tmp_path / "link.wav")


def test_a_file_is_taken_as_it_is_named(tmp_path: Path) -> None:
    [named] = touch(tmp_path, "notes.txt")
    assert find_jobs([named, tmp_path / "missing.wav"], tmp_path / "out") == [
        Job(named, "notes"),
        Job(tmp_path / "missing.wav", "missing"),
    ]


def test_a_name_of_dots_is_one_folder_in_the_output_folder(tmp_path: Path) -> None:
    paths = touch(tmp_path, "..wav", "...wav", ".wav")
    assert [job.track for job in find_jobs(paths, tmp_path / "out")] == ["..wav", "...wav", ".wav"]


def test_an_input_without_a_name_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="'': no such file"):
        find_jobs(["", tmp_path], tmp_path / "out")


def test_an_input_given_twice_is_done_once(tmp_path: Path) -> None:
    [path] = touch(tmp_path, "a.wav")
    assert len(find_jobs([path, tmp_path, tmp_path / "x" / ".." / "a.wav"], tmp_path / "out")) == 1


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_to_itself_is_an_input_that_fails_later(tmp_path: Path) -> None:
    loop = tmp_path / "loop.wav"
    loop.symlink_to(loop)
    assert find_jobs([loop], tmp_path / "out") == [Job(loop, "loop")]
    assert find_jobs([tmp_path], tmp_path / "out") == [Job(loop, "loop")]


def test_inputs_of_the_same_name_get_different_ones(tmp_path: Path) -> None:
    paths = touch(tmp_path, "a/song.wav", "b/song.wav", "c/Song.mp3", "song-2.wav")
    jobs = find_jobs(paths, tmp_path / "out")
    assert tracks(jobs, tmp_path) == {
        "a/song.wav": "song",
        "b/song.wav": "song-3",  # song-2 belongs to a file of that name
        "c/Song.mp3": "Song.mp3",
        "song-2.wav": "song-2",
    }
    assert [job.clash for job in jobs] == [None, paths[0], paths[0], None]


def test_files_that_differ_in_their_endings_keep_their_tracks_when_more_come(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp3", "a.ogg", "a.mp3.wav")
    before = tracks(find_jobs([tmp_path], tmp_path / "out"), tmp_path)
    assert before == {"a.mp3": "a.mp3-2", "a.ogg": "a.ogg", "a.mp3.wav": "a.mp3"}
    touch(tmp_path, "A.flac")
    after = tracks(find_jobs([tmp_path], tmp_path / "out"), tmp_path)
    assert after == {**before, "A.flac": "A.flac"}


def test_patterns_are_expanded_unless_a_file_has_their_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "a/b/2.flac", "[x].wav", "x.wav")
    jobs = find_jobs([tmp_path / "a/**/*.*", tmp_path / "[x].wav", tmp_path / "no*.wav"], tmp_path / "out")
    assert [job.path.relative_to(tmp_path).as_posix() for job in jobs] == [
        "a/1.wav",
        "a/b/2.flac",
        "[x].wav",
        "no*.wav",  # said to be missing when its turn comes
    ]


def test_files_of_folders_can_be_chosen(tmp_path: Path) -> None:
    named, *_ = touch(tmp_path, "x.txt", "1.wav", "2.FLAC", "live/3.flac", "live/x/4.flac", "old/5.flac")

    def chosen(**patterns: list[str]) -> list[str]:
        jobs = find_jobs([tmp_path, named], tmp_path / "out", **patterns)
        return [job.track for job in jobs]

    assert chosen(include=["*.flac"]) == ["2", "live/3", "live/x/4", "old/5", "x"]
    assert chosen(include=["*.flac"], exclude=["live", "5.*"]) == ["2", "x"]
    assert chosen(exclude=["LIVE/*", "old/"]) == ["1", "2", "x"]


def test_stdin_is_an_input_only_where_it_was_kept(tmp_path: Path) -> None:
    [kept] = touch(tmp_path, "stdin")
    [job] = find_jobs(["-"], tmp_path, stdin=kept)
    assert (job.path, job.track, str(job)) == (kept, "stdin", "-")
    [job] = find_jobs(["./-"], tmp_path, stdin=kept)
    assert job.path == Path("-").absolute()  # which libsndfile would take for stdin


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"#EXTM3U\r\na.wav\r\n\n b c.mp3\n", ["a.wav", " b c.mp3"]),
        (b"\xef\xbb\xbf\xc3\xa4.wav", ["ä.wav"]),
        (b"a\nb.wav\0#c.wav\0", ["a\nb.wav", "#c.wav"]),
        (b"\xff.wav\n", [os.fsdecode(b"\xff.wav")]),
        (b"", []),
    ],
)
def test_a_manifest_lists_inputs(content: bytes, expected: list[str]) -> None:
    assert read_input_list(io.BytesIO(content)) == expected
