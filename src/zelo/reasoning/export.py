"""Selected traces in the forms that other trainers read, and all stages in the form in which the paper's data was released."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zelo.collections.lines import json_line, write_lines
from zelo.reasoning.prompt_files import Prompt
from zelo.types import Problem, Trace
from zelo.workspace import writable

Form = Literal["messages", "prompt-completion", "sharegpt", "alpaca", "stages"]


def _messages(trace: Trace, problem: Problem, prompt: Prompt) -> dict[str, Any]:
    rows = [{"role": role, "content": text} for role, text in prompt.messages(problem.task, problem=problem.prompt)]
    return {"messages": [*rows, {"role": "assistant", "content": trace.reasoning}]}


def _prompt_completion(trace: Trace, problem: Problem, prompt: Prompt) -> dict[str, Any]:
    rows = _messages(trace, problem, prompt)["messages"]
    return {"prompt": rows[:-1], "completion": rows[-1:]}


def _sharegpt(trace: Trace, problem: Problem, prompt: Prompt) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    rows = _messages(trace, problem, prompt)["messages"]
    system = "\n\n".join(row["content"] for row in rows if row["role"] == "system")
    turns = [{"from": names[row["role"]], "value": row["content"]} for row in rows if row["role"] in names]
    return {"conversations": turns, "system": system}


def _alpaca(trace: Trace, problem: Problem, prompt: Prompt) -> dict[str, Any]:
    rows = _messages(trace, problem, prompt)["messages"]
    system = "\n\n".join(row["content"] for row in rows if row["role"] == "system")
    asked = "\n\n".join(row["content"] for row in rows if row["role"] == "user")
    return {"instruction": asked, "input": "", "output": trace.reasoning, "system": system}


def _stages(trace: Trace, problem: Problem, prompt: Prompt) -> dict[str, Any]:
    kind = f"{trace.source}_stage{trace.stage}"
    return {"problem": problem.prompt, "solution": trace.reasoning, "solution_type": kind, "expected_answer": problem.answer}


FORMS: Mapping[Form, tuple[str, Callable[[Trace, Problem, Prompt], dict[str, Any]]]] = {
    "messages": ("chat messages: TRL, axolotl, OpenAI's fine-tuning", _messages),
    "prompt-completion": ("TRL's prompt and completion, the prompt masked", _prompt_completion),
    "sharegpt": ("LLaMA-Factory's conversations, with a dataset_info.json", _sharegpt),
    "alpaca": ("instruction and output", _alpaca),
    "stages": ("problem, solution, solution_type: every stage of the traces, as data across refinements is released", _stages),
}
"""Name -> (what it is, one row of it)."""


def rows(form: Form, traces: Iterable[Trace], problems: Mapping[str, Problem], prompt: Prompt) -> Iterator[dict[str, Any]]:
    """Yield one row per trace."""
    for trace in traces:
        yield FORMS[form][1](trace, problems[trace.problem_id], prompt)


def write(path: Path, form: Form, traces: Sequence[Trace], problems: Mapping[str, Problem], prompt: Prompt) -> int:
    """Write traces as JSON Lines, and what LLaMA-Factory wants to know of a file beside it; returns how many.

    Raises:
        WorkspaceError: it cannot be written.
    """
    with writable(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        count = write_lines(path, (json_line(row) for row in rows(form, traces, problems, prompt)))
        if form == "sharegpt":
            columns = {"messages": "conversations", "system": "system"}
            info = {path.stem: {"file_name": path.name, "formatting": "sharegpt", "columns": columns}}
            (path.parent / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", "utf-8")
    return count
