"""A judge that reasons at length: its preference is the mean over k traces and both orders.

Think offline, score online: what takes minutes here is paid once per pair, and the reranker that learns from it never thinks. One
trace is a coin with a leaning; the mean of several says how sure the judge is, and both orders cancel what place alone adds
(arXiv 2503.03064: the mean of a judge's distribution beats its mode, and thinking narrows that distribution).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from zelo.errors import InputError, JudgeError, RecipeError, RetryError, ZeloError
from zelo.judges import Answer, Comparison
from zelo.judges.checking import told
from zelo.judges.injection import flags_of
from zelo.judges.parsing import cut_note
from zelo.judges.remembering import ENTRY, Recent
from zelo.language_models.protocol import LanguageModel, Reply, Request
from zelo.reasoning.pairs import pair_prompt
from zelo.reasoning.prompt_files import Prompt, load_prompt
from zelo.reasoning.verify import ChoiceVerifier
from zelo.reasoning.writing import Knobs, Writer
from zelo.recipe import Model, Recipe
from zelo.types import Status

PREFIX = "thinking:"
PROMPT = "long"
VOTES = {"A": 1.0, "tie": 0.0, "B": -1.0}
KEPT = 64 * 2**20
"""Bytes of finished traces that are kept while their sisters are asked for again."""


@dataclass
class _Traces:
    """The traces of a comparison by their place, first order first; `unbilled` are those that no attempt has counted yet."""

    replies: list[Reply | None]
    unbilled: list[Reply] = field(default_factory=list)

    @property
    def finished(self) -> list[Reply]:
        return [reply for reply in self.replies if reply is not None]


class ThinkingJudge:
    """Asks a language model k times in each order for a trace that ends in A, B or tie. A `RemoteJudge`.

    A trace without a clear end has no vote. With votes in one order only there is no preference: it would hold the effect of place.
    Preferences are soft by nature and not clamped, whatever the recipe says of other language models.
    """

    clamp = False
    across = False

    def __init__(self, model: LanguageModel, prompt: Prompt, knobs: Knobs, traces: int, facts: Model, characters: int) -> None:
        """Ask a model.

        Args:
            model: who is asked.
            prompt: of kind "solve", without examples.
            knobs: how it writes.
            traces: k, per order.
            facts: prices and limits.
            characters: most of each document.

        Raises:
            RecipeError: several traces at temperature 0, or a prompt that takes examples.
        """
        if prompt.example:
            raise RecipeError(
                f"the prompt {prompt.id!r} needs examples", where=model.name, remedy="put them into a prompt file of your own"
            )
        if traces > 1 and knobs.temperature == 0:
            what = f"{traces} traces at temperature 0 are {traces} times the same"
            raise RecipeError(what, where=f"{PREFIX}{model.name}", remedy="set judge.temperature above 0, or traces = 1")
        self.name = f"{PREFIX}{model.name}"
        self._model, self._prompt, self._knobs, self._traces, self._characters = model, prompt, knobs, traces, characters
        self._bill = Writer(model, knobs, "", facts)  # knows what replies cost
        self.concurrency = max(1, facts.concurrency // (2 * traces))  # a comparison is so many calls at once
        self.requests_per_minute, self.tokens_per_minute = facts.requests_per_minute, facts.tokens_per_minute
        self.calls_per_attempt = 2 * traces
        self._kept: Recent[Comparison, _Traces] = Recent(KEPT)
        # Not how long a trace may be: an answer that came within less room is the same answer.
        self.prompt_id = f"{prompt.name} {traces}x2 {characters} {knobs.temperature!r}"

    async def attempt(self, comparison: Comparison) -> Answer:
        """Ask for all traces of a comparison at once; see `RemoteJudge.attempt`.

        Where some fail, the finished ones are kept in memory, and the next attempt asks for the failed ones only. What finished traces
        took is told once: by the attempt in which they came, also where that fails.
        """
        if comparison.second_query is not None:
            return Answer(None, "failed", note="this judge does not compare across queries")
        flags = flags_of(comparison)
        traces = self._kept.pop(comparison) or _Traces([None] * (2 * self._traces))
        missing = [place for place, reply in enumerate(traces.replies) if reply is None]
        try:
            asked = (self._ask(comparison, traces, place) for place in missing)
            errors = [e for e in await asyncio.gather(*asked, return_exceptions=True) if e is not None]
            return self._failed(traces, errors, flags) if errors else self._read(traces, flags)
        finally:  # also when it took too long
            if len(traces.finished) < len(traces.replies):
                self._kept.put(comparison, traces, _size(comparison, traces))

    async def _ask(self, comparison: Comparison, traces: _Traces, place: int) -> None:
        reply = await self._model.complete(self._request(comparison, swapped=place >= self._traces))
        traces.replies[place] = reply
        traces.unbilled.append(reply)

    def _failed(self, traces: _Traces, errors: Sequence[BaseException], flags: str) -> Answer:
        """Raise what concerns every comparison, else what may work later, else answer that it failed."""
        read, written, cost, _ = self._take_bill(traces)
        known = [e for e in errors if isinstance(e, RetryError | JudgeError)]
        read, written = read + sum(e.input_tokens for e in known), written + sum(e.output_tokens for e in known)
        cost += sum(e.cost for e in known)
        for error in errors:
            if isinstance(error, JudgeError):
                error.input_tokens, error.output_tokens, error.cost = read, written, cost
            if isinstance(error, JudgeError) or not isinstance(error, Exception):
                raise error
        again = [_repeatable(e) for e in errors if isinstance(e, RetryError) or not isinstance(e, ZeloError)]
        if not again:
            return Answer(None, "failed", "", read, written, cost, note=str(errors[0]), flags=flags)
        waits = [e.after for e in again if e.after is not None]
        limited, sent = all(e.limited for e in again), any(e.sent for e in again)
        took = {"input_tokens": read, "output_tokens": written}
        raise RetryError(str(again[0]), after=max(waits, default=None), limited=limited, cost=cost, sent=sent, **took)

    def _request(self, comparison: Comparison, *, swapped: bool) -> Request:
        texts = (comparison.second, comparison.first) if swapped else (comparison.first, comparison.second)
        asked = pair_prompt(comparison.query, *texts, characters=self._characters)
        return Request(self._prompt.messages("judging", problem=asked), self._knobs.max_tokens, self._knobs.temperature)

    def _read(self, traces: _Traces, flags: str) -> Answer:
        verifier, sides, shown, voted, replies = ChoiceVerifier(), [], [], 0, traces.finished
        for sign, rows in ((1.0, replies[: self._traces]), (-1.0, replies[self._traces :])):
            votes = [VOTES[said] for said in (verifier.extract(r.text) if r.finish == "stop" else "" for r in rows) if said]
            voted += len(votes)
            sides.append(sign * sum(votes) / len(votes) if votes else None)
            shown += [f"[{'first' if sign > 0 else 'second'} order]\n{r.text}" for r in rows]
        text, note = "\n\n".join(shown), f"{voted} of {len(replies)} traces voted"
        if sides[0] is not None and sides[1] is not None:
            return Answer((sides[0] + sides[1]) / 2, "ok", text, *self._take_bill(traces), note, flags)
        cut, refused = ([r for r in replies if r.finish in kinds] for kinds in (("length",), ("refusal", "filter")))
        note = f"{note}, none in one order"
        if cut:
            note = f"{note}; {cut_note(self._knobs.max_tokens, max(r.output_tokens for r in cut))}"
        status: Status = "truncated" if cut else "refused" if refused else "unparsable"
        return Answer(None, status, text, *self._take_bill(traces), note, flags)

    def _take_bill(self, traces: _Traces) -> tuple[int, int, float, float]:
        """Return tokens read and written, US dollars and seconds of the traces that no attempt has counted yet, and count them."""
        new, traces.unbilled = traces.unbilled, []
        read, written = sum(r.input_tokens for r in new), sum(r.output_tokens for r in new)
        return read, written, sum(map(self._bill.cost, new), 0.0), max((r.seconds for r in new), default=0.0)

    def estimate(self, comparison: Comparison) -> tuple[int, int, float]:
        """Return input tokens, most output tokens and most US dollars of one comparison: of all its traces, as `Writer.estimate`."""
        calls = 2 * self._traces
        size = calls * sum(len(text.encode("utf-8")) for _, text in self._request(comparison, swapped=False).messages)
        written, facts = calls * self._knobs.max_tokens, self._bill.facts
        return -(-size // 4), written, (size / 2.5 * facts.input_price + written * facts.output_price) / 1e6

    async def close(self) -> None:
        """Close the connections."""
        await self._model.close()


def _size(comparison: Comparison, traces: _Traces) -> int:
    """Return about how many bytes they hold."""
    texts = (comparison.query, comparison.first, comparison.second, *(r.text for r in traces.finished))
    return ENTRY * (1 + len(traces.replies)) + sum(map(sys.getsizeof, texts))


def _repeatable(error: BaseException) -> RetryError:
    """Return an error of another library as one of zelo's."""
    if isinstance(error, RetryError):
        return error
    lost = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
    return RetryError(told(error) if isinstance(error, Exception) else str(error), sent=lost)


def thinking_judge(name: str, recipe: Recipe, model: LanguageModel | None = None) -> ThinkingJudge:
    """Make the judge of a recipe that goes by `thinking:` and a language model's name; `model` stands in for the one of that name.

    Raises:
        RecipeError: no such model, several traces at temperature 0, or a prompt that does not fit.
        InputError: its prompt is none, or its folder holds no model.
        JudgeError: the model cannot be asked, for lack of a key for example.
    """
    from zelo.reasoning.local import open_writer_model

    judging, facts = recipe.judge, recipe.judge.models.get(name, Model())
    knobs = Knobs(judging.max_output_tokens, judging.temperature)
    prompt = thinking_prompt(name, recipe)
    asked = model or open_writer_model(name.removeprefix(PREFIX), judging.timeout)
    return ThinkingJudge(asked, prompt, knobs, facts.traces, facts, judging.document_characters)


def thinking_prompt(name: str, recipe: Recipe) -> Prompt:
    """Return the prompt of a thinking judge.

    Raises:
        RecipeError: the recipe asks for what such a prompt has no place for.
        InputError: there is no such prompt.
    """
    for key in ("criterion", "context"):
        if getattr(recipe.judge, key).strip():
            remedy = "say it in a prompt file of your own, and name that in judge.models"
            raise RecipeError(f"a thinking judge has no place for judge.{key}", where=name, remedy=remedy)
    facts = recipe.judge.models.get(name, Model())
    if facts.batch:
        raise RecipeError("a thinking judge is not asked by a batch service", where=name, remedy="set batch = false")
    try:
        return load_prompt(facts.prompt or PROMPT, "solve")
    except InputError as error:
        raise InputError(error.what, where=f'judge.models."{name}".prompt', remedy=error.remedy) from None
