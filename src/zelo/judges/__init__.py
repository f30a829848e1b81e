"""Who compares documents. One more judge is one more file with a `judge` method, and one line in `JUDGES`.

A judge sees what is shown, a query and two texts in an order, and never the stored names or order.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from zelo.errors import RecipeError
from zelo.types import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zelo.encoders.similarity import LexicalStatistics, VectorBank


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge is shown: which of two texts answers the query better?"""

    query: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge says.

    `preference` in [-1, 1] is positive when the text shown **first** is better, 0 is a tie, None is no usable answer, and
    then `status` says why. `tokens` and `cost` (US dollars) are what the answer took.
    """

    preference: float | None
    status: Status = "ok"
    reasoning: str = ""
    tokens: int = 0
    cost: float = 0.0


@runtime_checkable
class Judge(Protocol):
    """Anything that compares. `name` is its name in the journal; `prompt_id` changes when its way of asking does."""

    name: str
    prompt_id: str

    def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """Answer every comparison, in order; comparisons of one query come together in one call."""
        ...


@dataclass(frozen=True)
class Materials:
    """What offline judges are made from: the corpus's word statistics, and vectors.

    `identity` changes when any of it does: an answer given from other materials is another answer.
    """

    lexical: Callable[[], LexicalStatistics]
    bank: Callable[[], VectorBank]
    token_frequency: Callable[[], tuple[NDArray[np.int64], int]]
    identity: str


@dataclass(frozen=True)
class KnownJudge:
    """A judge that recipes can name: what it goes by, and the `module:function` that makes it from materials."""

    about: str
    maker: str


JUDGES: Mapping[str, KnownJudge] = {
    "lexical": KnownJudge("the words of the question, BM25 with the corpus's statistics", "zelo.judges.retrieval:lexical"),
    "dense": KnownJudge("the meaning of the whole, cosine of the encoder's vectors", "zelo.judges.retrieval:dense"),
    "late_interaction": KnownJudge(
        "the question's words in context, best match of each token, rare ones weighing more", "zelo.judges.retrieval:late_interaction"
    ),
}
"""By name. All run offline with the small encoder."""


def known_judge(name: str) -> str:
    """Return the name of a judge of the ensemble.

    Raises:
        RecipeError: no such judge. The simulated ones are not here: they read labels, and are built by tests and experiments.
    """
    if name not in JUDGES:
        raise RecipeError(f"no judge {name!r}", where="judge.ensemble", remedy=f"judges: {', '.join(JUDGES)}")
    return name


def make_judge(name: str, materials: Materials) -> Judge:
    """Build a judge of the ensemble by name.

    Raises:
        RecipeError: no such judge.
    """
    module, _, function = JUDGES[known_judge(name)].maker.partition(":")
    judge: Judge = getattr(importlib.import_module(module), function)(materials)
    return judge
