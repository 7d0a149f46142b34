"""Hits are told from held notes by what surrounds them in time and in frequency."""

import torch

from sepvae.signal.percussive import LIMIT, REACH, percussiveness


def test_a_hit_scores_above_a_note_and_silence_scores_nothing() -> None:
    P = torch.full((2, 64, 80), 1e-6)
    P[:, :, 20] = 1.0  # a hit
    P[:, 40, 40:] = 1.0  # a note
    evidence = percussiveness(P)
    assert (evidence[:, 20] == LIMIT).all()
    assert (evidence[40, 60:] == -LIMIT).all()
    assert not percussiveness(torch.zeros(2, 64, 80)).any()


def test_level_and_swapped_channels_do_not_matter(generator: torch.Generator) -> None:
    P = torch.rand(2, 64, 80, generator=generator) + 0.1
    torch.testing.assert_close(percussiveness(P), percussiveness(100 * P.flip(0)), rtol=0, atol=1e-5)


def test_a_frame_depends_on_its_neighbourhood_alone(generator: torch.Generator) -> None:
    P = torch.rand(2, 64, 80, generator=generator)
    inner = percussiveness(P[..., 20 - REACH : 60 + REACH])[:, REACH:-REACH]
    torch.testing.assert_close(inner, percussiveness(P)[:, 20:60])
    nearer = percussiveness(P[..., 20 - REACH + 1 : 60])[:, REACH - 1]
    assert not torch.allclose(nearer, percussiveness(P)[:, 20])
