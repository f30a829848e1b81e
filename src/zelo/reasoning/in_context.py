"""Teaching by prompting alone: as many worked examples as fit into the model's window, put before the problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zelo.errors import InputError
from zelo.judges.prompt_reading import fill
from zelo.reasoning.prompt_files import Prompt
from zelo.types import Problem, Trace

BYTES_PER_TOKEN = 2.5
"""Cautious: mathematics has about three bytes per token, prose four."""


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has, rather too many."""
    return int(len(text.encode("utf-8")) / BYTES_PER_TOKEN) + 1


def fitted(
    prompt: Prompt, chosen: Sequence[Trace], problems: Mapping[str, Problem], asked: Sequence[Problem], window: int, max_tokens: int
) -> tuple[str, int]:
    """Return the text of the examples and how many there are: those of `chosen`, in their order, that fit.

    The window holds them, the longest of the problems, the prompt's own words and the answer. An example that does not fit is left
    out and shorter ones after it may be in.

    Args:
        prompt: with an `example`.
        chosen: traces to show; none about a problem that is asked.
        problems: of the traces.
        asked: the problems to solve.
        window: tokens that the model reads and writes in all.
        max_tokens: of its answer.

    Raises:
        InputError: the prompt takes no examples, an example is about a problem that is asked, or not one fits.
    """
    if not prompt.example:
        raise InputError(f"the prompt {prompt.id!r} takes no examples", remedy="use a prompt with `example`, such as examples")
    both = {p.prompt.strip() for p in asked} & {problems[t.problem_id].prompt.strip() for t in chosen}
    if both:
        remedy = "select examples from other problems than those that are graded"
        raise InputError(f"{len(both)} problems are among the examples and among those to solve", remedy=remedy)
    longest = max((tokens_of(p.prompt) for p in asked), default=0)
    room = window - max_tokens - longest - tokens_of(prompt.system + prompt.user + max(prompt.endings.values(), key=len))
    parts: list[str] = []
    for trace in chosen:
        text = fill(prompt.example, {"problem": problems[trace.problem_id].prompt, "trace": trace.reasoning}).strip("\n")
        if tokens_of(text) <= room:
            room -= tokens_of(text)
            parts.append(text)
    if not parts:
        need = min((tokens_of(t.reasoning) for t in chosen), default=0)
        what = f"not one of {len(chosen)} examples fits: the shortest has about {need} tokens, the window leaves {max(room, 0)}"
        raise InputError(what, remedy="use a model with a larger window, shorter traces, or fewer --max-tokens")
    return "\n\n".join(parts), len(parts)
