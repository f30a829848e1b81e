"""What judges of the user's own return and say: no answer that is none gets into the journal, and no key into an error."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import get_args

from zelo.errors import JudgeError, RetryError, ZeloError
from zelo.judges import Answer, Comparison, Judge, RemoteJudge
from zelo.types import Status

_SECRET_NAME = re.compile(r".*_(API_KEY|TOKEN|SECRET)", re.I)
_SECRET_LENGTH = 8
"""Shorter values are words that may stand in any message."""
_STATUSES = get_args(Status)
_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]{6,}")


def checked(answer: object, name: str) -> Answer:
    """Return what the judge called `name` answered, or a failed answer whose note says why it is none.

    Raises:
        JudgeError: it is no `Answer` at all: the judge would give none to any comparison.
    """
    if not isinstance(answer, Answer):
        remedy = "return zelo.judges.Answer(preference), with a preference in [-1, 1] or None"
        raise JudgeError(f"it answered with {type(answer).__name__}, not with an Answer", where=name, remedy=remedy)
    if _plain(answer):
        return answer
    fault = _fault(answer)
    if not fault:
        preference = None if answer.preference is None else float(answer.preference)  # SQLite knows no numpy numbers
        return replace(answer, preference=preference, input_tokens=int(answer.input_tokens), output_tokens=int(answer.output_tokens))
    read, written = (int(n) if _is_count(n) else 0 for n in (answer.input_tokens, answer.output_tokens))
    cost, seconds = (float(x) if _is_amount(x) else 0.0 for x in (answer.cost, answer.seconds))
    return Answer(None, "failed", "", read, written, cost, seconds, f"not an answer: {fault}")


async def attempted(judge: RemoteJudge, comparison: Comparison) -> Answer:
    """Ask once and check the answer; raises what the judge does, and JudgeError where its `attempt` is not async."""
    pending: object = judge.attempt(comparison)
    if not (inspect.iscoroutine(pending) or inspect.isawaitable(pending)):
        raise JudgeError("its `attempt` is not async", where=judge.name, remedy="write `async def attempt`")
    return checked(await pending, judge.name)


def judged(judge: Judge, comparisons: Sequence[Comparison]) -> tuple[list[Answer], str]:
    """Have a judge answer comparisons in one call, and check the answers; where the call failed, the answers say so.

    Returns:
        An answer to each, and how the call failed, "" if it did not.

    Raises:
        ZeloError: the judge raised it: no call will work (RetryError: this one failed).
        JudgeError: it gave no list of as many answers.
    """
    try:
        answers: object = judge.judge(comparisons)
    except (Exception, asyncio.CancelledError) as error:  # of a judge of the user's own: its library's errors are not ours
        if isinstance(error, ZeloError) and not isinstance(error, RetryError):
            scrub_error(error)
            raise
        fault = told(error)
        return [Answer(None, "failed", note=fault)] * len(comparisons), fault
    if not isinstance(answers, Sequence) or len(answers) != len(comparisons):
        what = f"it answered with {f'{len(answers)} answers' if isinstance(answers, Sequence) else type(answers).__name__}"
        raise JudgeError(f"{what} to {len(comparisons)} comparisons", where=judge.name, remedy="return a list with an Answer for each")
    return [checked(answer, judge.name) for answer in answers], ""


def told(error: BaseException) -> str:
    """Return an error in one line, without keys: what and, of the user's own code, where."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    kind = "" if isinstance(error, ZeloError) else f"{type(error).__name__}: "
    try:
        what = str(error)
    except Exception:  # an exception of the user's own may fail even there
        what = "it cannot be printed"
    return scrubbed(" ".join(f"{kind}{what}{where if kind else ''}".split()))


def _fault(answer: Answer) -> str:
    preference: object = answer.preference
    if preference is not None and not (isinstance(preference, Real) and -1 <= float(preference) <= 1):  # NaN is not
        return f"the preference {preference!r} is no number in [-1, 1]"
    if answer.status not in _STATUSES:
        return f"no status {answer.status!r}"
    if (preference is not None) != (answer.status == "ok"):
        return f"the preference {preference!r} with the status {answer.status!r}"
    if not (_is_count(answer.input_tokens) and _is_count(answer.output_tokens)):
        return f"{answer.input_tokens!r} and {answer.output_tokens!r} are no numbers of tokens"
    if not (_is_amount(answer.cost) and _is_amount(answer.seconds)):
        return f"a cost of {answer.cost!r} in {answer.seconds!r} s"
    words = (answer.reasoning, answer.note, answer.flags)
    return "" if all(isinstance(text, str) for text in words) else "reasoning, note and flags are texts"


def _plain(answer: Answer) -> bool:
    """Whether it is a usable answer of Python's own types, as nearly all are: the checks of any other take ten times as long."""
    preference, cost, seconds = answer.preference, answer.cost, answer.seconds
    return (
        type(preference) is type(cost) is type(seconds) is float
        and type(answer.input_tokens) is type(answer.output_tokens) is int
        and type(answer.reasoning) is type(answer.note) is type(answer.flags) is str
        and answer.status == "ok"
        and -1 <= preference <= 1
        and 0 <= cost < math.inf
        and 0 <= seconds < math.inf
        and answer.input_tokens >= 0
        and answer.output_tokens >= 0
    )


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 0


def _is_amount(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(float(value)) and float(value) >= 0


def scrubbed(text: str) -> str:
    """Strike out the values of environment variables that are called like a key, and what looks like one."""
    values = (value for name, value in os.environ.items() if _SECRET_NAME.fullmatch(name) and len(value) >= _SECRET_LENGTH)
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return _LIKE_A_KEY.sub("***", text)


def scrub_error(error: ZeloError) -> None:
    """Do it in an error that will be printed."""
    error.what, error.where, error.remedy = scrubbed(error.what), scrubbed(error.where), scrubbed(error.remedy)
    error.args = tuple(scrubbed(part) if isinstance(part, str) else part for part in error.args)
