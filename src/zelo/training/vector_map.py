"""Learn a signal of its own from pooled vectors: q' M d, beside the blend's signals.

M and the weights of the other signals are learned together: cross-entropy of a query's targets, as shares, to the softmax of its
candidates' sums, and a ridge on M. This is convex: one optimum, found by L-BFGS, without rates and epochs. The ridge is chosen by the
loss on held-out queries; a map that does not lower it by more than a standard error is not used, so that a collection on which maps do
not help keeps its signals. The same folds give every training query the signal of a map that has not seen it; a head that learns on
those trusts it as far as it earned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from zelo.encoders.similarity import VectorMap

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Vectors = NDArray[np.float32]

FOLDS = 3
PENALTIES = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
"""Ridges on M that are tried, strong to weak; the way ends where held-out queries get worse."""
RIDGE = 1e-4  # on the weights of the other signals
ITERATIONS = 60  # of L-BFGS, each penalty starting where the one before ended
LEAST = 1e-3  # sum of targets below which a query has nothing to teach


@dataclass(frozen=True)
class Lists:
    """Training queries with their candidates.

    Attributes:
        queries: vectors [q, dim].
        documents: vectors of the different documents [d, dim].
        rows: per query, which documents are its candidates.
        features: per query, the other signals of those [candidates, f].
        targets: per query, of those [candidates] in [0, 1].
    """

    queries: Vectors
    documents: Vectors
    rows: Sequence[IntArray]
    features: Sequence[FloatArray]
    targets: Sequence[FloatArray]


@dataclass(frozen=True)
class Learned:
    """What was found.

    Attributes:
        map: learned on all queries; None = no map was surely better than none.
        signal: per query, of maps that have not seen it [candidates]; empty without a map.
        penalty: the ridge that was chosen; infinity without a map.
        losses: penalty -> loss on held-out queries; infinity stands for no map.
        error: standard error of the best map's gain over no map.
    """

    map: VectorMap | None
    signal: Sequence[FloatArray]
    penalty: float
    losses: dict[float, float]
    error: float


def learn_map(lists: Lists, folds: IntArray, advance: Callable[[int, int], None] = lambda *_: None) -> Learned:
    """Choose the ridge and learn the map.

    Args:
        lists: the queries.
        folds: number of each query's fold [q], in [0, FOLDS).
        advance: called with (penalties tried, penalties).
    """
    problem = _Problem(lists)
    inside = [np.flatnonzero(folds != fold) for fold in range(FOLDS)]
    outside = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
    at = [problem.fit(rows, np.inf, problem.start()) for rows in inside]
    held = {np.inf: problem.held_out(outside, at)}
    best, kept = np.inf, at
    for done, penalty in enumerate(PENALTIES, 1):
        at = [problem.fit(rows, penalty, start) for rows, start in zip(inside, at, strict=True)]
        held[penalty] = problem.held_out(outside, at)
        advance(done, len(PENALTIES))
        if held[penalty].mean() >= held[best].mean() and done > 1:
            break
        best, kept = penalty, at
    advance(len(PENALTIES), len(PENALTIES))
    losses = {penalty: float(values.mean()) for penalty, values in held.items()}
    gain = held[np.inf] - held[best]
    error = float(gain.std() / np.sqrt(len(gain)))
    if not gain.mean() > error:
        return Learned(None, (), np.inf, losses, error)
    whole = problem.fit(np.arange(len(lists.queries)), best, np.mean(kept, axis=0))
    signal: list[FloatArray] = [np.zeros(0)] * len(lists.queries)
    for rows, parameters in zip(outside, kept, strict=True):
        for i, values in zip(rows.tolist(), problem.signal(rows, parameters), strict=True):
            signal[i] = values
    return Learned(problem.as_map(whole), signal, best, losses, error)


class _Problem:
    """The loss over some of the queries; parameters are the weights of the signals [f], then M [dim * dim]."""

    def __init__(self, lists: Lists) -> None:
        every = np.concatenate(lists.features)
        scale = np.where(every.std(0) > 1e-12, every.std(0), 1.0)
        self.features = [((f - every.mean(0)) / scale).astype(np.float32) for f in lists.features]
        # Centered: what all queries, or all documents, have in common would only make M ill-conditioned.
        self.query_center, self.document_center = lists.queries.mean(0), lists.documents.mean(0)
        self.queries, self.documents = lists.queries - self.query_center, lists.documents - self.document_center
        self.rows, self.signals, self.dim = lists.rows, every.shape[1], lists.queries.shape[1]
        sums = np.array([t.sum() for t in lists.targets])
        self.weight = np.where(sums > LEAST, np.minimum(sums, 1.0), 0.0)
        self.shares = [(t / max(s, LEAST)).astype(np.float32) for t, s in zip(lists.targets, sums.tolist(), strict=True)]

    def start(self) -> FloatArray:
        return np.zeros(self.signals + self.dim**2)

    def fit(self, rows: IntArray, penalty: float, start: FloatArray) -> FloatArray:
        """Parameters of least loss over some queries; without a map where the penalty is infinite."""
        size = self.signals if np.isinf(penalty) else len(start)
        ridge = np.repeat([RIDGE, 0.0 if np.isinf(penalty) else penalty], [self.signals, size - self.signals])

        def penalized(parameters: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self.loss(rows, parameters)
            return value + float(ridge @ parameters**2), gradient + 2 * ridge * parameters

        options = {"maxiter": ITERATIONS, "gtol": 1e-6}
        found = minimize(penalized, start[:size], jac=True, method="L-BFGS-B", options=options).x
        return np.concatenate([found, start[size:]])

    def loss(self, rows: IntArray, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Mean cross-entropy of some queries, without the ridge, and its gradient; short parameters have no map."""
        values, gradient = self.losses(rows, parameters)
        total = max(float(self.weight[rows].sum()), LEAST)
        return float(values.sum()) / total, gradient / total

    def losses(self, rows: IntArray, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weighted cross-entropy of each of some queries [rows], and the gradient of their sum."""
        weights = parameters[: self.signals].astype(np.float32)
        mapped = self._mapped(rows, parameters)
        back = None if mapped is None else np.zeros_like(mapped)
        of_weights, values = np.zeros(self.signals), np.zeros(len(rows))
        for place, i in enumerate(rows.tolist()):
            if not self.weight[i]:
                continue
            features, share = self.features[i], self.shares[i]
            z = features @ weights
            if mapped is not None:
                documents = self.documents[self.rows[i]]
                z = z + documents @ mapped[place]
            z = z - z.max()
            grown = np.exp(z)
            values[place] = self.weight[i] * float(np.log(grown.sum()) - share @ z)
            error = (grown / grown.sum() - share) * np.float32(self.weight[i])
            of_weights += error @ features
            if back is not None:
                back[place] = error @ documents
        if back is None:
            return values, of_weights
        return values, np.concatenate([of_weights, (self.queries[rows].T @ back).ravel()])

    def _mapped(self, rows: IntArray, parameters: FloatArray) -> Vectors | None:
        """Return q' M of some queries [rows, dim]."""
        if len(parameters) == self.signals:
            return None
        return np.asarray(self.queries[rows] @ parameters[self.signals :].reshape(self.dim, self.dim).astype(np.float32), np.float32)

    def held_out(self, outside: Sequence[IntArray], at: Sequence[FloatArray]) -> FloatArray:
        """Loss of each query that has something to teach, under the parameters of its fold, which have not seen it."""
        values = np.zeros(len(self.weight))
        for rows, parameters in zip(outside, at, strict=True):
            values[rows] = self.losses(rows, parameters)[0]
        taught = self.weight > 0
        return values[taught] if taught.any() else np.zeros(1)

    def signal(self, rows: IntArray, parameters: FloatArray) -> list[FloatArray]:
        """Return q' M d of the candidates of some queries."""
        mapped = self.queries[rows] @ self.as_map(parameters).weights
        return [(self.documents[self.rows[i]] @ mapped[place]).astype(np.float64) for place, i in enumerate(rows.tolist())]

    def as_map(self, parameters: FloatArray) -> VectorMap:
        weights = parameters[self.signals :].reshape(self.dim, self.dim).astype(np.float32)
        return VectorMap(weights, self.query_center, self.document_center)
