"""Transition matrices, their distances, and walks that follow them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from zelo.core.transitions import jensen_shannon, matrix_correlation, transition_counts, transition_matrix, walk
from zelo.errors import InputError

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.0, 0.5]])


def test_counts_and_rows() -> None:
    counts = transition_counts([[0, 1, 1], [2], [], [1, 0]], 3)
    assert counts.tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert transition_matrix(counts).sum(1) == pytest.approx([1, 1, 1])
    assert transition_matrix(counts)[2] == pytest.approx([1 / 3] * 3)
    with pytest.raises(InputError, match="nothing follows"):
        transition_matrix(counts, prior=0)
    with pytest.raises(InputError, match="not in"):
        transition_counts([[0, 3]], 3)


def test_a_long_walk_has_the_matrix_it_was_drawn_from() -> None:
    path = walk(P, 0, 20_000, np.random.default_rng(3))
    assert transition_matrix(transition_counts([path], 3), prior=0) == pytest.approx(P, abs=0.03)
    assert walk(P, 2, 1, np.random.default_rng(0)) == [2]
    for faulty in ((P * 2, 0, 5), (P, 3, 5), (P, 0, 0)):
        with pytest.raises(InputError):
            walk(*faulty, np.random.default_rng(0))


def test_the_divergence_is_scipys_squared() -> None:
    assert jensen_shannon(P[0], P[1]) == pytest.approx(jensenshannon(P[0], P[1], base=2) ** 2)
    assert jensen_shannon([1, 0], [0, 5]) == pytest.approx(1)
    assert jensen_shannon(P[0], P[0]) == 0


def test_correlation_of_matrices() -> None:
    assert matrix_correlation(P, P) == pytest.approx(1)
    assert np.isnan(matrix_correlation(P, np.full((3, 3), 1 / 3)))
