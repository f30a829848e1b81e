"""zelo: queries and documents without labels into a reranker you can trust.

An independent, open implementation of zELO (arXiv 2509.12541). Start at `zelo.pipeline`: it is the system on one screen.
"""

from __future__ import annotations

from zelo.errors import ZeloError
from zelo.types import Document, FittedScore, Judgment, Pair, Preference, Qrel, Query, ScoredDoc, Target

__all__ = ["Document", "FittedScore", "Judgment", "Pair", "Preference", "Qrel", "Query", "ScoredDoc", "Target", "ZeloError", "__version__"]

__version__ = "0.1.0"
