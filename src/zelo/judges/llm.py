"""A language model as a judge: one comparison is one question (mode "reason"), or two of one token each (mode "logprobs").

In mode "reason" the model writes reasons and then a score, as structured output where the server has it. In mode "logprobs" it is
asked for one label in each order, and the log odds of the two labels are averaged: what order and label add, cancels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from zelo.errors import InputError, RecipeError, RetryError
from zelo.judges import Answer, Comparison
from zelo.judges.injection import flags_of
from zelo.judges.parsing import Unparsable, cut_note, parse_score, preference_of_labels, score_schema, wrapping_note
from zelo.judges.prompt_files import Prompt, load_across, load_prompt
from zelo.judges.prompting import Prompter, Question
from zelo.language_models.names import is_model_name, open_batches, open_model
from zelo.language_models.protocol import BadRequest, BatchModel, LanguageModel, Output, Reply, Request, UnsupportedOutput
from zelo.recipe import Model, Recipe
from zelo.types import Status

Mode = Literal["reason", "logprobs"]
PROMPTS: Mapping[Mode, str] = {"reason": "compare", "logprobs": "label"}
TOP_LOGPROBS = 20
"""As many as all servers give."""

_WEAKER: Mapping[Output, Output] = {"schema": "json", "json": "text"}
_UNUSABLE: Mapping[str, tuple[Status, str]] = {
    "refusal": ("refused", "refused by the model"),
    "filter": ("refused", "refused by the provider's filter"),
}
_KEPT = 4000  # characters of an unusable answer that are kept for people to read


class LanguageModelJudge:
    """Asks a language model which of two documents is better. A `RemoteJudge`.

    Preferences are as the model gave them, in [-1, 1]; `clamp` says that the caller shall clamp them (`parsing.clamped`) when it
    uses them, so that the journal keeps what was said and the recipe may change its mind without paying again.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompter: Prompter,
        across: Prompter | None = None,
        *,
        facts: Model | None = None,
        max_output_tokens: int = 1024,
        temperature: float | None = 0.0,
        clamp: bool = True,
        batch: BatchModel | None = None,
    ) -> None:
        """Ask a model with a prompt.

        Args:
            model: who is asked.
            prompter: writes the questions; its prompt's kind of answer, a score or a label, is the mode.
            across: the same for comparisons across queries, None = such questions are not for this judge.
            facts: prices and limits.
            max_output_tokens: of one answer in mode "reason".
            temperature: None = the server's.
            clamp: what `clamp` says.
            batch: the model's batch service, if it is to be asked by that; mode "reason" only.

        Raises:
            RecipeError: the two prompts want answers of different kinds, or not of one document against another.
        """
        kind = prompter.prompt.answer
        if kind == "order" or (across is not None and across.prompt.answer != kind):
            raise RecipeError(f"prompt {prompter.prompt.id!r} does not ask about two documents", where=model.name)
        self.name, self.clamp, self.across = model.name, clamp, across is not None
        self.mode: Mode = "reason" if kind == "score" else "logprobs"
        self.output: Output = "schema" if self.mode == "reason" else "text"
        self._model, self._prompter, self._across, self.batch = model, prompter, across, batch
        self.times_out = bool(getattr(model, "times_out", False))
        self._facts = facts or Model()
        self.concurrency, self.calls_per_attempt = self._facts.concurrency, 1 if self.mode == "reason" else 2
        self.requests_per_minute, self.tokens_per_minute = self._facts.requests_per_minute, self._facts.tokens_per_minute
        self._most_output = max_output_tokens if self.mode == "reason" else 1
        self._temperature = temperature
        # Three texts and the rest of the object fit into the limit at two characters per token; English has about four.
        self._schema = score_schema(max(80, int(0.6 * max_output_tokens)))
        self._question = lru_cache(maxsize=256)(self._write)  # asked for twice: to estimate and to send
        digests = [prompter.digest, across.digest if across else "", self.mode, repr(temperature)]
        self.prompt_id = f"{prompter.prompt.id} {self.mode} {hashlib.sha256(' '.join(digests).encode()).hexdigest()[:12]}"

    async def attempt(self, comparison: Comparison) -> Answer:
        """Ask once; see `RemoteJudge.attempt`."""
        flags = flags_of(comparison)
        try:
            if self.mode == "logprobs":
                return await self._attempt_labels(comparison, flags)
            while True:
                output = self.output
                try:
                    reply = await self._model.complete(self.request(comparison, output))
                except UnsupportedOutput:
                    if not self.weaken(output):
                        raise
                    continue
                return self.read(reply, output, flags)
        except BadRequest as error:
            return Answer(None, "failed", note=str(error), flags=flags)

    def weaken(self, output: Output) -> bool:
        """Ask for less structured output from now on, since there is none of `output`; whether there is less."""
        if output in _WEAKER and self.output == output:  # else another attempt has learned it meanwhile
            self.output = _WEAKER[output]
        return output in _WEAKER

    def request(self, comparison: Comparison, output: Output | None = None, *, swapped: bool = False) -> Request:
        """Return what is sent for a comparison; also for batches. `output` None = what the server is known to give."""
        output = output or self.output
        question = self._question(comparison, output, swapped)
        schema = self._schema if output == "schema" else None
        top = TOP_LOGPROBS if self.mode == "logprobs" else 0
        return Request(question.messages, self._most_output, self._temperature, schema, output, top)

    def read(self, reply: Reply, output: Output | None = None, flags: str = "") -> Answer:
        """Turn the reply to a question of mode "reason" into an answer."""
        output = output or self.output
        if reply.finish == "length":
            note = cut_note(self._most_output, reply.output_tokens)
            return self._answer([reply], None, "truncated", reply.text[:_KEPT], note, flags)
        if reply.finish != "stop":
            status, note = _UNUSABLE[reply.finish]
            return self._answer([reply], None, status, reply.text[:_KEPT], note, flags)
        try:
            parsed = parse_score(reply.text)
        except Unparsable as error:
            return self._answer([reply], None, "unparsable", reply.text[:_KEPT], f"{output}: {error}", flags)
        return self._answer([reply], parsed.preference, "ok", parsed.reasoning, wrapping_note(output, parsed.wrapping), flags)

    async def _attempt_labels(self, comparison: Comparison, flags: str) -> Answer:
        replies: list[Reply] = []
        odds: list[float] = []
        for swapped in (False, True):
            question = self._question(comparison, "text", swapped)
            try:
                reply = await self._model.complete(self.request(comparison, "text", swapped=swapped))
            except RetryError as error:
                error.input_tokens += sum(r.input_tokens for r in replies)
                error.output_tokens += sum(r.output_tokens for r in replies)
                error.cost += sum(map(self.cost, replies))
                raise
            except BadRequest as error:
                return self._answer(replies, None, "failed", "", str(error), flags)
            replies.append(reply)
            if reply.finish in ("refusal", "filter"):
                status, note = _UNUSABLE[reply.finish]
                return self._answer(replies, None, status, "", note, flags)
            try:
                odds.append(preference_of_labels(reply.top_logprobs, question.first, question.second))
            except Unparsable as error:
                order = "second order: " if swapped else ""
                return self._answer(replies, None, "unparsable", reply.text[:_KEPT], f"logprobs: {order}{error}", flags)
        # Labels stay with the places, so log odds for the first place are (merit + bias) and (-merit + bias).
        merit = (odds[0] - odds[1]) / 2
        return self._answer(replies, math.tanh(merit / 2), "ok", "", "logprobs", flags)  # tanh(x / 2) = 2 sigmoid(x) - 1

    def _answer(self, replies: list[Reply], preference: float | None, status: Status, reasoning: str, note: str, flags: str) -> Answer:
        if len(replies) == 1:
            one = replies[0]
            return Answer(preference, status, reasoning, one.input_tokens, one.output_tokens, self.cost(one), one.seconds, note, flags)
        read, written = sum(r.input_tokens for r in replies), sum(r.output_tokens for r in replies)
        cost, seconds = sum(map(self.cost, replies), 0.0), sum((r.seconds for r in replies), 0.0)
        return Answer(preference, status, reasoning, read, written, cost, seconds, note, flags)

    def cost(self, reply: Reply) -> float:
        """Return what a reply costs, in US dollars, by the recipe's prices; 0 where they are not known."""
        cached = self._facts.cached_price or self._facts.input_price
        fresh = reply.input_tokens - reply.cached_tokens
        return (fresh * self._facts.input_price + reply.cached_tokens * cached + reply.output_tokens * self._facts.output_price) / 1e6

    def estimate(self, comparison: Comparison) -> tuple[int, int, float]:
        """Return input tokens, most output tokens and most US dollars of one attempt.

        Tokens are bytes / 4; the dollars, which are a bound, reckon with bytes / 2.5 (code, numbers) and no cache.
        """
        calls = self.calls_per_attempt
        size = calls * sum(len(text.encode("utf-8")) + 16 for _, text in self._question(comparison, self.output, False).messages)
        written = calls * self._most_output
        dollars = (size / 2.5 * self._facts.input_price + written * self._facts.output_price) / 1e6
        return math.ceil(size / 4), written, dollars

    async def close(self) -> None:
        """Close the connections."""
        await self._model.close()

    def _write(self, comparison: Comparison, output: Output, swapped: bool) -> Question:
        if comparison.second_query is None:
            return self._prompter.write(comparison, output, swapped=swapped)
        if self._across is None:
            raise BadRequest("this judge has no prompt for comparisons across queries", where=self.name)
        return self._across.write(comparison, output, swapped=swapped)


def language_model(name: str, recipe: Recipe) -> LanguageModelJudge:
    """Make the judge of a recipe that goes by a language model's name.

    Raises:
        RecipeError: its prompt does not fit the mode, or has no place for the recipe's criterion or context; there is no batch service.
        InputError: its prompt is none.
        JudgeError: the model cannot be asked, for lack of a key for example.
        MissingExtraError: the HTTP client is not installed.
    """
    judging = recipe.judge
    facts = judging.models.get(name, Model())
    prompter, across = prompters(name, recipe)
    model = open_model(name, timeout=judging.timeout)
    return LanguageModelJudge(
        model,
        prompter,
        across,
        facts=facts,
        max_output_tokens=judging.max_output_tokens,
        temperature=judging.temperature,
        clamp=judging.answers == "clamped",
        batch=open_batches(name, timeout=judging.timeout) if facts.batch else None,
    )


def prompters(name: str, recipe: Recipe) -> tuple[Prompter, Prompter | None]:
    """Read the prompts of a recipe's language model: within a query, and across queries if there is one.

    Raises:
        RecipeError: see `language_model`.
    """
    judging = recipe.judge
    mode: Mode = "logprobs" if judging.mode == "logprobs" else "reason"
    chosen = judging.models.get(name, Model()).prompt or PROMPTS[mode]
    where = f'judge.models."{name}".prompt'
    if mode == "logprobs" and judging.models.get(name, Model()).batch:
        raise RecipeError('batch = true goes with judge.mode = "reason"', where=f'judge.models."{name}"', remedy="set batch = false")
    prompt = load_prompt(chosen)
    wanted = "score" if mode == "reason" else "label"
    if prompt.answer != wanted:
        remedy = f'judge.mode = "{mode}" needs a prompt with answer = "{wanted}"'
        raise RecipeError(f"prompt {chosen!r} has answer = {prompt.answer!r}", where=where, remedy=remedy)
    for key in ("criterion", "context"):
        if getattr(judging, key).strip() and f"{{{key}}}" not in prompt.system:
            raise RecipeError(f"prompt {chosen!r} has no place for judge.{key}", where=where, remedy=f"put {{{key}}} into its system text")
    across = load_across(chosen, prompt)

    def prompter(texts: Prompt) -> Prompter:
        size = judging.document_characters
        return Prompter(texts, criterion=judging.criterion, context=judging.context, document_characters=size)

    return prompter(prompt), prompter(across) if across else None


def asked_with(recipe: Recipe) -> dict[str, str]:
    """Return the digest of each language model's way of asking: what the judge stage depends on besides the recipe's own words.

    "" is a prompt that cannot be read now, or does not fit.
    """
    found = {}
    for name in filter(is_model_name, recipe.judge.ensemble):
        try:
            within, across = prompters(name, recipe)
        except InputError:
            found[f"prompt of {name}"] = ""
        else:
            found[f"prompt of {name}"] = f"{within.digest} {across.digest if across else ''}".strip()
    for name in (n for n in recipe.judge.ensemble if n.startswith("thinking:")):
        from zelo.judges.thinking import thinking_prompt

        try:
            found[f"prompt of {name}"] = thinking_prompt(name, recipe).name
        except InputError:
            found[f"prompt of {name}"] = ""
    return found
