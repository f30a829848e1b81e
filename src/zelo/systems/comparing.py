"""`zelo evaluate --system`: systems on the labeled test questions, beside the workspace's own rankings, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zelo.collections.trec import read_run
from zelo.errors import InputError
from zelo.pipeline import Context
from zelo.progress import Progress
from zelo.recipe import System
from zelo.report.measured import FIRST_STAGE, Measured, find, in_order, read_labels
from zelo.report.verdict import ALPHA, p_text, signed
from zelo.rerankers import Reranker, load_reranker
from zelo.rerankers.remote import is_remote
from zelo.stages import evaluate, inputs
from zelo.stages.rank import best_first
from zelo.systems.asking import ANSWERS, Answer, Question, answers_of, model_folder, open_system, stamp_of
from zelo.systems.listwise import open_listwise, order_lists
from zelo.systems.pairwise import compare_and_fit, open_judge
from zelo.types import ScoredDoc


@dataclass(frozen=True)
class Taken:
    """What a system took over all questions: US dollars, and seconds per question (median, 95th percentile).

    `refused` is how many of the questions it would not score; they keep the order of the first stage.
    """

    dollars: float | None
    median: float
    p95: float
    refused: int = 0


@dataclass(frozen=True)
class Comparison:
    """The rows of the table: what was measured, and what was taken by the systems that were asked."""

    rows: list[Measured]
    taken: Mapping[str, Taken]


@dataclass(frozen=True)
class Asked:
    """Per question: measure -> system -> query_id -> value, of the workspace's own rankings and of the systems; and what these took."""

    values: evaluate.Values
    taken: Mapping[str, Taken]


def compare_systems(context: Context, names: Sequence[str], progress: Progress) -> Comparison:
    """Score the candidates of all labeled test questions with each system, and measure it with the workspace's own rankings.

    The candidates are the first `rank.depth` of the fused first stage: the same for all. Every system is compared with the best first
    stage by a paired randomization test, Holm-corrected over all systems.

    Raises:
        InputError: an unknown system, or no labels to measure with.
    """
    settings, seed = context.recipe.evaluate, context.recipe.seed
    asked = ask_systems(context, names, progress)
    split = context.recipe.ingest.test_split
    rows = [row for measure in asked.values for row in evaluate.compare(asked.values, measure, split, settings.resamples, seed)]
    return Comparison(rows, asked.taken)


def ask_systems(context: Context, names: Sequence[str], progress: Progress, *, keep_local: bool = False) -> Asked:
    """Have the systems score the candidates of all labeled test questions.

    Args:
        context: of the workspace.
        names: of systems.
        progress: shows how far it is.
        keep_local: keep the answers of local models too, until the model changes.

    Raises:
        InputError: an unknown system, or no labels to measure with.
    """
    settings = context.recipe.evaluate
    qrels = read_labels(context.read("qrels") / f"{context.recipe.ingest.test_split}.tsv", inputs.splits(context.read("splits")))
    if not qrels:
        raise InputError("no test question has labels", where=str(context.read("qrels")), remedy="systems are compared by labels")
    runs = dict(evaluate.read_runs((context.read("candidates"), context.read("rankings")), qrels))
    taken = {}
    if names:
        materials = _Materials(context)
        opened = {name: _opened(name, context, materials, progress, keep_local) for name in names}  # all before anything is paid
        questions = materials.questions(list(qrels))
        for name, ask in opened.items():
            found = ask(questions)
            runs[name] = {q.query_id: best_first(q.query_id, list(q.doc_ids), found[q.query_id].scores.tolist()) for q in questions}
            taken[name] = _taken(list(found.values()), settings.systems.get(name))
    return Asked(evaluate.measure_systems(runs, qrels, settings.measures), taken)


def _opened(
    name: str, context: Context, materials: _Materials, progress: Progress, keep_local: bool
) -> Callable[[Sequence[Question]], dict[str, Answer]]:
    """Return what asks a system, when it is known that it can be asked."""
    price = context.recipe.evaluate.systems.get(name, System())
    word = name.partition(":")[0]
    if word == "pairwise":
        judge = open_judge(name, context)
        return lambda questions: compare_and_fit(judge, questions, price, context)
    if word == "listwise":
        ranker = open_listwise(name, context)
        return lambda questions: order_lists(name, ranker, questions, price, context, progress.task(name))
    system = open_system(name, context.workspace.root, materials.load)
    stamp = stamp_of(model_folder(name, context.workspace.root)) if keep_local and not is_remote(name) else ""
    kept = context.workspace.root / ANSWERS
    most = context.recipe.judge.max_missing
    return lambda questions: answers_of(name, system, questions, kept, price, progress, stamp=stamp, most_refused=most)


def time_system(context: Context, name: str, most: int, progress: Progress) -> Taken:
    """Ask a model of the workspace about so many labeled test questions, one after the other; its times are kept until it changes."""
    split = inputs.splits(context.read("splits"))
    qrels = read_labels(context.read("qrels") / f"{context.recipe.ingest.test_split}.tsv", split)
    materials = _Materials(context)
    questions = materials.questions(list(qrels))[:most]
    folder = model_folder(name, context.workspace.root)
    kept = context.workspace.root / ANSWERS
    found = answers_of(name, materials.load(folder), questions, kept, System(), progress, stamp=stamp_of(folder))
    return _taken(list(found.values()), None)


class _Materials:
    """Texts and candidates of a workspace, and its models with its vectors."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._texts, self._queries = inputs.documents(context), inputs.queries(context)
        self._signals = inputs.CorpusSignals(context, self._texts, self._queries)

    def load(self, folder: Path) -> Reranker:
        """Load a model; one that was trained here finds the workspace's vectors."""
        inside = self._context.workspace.root.resolve() in folder.resolve().parents
        return load_reranker(folder, self._signals.bank if inside else None, self._context.recipe.rank.engine if inside else "auto")

    def questions(self, query_ids: Sequence[str]) -> list[Question]:
        run: Mapping[str, Sequence[ScoredDoc]] = read_run(self._context.read("candidates") / "fused.trec")
        found = []
        for query_id in query_ids:
            doc_ids = [c.doc_id for c in run.get(query_id, ())][: self._context.recipe.rank.depth]
            if doc_ids:  # without candidates there is nothing to ask: it counts 0 for every system
                found.append(Question(query_id, self._queries[query_id], doc_ids, [self._texts[d] for d in doc_ids]))
        return found


def _taken(answers: Sequence[Answer], price: System | None) -> Taken:
    seconds = np.array([answer.seconds for answer in answers if not answer.refused] or [np.nan])
    priced = price is not None and (price.token_price > 0 or price.search_price > 0)
    own = sum(answer.dollars for answer in answers if answer.dollars is not None)  # of language models, by prices of their own
    dollars = own or (sum(answer.cost(price) for answer in answers) if price is not None and priced else None)
    return Taken(dollars, float(np.median(seconds)), float(np.quantile(seconds, 0.95)), sum(answer.refused for answer in answers))


def print_comparison(comparison: Comparison, write: Callable[[str], object]) -> None:
    """Write the table and how to read it."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table

    rows = comparison.rows
    measures = [m for m in dict.fromkeys(row.measure for row in rows) if not m.startswith("judged@")]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("system", overflow="fold")
    for heading in (measures[0], "95 % interval", "difference", "95 % interval", "p", *measures[1:], "$", "ms", "95 %"):
        table.add_column(heading, justify="right")
    for system in in_order(row.system for row in rows):
        first = find(rows, system, measures[0])
        others = [find(rows, system, measure) for measure in measures[1:]]
        if first is not None:
            table.add_row(system, *_cells(first), *(_value(row) for row in others), *_took(comparison.taken.get(system)))
    console = Console(file=StringIO(), width=200, color_system=None, force_terminal=False)
    console.print(table)
    baseline = next((row.baseline for row in rows if row.baseline), None)
    write("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n")  # type: ignore[attr-defined]
    asked = "$, ms: dollars for all questions by the prices in the recipe, median and 95th percentile of a question's time"
    if baseline:
        against = f"difference and p: paired randomization test against {baseline}, the best of {', '.join(FIRST_STAGE)}"
        write(f"{against}, corrected for the number of systems; * = below {ALPHA:g}. {asked}.\n")
    for system, taken in comparison.taken.items():
        if taken.refused:
            write(f"{system} refused {taken.refused} questions, which keep the order of the first stage.\n")


def _cells(row: Measured) -> list[str]:
    cells = [f"{row.value:.3f}", f"{row.low:.3f}\N{EN DASH}{row.high:.3f}"]
    if row.difference is None or row.p_value is None or row.difference_low is None or row.difference_high is None:
        return [*cells, "baseline" if row.baseline == row.system else "", "", ""]
    interval = f"{signed(row.difference_low)} to {signed(row.difference_high)}"
    return [*cells, signed(row.difference), interval, p_text(row.p_value).removeprefix("p ").removeprefix("= ") + _mark(row)]


def _value(row: Measured | None) -> str:
    return "" if row is None else f"{row.value:.3f}{_mark(row)}"


def _mark(row: Measured) -> str:
    return "*" if row.p_value is not None and row.p_value < ALPHA else " "


def _took(taken: Taken | None) -> list[str]:
    if taken is None:
        return ["", "", ""]
    return ["" if taken.dollars is None else f"{taken.dollars:.4f}", f"{1000 * taken.median:.0f}", f"{1000 * taken.p95:.0f}"]
