"""Edit traces in passes, each a prompt, each result verified again, every stage kept.

What was right must stay right: an edit that makes a right trace wrong is not taken over, and its note says so. The editor sees the
problem and the trace, not the answer: a text written toward a known answer reads like one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from zelo.progress import Progress
from zelo.reasoning.prompt_files import Prompt
from zelo.reasoning.verify import verify
from zelo.reasoning.writing import Ask, Desk, Written
from zelo.types import Problem, Trace


def asks_for(prompt: Prompt, traces: Sequence[Trace], problems: Mapping[str, Problem]) -> list[Ask]:
    """Return what one pass asks: one text per trace, of a prompt of kind "edit"."""
    found = []
    for trace in traces:
        problem = problems[trace.problem_id]
        messages = prompt.messages(problem.task, problem=problem.prompt, trace=trace.reasoning)
        found.append(Ask(f"{trace.problem_id} {trace.source} {trace.sample}", trace.stage + 1, messages, problem.task))
    return found


def taken_over(traces: Sequence[Trace], written: Sequence[Written | None], problems: Mapping[str, Problem], prompt_id: str) -> list[Trace]:
    """Return the traces of the next stage, verified: the edited texts, where they came whole and did no harm.

    Args:
        traces: of the stage before, verified.
        written: one per trace.
        problems: by id.
        prompt_id: of the pass.
    """
    edited = []
    for trace, text in zip(traces, written, strict=True):
        good = text is not None and text.finish == "stop" and bool(text.text.strip())
        body = text.text.strip() if text is not None and good else trace.reasoning
        spent, tokens = (text.cost, text.tokens) if text is not None else (0.0, trace.tokens)
        why = "" if good else f"{prompt_id}: left as it was, {'the edit was cut or refused' if text is not None else 'no edit came'}"
        edited.append(
            replace(
                trace,
                reasoning=body,
                stage=trace.stage + 1,
                prompt_id=prompt_id,
                tokens=tokens if good else trace.tokens,
                cost=trace.cost + spent,
                finish="stop" if good else trace.finish,
                note=why,
            )
        )
    found = []
    for before, after in zip(traces, verify(edited, problems), strict=True):
        harmed = before.correct is True and after.correct is not True
        note = f"{prompt_id}: left as it was, the edit made it wrong"
        kept = replace(after, reasoning=before.reasoning, answer=before.answer, correct=True, tokens=before.tokens, note=note)
        found.append(kept if harmed else after)
    return found


def edit(
    desk: Desk, prompt: Prompt, prompt_id: str, traces: Sequence[Trace], problems: Mapping[str, Problem], progress: Progress
) -> list[Trace]:
    """Run one pass over traces of one stage; returns the traces of the next stage.

    Raises:
        JudgeError: the model cannot be asked; what came is kept, and the same call goes on.
    """
    asks = asks_for(prompt, traces, problems)
    return taken_over(traces, desk.write(asks, progress, f"pass {prompt.id}"), problems, prompt_id)
