"""Hits are told from held notes by what surrounds them in time and in frequency."""

import torch
from torch.nn import functional

from sepvae.signal.percussive import LIMIT, REACH, neighbours, percussiveness


def test_a_hit_scores_above_a_note_and_silence_scores_nothing() -> None:
    P = torch.full((64, 80), 1e-6)
    P[:, 20] = 1.0  # a hit
    P[40, 40:] = 1.0  # a note
    evidence = percussiveness(P)
    assert (evidence[:, 20] == LIMIT).all()
    assert (evidence[40, 60:] == -LIMIT).all()
    torch.testing.assert_close(percussiveness(torch.zeros(64, 80)), torch.zeros(64, 80), rtol=0, atol=1e-5)


def test_the_level_does_not_matter(generator: torch.Generator) -> None:
    P = torch.rand(64, 80, generator=generator) + 0.1
    torch.testing.assert_close(percussiveness(P), percussiveness(100 * P), rtol=0, atol=1e-5)


def test_a_frame_depends_on_its_neighbourhood_alone(generator: torch.Generator) -> None:
    P = torch.rand(64, 80, generator=generator)
    inner = percussiveness(P[..., 20 - REACH : 60 + REACH])[:, REACH:-REACH]
    torch.testing.assert_close(inner, percussiveness(P)[:, 20:60])
    nearer = percussiveness(P[..., 20 - REACH + 1 : 60])[:, REACH - 1]
    assert not torch.allclose(nearer, percussiveness(P)[:, 20])


def test_neighbours_are_averaged_as_a_pooling_layer_does(generator: torch.Generator) -> None:
    x = torch.rand(30, 50, generator=generator)
    pooled = functional.avg_pool1d(x[None], 2 * REACH + 1, 1, REACH, count_include_pad=False)[0]
    torch.testing.assert_close(neighbours(x, 1), pooled)
    torch.testing.assert_close(neighbours(x.T, 0), pooled.T)
