"""Several documents ordered in one call, and what an order says about pairs.

One call about k documents reads each of them once, where k (k - 1) / 2 comparisons read each of them k - 1 times; its pairs are
not independent, though, and position counts more. It is a tool for Python and a rival in the table of `zelo evaluate --system
listwise:MODEL`; recipes have judges of pairs only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from zelo.errors import InputError
from zelo.judges.parsing import Unparsable, order_schema, parse_order
from zelo.judges.prompt_files import load_prompt
from zelo.judges.prompting import Prompter
from zelo.language_models.protocol import BadRequest, LanguageModel, Output, Reply, Request, UnsupportedOutput
from zelo.types import Status

MOST = 20
"""Documents per call; longer lists are ordered by overlapping calls, which is not done here."""

_WEAKER: dict[Output, Output] = {"schema": "json", "json": "text"}
_STATUS: dict[str, Status] = {"length": "truncated", "refusal": "refused", "filter": "refused"}


@dataclass(frozen=True, slots=True)
class Ranking:
    """An answer to one call.

    Attributes:
        order: places of the documents as given, best first; None is no usable answer, and then `status` says why.
        status: "ok" exactly when there is an order.
        reply: what it took; None if the server refused the request.
        note: how it was read, or what went wrong.
    """

    order: tuple[int, ...] | None
    status: Status
    reply: Reply | None
    note: str

    def preferences(self) -> list[tuple[int, int, float]]:
        """Return (i, j, preference) for every pair of places i < j: 1 if i stands before j, -1 otherwise; none without an order.

        The order says which of two is better and not by how much.
        """
        if self.order is None:
            return []
        place = {document: n for n, document in enumerate(self.order)}
        return [(i, j, 1.0 if place[i] < place[j] else -1.0) for i, j in combinations(range(len(place)), 2)]


class ListwiseJudge:
    """Asks a language model for the order of up to 20 documents."""

    def __init__(self, model: LanguageModel, prompter: Prompter | None = None, *, max_output_tokens: int = 1024) -> None:
        """Ask a model, with the prompt `rank` unless told otherwise.

        Raises:
            InputError: the prompt does not ask for an order.
        """
        self.name, self._model = model.name, model
        self._prompter = prompter or Prompter(load_prompt("rank"))
        if self._prompter.prompt.answer != "order":
            raise InputError(f"prompt {self._prompter.prompt.id!r} does not ask for an order")
        self.prompt_id = f"{self._prompter.prompt.id} {self._prompter.digest}"
        self._most_output = max_output_tokens
        self.output: Output = "schema"

    def estimate(self, query: str, texts: Sequence[str]) -> tuple[int, int]:
        """Return the tokens that a call reads, at bytes / 2.5, which is a bound for most texts, and the most that it writes."""
        messages, _ = self._prompter.write_list(query, list(texts), self.output)
        return math.ceil(sum(len(text.encode("utf-8")) + 16 for _, text in messages) / 2.5), self._most_output

    async def close(self) -> None:
        """Close the connections."""
        await self._model.close()

    async def rank(self, query: str, texts: Sequence[str]) -> Ranking:
        """Ask once for the order of 2 to 20 documents, shown as they are given.

        Raises:
            InputError: fewer or more documents.
            RetryError: it may work when asked again.
            JudgeError: it will not work for any documents.
        """
        if not 2 <= len(texts) <= MOST:
            raise InputError(f"{len(texts)} documents to order", remedy=f"give 2 to {MOST}")
        while True:
            output = self.output
            messages, names = self._prompter.write_list(query, list(texts), output)
            schema = order_schema(names, max(80, int(0.6 * self._most_output))) if output == "schema" else None
            try:
                reply = await self._model.complete(Request(messages, self._most_output, 0.0, schema, output))
            except UnsupportedOutput as error:
                if output not in _WEAKER:
                    return Ranking(None, "failed", None, str(error))
                self.output = _WEAKER[output] if self.output == output else self.output
                continue
            except BadRequest as error:
                return Ranking(None, "failed", None, str(error))
            return _read(reply, names, output)


def _read(reply: Reply, names: Sequence[str], output: Output) -> Ranking:
    if reply.finish != "stop":
        return Ranking(None, _STATUS[reply.finish], reply, f"finished with {reply.finish}")
    try:
        return Ranking(tuple(parse_order(reply.text, names)), "ok", reply, output)
    except Unparsable as error:
        return Ranking(None, "unparsable", reply, f"{output}: {error}")
