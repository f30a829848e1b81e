"""zelo: queries and documents without labels into a reranker you can trust.

An independent, open implementation of zELO (arXiv 2509.12541). Start at `zelo.pipeline`: it is the system on one screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zelo.errors import ZeloError
from zelo.types import Document, FittedScore, Judgment, Pair, Preference, Qrel, Query, ScoredDoc, Target

if TYPE_CHECKING:
    from zelo.tables import design_pairs, fit_scores, next_pairs

__all__ = [
    "Document",
    "FittedScore",
    "Judgment",
    "Pair",
    "Preference",
    "Qrel",
    "Query",
    "ScoredDoc",
    "Target",
    "ZeloError",
    "__version__",
    "design_pairs",
    "fit_scores",
    "next_pairs",
]

__version__ = "0.1.0"

_TABLES = ("design_pairs", "fit_scores", "next_pairs")


def __getattr__(name: str) -> Any:
    """Load what works on tables when it is first used: `import zelo` needs no NumPy."""
    if name in _TABLES:
        from zelo import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
