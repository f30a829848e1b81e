"""k traces per problem from a language model, by a named prompt; plain, guided by a plan of behaviors, or with examples in context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zelo.errors import InputError
from zelo.progress import Progress
from zelo.reasoning.folder import Folder
from zelo.reasoning.prompt_files import Prompt
from zelo.reasoning.writing import Ask, Desk, Writer, Written
from zelo.types import Problem, Trace

Ways = Callable[[Problem, int], Ask]
"""How a problem's n-th sample is asked for."""


def refuse_mixture(folder: Folder, source: str, prompt_id: str) -> None:
    """Refuse a source whose traces were asked for in another way: its grade would be of neither.

    Raises:
        InputError: there are such.
    """
    there = folder.traces(1) if 1 in folder.stages() else []
    other = next((t.prompt_id for t in there if t.source == source and t.prompt_id != prompt_id), None)
    if other is not None:
        was = f"by {other!r}" if other else "elsewhere (imported)"
        what = f"{source!r} was sampled {was}, this is {prompt_id!r}: one source would be a mixture"
        raise InputError(what, where=str(folder.root), remedy="name another --source")


def plain_ask(prompt: Prompt, examples: str = "") -> Ways:
    """Return asks that show the problem in a prompt of kind "solve".

    Args:
        prompt: the words.
        examples: of `in_context.fitted`, for prompts that take some.

    Raises:
        InputError: examples for a prompt without a place for them, or the other way round.
    """
    if bool(examples) != bool(prompt.example):
        what = f"the prompt {prompt.id!r} takes {'' if prompt.example else 'no '}examples"
        raise InputError(what, remedy="give --examples with a prompt that takes them, such as examples")

    def ask(problem: Problem, sample: int) -> Ask:
        messages = prompt.messages(problem.task, problem=problem.prompt, examples=examples)
        return Ask(problem.problem_id, sample, messages, problem.task)

    return ask


def asks_for(problems: Iterable[Problem], samples: int, way: Ways, *, temperature: float | None = None) -> list[Ask]:
    """Return the asks for so many samples of every problem.

    Raises:
        InputError: samples below 1, or several of a model that always writes the same.
    """
    if samples < 1:
        raise InputError(f"{samples} samples", remedy="ask for at least 1")
    if samples > 1 and temperature == 0:
        raise InputError(
            f"{samples} samples at temperature 0 are {samples} times the same", remedy="use 1 sample, or a temperature above 0"
        )
    return [way(problem, sample) for problem in problems for sample in range(samples)]


def traces_of(asks: Sequence[Ask], written: Sequence[Written | None], source: str, prompt_id: str) -> list[Trace]:
    """Return the texts that came as traces of stage 1."""
    found = []
    for ask, text in zip(asks, written, strict=True):
        if text is not None:
            found.append(
                Trace(
                    ask.problem_id,
                    source,
                    ask.sample,
                    text.text,
                    finish=text.finish,
                    prompt_id=prompt_id,
                    tokens=text.tokens,
                    cost=text.cost,
                )
            )
    return found


def sample(desk: Desk, writer: Writer, asks: Sequence[Ask], source: str, progress: Progress) -> list[Trace]:
    """Have the texts written that the journal does not have, and return all of them as traces.

    Args:
        desk: of the writer.
        writer: who is asked.
        asks: of `asks_for`.
        source: name of the traces.
        progress: shows how far it is.

    Raises:
        JudgeError: the model cannot be asked; what came is kept, and the same call goes on.
    """
    return traces_of(asks, desk.write(asks, progress, "sampling"), source, writer.prompt_id)
