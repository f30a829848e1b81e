"""A fitted temperature finds the one that was put in; losses against scikit-learn's definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from zelo.core import probabilities
from zelo.errors import InputError


def test_the_temperature_of_an_overconfident_judge_is_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(scale=1.5, size=20_000)
    outcomes = (rng.random(len(true)) < expit(true)).astype(float)
    assert probabilities.fitted_temperature(3 * true, outcomes) == pytest.approx(3, rel=0.05)
    assert probabilities.fitted_temperature(true / 2, outcomes) == pytest.approx(0.5, rel=0.05)
    folds = np.arange(len(true)) % 5
    plain, mended = probabilities.log_loss(3 * true, outcomes), probabilities.held_out_log_loss(3 * true, outcomes, folds)
    assert mended == pytest.approx(probabilities.log_loss(true, outcomes), abs=1e-3)
    assert plain > mended + 0.2
    p = expit(true)
    assert probabilities.calibration_error(p, outcomes) < 0.02
    assert probabilities.calibration_error(expit(3 * true), outcomes) > 0.1
    assert probabilities.brier(p, outcomes) < probabilities.brier(expit(3 * true), outcomes)


def test_log_loss_is_its_definition() -> None:
    p, y = np.array([0.9, 0.4, 0.5]), np.array([1.0, 0.0, 0.5])
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert probabilities.log_loss(probabilities.log_odds(p), y) == pytest.approx(expected)
    assert probabilities.sigmoid(probabilities.log_odds(p)) == pytest.approx(p)


def test_smoothed_rates_stay_inside() -> None:
    assert probabilities.smoothed([0, 4, 2], [4, 4, 4]) == pytest.approx([0.1, 0.9, 0.5])


def test_a_fold_of_its_own_uses_no_temperature_of_its_own() -> None:
    odds, y = np.array([2.0, -1.0]), np.array([1.0, 0.0])
    assert probabilities.held_out_log_loss(odds, y, [0, 0]) == pytest.approx(probabilities.log_loss(odds, y))


def test_faults_are_named() -> None:
    with pytest.raises(InputError):
        probabilities.log_odds([0.0])
    with pytest.raises(InputError):
        probabilities.log_loss([], [])
