"""What `zelo plan RECIPE` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from zelo.plain import plain
from zelo.planning.bill import duration, money, short
from zelo.planning.prospect import plan_lines
from zelo.planning.scale import Need, ScalePlan, plan_recipe
from zelo.recipe import Recipe

_HEADER = ("stage", "calls", "tokens", "US dollars", "GPU-hours", "CPU, one core", "bytes")


def recipe_output(recipe: Recipe, name: str, *, as_json: bool = False) -> Iterator[str]:
    """Yield the plan of a recipe; errors are those of `plan_recipe`."""
    plan = plan_recipe(recipe)
    yield from [json.dumps(plain(plan), allow_nan=False)] if as_json else scale_lines(plan, recipe, name)


def scale_lines(plan: ScalePlan, recipe: Recipe, name: str) -> Iterator[str]:
    """Yield a plan for people."""
    yield f'recipe {name}, line = "{recipe.line}": what every stage takes.'
    yield ""
    rows = [_HEADER, *(_row(need) for need in plan.needs), _row(_sum(plan.needs))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
    yield ""
    hours = _sum(plan.needs).gpu_seconds
    if hours and recipe.plan.gpu_price:
        yield f"GPUs: {money(hours / 3600 * recipe.plan.gpu_price)} at {money(recipe.plan.gpu_price)} per hour (plan.gpu_price)."
        yield ""
    yield "Judging in detail:"
    yield from (line for line in plan_lines(plan.judging, "WORKSPACE") if not line.startswith("Nothing was asked"))
    yield ""
    yield "Assumed:"
    yield from (f"- {text}." for text in plan.assumptions)
    yield f"Change them with --set, for example --set plan.documents=50000. Next: zelo new WORKSPACE --collection FOLDER --recipe {name}"


def _sum(needs: Sequence[Need]) -> Need:
    def added(values: Sequence[float | None]) -> float | None:
        return None if None in values else sum(v for v in values if v is not None)

    return Need(
        "all",
        sum(n.calls for n in needs),
        sum(n.tokens for n in needs),
        added([n.dollars for n in needs]),
        added([n.gpu_seconds for n in needs]),
        sum(n.core_seconds for n in needs),
        sum(n.bytes for n in needs),
    )


def _row(need: Need) -> tuple[str, ...]:
    dollars = "unknown" if need.dollars is None else money(need.dollars) if need.dollars else ""
    gpu = "unknown" if need.gpu_seconds is None else f"{need.gpu_seconds / 3600:,.3g}" if need.gpu_seconds else ""
    calls, tokens = (short(v) if v else "" for v in (need.calls, need.tokens))
    return need.stage, calls, tokens, dollars, gpu, duration(need.core_seconds), size_text(need.bytes)


def size_text(count: float) -> str:
    """Return a number of bytes as people read it."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B" if count else ""
