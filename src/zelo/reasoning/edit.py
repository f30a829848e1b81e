"""Edit traces in passes, each a prompt, each result verified again, every stage kept.

What was right must stay right: an edit that makes a right trace wrong is not taken over, and its note says so. The editor sees the
problem and the trace, not the answer: a text written toward a known answer reads like one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from zelo.errors import InputError
from zelo.progress import Progress
from zelo.reasoning.folder import Folder
from zelo.reasoning.prompt_files import Prompt
from zelo.reasoning.verify import verify
from zelo.reasoning.writing import Ask, Desk, Written
from zelo.types import Problem, Trace


def base_stage(folder: Folder, prompts: Sequence[Prompt]) -> int:
    """Return the stage that passes begin with if nobody says it: the last one that none of them made.

    So the same command, given again after it was stopped or has ended, begins where it began, and asks nothing twice.

    Raises:
        WorkspaceError: there are no traces.
    """
    stage, names = folder.last_stage(), tuple(f"{prompt.name} " for prompt in prompts)
    while stage > 1 and all(t.prompt_id.startswith(names) for t in folder.traces(stage)) and stage - 1 in folder.stages():
        stage -= 1
    return stage


def refuse_others(folder: Folder, stage: int, prompt: Prompt) -> None:
    """Refuse to write a stage that something else made: edits by hand, or another pass.

    Raises:
        InputError: it holds traces of something else.
    """
    if stage not in folder.stages():
        return
    other = next((t for t in folder.traces(stage) if not t.prompt_id.startswith(f"{prompt.name} ")), None)
    if other is not None:
        made = other.prompt_id.partition(" ")[0] or other.note or "something else"
        remedy = f"begin with a later --stage, or move stage{stage}.jsonl and those after it away"
        raise InputError(f"stage {stage} was made by {made}, the pass {prompt.id} would replace it", where=str(folder.root), remedy=remedy)


def refuse_other_edits(folder: Folder, stage: int, before: Sequence[Trace]) -> None:
    """Refuse to write hand-made edits into a stage that a model's pass made, or that others follow.

    Raises:
        InputError: they would be lost, or come from a stage that is no more.
    """
    later = [n for n in folder.stages() if n >= stage]
    if not later:
        return
    prompts = {trace.key: trace.prompt_id for trace in before}
    made = next((t.prompt_id for t in folder.traces(stage) if t.prompt_id != prompts.get(t.key)), "") if stage in later else ""
    if made or later[-1] > stage:
        what = f"stage {stage} was made by {made.partition(' ')[0]}" if made else f"stage {later[-1]} was made from it"
        remedy = f"check the last stage out and in, or move stage{stage}.jsonl and those after it away"
        raise InputError(f"{what}: a check-in would replace stage {stage}", where=str(folder.root), remedy=remedy)


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
        kept = replace(
            after, reasoning=before.reasoning, answer=before.answer, correct=True, tokens=before.tokens, finish=before.finish, note=note
        )
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
