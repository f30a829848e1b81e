"""Links are exact in both tails."""

import numpy as np
import pytest

from zelo.core.links import LINKS, LOGIT_PER_PROBIT, PRIOR_SD, link_functions, win_probability
from zelo.errors import InputError
from zelo.types import Link

# link, x, log F, (log F)', -(log F)''; computed with 60 digits.
REFERENCE: list[tuple[Link, float, float, float, float]] = [
    ("probit", -50.0, -2505.1777350290113, 100.01999200798818, 1.9996004792016535),
    ("probit", -10.0, -103.57303620540483, 20.099024116734604, 1.9902881103871531),
    ("probit", -3.0, -11.413510222541058, 6.3037536890032344, 1.9147884376024802),
    ("probit", 0.0, -0.69314718055994531, 1.1283791670955126, 1.2732395447351627),
    ("probit", 3.0, -1.1045309498499094e-5, 6.9627295024149802e-5, 4.1776861810511119e-4),
    ("probit", 10.0, -1.0442437918812724e-45, 2.0988281156772084e-44, 4.1976562313544169e-43),
    ("logit", -50.0, -50.0, 1.0, 1.9287498479639178e-22),
    ("logit", -3.0, -3.0485873515737421, 0.95257412682243322, 0.045176659730912133),
    ("logit", 0.0, -0.69314718055994531, 0.5, 0.25),
    ("logit", 10.0, -4.5398899216864647e-5, 4.5397868702434395e-5, 4.5395807735951671e-5),
]


@pytest.mark.parametrize(("link", "x", "log_probability", "first", "second"), REFERENCE)
def test_values_far_into_the_tails(link: Link, x: float, log_probability: float, first: float, second: float) -> None:
    functions, at = link_functions(link), np.array([x])
    assert functions.log_probability(at)[0] == pytest.approx(log_probability, rel=1e-11, abs=0.0)
    slopes = functions.slopes(at)
    assert slopes[0][0] == pytest.approx(first, rel=1e-11, abs=0.0)
    assert slopes[1][0] == pytest.approx(second, rel=1e-9, abs=0.0)


@pytest.mark.parametrize("link", LINKS)
def test_probability_is_symmetric_and_agrees_with_its_logarithm(link: Link) -> None:
    x = np.linspace(-5.0, 5.0, 41).reshape(1, -1)
    probability = win_probability(x, link)
    assert probability.shape == x.shape
    np.testing.assert_allclose(probability + win_probability(-x, link), 1.0, rtol=0, atol=1e-15)
    np.testing.assert_allclose(np.log(probability), link_functions(link).log_probability(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("link", LINKS)
def test_nothing_overflows(link: Link) -> None:
    x = np.array([-1e6, -500.0, 500.0, 1e6])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(link_functions(link).log_probability(x)).all()
        assert all((np.isfinite(slope) & (slope >= 0.0)).all() for slope in link_functions(link).slopes(x))
        np.testing.assert_allclose(win_probability(x, link), [0.0, 0.0, 1.0, 1.0], rtol=0, atol=1e-200)


def test_the_two_scales_differ_by_2_41() -> None:
    x = np.linspace(-6.0, 6.0, 101)
    assert pytest.approx(2.41, abs=0.005) == LOGIT_PER_PROBIT
    assert np.abs(win_probability(x, "logit") - win_probability(x / LOGIT_PER_PROBIT, "probit")).max() < 0.01
    assert PRIOR_SD["probit"] == pytest.approx(0.62, abs=0.005)


def test_an_unknown_link_is_named() -> None:
    with pytest.raises(InputError, match="unknown link 'cauchit'"):
        win_probability(0.0, "cauchit")  # type: ignore[arg-type]
