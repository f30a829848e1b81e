"""Agreement of scores with labels: against SciPy, and against the definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from zelo.core.label_agreement import kendall_tau_b, pairwise_accuracy
from zelo.errors import InputError

small = st.integers(0, 3)
rows = st.lists(st.tuples(small, small), min_size=2, max_size=12)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_tau_is_scipys(documents: list[tuple[int, int]]) -> None:
    scores, gains = zip(*documents, strict=True)
    found, expected = kendall_tau_b(scores, gains), kendalltau(scores, gains).statistic
    assert (found is None and np.isnan(expected)) or found == pytest.approx(expected, abs=1e-12)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_pairwise_accuracy_is_its_definition(documents: list[tuple[int, int]]) -> None:
    right = [
        0.5 if a[0] == b[0] else float((a[0] > b[0]) == (a[1] > b[1]))
        for i, a in enumerate(documents)
        for b in documents[:i]
        if a[1] != b[1]
    ]
    scores, gains = zip(*documents, strict=True)
    assert pairwise_accuracy(scores, gains) == (pytest.approx(np.mean(right)) if right else None)


def test_extremes() -> None:
    assert pairwise_accuracy([3, 2, 1], [2, 1, 0]) == kendall_tau_b([3, 2, 1], [2, 1, 0]) == 1.0
    assert pairwise_accuracy([1, 2, 3], [1, 0, 0]) == 0.0
    assert pairwise_accuracy([1.0], [1.0]) is None


@pytest.mark.parametrize(("scores", "gains"), [([1.0], [1.0, 2.0]), ([np.nan, 1.0], [0.0, 1.0])])
def test_bad_values_are_refused(scores: list[float], gains: list[float]) -> None:
    with pytest.raises(InputError, match="finite"):
        kendall_tau_b(scores, gains)
