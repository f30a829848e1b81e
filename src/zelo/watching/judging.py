"""What the judges say of a search: do the challengers beat what was returned, and is the best of all good enough?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.core.comparison_graph import rng_for
from zelo.judges import Comparison
from zelo.watching.finding import Doc, Prepared

FloatArray = NDArray[np.float64]
KEPT_RETURNED = 20
"""Ids of returned documents that a row keeps, for people."""
KEPT_CHARACTERS = 240
"""Of each compared document's text: the evidence stays what it was when the corpus changes."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A query with the document that answers it best: what a good answer looks like in this corpus."""

    query: str
    text: str


class Panel(Protocol):
    """The judges of some searches.

    Attributes:
        weights: of the judges [j], >= 0 with a positive sum.
        across: which of them compare across queries [j].
    """

    weights: FloatArray
    across: NDArray[np.bool_]

    def ask(self, comparisons: Sequence[Comparison]) -> FloatArray:
        """Return preferences [n, j] in [-1, 1], positive for the text shown first; NaN = no usable answer, or not asked for."""
        ...

    def levels(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return per judge [j] the share of good answers elsewhere than which the best of the texts is better, NaN = cannot say."""
        ...


def judge_searches(
    prepared: Sequence[Prepared], panel: Panel, anchors: Sequence[Anchor], per_search: int, seed: int
) -> list[dict[str, Any]]:
    """Have searches judged.

    Args:
        prepared: the searches.
        panel: the judges.
        anchors: good answers elsewhere; may be empty.
        per_search: anchors that the best document of a search is compared with, for judges that can.
        seed: of the order in which texts are shown, and of the anchors' choice.

    Returns:
        One row per search; `quality` and `level` in [0, 1] or None, see docs/watching.md.
    """
    pairs = [(p, c, h) for p in prepared for c in p.challengers for h in p.head]
    answers = _ask(panel, [(p.search.query, c.text, h.text, None) for p, c, h in pairs], seed)
    rows, at = [], 0
    for p in prepared:
        size = len(p.challengers) * len(p.head)
        won = _shares(answers[at : at + size]).reshape(len(p.challengers), len(p.head), len(panel.weights))
        at += size
        rows.append(_row(p, won, panel.weights))
    _add_levels(rows, prepared, panel, anchors, per_search, seed)
    return rows


def _ask(panel: Panel, questions: Sequence[tuple[str, str, str, str | None]], seed: int) -> FloatArray:
    """Ask (query, first, second, second's query), each in an order drawn from its content; signs are of the order given."""
    turned = [rng_for(seed, f"{q}\0{a}\0{b}", "watch order").random() < 0.5 for q, a, b, _ in questions]
    shown = []
    for (query, first, second, other), turn in zip(questions, turned, strict=True):
        if not turn:
            shown.append(Comparison(query, first, second, other))
        elif other is None:
            shown.append(Comparison(query, second, first))
        else:
            shown.append(Comparison(other, second, first, query))
    if not shown:
        return np.zeros((0, len(panel.weights)))
    return np.asarray(panel.ask(shown) * np.where(turned, -1.0, 1.0)[:, None], np.float64)


def _shares(preferences: FloatArray) -> FloatArray:
    """Wins as 1, ties as 1/2, losses as 0; only the side counts, for judges differ in how sharply they speak."""
    return np.asarray((np.sign(preferences) + 1.0) / 2.0, np.float64)


def _mean(won: FloatArray, weights: FloatArray) -> float | None:
    """Weighted mean over everything but missing answers; None without any."""
    mass = np.broadcast_to(weights, won.shape) * ~np.isnan(won)
    total = float(mass.sum())
    return float((mass * np.nan_to_num(won)).sum() / total) if total > 0 else None


def _row(p: Prepared, won: FloatArray, weights: FloatArray) -> dict[str, Any]:
    """Return what is known of a search before its level; `won` [challengers, head, judges] are the challengers' wins."""
    wins = [_mean(of_one, weights) for of_one in won]
    beaten = _mean(won, weights)
    search = p.search
    return {
        "place": search.place,
        "time": search.time.isoformat(),
        "query": search.query,
        "customer": search.customer,
        "returned": [doc.doc_id for doc in search.returned[:KEPT_RETURNED]],
        "empty": not search.returned,
        "clicks": None if search.clicks is None else list(search.clicks),
        "expected": list(search.expected),
        "placed": p.placed,
        "candidates_logged": search.candidates is not None,
        "unknown": p.unknown,
        "head": [doc.doc_id for doc in p.head],
        "challengers": [
            {"doc_id": c.doc_id, "where": c.where, "rank": c.rank, "win": win} for c, win in zip(p.challengers, wins, strict=True)
        ],
        "words": {doc.doc_id: " ".join(doc.text[: 4 * KEPT_CHARACTERS].split())[:KEPT_CHARACTERS] for doc in (*p.head, *p.challengers)},
        "quality": None if beaten is None else 1.0 - beaten,
        "noise": _noise(won, weights),
        "missing": int(np.isnan(won).sum()),
        "level": None,
        "best": _best(p, wins, won, weights),
    }


def _noise(won: FloatArray, weights: FloatArray) -> float | None:
    """Variance of a search's quality by the judges' disagreement: what another draw of such judges would change."""
    by_judge = [_mean(won[:, :, j], np.ones(1)) for j in range(won.shape[2])]
    known = np.array([(q, w) for q, w in zip(by_judge, weights.tolist(), strict=True) if q is not None and w > 0])
    if len(known) < 2:
        return None
    share = known[:, 1] / known[:, 1].sum()
    return float(known[:, 0].var(ddof=1) * (share @ share))


def _best(p: Prepared, wins: Sequence[float | None], won: FloatArray, weights: FloatArray) -> str:
    """Return the id of the best document that can be found: a challenger that beats the head, else the head's best."""
    there = [(win, c.doc_id) for c, win in zip(p.challengers, wins, strict=True) if win is not None and c.where != "source"]
    if there and max(there)[0] > 0.5:
        return max(there)[1]
    if p.head:
        losses = [_mean(won[:, i], weights) for i in range(len(p.head))]
        return p.head[int(np.argmin([0.5 if loss is None else loss for loss in losses]))].doc_id
    return next((c.doc_id for c in p.challengers if c.where != "source"), "")


def _add_levels(
    rows: list[dict[str, Any]], prepared: Sequence[Prepared], panel: Panel, anchors: Sequence[Anchor], per_search: int, seed: int
) -> None:
    """Say how the best document of each search compares with good answers to other queries."""
    asked: list[tuple[int, tuple[str, str, str, str | None]]] = []
    for i, (row, p) in enumerate(zip(rows, prepared, strict=True)):
        text = next((doc.text for doc in (*p.head, *p.challengers) if doc.doc_id == row["best"]), None)
        if text is None or not anchors or not panel.across.any():
            continue
        rng = rng_for(seed, p.search.place, "anchors")
        chosen = rng.permutation(len(anchors))[:per_search].tolist()
        asked += [(i, (p.search.query, text, anchors[a].text, anchors[a].query)) for a in chosen]
    answers = _shares(_ask(panel, [question for _, question in asked], seed))
    answers[:, ~panel.across] = np.nan
    of_row: dict[int, list[int]] = {}
    for k, (i, _) in enumerate(asked):
        of_row.setdefault(i, []).append(k)
    for i, (row, p) in enumerate(zip(rows, prepared, strict=True)):
        texts = [doc.text for doc in _there(p)]
        by_judge = panel.levels(p.search.query, texts) if texts else np.zeros(len(panel.weights))
        mine = answers[of_row.get(i, [])]
        compared = [_mean(mine[:, [j]], np.ones(1)) for j in range(mine.shape[1])] if len(mine) else [None] * len(panel.weights)
        known = np.array([level if c is None else c for c, level in zip(compared, by_judge.tolist(), strict=True)], np.float64)
        row["level"] = _mean(known, panel.weights)


def _there(p: Prepared) -> list[Doc]:
    """Documents that the live system could have shown: all but those that only the source has."""
    return [doc for doc in (*p.head, *p.challengers) if doc.where != "source"]
