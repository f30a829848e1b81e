"""Reliability diagrams against sums by hand, and against scores whose chances are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.pass_rates import wilson_interval
from zelo.core.reliability_diagram import reliability_diagram
from zelo.errors import InputError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 12))
def test_it_is_what_counting_gives(rows: list[tuple[float, bool]], bins: int) -> None:
    found = reliability_diagram(*zip(*rows, strict=True), bins=bins)
    assert found.count.sum() == len(rows)
    error = 0.0
    for b in range(bins):
        inside = [(s, r) for s, r in rows if min(int(s * bins), bins - 1) == b]
        assert found.count[b] == len(inside)
        if not inside:
            assert np.isnan(found.share[b])
            continue
        share, mean = np.mean([r for _, r in inside]), np.mean([s for s, _ in inside])
        assert found.share[b] == pytest.approx(share)
        assert found.mean_score[b] == pytest.approx(mean)
        assert found.low[b] <= found.share[b] <= found.high[b]
        assert (found.low[b], found.high[b]) == wilson_interval(sum(r for _, r in inside), len(inside))
        error += abs(share - mean) * len(inside) / len(rows)
    assert found.error == pytest.approx(error)


def test_true_chances_lie_on_the_diagonal() -> None:
    """Scores that are the chances: 95 % intervals hold them in about 95 % of bins; shifted scores are off by the shift."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(50):
        chance = rng.random(4000)
        found = reliability_diagram(chance, rng.random(4000) < chance)
        inside += int(((found.low <= found.mean_score) & (found.mean_score <= found.high)).sum())
        assert found.error < 0.04
    assert 0.92 < inside / 500 < 0.98
    too_high = reliability_diagram(0.3 + 0.7 * chance, rng.random(4000) < 0.7 * chance)
    assert too_high.error == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("scores", "relevant"), [([], []), ([1.1], [True]), ([float("nan")], [True]), ([0.5], [True, False])])
def test_what_is_refused(scores: list[float], relevant: list[bool]) -> None:
    with pytest.raises(InputError, match="reliability diagram"):
        reliability_diagram(scores, relevant)
