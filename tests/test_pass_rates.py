"""pass@k against all subsets, the majority with ties, Wilson's interval against its equation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.pass_rates import equivalence_classes, majority, pass_at_k, wilson_interval
from zelo.errors import InputError


@given(st.integers(1, 9), st.data())
@settings(max_examples=30, deadline=None)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    marks = [True] * c + [False] * (n - c)
    share = np.mean([any(subset) for subset in combinations(marks, k)])
    assert pass_at_k([n], [c], k)[0] == pytest.approx(share, abs=1e-12)


def test_pass_at_k_of_many_samples_does_not_overflow() -> None:
    assert pass_at_k([10_000, 10_000], [1, 10_000], 100) == pytest.approx([0.01, 1.0])


@pytest.mark.parametrize(("n", "c", "k"), [([3], [4], 1), ([3], [1], 4), ([3], [-1], 1), ([3], [1], 0)])
def test_pass_at_k_refuses_what_makes_no_sense(n: list[int], c: list[int], k: int) -> None:
    with pytest.raises(InputError, match="at least"):
        pass_at_k(n, c, k)


def test_the_majority_shares_where_answers_tie() -> None:
    assert majority(["4", "4", "5"], [True, True, False]) == 1
    assert majority(["4", "5", "5"], [True, False, False]) == 0
    assert majority(["4", "5", None], [True, False, False]) == 0.5
    assert majority(["4", "5", "6"], [True, False, False]) == pytest.approx(1 / 3)
    assert majority([None, None], [False, False]) == 0  # no answer is no vote
    assert majority([None, None, "4"], [False, False, True]) == 1


@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=40, deadline=None)
def test_wilson_ends_solve_the_score_equation(c: int, n: int, level: float) -> None:
    from scipy.stats import norm

    c = min(c, n)
    low, high = wilson_interval(c, n, level)
    z, rate = norm.ppf(0.5 + level / 2), c / n
    assert 0 <= low <= rate + 1e-12
    assert rate - 1e-12 <= high <= 1
    for end in (low, high):
        assert (rate - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


def test_without_trials_nothing_is_known() -> None:
    low, high = wilson_interval([0, 3], [0, 3])
    assert (low[0], high[0]) == (0, 1)
    assert low[1] == pytest.approx(0.4385, abs=1e-4)


def test_classes_join_what_is_the_same() -> None:
    assert equivalence_classes(5, [(1, 2), (4, 2)]).tolist() == [0, 1, 1, 3, 1]
