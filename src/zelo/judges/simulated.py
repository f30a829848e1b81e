"""Judges of known accuracy, bias and failure rate, over labels: for tests and experiments only.

They are not in `JUDGES` and no recipe can name them: who wants one builds it, and hands it the labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_ndtr, logit, ndtri

from zelo.errors import InputError
from zelo.judges import Answer, Comparison
from zelo.judges.journal import contents
from zelo.types import Document, Qrel, Query, Status

Labels = Mapping[str, Mapping[str, float]]
"""Query text -> document text -> gain; a text without a label has gain 0."""

_FAILURES: tuple[Status, ...] = tuple(s for s in get_args(Status) if s != "ok")


def labels_by_text(queries: Iterable[Query], documents: Iterable[Document], qrels: Iterable[Qrel]) -> dict[str, dict[str, float]]:
    """Return a collection's labels as a judge can use them, which sees texts and no ids; of equal texts the highest gain counts.

    Raises:
        InputError: a label names an unknown query or document.
    """
    query_texts = {q.query_id: q.text for q in queries}
    document_texts = {d.doc_id: d.full_text for d in documents}
    labels: dict[str, dict[str, float]] = {text: {} for text in query_texts.values()}
    for row in qrels:
        if row.query_id not in query_texts or row.doc_id not in document_texts:
            raise InputError("a label names an unknown query or document", where=f"{row.query_id} {row.doc_id}")
        gains, text = labels[query_texts[row.query_id]], document_texts[row.doc_id]
        gains[text] = max(gains.get(text, 0.0), row.relevance)
    return labels


def accuracy_of(logits: float, order_bias: float = 0.0, tie_band: float = 0.0) -> float:
    """Return the share of right answers among those that are no ties, in (0, 1).

    Args:
        logits: evidence for the better document.
        order_bias: logits for whichever is shown first; the better one is, in half of the comparisons.
        tie_band: a total below this, in absolute value, is a tie.
    """
    shown = np.array([order_bias, -order_bias])
    right, wrong = expit(logits + shown - tie_band).sum(), expit(-logits - shown - tie_band).sum()
    return float(right / (right + wrong))


class SimulatedJudge:
    """Weighs (gain of the first - gain of the second) / noise + order_bias + a standard logistic draw, in logits.

    It prefers the first document when the total is positive. The draw belongs to the query and the two texts, whichever is
    shown first, so that only `order_bias` tells the two orders apart; a failure belongs to the comparison as shown. All draws
    depend on seed, judge and texts alone, not on the batch, the order of calls or the process. Across queries it weighs each
    document's gain for its own query.
    """

    across = True

    def __init__(
        self,
        name: str,
        gains: Labels | Callable[[str, str], float],
        *,
        accuracy: float | None = None,
        noise: float | None = None,
        order_bias: float = 0.0,
        tie_band: float = 0.0,
        failure_rate: float = 0.0,
        correlation: float = 0.0,
        soft: bool = True,
        seed: int = 0,
    ) -> None:
        """Make a judge; give either `accuracy` or `noise`.

        Args:
            name: in the journal; judges of different names draw differently.
            gains: labels, or a function (query text, document text) -> gain.
            accuracy: share of right answers, ties left out, about documents whose gains differ by 1, in [0.5, 1); the noise
                that gives it, with this bias and tie band, is solved for.
            noise: scale of the logistic noise in units of gain, > 0; infinity = the labels are not looked at.
            order_bias: logits for the document shown first.
            tie_band: logits, >= 0 and at most 20; nearer to 0 than this is a tie.
            failure_rate: share of comparisons without a usable answer, in [0, 1]; their status is one of failed, refused,
                truncated, unparsable, each as likely.
            correlation: in [0, 1]; of the draws (as normal deviates) of two judges of the same seed and correlation.
            soft: whether the preference says how sure the judge is, 2 sigmoid(total) - 1, or is -1, 0 or 1.
            seed: of all draws.

        Raises:
            InputError: a parameter is out of range, or not exactly one of accuracy and noise is given.
        """
        if not (0 <= failure_rate <= 1 and 0 <= correlation <= 1 and 0 <= tie_band <= 20 and np.isfinite(order_bias)):
            raise InputError("a parameter of a simulated judge is out of range", where=f"judge {name}")
        self.name = name
        self.logits_per_gain = _logits_per_gain(name, accuracy, noise, order_bias, tie_band)
        self.prompt_id = (
            f"simulated logits={self.logits_per_gain:.9g} bias={order_bias:g} tie={tie_band:g} failures={failure_rate:g}"
            f" correlation={correlation:g} soft={soft} seed={seed}"
        )
        self._gain = gains if callable(gains) else _Lookup(gains)
        self._bias, self._tie, self._failure_rate, self._soft = order_bias, tie_band, failure_rate, soft
        self._correlation, self._seed = correlation, seed

    def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """Answer every comparison; identical texts tie, unless they are shown for different queries.

        Raises:
            InputError: a query that the labels do not name.
        """
        pairs = [c if _in_order(c) else _swapped(c) for c in comparisons]
        sign = np.array([1.0 if p is c else -1.0 for p, c in zip(pairs, comparisons, strict=True)])
        difference = np.array([self._gain(c.query, c.first) - self._gain(_query_of_second(c), c.second) for c in comparisons])
        total = difference * self.logits_per_gain + self._bias + sign * self._noise(contents(pairs))
        failed = self._uniform(f"failure {self.name}", contents(comparisons))
        answers = []
        for comparison, logits, chance in zip(comparisons, total.tolist(), failed.tolist(), strict=True):
            if chance < self._failure_rate:
                kind = _FAILURES[min(int(chance / self._failure_rate * len(_FAILURES)), len(_FAILURES) - 1)]
                answers.append(Answer(None, kind))
            elif abs(logits) < self._tie or (comparison.query, comparison.first) == (_query_of_second(comparison), comparison.second):
                answers.append(Answer(0.0))
            else:
                answers.append(Answer(float(np.tanh(logits / 2) if self._soft else np.sign(logits))))
        return answers

    def _noise(self, pairs: list[bytes]) -> NDArray[np.float64]:
        """Standard logistic draws [pairs]; a share of their normal deviates is common to all judges of the seed."""
        own, common = (ndtri(self._uniform(purpose, pairs)) for purpose in (f"noise {self.name}", "common noise"))
        normal = np.sqrt(1 - self._correlation) * own + np.sqrt(self._correlation) * common
        return np.asarray(log_ndtr(normal) - log_ndtr(-normal), np.float64)

    def _uniform(self, purpose: str, names: list[bytes]) -> NDArray[np.float64]:
        """Draws [names] in (0, 1), each a hash of the seed, the purpose and the name."""
        key = hashlib.blake2b(f"{self._seed}\0{purpose}".encode("utf-8", "surrogatepass"), digest_size=32).digest()
        draws = [int.from_bytes(hashlib.blake2b(name, digest_size=8, key=key).digest(), "little") for name in names]
        return (np.array(draws, np.float64) // 2.0**12 + 0.5) / 2.0**52


def _query_of_second(comparison: Comparison) -> str:
    return comparison.query if comparison.second_query is None else comparison.second_query


def _swapped(c: Comparison) -> Comparison:
    """The same comparison with the second text first; across queries each text keeps its query."""
    return Comparison(_query_of_second(c), c.second, c.first, None if c.second_query is None else c.query)


def _in_order(c: Comparison) -> bool:
    return (c.first, c.query) <= (c.second, _query_of_second(c))


class _Lookup:
    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def __call__(self, query: str, document: str) -> float:
        if query not in self._labels:
            raise InputError(f"no labels for the query {query[:60]!r}", where="simulated judge", remedy="give it this collection's labels")
        return self._labels[query].get(document, 0.0)


def _logits_per_gain(name: str, accuracy: float | None, noise: float | None, order_bias: float, tie_band: float) -> float:
    if (accuracy is None) == (noise is None):
        raise InputError("a simulated judge needs either accuracy or noise", where=f"judge {name}")
    if noise is not None:
        if not noise > 0:
            raise InputError(f"noise must be > 0, got {noise}", where=f"judge {name}")
        return 1 / noise
    if accuracy is None or not 0.5 <= accuracy < 1:
        raise InputError(f"accuracy must be in [0.5, 1), got {accuracy}", where=f"judge {name}")
    if accuracy == 0.5:
        return 0.0
    most = float(logit(accuracy)) + abs(order_bias) + tie_band + 1  # where the accuracy is surely exceeded
    return float(brentq(lambda logits: accuracy_of(logits, order_bias, tie_band) - accuracy, 0.0, most, xtol=1e-12))
