"""Every reader finds the tracks, splits and sources of its layout, and makes of them what training can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepvae.data.datasets import DATASETS
from sepvae.data.datasets.base import Dataset, RawTrack, held_out
from sepvae.errors import DataError

Layouts = Callable[[str], Path]
RATE = 8000


def by_name(dataset: Dataset, root: Path) -> dict[str, RawTrack]:
    return {f"{track.split}/{track.name}": track for track in dataset.tracks(root)}


def pitch(audio: np.ndarray, rate: int = RATE) -> float:
    """Frequency of the strongest partial in hertz, its resolution that of the excerpt."""
    spectrum = np.abs(np.fft.rfft(audio[0] * np.hanning(audio.shape[1])))
    return float(spectrum.argmax() * rate / audio.shape[1])


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder_is_refused_with_the_layout_that_is_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected"):
        DATASETS[name].tracks(tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_names_are_unique_and_fit_for_folders(name: str, layouts: Layouts) -> None:
    tracks = DATASETS[name].tracks(layouts(name))
    names = [(track.split, track.name) for track in tracks]
    assert len(set(names)) == len(names)
    assert all(name == Path(name).name and not name.startswith(".") for _, name in names)
    assert {split for split, _ in names} >= {"train", "valid"}
    sources = DATASETS[name].sources(tracks)
    assert {source for track in tracks for source in track.stems} <= set(sources)


def test_musdb_validates_on_the_usual_songs(layouts: Layouts) -> None:
    for name in ("musdb18hq", "musdb18"):
        tracks = DATASETS[name].tracks(layouts(name))
        valid = {track.name for track in tracks if track.split == "valid"}
        assert valid in ({"Actions - One Minute Smile"}, {"Meaxic - Take A Step"})
        assert DATASETS[name].sources(tracks) == ("vocals", "drums", "bass", "other")


def test_musdb_folders_give_aligned_stereo_whatever_they_hold(layouts: Layouts) -> None:
    dataset = DATASETS["musdb18hq"]
    tracks = by_name(dataset, layouts("musdb18hq"))
    short = tracks["train/Short - Bass"]
    assert [path.name for path in short.missing] == ["drums.wav"]
    stems = dataset.render(short, RATE, 2)
    assert {source: audio.shape for source, audio in stems.items()} == dict.fromkeys(
        ("vocals", "bass", "other"), (2, RATE)
    )
    assert not stems["bass"][:, RATE // 2 + 100 :].any()  # the resampler rings for a moment
    assert not stems["vocals"].any()
    mono = dataset.render(tracks["train/Mono - Song"], RATE, 2)["drums"]
    np.testing.assert_array_equal(mono[0], mono[1])


def test_musdb_streams_come_out_by_their_place_in_the_container(layouts: Layouts) -> None:
    dataset = DATASETS["musdb18"]
    stems = dataset.render(by_name(dataset, layouts("musdb18"))["train/One - A"], 44100, 2)
    assert pitch(stems["bass"], 44100) == pytest.approx(90, abs=2)
    assert pitch(stems["other"], 44100) == pytest.approx(330, abs=2)
    assert pitch(stems["vocals"], 44100) == pytest.approx(700, abs=2)
    np.testing.assert_allclose(stems["vocals"][1], 0.8 * stems["vocals"][0], atol=0.05)  # AAC


def test_moisesdb_sums_recordings_into_the_grouping(layouts: Layouts) -> None:
    root = layouts("moisesdb")
    four, everything = DATASETS["moisesdb"], DATASETS["moisesdb"].with_options({"grouping": "all"})
    song = next(track for track in four.tracks(root) if track.name == "0001")
    assert set(song.stems) == {"vocals", "drums", "bass", "other"}
    assert {part.path.parent.name for part in song.stems["other"]} == {"guitar", "bowed_strings"}
    assert "bowed_strings" in everything.tracks(root)[0].stems
    assert len(everything.sources(everything.tracks(root))) == 11
    stems = four.render(song, RATE, 2)
    first, second = (soundfile.read(part.path, dtype="float32")[0].T for part in song.stems["drums"])
    assert stems["drums"].shape == (2, RATE)
    first[:, : second.shape[1]] += second
    rendered = four.render(song, 44100, 2)["drums"]
    np.testing.assert_allclose(rendered, first, atol=1e-6)
    clean = DATASETS["moisesdb"].with_options({"bleed": "false"}).tracks(root)
    assert {track.name for track in clean} == {"0001", "0003"}


def test_slakh_groups_instruments_by_their_class(layouts: Layouts) -> None:
    root = layouts("slakh2100")
    tracks = by_name(DATASETS["slakh2100"], root)
    names = {"train/Track00001", "train/Track00002", "valid/Track01501", "test/Track01876"}
    assert set(tracks) == names  # no duplicates
    assert {source: len(parts) for source, parts in tracks["valid/Track01501"].stems.items()} == {
        "bass": 1,
        "drums": 1,
        "guitar": 2,
        "piano": 1,
    }
    assert [path.name for path in tracks["train/Track00001"].missing] == ["S04.flac"]
    rest = DATASETS["slakh2100"].with_options({"grouping": "rest"})
    assert rest.sources(rest.tracks(root)) == ("bass", "drums", "guitar", "piano", "other")
    mapped = DATASETS["slakh2100"].with_options({"map": "Organ=piano,Guitar=strings"})
    assert set(by_name(mapped, root)["test/Track01876"].stems) == {"bass", "drums", "strings", "piano"}
    classes = DATASETS["slakh2100"].with_options({"grouping": "class"})
    assert "organ" in classes.sources(classes.tracks(root))


def test_dnr_renames_its_splits_and_effects(layouts: Layouts) -> None:
    tracks = by_name(DATASETS["dnr"], layouts("dnr"))
    assert set(tracks) == {
        f"{split}/{name}" for split in ("train", "valid", "test") for name in ("1002", "61")
    }
    assert set(tracks["valid/61"].stems) == {"speech", "music", "effects"}
    assert set(tracks["train/61"].stems) == {"speech", "music"}


def test_voicebank_noise_is_what_the_noisy_sentence_has_beyond_the_clean(layouts: Layouts) -> None:
    dataset, root = DATASETS["voicebank"], layouts("voicebank")
    tracks = by_name(dataset, root)
    assert {name for name in tracks if name.startswith("valid")} == {"valid/p226_001"}
    for name in ("train/p227_001", "train/p227_002"):
        stems = dataset.render(tracks[name], 48000, 1)
        sentence = name.split("/")[1]
        noisy = soundfile.read(root / "noisy_trainset_28spk_wav" / f"{sentence}.wav", dtype="float32")[0]
        length = stems["speech"].shape[1]
        np.testing.assert_allclose(stems["speech"][0] + stems["noise"][0], noisy[:length], atol=1e-6)
        assert np.abs(stems["speech"]).max() > 0.1
        assert pitch(stems["noise"], 48000) != pytest.approx(600, abs=30)  # no speech left in the noise
    assert dataset.render(tracks["train/p227_002"], 48000, 1)["speech"].shape[1] == 47000
    lonely = tracks["train/p227_009"]
    assert not lonely.stems
    assert lonely.missing == (root / "clean_trainset_28spk_wav" / "p227_009.wav",)


def test_librimix_takes_one_two_or_three_speakers(layouts: Layouts) -> None:
    root = layouts("librimix")
    for speakers, expected in (
        (1, ("speech", "noise")),
        (2, ("speaker1", "speaker2", "noise")),
        (3, ("speaker1", "speaker2", "speaker3", "noise")),
    ):
        dataset = DATASETS["librimix"].with_options({"speakers": str(speakers)})
        tracks = dataset.tracks(root)
        assert {track.split for track in tracks} == {"train", "valid", "test"}
        assert len(tracks) == 6
        assert dataset.sources(tracks) == expected
        assert all(set(track.stems) == set(expected) for track in tracks)
    clean = DATASETS["librimix"].with_options({"noise": "false"})
    assert clean.sources(clean.tracks(root)) == ("speaker1", "speaker2")
    with pytest.raises(DataError, match="speakers is 1, 2 or 3"):
        DATASETS["librimix"].with_options({"speakers": "4"})


def test_fsdd_splits_officially_or_by_speaker(layouts: Layouts) -> None:
    root = layouts("fsdd")
    official = DATASETS["fsdd"].with_options({"mixtures": "90"})
    train = {track.name for track in official.tracks(root) if track.split == "train"}
    assert len(train) == 40
    assert not any(name.endswith(("-0", "-5")) for name in train)  # 0 to 4 test, 5 to 9 validate
    by_speaker = DATASETS["fsdd"].with_options({"hold_out": "theo", "mixtures": "90"})
    for track in by_speaker.tracks(root):
        speakers = {part.path.stem.split("_")[1] for part in track.files}
        assert speakers == ({"theo"} if track.split == "test" else {"jackson"})
    with pytest.raises(DataError, match="no clip of the speaker 'nobody'"):
        DATASETS["fsdd"].with_options({"hold_out": "nobody"}).tracks(root)


@pytest.mark.parametrize("name", ["fsdd", "speech_commands"])
def test_digits_are_mixed_in_pairs_of_one_level(name: str, layouts: Layouts) -> None:
    dataset = DATASETS[name].with_options({"mixtures": "46"})
    mixtures = [track for track in dataset.tracks(layouts(name)) if track.split == "test"]
    assert len(mixtures) == 46
    assert all(len(track.stems) == 2 for track in mixtures)
    assert {track.name.split("-", 1)[1] for track in mixtures[:45]} == {
        f"{a}-{b}" for i, a in enumerate(dataset.sources([])) for b in dataset.sources([])[i + 1 :]
    }
    for track in mixtures[:3]:
        stems = dataset.render(track, RATE, 1)
        for audio in stems.values():
            assert audio.shape == (1, RATE)
            assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.067 / 2)
    before, after = np.flatnonzero(audio[0])[[0, -1]]
    assert before == pytest.approx(RATE - 1 - after, abs=2)  # centred in its second


def test_long_clips_are_cut_to_the_middle_second(layouts: Layouts) -> None:
    dataset, root = DATASETS["fsdd"], layouts("fsdd")
    long = next(track for track in dataset.tracks(root) if track.name == "three-jackson-12")
    audio = dataset.render(long, RATE, 1)["three"]
    whole = soundfile.read(long.files[0].path, dtype="float32")[0]
    middle = whole[(len(whole) - RATE) // 2 :][:RATE]
    np.testing.assert_allclose(audio[0] / np.abs(audio).max(), middle / np.abs(middle).max(), atol=1e-3)


def test_speech_commands_split_by_its_lists_and_leave_other_words(layouts: Layouts) -> None:
    tracks = DATASETS["speech_commands"].with_options({"mixtures": "5"}).tracks(layouts("speech_commands"))
    train = [track for track in tracks if track.split == "train"]
    assert len(train) == 10
    assert all("00b01445" in track.name for track in train)
    assert all(
        "1c1060b1" in part.path.name for track in tracks if track.split == "test" for part in track.files
    )


def test_stems_take_any_names_and_a_rest_of_the_mixture(layouts: Layouts) -> None:
    root = layouts("stems")
    dataset = DATASETS["stems"]
    tracks = by_name(dataset, root)
    assert dataset.sources(list(tracks.values())) == ("flute", "keys")
    assert sum(track.split == "valid" for track in tracks.values()) == 1
    solo = next(track for track in tracks.values() if track.name == "first")
    assert solo.solo
    alone = dataset.with_options({"only": "flute", "rest": "backing"})
    third = next(track for track in alone.tracks(root) if track.name == "third")
    stems = alone.render(third, 44100, 2)
    mixture = soundfile.read(root / "third" / "mixture.wav", dtype="float32")[0].T
    np.testing.assert_allclose(stems["flute"] + stems["backing"], mixture, atol=1e-6)
    assert alone.sources([third])[-1] == "backing"


def test_stems_keep_splits_that_are_given(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        path = tmp_path / split / name / "voice.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.ones(100) / 2, RATE)
    assert set(by_name(DATASETS["stems"], tmp_path)) == {"train/a", "valid/b", "test/c"}


def test_no_stem_is_lost_for_its_ending(tmp_path: Path) -> None:
    wave = np.ones(100) / 2
    for track in ("one", "two"):
        (tmp_path / track).mkdir()
        soundfile.write(tmp_path / track / "drums.wav", wave, RATE)
        soundfile.write(tmp_path / track / "Lead Vocals.CAF", wave, RATE, format="CAF")
    (tmp_path / "two" / "drums.mid").touch()  # its stem is there
    for track in DATASETS["stems"].tracks(tmp_path):
        assert set(track.stems) == {"drums", "Lead Vocals"}
    assert len(DATASETS["solos"].with_options({"valid": "0"}).tracks(tmp_path)) == 4
    (tmp_path / "two" / "Lead Vocals.CAF").rename(tmp_path / "two" / "Lead Vocals.sd2")
    with pytest.raises(DataError, match=r"two/Lead Vocals\.sd2 is named like a source"):
        DATASETS["stems"].tracks(tmp_path)
    assert len(DATASETS["stems"].with_options({"only": "drums"}).tracks(tmp_path)) == 2


def test_two_files_for_one_stem_are_refused(tmp_path: Path) -> None:
    (tmp_path / "song").mkdir()
    for extension in ("wav", "flac"):
        soundfile.write(tmp_path / "song" / f"voice.{extension}", np.ones(100) / 2, RATE)
    with pytest.raises(DataError, match="two files for one stem"):
        DATASETS["stems"].tracks(tmp_path)


@pytest.mark.parametrize("files", [("one/drums.wav", "one/Drums.flac"), ("one/Drums.wav", "two/drums.wav")])
def test_stems_that_differ_only_in_case_are_refused(tmp_path: Path, files: tuple[str, str]) -> None:
    for file in (*files, "one/bass.wav", "two/bass.wav"):
        put_noise(tmp_path / file)
    with pytest.raises(DataError, match=r"only in case, (drums and Drums|Drums and drums): .*rums\.\w+ and "):
        DATASETS["stems"].tracks(tmp_path)
    assert len(DATASETS["stems"].with_options({"only": "bass"}).tracks(tmp_path)) == 2


def test_solos_whose_sources_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    for source in ("Drums", "drums"):
        put_noise(tmp_path / source / "1.wav")
    if (tmp_path / "DRUMS").exists():
        pytest.skip("the file system does not tell case")
    with pytest.raises(DataError, match=r"only in case, Drums and drums: .* and "):
        DATASETS["solos"].tracks(tmp_path)


@pytest.mark.parametrize("name", ["stems", "solos"])
def test_names_that_no_model_takes_are_refused_with_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / ("song/bass&gtr.wav" if name == "stems" else "bass&gtr/one.wav")
    put_noise(path)
    with pytest.raises(DataError, match=r"'bass&gtr' cannot be the name of a source: .*; .*\.wav"):
        DATASETS[name].tracks(tmp_path)


def test_groups_of_classes_have_names_that_models_take(layouts: Layouts) -> None:
    mapped = DATASETS["slakh2100"].with_options({"map": "Guitar=a&b"})
    with pytest.raises(DataError, match=r"'a&b' cannot be the name of a source: .*S00\.flac"):
        mapped.tracks(layouts("slakh2100"))


def test_solos_are_found_at_any_depth_in_any_format_and_mixed_for_validation(layouts: Layouts) -> None:
    dataset = DATASETS["solos"]
    tracks = dataset.tracks(layouts("solos"))
    solos = [track for track in tracks if track.split == "train"]
    assert all(track.solo for track in solos)
    assert [tuple(track.stems) for track in solos] == [("drums",)] * 3 + [("flute",)] * 2
    (mixture,) = (track for track in tracks if track.split == "valid")
    assert set(mixture.stems) == {"drums", "flute"}
    used = {part.path for track in solos for part in track.files}
    assert not used & {part.path for part in mixture.files}
    stems = dataset.render(mixture, RATE, 2)
    assert stems["drums"].shape == stems["flute"].shape


def test_one_name_is_never_held_out_and_two_keep_one() -> None:
    assert held_out(["a"], 0.1) == set()
    assert held_out(["b", "a"], 0.1) == {"b"}
    assert len(held_out(map(str, range(100)), 0.1)) == 10
    assert held_out(map(str, range(100)), 0.0) == set()


def test_one_name_more_changes_one_of_those_held_out_at_most() -> None:
    names = [f"song {index}" for index in range(60)]
    for count in range(2, len(names)):
        before, after = held_out(names[:count], 0.1), held_out(names[: count + 1], 0.1)
        assert len(before - after) <= 1
        assert len(after - before) <= 1
    assert held_out(reversed(names), 0.1) == held_out(names, 0.1)


def test_moisesdb_is_split_by_the_order_of_its_ids(tmp_path: Path) -> None:
    for index in range(20):
        put_noise(tmp_path / f"{index:04d}" / "bass" / "0.wav")
        stems = [{"stemName": "bass", "tracks": [{"id": "0", "extension": "wav"}]}]
        (tmp_path / f"{index:04d}" / "data.json").write_text(json.dumps({"stems": stems}))
    kept = [name for name in by_name(DATASETS["moisesdb"], tmp_path) if not name.startswith("train")]
    assert kept == ["valid/0004", "test/0005", "valid/0014", "test/0015"]


@pytest.mark.parametrize("song", ["album/vocals.wav", "album/one/vocals.wav", "valid/vocals.wav"])
def test_splits_and_songs_side_by_side_are_refused(tmp_path: Path, song: str) -> None:
    put_noise(tmp_path / "train" / "a" / "vocals.wav")
    (tmp_path / "artwork").mkdir()
    (tmp_path / "test").mkdir()
    assert set(by_name(DATASETS["stems"], tmp_path)) == {"train/a"}
    put_noise(tmp_path / song)
    with pytest.raises(DataError, match=r"train holds tracks of a split, but .* lies beside it: move every"):
        DATASETS["stems"].tracks(tmp_path)


def test_a_song_may_be_called_like_a_split(tmp_path: Path) -> None:
    for name in ("test", "song"):
        put_noise(tmp_path / name / "vocals.wav")
    assert {track.name for track in DATASETS["stems"].tracks(tmp_path)} == {"test", "song"}


@pytest.mark.parametrize("split", ["", "train/"])
def test_audio_that_lies_too_deep_is_noted(tmp_path: Path, split: str) -> None:
    dataset = DATASETS["stems"]
    put_noise(tmp_path / f"{split}album" / "one" / "vocals.wav")
    with pytest.raises(DataError, match=r"train, valid, test there; .*album: no audio directly in it"):
        dataset.tracks(tmp_path)
    put_noise(tmp_path / f"{split}song" / "vocals.wav")
    (note,) = dataset.expected(tmp_path, dataset.tracks(tmp_path))
    assert (note.kind, note.where) == ("note", tmp_path / f"{split}album")
    if split:
        put_noise(tmp_path / split / "vocals.wav")
        assert "audio beside the folders" in next(iter(dataset.expected(tmp_path, ()))).what


def test_options_are_checked() -> None:
    with pytest.raises(DataError, match="musdb18 has no option 'rate'"):
        DATASETS["musdb18"].with_options({"rate": "1"})
    with pytest.raises(DataError, match="option speakers is of type int, found 'two'"):
        DATASETS["librimix"].with_options({"speakers": "two"})
    with pytest.raises(DataError, match="grouping is"):
        DATASETS["slakh2100"].with_options({"grouping": "x"}).tracks(Path())


@pytest.mark.parametrize("share", ["-0.1", "1", "nan"])
@pytest.mark.parametrize("name", ["stems", "solos", "moisesdb"])
def test_no_more_than_a_share_is_kept_for_validation(name: str, share: str) -> None:
    with pytest.raises(DataError, match="option valid must be a share from 0 to below 1, found"):
        DATASETS[name].with_options({"valid": share})


@pytest.mark.parametrize("only", ["vocals,trums", "trums"])
def test_a_stem_that_no_track_has_is_told(only: str, tmp_path: Path) -> None:
    for stem in ("vocals", "drums", "mixture"):
        put_noise(tmp_path / "song" / f"{stem}.wav")
    with pytest.raises(DataError, match=r"^only: no track has 'trums', they have drums, vocals$"):
        DATASETS["stems"].with_options({"only": only}).tracks(tmp_path)


def test_solos_are_not_what_own_tracks_validate_on(tmp_path: Path) -> None:
    for index in range(4):
        for source in ("violin", "tabla"):
            put_noise(tmp_path / f"a song {index}" / f"{source}.wav")
    for index in range(20):
        put_noise(tmp_path / f"solo {index}" / "violin.wav")
    (tmp_path / "artwork").mkdir()
    valid = [track for track in DATASETS["stems"].tracks(tmp_path) if track.split == "valid"]
    assert [set(track.stems) for track in valid] == [{"violin", "tabla"}]


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    put_noise(tmp_path / "guitar" / "electric-1.wav")
    put_noise(tmp_path / "guitar-electric" / "1.wav")
    with pytest.raises(DataError, match=r"one name, guitar-electric-1\.wav: .* and "):
        DATASETS["solos"].tracks(tmp_path)


def put_noise(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
