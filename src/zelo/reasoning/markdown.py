"""Traces as Markdown files that people edit by hand, and the way back.

One file per trace: a heading with its names, the problem, the trace. Only what stands below the heading of the trace comes back; it
holds the trace's digest, so that no problem can hold it too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zelo.collections.lines import shown
from zelo.errors import InputError
from zelo.types import Problem, Trace
from zelo.workspace import writable

_HEAD = "<!-- zelo trace: problem {problem} | source {source} | sample {sample} | stage {stage} | digest {digest} -->"
_READ = re.compile(r"<!-- zelo trace: problem (\S+) \| source (.+?) \| sample (\d+) \| stage (\d+) \| digest ([0-9a-f]{16}) -->")
_BODY = "## Trace"


def checkout(traces: Sequence[Trace], problems: Mapping[str, Problem], folder: Path) -> int:
    """Write traces into a folder; returns how many. Files that are there already and differ are left alone.

    Raises:
        InputError: a file holds edits that would be lost.
        WorkspaceError: the folder cannot be written to.
    """
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for trace in traces:
            path, text = folder / _name(trace), _page(trace, problems[trace.problem_id])
            if path.exists() and path.read_text("utf-8") != text:
                raise InputError("it holds edits", where=str(path), remedy="check it in first, or move it away")
            path.write_text(text, "utf-8")
    return len(traces)


def _name(trace: Trace) -> str:
    names = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{trace.problem_id}--{trace.source}--{trace.sample}")[:80]
    unique = hashlib.sha256(repr(trace.key).encode()).hexdigest()[:6]  # two ids may differ only in what a file name cannot hold
    return f"{names}-{unique}.md"


def _page(trace: Trace, problem: Problem) -> str:
    digest = _digest(trace.reasoning)
    head = _HEAD.format(problem=trace.problem_id, source=trace.source, sample=trace.sample, stage=trace.stage, digest=digest)
    mark = {True: "right", False: "wrong", None: "not verified"}[trace.correct]
    about = (
        f"The right answer is `{problem.answer}`; the trace's is `{trace.answer}`: {mark}."
        if problem.answer
        else "The answer is not known."
    )
    asked = f"## Problem\n\n{problem.prompt}\n\n{about}\n\nEdit what follows the next line; all else is left alone."
    return f"{head}\n\n{asked}\n\n{_BODY} {digest}\n\n{trace.reasoning}\n"


def checkin(folder: Path, traces: Sequence[Trace], editor: str) -> tuple[list[Trace], int]:
    """Read edited files back.

    Args:
        folder: of `checkout`.
        traces: of the stage that was checked out.
        editor: who edited, for the note.

    Returns:
        The traces of the next stage, not verified yet: all of `traces`, edited where a file says something else; and how many were.

    Raises:
        InputError: a file that is none of `checkout`'s, about another stage, twice the same trace, or without text; no file at all.
    """
    known = {trace.key: trace for trace in traces}
    edited: dict[tuple[str, str, int], str] = {}
    files = sorted(folder.glob("*.md"))
    if not files:
        raise InputError("no Markdown files here", where=str(folder), remedy="give the folder of `zelo reasoning checkout`")
    for path in files:
        key, text = _read(path, known)
        if key in edited:
            raise InputError(f"a second file about sample {key[2]} of {shown(key[1])}", where=str(path), remedy="remove one of the two")
        edited[key] = text
    found, changed = [], 0
    for trace in traces:
        text = edited.get(trace.key, trace.reasoning)
        different = text.strip() != trace.reasoning.strip()
        changed += different
        if different:
            found.append(
                replace(trace, reasoning=text, stage=trace.stage + 1, note=f"edited by {editor}", answer="", correct=None, tokens=0)
            )
        else:
            found.append(replace(trace, stage=trace.stage + 1, note=""))
    return found, changed


def _read(path: Path, known: Mapping[tuple[str, str, int], Trace]) -> tuple[tuple[str, str, int], str]:
    try:
        content = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path), remedy="save it as UTF-8 text") from error
    match = _READ.match(content)
    body = f"{_BODY} {match[5]}" if match else _BODY
    _, mark, text = content.partition(f"\n{body}\n")
    if match is None or not mark:
        what = "its first line does not name a trace" if match is None else f"the line {body!r} is gone"
        raise InputError(what, where=f"{path}:1", remedy="put it back, or check the traces out again")
    key = (match[1], match[2], int(match[3]))
    trace = known.get(key)
    if trace is None or trace.stage != int(match[4]):
        now = f"stage {trace.stage}" if trace else "no trace of this name"
        raise InputError(f"it is about stage {match[4]} of a trace, here is {now}", where=f"{path}:1", remedy="check the traces out again")
    if match[5] != _digest(trace.reasoning):
        raise InputError("the trace has changed since it was checked out", where=f"{path}:1", remedy="check it out again, and edit that")
    if not text.strip():
        raise InputError("there is no trace in it", where=str(path), remedy=f"write it below {body!r}")
    return key, text.strip("\n").rstrip()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
