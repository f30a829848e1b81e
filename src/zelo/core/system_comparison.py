"""Systems compared by documents' scores instead of labels: nDCG of every draw of the scores, intervals, and what the judges differ in.

A score is known up to its posterior, a question is one of many that could have been asked, and the judges are some of many that could
have been called. A replicate of the whole comparison therefore draws all three: one set of judges, questions with replacement, and one
draw of the scores for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from zelo.core.links import LOGIT_PER_PROBIT
from zelo.errors import InputError
from zelo.types import Link

__all__ = ["FLOOR", "Panel", "Scored", "anchors", "bounded", "corrected", "gains_of", "panels", "random_values", "ranking_values",
           "replicate_means", "rescaled", "siding", "values_of"]  # fmt: skip

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FLOOR = 0.02
"""The least resolution that is believed: the way from a random order to the true one, as a share of what it would be with true scores."""
_CELLS = 1 << 22  # of a block of resamples: 32 MiB


def gains_of(score: FloatArray, link: Link) -> FloatArray:
    """Return gains [..., n] > 0 for scores [..., n]: exp(score in logits), a document's odds against one of score 0.

    A document that beats another one three times out of four has three times its gain. nDCG does not change when a constant is added
    to all scores of a query.
    """
    logits = np.asarray(score, np.float64) * (LOGIT_PER_PROBIT if link == "probit" else 1.0)
    return np.asarray(np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)))


def ranking_values(gains: FloatArray, places: IntArray) -> FloatArray:
    """Return nDCG@k of several rankings of one query, for each draw of the gains.

    Args:
        gains: [draws, n], >= 0; the ideal ranking is made of all n documents.
        places: [systems, k], which document is at each rank, -1 = none, or one that has no gain.

    Returns:
        [draws, systems], in [0, 1]; 0 where no gain is positive.

    Raises:
        InputError: there is no rank.
    """
    k = places.shape[1]
    if k < 1:
        raise InputError(f"the cutoff k must be >= 1, got {k}")
    discount = 1 / np.log2(np.arange(k) + 2)
    padded = np.concatenate([gains, np.zeros((len(gains), 1))], axis=1)  # place -1 is the last column
    found = padded[:, places] @ discount
    best = -np.sort(-gains, axis=1)[:, :k]
    ideal = best @ discount[: best.shape[1]]
    return np.asarray(found / np.where(ideal > 0, ideal, 1.0)[:, None], np.float64)


def random_values(gains: FloatArray, places: IntArray) -> FloatArray:
    """Return what each ranking would have if its documents were random ones [draws, systems]; arguments as for `ranking_values`.

    That of a system that shows fewer than k documents is lower, and 0 where it shows none.
    """
    discount = 1 / np.log2(np.arange(places.shape[1]) + 2)
    ideal = -np.sort(-gains, axis=1)[:, : places.shape[1]] @ discount[: min(places.shape[1], gains.shape[1])]
    return np.asarray((gains.mean(axis=1) / np.where(ideal > 0, ideal, 1.0))[:, None] * ((places >= 0) @ discount))


def anchors(gains: FloatArray, k: int) -> FloatArray:
    """Return what two orders that everybody knows have under the same draws: a random one, and the true one.

    Truth and draws come from one distribution, as far as the judges' answers tell. So the true order has, on average, the value that the
    order of one draw has under the gains of another.

    Args:
        gains: [draws, n], two draws or more, n >= 1.
        k: the cutoff.

    Returns:
        [draws, 2]: nDCG@k of a random order, and of the next draw's order.
    """
    discount = 1 / np.log2(np.arange(min(k, gains.shape[1])) + 2)
    order = np.argsort(-np.roll(gains, -1, axis=0), axis=1, kind="stable")[:, :k]
    ideal = -np.sort(-gains, axis=1)[:, :k] @ discount
    found = np.take_along_axis(gains, order, axis=1) @ discount
    return np.stack([gains.mean(axis=1) * discount.sum() / ideal, found / ideal], axis=1)


def values_of(gains: FloatArray, places: IntArray) -> FloatArray:
    """Return `ranking_values`, `random_values` and `anchors` side by side [draws, 2 systems + 2]; arguments as for `ranking_values`."""
    return np.concatenate([ranking_values(gains, places), random_values(gains, places), anchors(gains, places.shape[1])], axis=1)


def rescaled(means: FloatArray, own: FloatArray | None = None) -> FloatArray:
    """Return values [..., systems] on the scale that the true scores would give, from means [..., systems + 2] with both anchors last.

    Uncertain gains draw every value toward that of a random order, the true order's as well, which should have 1. The line through both
    anchors, random stays and the true order becomes 1, takes that back. Where the answers say next to nothing, the factor is 1 / FLOOR.

    Args:
        means: of `ranking_values` and `anchors`.
        own: of `random_values` [..., systems], toward which the value of a system that shows fewer documents is drawn: nothing is uncertain
            about a question that it does not answer. None: all show as many.
    """
    random, true = means[..., -2:-1], means[..., -1:]
    start = random if own is None else own
    return np.asarray(start + (means[..., :-2] - start) * (1 - random) / np.maximum(true - random, FLOOR * (1 - random)))


def bounded(values: FloatArray) -> FloatArray:
    """Return values in [0, 1], where every nDCG is: with few questions or dull judges the correction shoots beyond its anchors."""
    return np.asarray(np.clip(values, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Scored:
    """What a set of judges makes of the systems, and the documents' scores.

    Attributes:
        values: [questions, draws, 2 systems + 2], of each question those of `values_of`.
        score: per question the documents' scores [n].
    """

    values: FloatArray
    score: Sequence[FloatArray]

    @property
    def means(self) -> FloatArray:
        """Per question [questions, 2 systems + 2]."""
        return np.asarray(self.values.mean(axis=1))

    @property
    def level(self) -> FloatArray:
        """The systems' values [systems], not bounded, so that their order is that of the means."""
        return corrected(self.means.mean(axis=0))

    @property
    def by_question(self) -> FloatArray:
        """What `level` is the mean of [questions, systems]: corrected by the anchors of all questions together."""
        means = self.means
        means[:, -2:] = means[:, -2:].mean(axis=0)
        return corrected(means)


def corrected(means: FloatArray) -> FloatArray:
    """Return values [..., systems], from means [..., 2 systems + 2] of `values_of`; see `rescaled`."""
    systems = means.shape[-1] // 2 - 1
    return rescaled(np.concatenate([means[..., :systems], means[..., -2:]], axis=-1), means[..., systems:-2])


@dataclass(frozen=True, slots=True)
class Panel:
    """A set of judges that could have been called: how often each is in it, and the chance of such a set."""

    times: tuple[int, ...]
    chance: float


def panels(judges: int, most: int, rng: np.random.Generator) -> list[Panel]:
    """Return the sets of as many judges, drawn with replacement; where there are more than `most`, so many draws of equal chance.

    One judge has one set only: what other judges would have said cannot be known from it.
    """
    if judges < 1:
        raise InputError("there is no judge")
    count = factorial(2 * judges - 1) // (factorial(judges) * factorial(judges - 1))
    if count <= most:
        found = []
        for drawn in combinations_with_replacement(range(judges), judges):
            times = tuple(drawn.count(j) for j in range(judges))
            found.append(Panel(times, factorial(judges) / prod(map(factorial, times)) / judges**judges))
        return found
    drawn_times = [np.bincount(rng.integers(judges, size=judges), minlength=judges) for _ in range(most)]
    return [Panel(tuple(times.tolist()), 1 / most) for times in drawn_times]


def replicate_means(values: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return means over questions [resamples, systems], questions drawn with replacement, and for each one draw of its values.

    Args:
        values: [queries, draws, systems].
        resamples: >= 0.
        rng: source of randomness.
    """
    queries, draws, systems = values.shape
    means = np.empty((resamples, systems))
    step = max(1, _CELLS // max(1, queries * systems))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        query = rng.integers(queries, size=(rows, queries))
        means[start : start + rows] = values[query, rng.integers(draws, size=query.shape)].mean(axis=1)
    return means


@dataclass(frozen=True, slots=True, eq=False)
class Siding:
    """How far each judge sides with each system's documents, against what the other judges say of the same comparisons.

    Attributes:
        own: [judges, systems], share of comparisons that the judge gives to the document that the system shows; ties count half.
        others: [judges, systems], the same share by the mean of the other judges.
        excess: [judges, systems], own - others, less what a judge has that is sharper or duller than the others on all systems alike.
        low: [judges, systems], lower end of the 95 % interval of the excess, questions resampled.
        high: [judges, systems], upper end.
        p_value: [judges, systems], two-sided, of an excess of 0; n questions cannot show one below 2^(1 - n), as their signs could not.
        comparisons: [systems], of a document that the system shows with one that it does not show.
    """

    own: FloatArray
    others: FloatArray
    excess: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray
    comparisons: IntArray


def siding(wins: FloatArray, shows: FloatArray, query: IntArray, *, resamples: int = 2000, rng: np.random.Generator) -> Siding:
    """Compare judges' votes for the documents of each system: a judge that favors systems of its own kind shows here.

    A judge whose answers are all nearer to one half than the others' sides less with good systems and more with bad ones, and favors
    none of them. So from own - 1/2 its regression on others - 1/2 over the systems, through the origin, is taken. That needs three
    systems: the comparisons of two are the same ones.

    Args:
        wins: [comparisons, judges], 1 where the judge prefers document a, 0 b, 1/2 neither, NaN = no answer; two judges or more.
        shows: [comparisons, systems], 1 where the system shows a and not b, -1 the other way round, 0 both or neither.
        query: [comparisons], the question's number.
        resamples: of the interval.
        rng: source of randomness.

    Raises:
        InputError: one judge only: there is nobody to compare it with.
    """
    judges, systems = wins.shape[1], shows.shape[1]
    if judges < 2:
        raise InputError("one judge cannot be compared with others")
    count = int(query.max(initial=-1)) + 1
    given = ~np.isnan(wins)
    sided = np.where(given, 2 * np.nan_to_num(wins) - 1, 0.0)  # -1 .. 1
    sums = np.zeros((3, judges, count, systems))
    for j in range(judges):
        rest = np.delete(np.arange(judges), j)
        answered = given[:, rest].sum(axis=1)
        both = given[:, j] & (answered > 0)
        mean = np.where(both, sided[:, rest].sum(axis=1) / np.maximum(answered, 1), 0.0)
        for s in range(systems):
            used = both * shows[:, s]
            for row, column in enumerate((used * sided[:, j], used * mean, np.abs(used))):
                sums[row, j, :, s] = np.bincount(query, column, count)
    own, others, excess = _excess(sums.sum(axis=2))
    # Questions are resampled by their weights: a sum over questions is then one product of matrices.
    drawn = np.empty((resamples, judges, systems))
    for b in range(resamples):
        weight = np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64) if count else np.zeros(0)
        drawn[b] = _excess(np.einsum("q,rjqs->rjs", weight, sums))[2]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    beyond = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    least = 2.0 ** (1 - np.minimum((sums[2] > 0).sum(axis=1), 100))  # one question resampled is always the same
    p_value = np.minimum(1.0, np.maximum(2 * (1 + beyond) / (1 + resamples), least))
    return Siding((1 + own) / 2, (1 + others) / 2, excess / 2, low / 2, high / 2, p_value, np.count_nonzero(shows, axis=0).astype(np.int64))


def _excess(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Own and others' mean [judges, systems] in [-1, 1], and the excess, from sums [3, judges, systems]."""
    own, others = sums[:2] / np.where(sums[2] > 0, sums[2], 1.0)
    slope = np.ones((len(own), 1))
    if own.shape[1] > 2:
        square = (others**2).sum(axis=1, keepdims=True)
        slope = np.where(square > 0, (own * others).sum(axis=1, keepdims=True) / np.where(square > 0, square, 1.0), 1.0)
    return own, others, own - slope * others
