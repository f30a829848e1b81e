"""Scores of different queries on one scale: an offset per query, from comparisons across queries.

A fit per query says nothing about the level of its scores: their mean is 0. A comparison across queries asks whether document d1
answers query q1 better than document d2 answers query q2, and the model is that of one query with an offset added,

    P((q1, d1) beats (q2, d2)) = F(s1 + o1 - s2 - o2).

With the scores s held fixed this is a paired comparison of queries, whose "scores" are the offsets and whose known lead is s1 - s2,
so `paired_comparison` fits it: a Gaussian prior N(0, prior_sd^2) on every offset, and one maximum. The authors of the paper mention
such a bias per query outside of it; no formula is public (docs/decisions/0014).

Documents are numbered 0 .. D - 1 through all queries here; those of query q are starts[q] .. starts[q + 1] - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components

from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch, BatchFit, fit_queries
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EXACT = 1500
"""Up to so many queries standard errors come from the inverse of the curvature; beyond, from draws."""
PSEUDO = 0.1
"""Weight of the link's usual prior, in queries, where the offsets' prior is estimated."""
DRAWS = 64
"""Draws from the posterior, by which the standard errors of more queries are within some 3 % of the exact ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Offsets:
    """What was found about the level of each of Q queries.

    Attributes:
        offset: [Q], in units of the link, mean 0 over each component. Add it to a query's scores.
        stderr: [Q], posterior standard deviation from the curvature at the maximum; prior_sd where nothing is known. It takes the
            scores for exact unless their standard errors were given.
        degree: [Q], comparisons that a query took part in; 0 means that its offset says nothing.
        component: [Q], number of the group of queries that comparisons connect; offsets of different groups do not compare.
        components: how many groups there are.
        separated: without the prior there would be no maximum.
        log_likelihood: weighted log likelihood at the maximum, prior left out.
        gradient_norm: largest absolute component of the gradient at the maximum.
        iterations: Newton steps taken.
        link: the link fitted.
        prior_sd: the prior's standard deviation, given or estimated.
    """

    offset: FloatArray
    stderr: FloatArray
    degree: IntArray
    component: IntArray
    components: int
    separated: bool
    log_likelihood: float
    gradient_norm: float
    iterations: int
    link: Link
    prior_sd: float


def design_cross_pairs(score: ArrayLike, starts: ArrayLike, cycles: int, rng: np.random.Generator, *, depth: int = 30) -> IntArray:
    """Draw comparisons across queries along random directed cycles through all queries that have documents.

    Every cycle gives each query two comparisons, one of them shown first. The document that it shows first is one of its best
    `depth`, another in every cycle as long as there are some; the other query's is, of its best `depth`, the one whose score is
    nearest. Other documents every time average out the errors of the scores; the best ones are those whose level matters.
    More cycles tell more than more documents per edge of a cycle, and than hubs (experiments/cross_query).

    Args:
        score: [D], all queries' scores in units of one link.
        starts: [Q + 1], where each query's documents begin; 0 first, D last.
        cycles: comparisons per query to draw, >= 0; each query takes part in twice as many. One cycle hardly helps, four or more do.
        rng: source of randomness.
        depth: how many of a query's best documents are compared, >= 1.

    Returns:
        Pairs [m, 2] of document numbers, the first column shown first; rows come cycle by cycle. m is cycles times the number of
        queries with documents, less pairs that were already drawn (which happens where queries or documents are few). One query
        alone has no pairs.

    Raises:
        InputError: an argument is out of range or scores are not finite.
    """
    values, first_of, _ = _checked(score, starts)
    if cycles < 0 or depth < 1:
        raise InputError(f"cycles must be >= 0 and depth >= 1, got {cycles} and {depth}")
    sizes = np.diff(first_of)
    queries = np.flatnonzero(sizes)
    if len(queries) < 2 or cycles == 0:
        return np.empty((0, 2), np.int64)
    best = _best_documents(values, first_of, depth)
    level = np.where(best >= 0, values[best], np.inf)
    # In which order a query shows its best documents: any, those that it lacks last.
    order = np.argsort(np.where(best >= 0, rng.random(best.shape), 2.0), axis=1)
    pairs = []
    for cycle in range(cycles):
        one = rng.permutation(queries)
        other = np.roll(one, -1)
        place = order[one, cycle % np.minimum(sizes[one], depth)]
        nearest = np.abs(level[other] - level[one, place][:, None]).argmin(axis=1)
        pairs.append(np.stack([best[one, place], best[other, nearest]], axis=1))
    drawn = np.concatenate(pairs)
    _, once = np.unique(drawn.min(axis=1) * len(values) + drawn.max(axis=1), return_index=True)
    kept: IntArray = drawn[np.sort(once)]
    return kept


def fit_offsets(
    score: ArrayLike,
    starts: ArrayLike,
    pairs: ArrayLike,
    prob_first: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    score_stderr: ArrayLike | None = None,
    link: Link = "probit",
    prior_sd: float | None = None,
    seed: int = 0,
) -> Offsets:
    """Fit an offset per query, the scores within queries held fixed.

    Args:
        score: [D], all queries' scores in units of `link`.
        starts: [Q + 1], where each query's documents begin; 0 first, D last.
        pairs: [m, 2], document numbers of two different queries; repeated pairs are evidence twice.
        prob_first: [m] in [0, 1], P(the first document answers its query better than the second answers its own); NaN = missing.
        weight: [m], >= 0, default 1: how many independent comparisons a row counts for.
        score_stderr: [D]; where given, each comparison counts for less the less its two scores are known: the lead is averaged
            over its error, exactly for probit and by MacKay's approximation for logit.
        link: that of the scores.
        prior_sd: standard deviation of the offsets' Gaussian prior in the link's units. Default: estimated from the comparisons, so
            that offsets are drawn to 0 the more the less the levels differ (MacKay 1992, "Bayesian interpolation").
        seed: of the draws for the standard errors of more than `EXACT` queries.

    Raises:
        InputError: an argument is out of range, a pair lies within one query, or lengths differ.
        ConvergenceError: no maximum was found.
    """
    rows = _rows(score, starts, pairs, prob_first, weight, score_stderr, link)
    spread = _estimate_prior_sd(rows, seed) if prior_sd is None else float(prior_sd)
    fit = rows.fit(spread)
    seen = rows.query[~np.isnan(rows.prob) & (rows.weight > 0)]
    components, component = connected_components(_graph(rows.queries, seen, np.ones(len(seen))), directed=False)
    return Offsets(
        offset=fit.score,
        stderr=np.sqrt(_variances(rows.information(fit.score), spread, seed, DRAWS)),
        degree=np.asarray(np.bincount(seen.ravel(), minlength=rows.queries), np.int64),
        component=component.astype(np.int64),
        components=int(components),
        separated=bool(fit.separated[0]),
        log_likelihood=float(fit.log_likelihood[0]),
        gradient_norm=float(fit.gradient_norm[0]),
        iterations=int(fit.iterations[0]),
        link=link,
        prior_sd=spread,
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Comparisons across queries as a paired comparison of queries: x = slope (o_first - o_second + lead)."""

    queries: int
    query: IntArray  # [m, 2]
    lead: FloatArray
    slope: FloatArray
    prob: FloatArray
    weight: FloatArray
    link: Link

    def fit(self, prior_sd: float) -> BatchFit:
        first, second = (self.query[:, side].astype(np.int32) for side in (0, 1))
        rows = np.array([0, len(self.prob)], np.int64)
        batch = Batch([self.queries], rows, first, second, self.prob, self.weight, self.slope, self.slope * self.lead)
        return fit_queries(batch, link=self.link, prior_sd=prior_sd, stderr=False)

    def information(self, offset: FloatArray) -> csr_array:
        """Adjacency [Q, Q] of the queries, weighted by what the comparisons add to the information about each difference."""
        seen = ~np.isnan(self.prob) & (self.weight > 0)
        query, prob, slope = self.query[seen], self.prob[seen], self.slope[seen]
        x = slope * (offset[query[:, 0]] - offset[query[:, 1]] + self.lead[seen])
        slopes = link_functions(self.link).slopes
        curvature = prob * slopes(x)[1] + (1.0 - prob) * slopes(-x)[1]
        return _graph(self.queries, query, self.weight[seen] * slope**2 * curvature)


def _rows(
    score: ArrayLike,
    starts: ArrayLike,
    pairs: ArrayLike,
    prob_first: ArrayLike,
    weight: ArrayLike | None,
    score_stderr: ArrayLike | None,
    link: Link,
) -> _Rows:
    """Check the input; what `fit_queries` checks is left to it."""
    values, first_of, errors = _checked(score, starts, score_stderr)
    ends = np.asarray(pairs).reshape(-1, 2)
    if ends.size and (not np.issubdtype(ends.dtype, np.integer) or ends.min() < 0 or ends.max() >= len(values)):
        raise InputError(f"pairs must hold document numbers of 0 .. {len(values) - 1}")
    ends = ends.astype(np.int64)
    query: IntArray = np.searchsorted(first_of, ends, side="right") - 1
    if (query[:, 0] == query[:, 1]).any():
        raise InputError("a comparison across queries joins two different queries", remedy="give the others to the fit per query")
    prob = np.asarray(prob_first, np.float64)
    weights = np.ones(len(ends)) if weight is None else np.asarray(weight, np.float64)
    if prob.shape != (len(ends),) or weights.shape != prob.shape:
        raise InputError("prob_first and weight must have one number per pair")
    slope = _attenuation(errors[ends[:, 0]] ** 2 + errors[ends[:, 1]] ** 2, link)
    return _Rows(len(first_of) - 1, query, values[ends[:, 0]] - values[ends[:, 1]], slope, prob, weights, link)


def _estimate_prior_sd(rows: _Rows, seed: int) -> float:
    """The standard deviation at which offsets and prior agree: sum of o^2 = sd^2 x the number of offsets that the data determine.

    The link's usual prior is in it with the weight of `PSEUDO` queries, so that it is what no data leave.
    """
    start = sd = PRIOR_SD[rows.link]
    compared = np.zeros(rows.queries, np.bool_)
    compared[rows.query[~np.isnan(rows.prob) & (rows.weight > 0)]] = True
    for _ in range(100):
        offset = rows.fit(sd).score
        variance = _variances(rows.information(offset), sd, seed, 16)
        determined = np.maximum(1.0 - variance / sd**2, 0.0)[compared].sum()
        before, sd = sd, float(np.sqrt((offset @ offset + PSEUDO * start**2) / (determined + PSEUDO)))
        if abs(np.log(sd / before)) < 0.01:
            break
    return sd


def _checked(score: ArrayLike, starts: ArrayLike, stderr: ArrayLike | None = None) -> tuple[FloatArray, IntArray, FloatArray]:
    """Scores [D], starts [Q + 1] and standard errors [D], 0 where none were given."""
    values, first_of = np.asarray(score, np.float64), np.asarray(starts, np.int64)
    errors = np.zeros(values.shape) if stderr is None else np.asarray(stderr, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError("scores must be finite and one-dimensional")
    if first_of.ndim != 1 or not len(first_of) or first_of[0] != 0 or first_of[-1] != len(values) or (np.diff(first_of) < 0).any():
        raise InputError(f"starts must go from 0 up to the number of documents, {len(values)}")
    if errors.shape != values.shape or not (np.isfinite(errors) & (errors >= 0)).all():
        raise InputError("score_stderr must be finite, >= 0 and as long as the scores")
    return values, first_of, errors


def _best_documents(score: FloatArray, starts: IntArray, depth: int) -> IntArray:
    """Document numbers [Q, depth] of each query's best, best first; -1 where it has fewer."""
    sizes = np.diff(starts)
    query = np.repeat(np.arange(len(sizes)), sizes)
    by_rank = np.lexsort((-score, query))
    rank = np.arange(len(score)) - starts[query]  # by_rank keeps the queries where they are
    best = np.full((len(sizes), depth), -1, np.int64)
    top = rank < depth
    best[query[top], rank[top]] = by_rank[top]
    return best


def _attenuation(variance: FloatArray, link: Link) -> FloatArray:
    """Factor k with F(k m) = E F(x), x ~ N(m, variance): exact for probit, whose F(x) is Phi(sqrt(2) x); MacKay (1992) for logit."""
    per_variance = 2.0 if link == "probit" else np.pi / 8.0
    return np.asarray(1.0 / np.sqrt(1.0 + per_variance * variance))


def _graph(n: int, ends: IntArray, weight: FloatArray) -> csr_array:
    """Symmetric adjacency [n, n] with the weights of parallel edges summed."""
    one, other = ends[:, 0], ends[:, 1]
    both = (np.concatenate([weight, weight]), (np.concatenate([one, other]), np.concatenate([other, one])))
    return coo_array(both, shape=(n, n)).tocsr()


def _variances(graph: csr_array, prior_sd: float, seed: int, draws: int) -> FloatArray:
    """Diagonal [n] of the inverse of the graph's Laplacian + 1 / prior_sd^2.

    A random graph of queries is an expander: a sparse factor of it would be nearly full. So beyond `EXACT` queries the diagonal is
    1 / h_i + Var(conditional mean of i), h the diagonal of the matrix itself: only the second, smaller part is estimated, from draws
    of the posterior (Rao-Blackwell; Siden et al. 2018, "Efficient covariance approximations for large sparse precision matrices").
    """
    n = graph.shape[0]
    precision = graph.sum(axis=1) + prior_sd**-2
    if n <= EXACT:
        return np.diag(cho_solve(cho_factor(np.diag(precision) - graph.toarray()), np.eye(n))).copy() if n else np.zeros(0)
    matrix = (diags_array(precision) - graph).tocsr()
    edges = coo_array(graph)
    upper = edges.row < edges.col
    one, other, root = edges.row[upper], edges.col[upper], np.sqrt(edges.data[upper])
    flow = coo_array((np.concatenate([root, -root]), (np.concatenate([one, other]), np.tile(np.arange(len(one)), 2))), shape=(n, len(one)))
    flow = flow.tocsr()
    second, rng = np.zeros(n), np.random.default_rng(seed)
    for _ in range(draws // 16):  # 16 at a time bound the memory
        right = flow @ rng.standard_normal((len(one), 16)) + rng.standard_normal((n, 16)) / prior_sd
        draw = _conjugate_gradients(matrix, precision, right)
        second += ((draw - (matrix @ draw) / precision[:, None]) ** 2).sum(axis=1)
    return np.asarray(1.0 / precision + second / draws)


def _conjugate_gradients(matrix: csr_array, diagonal: FloatArray, right: FloatArray, tolerance: float = 1e-4) -> FloatArray:
    """Solve matrix x = right [n, k] for all columns at once, the diagonal as preconditioner."""
    x, residual = np.zeros_like(right), right.copy()
    scaled = residual / diagonal[:, None]
    direction = scaled.copy()
    before = (residual * scaled).sum(axis=0)
    goal = tolerance**2 * before
    for _ in range(10 * len(diagonal)):
        image = matrix @ direction
        step = before / np.maximum((direction * image).sum(axis=0), np.finfo(np.float64).tiny)
        x += step * direction
        residual -= step * image
        scaled = residual / diagonal[:, None]
        now = (residual * scaled).sum(axis=0)
        if (now <= goal).all():
            return x
        direction = scaled + (now / np.maximum(before, np.finfo(np.float64).tiny)) * direction
        before = now
    raise ConvergenceError("the standard errors of the offsets were not found", remedy="use a smaller prior_sd")
