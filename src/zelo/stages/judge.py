"""judge: every judge of the ensemble compares every pair; answers go to the journal as they come, then into one Parquet file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zelo.artifacts import Columns, read_table, write_table
from zelo.core.groups import group_rows
from zelo.errors import JudgeError
from zelo.judges import Answer, Comparison, Judge, Materials, known_judge, make_judge
from zelo.judges.journal import Journal, contents
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.stages import inputs

JOURNAL = "judgments.sqlite"
PAIR = ("query_id", "doc_id_a", "doc_id_b", "shown_first")
_SEALED = ("preference", "status", "reasoning", "tokens", "cost")


def check(recipe: Recipe) -> None:
    """Raise RecipeError for an unknown judge."""
    for name in recipe.judge.ensemble:
        known_judge(name)


def run(context: Context) -> Outcome:
    """Ask what the journal does not know and write judgments/ensemble.parquet, ordered by judge, query and pair."""
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    signals = inputs.Signals(context, texts, query_texts)
    materials = Materials(signals.lexical, signals.bank, signals.token_frequency, _identity(context))
    judges = [make_judge(name, materials) for name in context.recipe.judge.ensemble]
    pairs = read_table(context.read(inputs.judged(context)), inputs.judged(context), PAIR)
    comparisons = [show(row, texts, query_texts) for row in zip(*pairs.values(), strict=True)]
    sealed: Columns = {name: [] for name in ("judge", "prompt_id", *_SEALED)}
    with Journal(context.workspace.root / JOURNAL) as journal:
        for judge in judges:
            answers = ask(judge, comparisons, pairs["query_id"], journal, context)
            missing = sum(a.preference is None for a in answers)
            if missing > context.recipe.judge.max_missing * len(answers):
                what = f"judge {judge.name} gave no usable answer to {missing:,} of {len(answers):,} comparisons"
                raise JudgeError(what, remedy="run again to retry only those, or raise judge.max_missing")
            sealed["judge"] += [judge.name] * len(answers)
            sealed["prompt_id"] += [judge.prompt_id] * len(answers)
            for name in _SEALED:
                sealed[name] += [getattr(a, name) for a in answers]
        cost = sum(journal.cost(judge.name, judge.prompt_id) for judge in judges)
    names = ("query_id", "doc_id_a", "doc_id_b", "shown_first")
    columns = {name: pairs[name] * len(judges) for name in names} | sealed
    columns["preference"] = [
        -value if value is not None and side == "b" else value
        for value, side in zip(sealed["preference"], columns["shown_first"], strict=True)
    ]
    rows = write_table(context.write("judgments"), "judgments", columns)
    return Outcome({"judgments": rows}, cost=cost)


def ask(judge: Judge, comparisons: Sequence[Comparison], query_ids: Sequence[str], journal: Journal, context: Context) -> list[Answer]:
    """Return an answer to every comparison, from the journal where it has one; new answers are kept query by query."""
    answers: list[Answer] = [Answer(None, "failed")] * len(comparisons)
    advance = context.progress.task(f"judge {judge.name}")
    done = 0
    for query_id, rows in group_rows(query_ids).items():
        names = contents([comparisons[i] for i in rows])
        known = journal.answers(judge.name, judge.prompt_id, query_id)
        new = [(name, i) for name, i in zip(names, rows, strict=True) if name not in known]
        if new:
            given = judge.judge([comparisons[i] for _, i in new])
            fresh = [(name, answer) for (name, _), answer in zip(new, given, strict=True)]
            journal.add(judge.name, judge.prompt_id, query_id, fresh)
            known |= dict(fresh)
        for name, i in zip(names, rows, strict=True):
            answers[i] = known[name]
        done += len(rows)
        advance(done, len(comparisons))
    return answers


def show(row: tuple[str, str, str, str], texts: dict[str, str], query_texts: dict[str, str]) -> Comparison:
    """Return what a judge sees of a pair: (query_id, doc_id_a, doc_id_b, shown_first)."""
    query_id, doc_id_a, doc_id_b, shown_first = row
    first, second = (doc_id_a, doc_id_b) if shown_first == "a" else (doc_id_b, doc_id_a)
    return Comparison(query_texts[query_id], texts[first], texts[second])


def _identity(context: Context) -> str:
    # An offline judge measures a difference against all that is shown for the query, with the corpus's statistics.
    parts = [context.workspace.digest(a) or "" for a in ("corpus", "queries", "vectors", inputs.judged(context))]
    parts.append(context.recipe.retrieve.language)  # of the word statistics
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
