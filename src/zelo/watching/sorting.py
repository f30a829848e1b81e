"""Which kind of failure a search is, if it is one. What is decided here is decided from a sealed row: thresholds may change later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["never_ingested", "not_retrieved", "misranked", "unplaced"]
KINDS: dict[Kind, str] = {
    "never_ingested": "never ingested",
    "not_retrieved": "not retrieved by the first stage",
    "misranked": "misranked by the reranker",
    "unplaced": "not retrieved or misranked: the log has no candidates",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A search that failed.

    Attributes:
        kind: see `KINDS`.
        doc_id: the document that should have been on top; "" where there is none.
        win: share of comparisons that it won against what was returned; None where somebody said so, or nothing was found.
        why: the evidence in words.
    """

    kind: Kind
    doc_id: str
    win: float | None
    why: str


def sort_row(row: Mapping[str, Any], win: float, floor: float | None, depth: int) -> Failure | None:
    """Return what kind of failure a judged search is; None = no failure.

    The strongest evidence decides: what somebody expected; a better document that only the source has; that nothing in the corpus is good
    enough; a better document in the corpus, by how far it came.

    Args:
        row: as `judging.judge_searches` makes it.
        win: from this share of won comparisons on, a challenger is better than what was returned.
        floor: a level not above it is not good enough; None = not known yet.
        depth: documents that users look at.
    """
    if row["expected"]:
        return _expected(row, depth)
    better = [c for c in row["challengers"] if c["win"] is not None and c["win"] >= win]
    best = max(better, key=lambda c: c["win"], default=None)
    if best is not None and best["where"] == "source":
        return Failure("never_ingested", best["doc_id"], best["win"], f"{best['doc_id']} of the source beats what was returned")
    level = row["level"]
    if floor is not None and level is not None and level <= floor:
        why = f"the best document of the corpus, {row['best'] or 'none'}, is better than {level:.0%} of good answers elsewhere"
        return Failure("never_ingested", "", None, why)
    if row["empty"] and row["best"]:
        return Failure("not_retrieved", row["best"], None, f"nothing was returned; {row['best']} is in the corpus")
    if best is None:
        return None
    kind, how = _kind(best["where"], row["candidates_logged"])
    place = f"at place {best['rank']}" if best["rank"] else how
    return Failure(kind, best["doc_id"], best["win"], f"{best['doc_id']} wins {best['win']:.0%} against the head; it was {place}")


def _kind(where: str, candidates_logged: bool) -> tuple[Kind, str]:
    if where in ("returned", "candidates"):
        return "misranked", "among the candidates"
    if candidates_logged:
        return "not_retrieved", "not among the candidates"
    return "unplaced", "not returned"


def _expected(row: Mapping[str, Any], depth: int) -> Failure | None:
    said, placed = ", ".join(row["expected"]), row["placed"]
    if placed == "returned":
        return None
    if placed in ("source", "nowhere"):
        return Failure("never_ingested", row["expected"][0], None, f"{said} was expected and is not in the corpus")
    kind, how = _kind(placed, row["candidates_logged"])
    return Failure(kind, row["expected"][0], None, f"{said} was expected and was {how}, not among the first {depth}")
