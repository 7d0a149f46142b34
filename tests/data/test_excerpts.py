"""Tracks are read in stretches without losing, doubling or moving a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sepvae.data import corpora
from sepvae.data.excerpts import excerpts, spans
from sepvae.errors import DataError

RATE = 1000


@given(st.integers(0, 200_000))
def test_spans_cover_a_track_and_leave_no_scrap(length: int) -> None:
    found = spans(length, RATE)
    assert [i for span in found for i in (span.start, span.stop)] == sorted(
        [0, *(span.stop for span in found[:-1]), *(span.start for span in found[1:]), length] if found else []
    )
    assert all(span.start % 10_000 == 0 for span in found)
    assert all(span.stop - span.start >= 10_000 for span in found[1:])


@pytest.fixture
def track(tmp_path: Path, rng: np.random.Generator) -> corpora.Track:
    stems = {name: rng.uniform(-0.3, 0.3, (2, 47_500)).astype(np.float32) for name in ("drums", "bass")}
    stems["bass"] = stems["bass"][:, :40_000]
    stems["bass"] = np.pad(stems["bass"], ((0, 0), (0, 7_500)))
    corpora.write_track(tmp_path / "song", stems, RATE, {})
    return corpora.scan(tmp_path).tracks[0]


def test_stretches_put_together_are_the_track(track: corpora.Track) -> None:
    sources = ("vocals", "drums", "bass")
    parts = list(excerpts(track, sources, RATE, context=700, grid=64))
    whole = corpora.read_stems(track, RATE)
    joined = np.concatenate([part.references[..., part.inner] for part in parts], axis=-1)
    assert not joined[0].any()  # no vocals
    np.testing.assert_array_equal(joined[1], whole["drums"])
    np.testing.assert_array_equal(joined[2], whole["bass"])
    assert len(parts) == 2


def test_context_lies_around_a_stretch_and_starts_on_the_grid(track: corpora.Track) -> None:
    first, second = excerpts(track, ("drums",), RATE, context=700, grid=64)
    assert first.inner == slice(0, 30_000)
    assert first.references.shape[-1] == 30_700
    start = 30_000 - second.inner.start
    assert start % 64 == 0
    assert 0 <= 30_000 - 700 - start < 64
    whole = corpora.read_stems(track, RATE)["drums"]
    np.testing.assert_array_equal(second.references[0], whole[:, start:])


def test_only_the_beginning_is_read_when_asked(track: corpora.Track) -> None:
    parts = list(excerpts(track, ("drums",), RATE, max_seconds=12))
    assert sum(part.inner.stop - part.inner.start for part in parts) == 12_000


def test_a_track_at_another_rate_is_resampled(track: corpora.Track) -> None:
    parts = list(excerpts(track, ("drums", "bass"), 2 * RATE))
    assert sum(part.inner.stop - part.inner.start for part in parts) == 95_000
    assert all(part.sample_rate == 2 * RATE for part in parts)


def test_the_mixture_is_the_sum_of_the_sources(track: corpora.Track) -> None:
    part = next(excerpts(track, ("drums", "bass"), RATE))
    np.testing.assert_allclose(part.mixture, part.references[0] + part.references[1], atol=1e-7)
    assert part.score(part.references)["drums"][0].si_sdr > 90


@pytest.mark.parametrize("rate", [RATE, 2 * RATE])
def test_numbers_that_are_none_are_refused_with_the_file(tmp_path: Path, rate: int) -> None:
    audio = np.zeros((40_000, 2), np.float32)
    audio[35_000, 1] = np.nan
    (tmp_path / "song").mkdir()
    soundfile.write(tmp_path / "song" / "bass.wav", audio, RATE, subtype="FLOAT")
    [track] = corpora.scan(tmp_path)
    with pytest.raises(DataError, match=r"song/bass\.wav holds NaN"):
        list(excerpts(track, ["bass"], rate))


def test_a_stem_that_was_cut_is_named(track: corpora.Track, caplog: pytest.LogCaptureFixture) -> None:
    list(excerpts(track, ["bass"], RATE))
    assert not caplog.text
    path = track.files["bass"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    list(excerpts(track, ["bass"], RATE))
    assert f"{path} is shorter than its header says" in caplog.text
