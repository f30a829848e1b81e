"""A judge's parts that may be the user's own code: whatever they do, one line names the judge, without keys, before it is paid."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from zelo.errors import JudgeError, RecipeError, ZeloError
from zelo.judges import Comparison, Judge, RemoteJudge
from zelo.judges.checking import scrub_error, scrubbed, told

if TYPE_CHECKING:
    from zelo.recipe import Recipe

MOST_AT_ONCE = 32
"""Calls at once of a judge that does not say."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a judge may be asked: calls at once, calls and tokens per minute (0 = no limit), and how many calls an attempt is."""

    concurrency: int
    requests_per_minute: float
    tokens_per_minute: float
    calls_per_attempt: int


def settings_of(judge: RemoteJudge) -> Settings:
    """Read a judge's attributes; what is absent, None or 0 is as if it were not there.

    Raises:
        JudgeError: one is no number, or negative; `estimate` or `close` is nothing to call.
    """

    def read(attribute: str, default: int, *, whole: bool) -> Any:
        value: object = getattr(judge, attribute, None)
        if value is None:
            return default
        if not (isinstance(value, Integral) if whole else _is_amount(value)) or value < 0:  # type: ignore[operator]
            remedy = f"give a {'whole ' if whole else ''}number, 0 or more"
            raise JudgeError(f"its {attribute} is {scrubbed(repr(value))}", where=judge.name, remedy=remedy)
        number: Any = value
        return (int(number) if whole else float(number)) or default

    for part in ("estimate", "close"):
        if not callable(getattr(judge, part, None) or len):
            raise JudgeError(f"its {part} is no function", where=judge.name, remedy="leave it away, or make it a method")
    return Settings(
        read("concurrency", MOST_AT_ONCE, whole=True),
        read("requests_per_minute", 0, whole=False),
        read("tokens_per_minute", 0, whole=False),
        read("calls_per_attempt", 1, whole=True),
    )


def estimated(judge: RemoteJudge, comparison: Comparison) -> tuple[int, int, float]:
    """Return what a judge's `estimate` says: input tokens, most output tokens and most US dollars of one attempt.

    Raises:
        JudgeError: it raised, or these are no three numbers, 0 or more: no budget could hold.
    """
    try:
        found: object = judge.estimate(comparison)  # type: ignore[attr-defined]
    except (Exception, asyncio.CancelledError) as error:  # of the user's own code
        raise _failed(judge, "estimate", error) from None
    if inspect.iscoroutine(found):
        found.close()  # else Python warns that nobody waited for it
    if not isinstance(found, Sequence) or len(found) != 3 or not all(map(_is_amount, found)):
        remedy = "return input tokens, most output tokens and most US dollars, each 0 or more"
        raise JudgeError(f"its `estimate` returned {scrubbed(repr(found))[:200]}", where=judge.name, remedy=remedy)
    return math.ceil(found[0]), math.ceil(found[1]), float(found[2])


async def closed(judge: RemoteJudge) -> JudgeError | None:
    """Close a judge and its batch service, by an async or a plain `close`; return what failed."""
    failed = None
    for part in (judge, getattr(judge, "batch", None)):
        close = getattr(part, "close", None)
        try:
            pending = close() if close is not None else None
            if inspect.isawaitable(pending):
                await pending
        except asyncio.CancelledError as error:
            if being_canceled():
                raise
            failed = _failed(judge, "close", error)
        except Exception as error:  # of the user's own code
            failed = _failed(judge, "close", error)
    return failed


def being_canceled() -> bool:
    """Whether somebody canceled this task; else a CancelledError in it is only an exception that some code raised."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def own_judge(name: str, recipe: Recipe) -> Judge | RemoteJudge:
    """Call the user's function; its module may lie in the current folder, as with `python -m`.

    Raises:
        RecipeError: it is not there, raises, or returns something else than a judge.
        ZeloError: it raised it itself.
        JudgeError: the judge's settings are none.
    """
    _, module, function = name.split(":")
    here, where = os.getcwd(), "judge.ensemble"
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        judge = getattr(importlib.import_module(module), function)(recipe)
        remote, local = isinstance(judge, RemoteJudge), isinstance(judge, Judge)
    except ZeloError as error:
        scrub_error(error)
        if name not in str(error):
            error.where, error.args = f"{name}: {error.where}".rstrip(": "), (f"{name}: {error}",)
        raise
    except (ModuleNotFoundError, AttributeError) as error:
        raise RecipeError(f"{name} cannot be made: {told(error)}", where=where, remedy="check the names; pip install its package") from None
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # of the user's function, or because it takes other arguments
        what = f"{name} cannot be made: {told(error)}"  # `from None`: the error itself may hold a key
        raise RecipeError(what, where=where, remedy="it is called with one argument, the recipe") from None
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    if not (remote or local):
        what = f"{name} returned {type(judge).__name__}, which is no judge"
        raise RecipeError(what, where=where, remedy="it needs name, prompt_id, and judge(comparisons) or async attempt(comparison)")
    if remote:
        settings_of(judge)
    found: Judge | RemoteJudge = judge
    return found


def _failed(judge: RemoteJudge, part: str, error: BaseException) -> JudgeError:
    return JudgeError(f"its `{part}` failed ({told(error)})", where=judge.name, remedy="what was answered is kept")


def _is_amount(value: object) -> bool:
    return isinstance(value, Real) and 0 <= value < math.inf  # type: ignore[operator]  # NaN is not
