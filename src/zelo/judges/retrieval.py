"""Judges that need no network and no key: each goes by one signal of retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from zelo.core.groups import group_rows
from zelo.encoders.similarity import DenseSimilarity, LateInteraction, LexicalSimilarity, Similarity
from zelo.judges import Answer, Comparison, Materials

SLOPE = 0.25
"""Confidence per standard deviation of a query's similarities. Small: the preference then stays in proportion to the
difference, and the pooled preferences of a sparse graph keep what the judges know of the magnitude (experiments/judges)."""
TIE = 0.01
"""Preferences nearer to 0 than this are ties."""


class RetrievalJudge:
    """Prefers the text with the higher similarity, the more surely the larger the difference.

    preference = 2 Phi(SLOPE z) - 1, with z the difference in standard deviations of the similarities of all texts that were
    shown for the query in one call.
    """

    sees_whole_queries = True
    """It is shown what it has answered before too, so that a later round of a few pairs is measured against all texts of the query."""

    def __init__(self, name: str, similarity: Similarity, identity: str = "") -> None:
        """Judge under a name, by a similarity; `identity` says what the similarity was made from."""
        self.name = name
        self.prompt_id = f"slope={SLOPE} tie={TIE} {identity}".strip()
        self._similarity = similarity

    def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """Answer every comparison; never fails."""
        answers: list[Answer] = [Answer(0.0)] * len(comparisons)
        for query, rows in group_rows([c.query for c in comparisons]).items():
            place: dict[str, int] = {}
            for i in rows:
                place.setdefault(comparisons[i].first, len(place))
                place.setdefault(comparisons[i].second, len(place))
            similarity = self._similarity.score(query, list(place))
            spread = float(similarity.std())
            if spread <= 1e-12:  # all alike: ties
                continue
            first = np.array([place[comparisons[i].first] for i in rows])
            second = np.array([place[comparisons[i].second] for i in rows])
            preference = 2 * ndtr(SLOPE * (similarity[first] - similarity[second]) / spread) - 1
            for i, value in zip(rows, preference.tolist(), strict=True):
                answers[i] = Answer(0.0 if abs(value) < TIE else value)
        return answers


def lexical(materials: Materials) -> RetrievalJudge:
    """Make the judge that goes by words."""
    return RetrievalJudge("lexical", LexicalSimilarity(materials.lexical()), materials.identity)


def dense(materials: Materials) -> RetrievalJudge:
    """Make the judge that goes by the meaning of the whole."""
    return RetrievalJudge("dense", DenseSimilarity(materials.bank()), materials.identity)


def late_interaction(materials: Materials) -> RetrievalJudge:
    """Make the judge that goes by the best match of each token."""
    return RetrievalJudge("late_interaction", LateInteraction(materials.bank(), *materials.token_frequency()), materials.identity)
