"""What do twenty traces teach, and what do their lookalikes? Tunes the model that `pretrain.py` made, condition by condition.

    python experiments/twenty/run.py [--bases FOLDER ...] [--out FILE] [--only GROUP ...]
    python experiments/twenty/run.py --tables results.jsonl

A run is one base model, one draw of training examples and one condition. All runs of a base meet the same test problems.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from learner import generate, load, tune
from running_sum import LONGEST, OPEN, SHORTEST, Problem, draw, is_right, response
from scipy import stats

HERE = Path(__file__).resolve().parent
LENGTHS = range(SHORTEST, LONGEST + 1)
PER_LENGTH = 40
MAIN_DRAWS, DRAWS = 5, 3


@dataclass(frozen=True)
class Condition:
    """What the model is tuned on.

    Attributes:
        group: the table that it belongs to.
        name: its row there.
        register: Q, problems to solve, or J, to judge.
        source: of the responses: "direct" or a key of `BODIES`.
        examples: how many are shown.
        lengths: numbers of terms that the problems may have.
        distinct: how many different problems the examples repeat; 0 = all differ.
        wrong: how many of the examples have wrong content instead.
        steps: of tuning.
        draws: of examples, per base.
    """

    group: str
    name: str
    register: str = "Q"
    source: str = "full"
    examples: int = 20
    lengths: Sequence[int] = LENGTHS
    distinct: int = 0
    wrong: int = 0
    steps: int = 60
    draws: int = DRAWS

    def material(self, seed: int) -> list[tuple[Problem, str]]:
        """Return problems and responses; the same draw has the same problems in every condition with the same lengths."""
        rng = np.random.default_rng([2, seed, ord(self.register)])
        problems = [draw(rng, self.register, self.lengths) for _ in range(self.distinct or self.examples)]
        problems = [problems[i % len(problems)] for i in range(self.examples)]
        sources = ["wrong content"] * self.wrong + [self.source] * (self.examples - self.wrong)
        return [(p, response(p, source, rng)) for p, source in zip(problems, sources, strict=True)]


CONDITIONS = [
    *(Condition("sources", f"20 {s}", source=s, draws=MAIN_DRAWS) for s in ("full", "direct", "conclusion only", "every second step")),
    *(Condition("sources", f"20 {s}", source=s, draws=MAIN_DRAWS) for s in ("shuffled steps", "wrong content", "filler")),
    Condition("sources", "100 direct", source="direct", examples=100),
    *(Condition("number", f"{n}", examples=n) for n in (1, 5, 10, 50)),
    *(Condition("difficulty", f"{n} terms", lengths=(n,)) for n in (3, 4, 6, 8)),
    *(Condition("diversity", f"{n} problems", distinct=n) for n in (1, 2, 5, 10)),
    *(Condition("length", s, source=s) for s in ("every third step", "written twice")),
    *(Condition("impurity", f"{n} of 20 wrong", wrong=n) for n in (2, 5, 10)),
    *(Condition("judging", f"20 {s}", "J", s, draws=MAIN_DRAWS) for s in ("full", "direct")),
    *(Condition("judging", f"20 {s}", "J", s) for s in ("conclusion only", "shuffled steps", "wrong content")),
    *(Condition("judging", f"{n} {s}", "J", s, examples=n) for n, s in ((5, "full"), (100, "full"), (100, "direct"))),
]


def tests(register: str) -> list[Problem]:
    rng = np.random.default_rng([3, ord(register)])
    return [draw(rng, register, (n,)) for n in LENGTHS for _ in range(PER_LENGTH)]


def solving(model: Any, tokenizer: Any, context: str = "", *, opened: bool = False, worked: bool = False) -> dict[str, Any]:
    """Measure the model on problems to solve; `opened` writes <think> for it, `worked` asks in the register that shows its work."""
    problems = tests("Q")
    prompts = [context + (p.worked() if worked else p).question + OPEN * opened for p in problems]
    replies = [OPEN * opened + r for r in generate(model, tokenizer, prompts)]
    right = np.array([is_right(p, r) for p, r in zip(problems, replies, strict=True)]).reshape(len(LENGTHS), -1)
    exact = [OPEN + "".join(p.steps) in r for p, r in zip(problems, replies, strict=True)]
    by_length = {str(n): round(float(row.mean()), 4) for n, row in zip(LENGTHS, right, strict=True)}
    return summary(right, replies) | {"trace_exact": round(float(np.mean(exact)), 4), "by_length": by_length}


def judging(model: Any, tokenizer: Any, context: str = "", *, opened: bool = False, worked: bool = False) -> dict[str, Any]:
    """Measure the model on problems to judge, each shown in both orders."""
    problems = [order for p in tests("J") for order in (p, p.swapped())]
    prompts = [context + (p.worked() if worked else p).question + OPEN * opened for p in problems]
    replies = [OPEN * opened + r for r in generate(model, tokenizer, prompts)]
    right = np.array([is_right(p, r) for p, r in zip(problems, replies, strict=True)])
    verdict = [r[-2:-1] for r in replies]
    mirrored = {"A": "B", "B": "A", "T": "T"}
    consistent = [mirrored.get(a) == b for a, b in zip(verdict[::2], verdict[1::2], strict=True)]
    return summary(right, replies) | {"consistent": round(float(np.mean(consistent)), 4)}


def summary(right: Any, replies: Sequence[str]) -> dict[str, Any]:
    thinks = float(np.mean([r.startswith(OPEN) for r in replies]))
    return {
        "accuracy": round(float(right.mean()), 4),
        "thinks": round(thinks, 4),
        "characters": round(float(np.mean([len(r) for r in replies])), 1),
    }


ALSO = {
    "number": {"20 full": "20"},
    "difficulty": {"20 full": "3 to 8 terms"},
    "diversity": {"20 full": "20 problems"},
    "length": {"20 conclusion only": "conclusion only", "20 every second step": "every second step", "20 full": "full"},
    "impurity": {"20 full": "0 of 20 wrong"},
}
"""Group -> rows of `sources` that are part of its curve -> their names there."""
MEASURE: dict[str, Callable[..., dict[str, Any]]] = {"Q": solving, "J": judging}


def untuned(model: Any, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Measure the base model: as it is, in the register that shows its work, and prompted."""
    for register, measure in MEASURE.items():
        group = {"Q": "sources", "J": "judging"}[register]
        yield {"group": group, "name": "untuned", "draw": 0, **measure(model, tokenizer)}
        yield {"group": group, "name": "untuned, worked register", "draw": 0, **measure(model, tokenizer, worked=True)}
        yield {"group": group, "name": "untuned, <think> written for it", "draw": 0, **measure(model, tokenizer, opened=True)}
        for shots in (1, 3):
            for seed in range(DRAWS):
                shown = Condition("", "", register, examples=shots, lengths=(3, 4, 5)).material(seed)
                context = "".join(problem.question + answer for problem, answer in shown)
                name = f"untuned, {shots} full in the prompt"
                yield {"group": group, "name": name, "draw": seed, **measure(model, tokenizer, context)}


def runs(base: str, model: Any, tokenizer: Any, groups: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in untuned(model, tokenizer):
        if not groups or row["group"] in groups:
            yield {"base": base, **row}
    for condition in CONDITIONS:
        for seed in range(condition.draws if not groups or condition.group in groups else 0):
            start = time.process_time()
            learner = tune(model, tokenizer, condition.material(seed), steps=condition.steps, seed=seed)
            seconds = round(time.process_time() - start, 2)
            row = {"base": base, "group": condition.group, "name": condition.name, "draw": seed}
            yield row | MEASURE[condition.register](learner, tokenizer) | {"cpu_seconds": seconds}
            if condition.name == "20 full" and seed < DRAWS:  # does one kind of problem teach the other?
                other, kind = ("J", "judging") if condition.register == "Q" else ("Q", "sources")
                name = "20 full of solving" if other == "J" else "20 full of judging"
                yield row | {"group": kind, "name": name} | MEASURE[other](learner, tokenizer)


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return Markdown: means over runs with 95 % intervals (Student's t; from five runs on) and the range."""
    lines: list[str] = []
    for group in dict.fromkeys(row["group"] for row in rows):
        names = ALSO.get(group, {})
        of_group = [row for row in rows if row["group"] == group]
        same = {(row["base"], row["draw"]) for row in of_group}  # a curve is of the same models and draws throughout
        also = [row for row in rows if row["group"] == "sources" and row["name"] in names and (row["base"], row["draw"]) in same]
        of_group += [row | {"name": names[row["name"]]} for row in also]
        extra = ["consistent"] if group == "judging" else [str(n) for n in LENGTHS]
        head = [group, "runs", "accuracy", "range", "thinks", *(extra if group == "judging" else [f"{n} terms" for n in extra])]
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for name in in_order(group, of_group):
            found = [row for row in of_group if row["name"] == name]
            values = [row["accuracy"] for row in found]
            cells = [name.replace("<think>", "`<think>`"), str(len(found)), interval(values), f"{min(values):.2f} to {max(values):.2f}"]
            cells += [mean([row["thinks"] for row in found])]
            cells += [mean([row[key] if key in row else row["by_length"][key] for row in found]) for key in extra]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def in_order(group: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of a table's rows: curves by what they vary, the others as they were run."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    if group == "length":
        return sorted(names, key=lambda name: np.mean([row["characters"] for row in rows if row["name"] == name]))
    return sorted(names, key=lambda name: int(name.split()[0])) if group in ("number", "diversity", "impurity") else names


def mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f}"


def interval(values: Sequence[float]) -> str:
    if len(values) < 5:
        return f"{np.mean(values):.3f}"
    return f"{np.mean(values):.3f} ± {stats.t.ppf(0.975, len(values) - 1) * stats.sem(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", type=Path, nargs="+", default=[HERE / "model"])
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--tables", type=Path)
    given = parser.parse_args()
    if given.tables:
        print(tables([json.loads(line) for line in given.tables.read_text("utf-8").splitlines()]))
        return
    torch.set_num_threads(1)
    with given.out.open("w", encoding="utf-8") as file:
        for folder in given.bases:
            model, tokenizer = load(folder)
            for row in runs(folder.name, model, tokenizer, given.only):
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
