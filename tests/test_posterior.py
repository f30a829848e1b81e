"""Targets as posteriors: the mixture finds what made the data, and is a better teacher than the scores alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import rankdata

from zelo.errors import InputError
from zelo.training.posterior import logistic_head, posterior_targets


def made(n: int, apart: float, seed: int, bias: float = -4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Relevance [n], evidence, targets in (0, 1) and features: the third of them is noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3))
    relevant = rng.random(n) < expit(features @ [1.5, 0.8, 0.0] + bias)
    evidence = rng.normal(size=n) + apart * relevant
    return relevant, evidence, expit(2 * evidence - 3), features


def auc(values: np.ndarray, relevant: np.ndarray) -> float:
    ranks = rankdata(values)
    n = relevant.sum()
    return float((ranks[relevant].sum() - n * (n + 1) / 2) / (n * (~relevant).sum()))


def test_what_made_the_data_is_found() -> None:
    relevant, _, targets, features = made(40_000, 3.0, 0)
    found = posterior_targets(targets, features)
    np.testing.assert_allclose(np.array(found.head.weights) / found.head.scale, [1.5, 0.8, 0.0], atol=0.15)
    assert found.targets.mean() == pytest.approx(relevant.mean(), rel=0.1)
    # The evidence was standardized: its components keep their distance in deviations of the others.
    assert (found.relevant[0] - found.other[0]) / found.other[1] == pytest.approx(3.0, abs=0.2)
    # Calibrated: of documents with a posterior near p, a share p is relevant.
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        some = (found.targets > low) & (found.targets < high)
        assert relevant[some].mean() == pytest.approx(found.targets[some].mean(), abs=0.06)


def test_a_posterior_ranks_better_than_score_or_signals_alone() -> None:
    relevant, evidence, targets, features = made(20_000, 2.0, 1)
    found = posterior_targets(targets, features)
    assert auc(found.targets, relevant) > max(auc(evidence, relevant), auc(found.head(features), relevant)) + 0.03


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.2, 5.0), st.floats(-3.0, 3.0))
def test_units_of_evidence_and_signals_do_not_matter(seed: int, stretch: float, shift: float) -> None:
    _, evidence, _, features = made(1_000, 3.0, seed % 5)
    one = posterior_targets(expit(evidence), features)
    other = posterior_targets(expit(evidence), features * stretch + shift)
    np.testing.assert_allclose(one.targets, other.targets, atol=2e-3)
    assert ((one.targets >= 0) & (one.targets <= 1)).all()


def test_weak_evidence_never_speaks_for_relevance() -> None:
    _, evidence, targets, features = made(5_000, 2.5, 3)
    found = posterior_targets(targets, features)
    low = evidence < np.quantile(evidence, 0.1)
    assert (found.targets[low] <= found.head(features)[low] + 1e-9).all()


def test_a_head_of_known_probabilities() -> None:
    _, _, _, features = made(4_000, 2.0, 4)
    shares = expit(features @ [1.0, -2.0, 0.5] + 0.3)
    np.testing.assert_allclose(logistic_head(features, shares)(features), shares, atol=0.01)


def test_what_is_no_evidence_is_refused() -> None:
    features = np.random.default_rng(0).normal(size=(10, 3))
    with pytest.raises(InputError, match="all targets are equal"):
        posterior_targets(np.full(10, 0.5), features)
    with pytest.raises(InputError, match="9 targets for 10 rows"):
        posterior_targets(np.full(9, 0.5), features)
