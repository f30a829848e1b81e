"""What a batch service understands, learned from the requests that it refuses: nobody is there to answer while a batch is written.

Online, a refusal that names a parameter changes how the next request is written (`language_models.dialect`). A batch fails as a
whole where its requests have such a parameter. Its refusals, which no provider bills, teach the same, and its questions are sent
again, in a way that was not refused before. Several batches may be open, written in different ways: what an older way was refused for
says nothing of the questions.
"""

from __future__ import annotations

from typing import Any

from zelo.judges import Comparison
from zelo.language_models.protocol import BadRequest, UnsupportedOutput

Manner = tuple[Any, Any]
"""How requests are written: the adapter's dialect, and the judge's kind of output."""


class Learner:
    """Changes how a judge's requests for batches are written. A judge or service of the user's own may have nothing to change."""

    def __init__(self, judge: Any) -> None:
        """Learn for a `batching.BatchJudge`."""
        self._judge, self._adapter = judge, getattr(judge.batch, "adapter", None)
        self._refused: set[Manner] = set()

    @property
    def manner(self) -> Manner:
        """How requests are written now."""
        return getattr(self._adapter, "dialect", None), getattr(self._judge, "output", None)

    def begin(self, comparison: Comparison) -> Manner:
        """Return how the requests of a batch will be written: in a way that the API has at all, which the first one shows.

        Raises:
            UnsupportedOutput: it has none.
        """
        while True:
            try:
                self._judge.batch.size("q0", self._judge.request(comparison))
                break
            except UnsupportedOutput:
                if not self._weaken(self._judge.output):
                    raise
        return self.manner

    def learn(self, comparison: Comparison, error: Exception, manner: Manner) -> bool:
        """Take in the refusal of a request that was written in a manner; whether asking again is another request, not known to fail."""
        dialect, output = manner
        if self._adapter is None or dialect is None or not isinstance(error, BadRequest) or error.said is None:
            return False
        try:
            learned = self._adapter.learn(self._judge.request(comparison, output), error.said, dialect)
        except UnsupportedOutput:
            learned = self._weaken(output)
        if learned:
            self._refused.add(manner)
        return self.manner != manner and self.manner not in self._refused

    def _weaken(self, output: Any) -> bool:
        weaken = getattr(self._judge, "weaken", None)
        return weaken is not None and bool(weaken(output))
