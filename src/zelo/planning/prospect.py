"""`zelo plan`: what is left to judge in a workspace and what it will take, found without changing it. `bill` is the arithmetic.

Nothing is asked, no key is needed, and the journal is only read, so a plan can be made while a run is under way.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from zelo import runner
from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.core.comparison_graph import rng_for
from zelo.errors import JudgeError, WorkspaceError
from zelo.judges import JUDGES, Comparison, Materials, RemoteJudge, make_judge
from zelo.judges.journal import digest
from zelo.judges.known import Known
from zelo.judges.llm import LanguageModelJudge, prompters
from zelo.judges.own import estimated
from zelo.judges.thinking import thinking_judge
from zelo.language_models.names import Unopened, parse_name
from zelo.language_models.transport import loopback
from zelo.plain import plain
from zelo.planning.adaptive import judged_pairs, later_pairs
from zelo.planning.bill import (
    Bill,
    Sample,
    Workload,
    adaptive_note,
    bill,
    budget_notes,
    duration,
    money,
    pairs_of,
    plus_minus,
    spread,
    total,
)
from zelo.recipe import Model, Recipe
from zelo.stages import inputs
from zelo.stages.judge import JOURNAL
from zelo.stages.pair import check as check_pairs
from zelo.stages.questions import a_first, read_pairs, swapped_rows
from zelo.workspace import Workspace

IntArray = NDArray[np.int64]

SAMPLED = 200
"""Comparisons whose prompts are written to count their tokens."""
_BATCHES = ("openai", "anthropic", "azure")  # providers whose batch service costs half


@dataclass(frozen=True)
class Plan:
    """What is left to judge.

    Attributes:
        queries: how many have pairs.
        pairs: in all.
        basis: how the pairs were counted, for people.
        exact: whether they were drawn already.
        bills: one per judge.
        spent_dollars: what the journal's attempts have cost.
        notes: on the whole.
    """

    queries: int
    pairs: int
    basis: str
    exact: bool
    bills: tuple[Bill, ...]
    spent_dollars: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Questions:
    """What there is to judge: drawn pairs, or as many as there will be; and some comparisons as they are or will be."""

    queries: int
    pairs: int
    basis: str
    sample: Sequence[Comparison]
    across: int = 0  # comparisons across queries, of each judge that can make them
    texts: Sequence[bytes] = ()  # digests, queries before documents; empty where the pairs are not drawn
    drawn: tuple[IntArray, IntArray, IntArray] | None = None  # places in texts of query, a and b
    later: IntArray | None = None  # of the pairs, how many each query may get in rounds
    sealed: Mapping[str, int] | None = None  # the judge stage is done: by judge, the pairs it saw in the other order as well


def make_plan(workspace: Workspace, recipe: Recipe | None = None) -> Plan:
    """Say what is left to judge.

    Args:
        workspace: where at least `ingest` has run. It is not changed.
        recipe: another one than the workspace's, to see what would be.

    Raises:
        WorkspaceError: nothing was ingested yet, or the journal cannot be read.
        RecipeError: a judge or its prompt does not exist, or the pairs per query are too few for their design.
    """
    recipe = recipe or workspace.recipe
    check_pairs(recipe)
    viewed = Workspace(workspace.root, recipe)
    done = {state.stage.name for state in runner.status(viewed) if state.done}
    questions = _questions(viewed, recipe, done)
    if "align" not in done and questions.queries > 1:
        questions = replace(questions, across=recipe.align.comparisons * questions.queries)
    with Known(viewed.root / JOURNAL) as known:
        bills = tuple(bill(workload(name, viewed, recipe, questions, known)) for name in recipe.judge.ensemble)
        spent_dollars, spent_tokens = known.spent()
    notes = budget_notes(bills, recipe.judge, spent_dollars, spent_tokens)
    if recipe.pair.design == "cycles" and recipe.line != "distilled":
        per_query = 2 * questions.pairs / recipe.pair.degree / max(1, questions.queries)
        if adaptive := adaptive_note(bills, recipe.pair.degree, per_query):
            notes.append(adaptive)
    return Plan(questions.queries, questions.pairs, questions.basis, questions.drawn is not None, bills, spent_dollars, tuple(notes))


def _questions(workspace: Workspace, recipe: Recipe, done: set[str]) -> Questions:
    if "ingest" not in done:
        remedy = f"run `zelo run {workspace.root} --to pair`, which costs nothing"
        raise WorkspaceError("has no documents and questions to plan with", where=str(workspace.root), remedy=remedy)
    queries = {q.query_id: q.text for q in read_queries(workspace.path("queries"))}
    if "pair" in done:
        return _drawn(workspace, recipe, queries, judged="judge" in done)
    rng = rng_for(recipe.seed, "", "plan")
    lines = workspace.path("splits").read_text("utf-8").splitlines()[1:]
    split_of = dict(line.split("\t") for line in lines)
    judged = [q for q in queries if split_of.get(q) == "train" or (recipe.pair.queries == "all" and recipe.line != "distilled")]
    most = recipe.retrieve.candidates
    if done & {"retrieve", "gather"}:
        found = {q: [hit.doc_id for hit in ranking] for q, ranking in read_run(workspace.path("candidates") / "fused.trec").items()}
        pairs = sum(pairs_of(len(found.get(q, ())), recipe) for q in judged)
        basis = "counted from the candidates; equal texts, which are judged once, will make it a little less"
        doc_ids = [found[q] for q in judged if len(found.get(q, ())) > 1]
        chosen = [_two(rng, doc_ids[i]) for i in rng.integers(len(doc_ids), size=SAMPLED if doc_ids else 0)]
    else:
        ids = [d.doc_id for d in read_corpus(workspace.path("corpus"))]
        pairs = len(judged) * pairs_of(min(most, len(ids)), recipe)
        basis = f"an estimate: {most} candidates per query, as retrieve.candidates says; `zelo run --to pair` counts them"
        chosen = [_two(rng, ids) for _ in range(SAMPLED)] if len(ids) > 1 else []
    wanted = {doc_id for two in chosen for doc_id in two}
    texts = {d.doc_id: d.full_text for d in read_corpus(workspace.path("corpus")) if d.doc_id in wanted}
    asked = [queries[judged[i]] for i in rng.integers(len(judged), size=len(chosen))] if judged else []
    sample = [Comparison(query, texts[a], texts[b]) for query, (a, b) in zip(asked, chosen, strict=True)]
    return Questions(len(judged), pairs, basis, sample)


def _two(rng: np.random.Generator, doc_ids: Sequence[str]) -> tuple[str, str]:
    i, j = rng.choice(len(doc_ids), 2, replace=False).tolist()
    return doc_ids[i], doc_ids[j]


def _drawn(workspace: Workspace, recipe: Recipe, queries: dict[str, str], *, judged: bool) -> Questions:
    pairs = read_pairs(workspace.path(inputs.judged(recipe)))
    adaptive = recipe.pair.design == "adaptive"
    later = later_pairs(pairs.select(pairs.cycle >= 0), recipe) if adaptive and not judged else None
    more = 0 if later is None else int(later.sum())
    count, sealed = judged_pairs(workspace) if adaptive and judged else (len(pairs) + more, None)
    basis = f"{len(pairs):,} drawn by `pair`, the others at most chosen in rounds" if more else "drawn by `pair`"
    rows = rng_for(recipe.seed, "", "plan").permutation(len(pairs))[:SAMPLED]
    place = {doc_id: i for i, doc_id in enumerate(pairs.doc_ids)}
    wanted = {*pairs.a[rows].tolist(), *pairs.b[rows].tolist()}
    digests, texts = [b""] * len(place), dict[int, str]()
    for document in read_corpus(workspace.path("corpus")):
        at = place.get(document.doc_id)
        if at is not None:
            digests[at] = digest(document.full_text)
            if at in wanted:
                texts[at] = document.full_text
    shown = [(queries[pairs.query_ids[pairs.query[r]]], texts[int(pairs.a[r])], texts[int(pairs.b[r])]) for r in rows]
    first = len(pairs.query_ids)
    return Questions(
        first,
        count,
        basis if sealed is None else f"{len(pairs):,} drawn by `pair`, the others chosen in rounds; all are judged",
        [Comparison(*three) for three in shown],
        0,
        [*(digest(queries[q]) for q in pairs.query_ids), *digests],
        (pairs.query, pairs.a + first, pairs.b + first),
        later,
        sealed,
    )


def workload(name: str, workspace: Workspace, recipe: Recipe, questions: Questions, known: Known) -> Workload:
    """Return what one judge has to do; `workspace` is read only where the questions are drawn pairs."""
    facts = recipe.judge.models.get(name, Model())
    if name in JUDGES:
        return Workload(name, "offline", questions.pairs, 0, questions.pairs)
    if name.startswith("python:"):
        return _own(name, workspace, recipe, questions, known)
    if name.startswith("thinking:"):
        return _thinking(name, workspace, recipe, questions, known)
    prompter, across = prompters(name, recipe)
    judging = recipe.judge
    temperature, longest = judging.temperature, judging.max_output_tokens
    judge = LanguageModelJudge(Unopened(name), prompter, across, facts=facts, max_output_tokens=longest, temperature=temperature)
    work = _remote(Workload(name, "model", questions.pairs, 0, 0, facts=facts), judge, workspace, recipe, questions, known)
    calls = 1 if judge.mode == "reason" else 2
    address = parse_name(name)
    work = replace(work, own_server=loopback(urlsplit(address.base).hostname or ""))
    return replace(work, calls=calls, short=judge.mode == "logprobs", batches=address.provider in _BATCHES and calls == 1)


def _thinking(name: str, workspace: Workspace, recipe: Recipe, questions: Questions, known: Known) -> Workload:
    facts, model = recipe.judge.models.get(name, Model()), name.removeprefix("thinking:")
    judge = thinking_judge(name, recipe, Unopened(model))
    own = model.startswith("local:") or loopback(urlsplit(parse_name(model).base).hostname or "")
    work = Workload(name, "model", questions.pairs, 0, 0, calls=2 * facts.traces, facts=facts, thinks=True, own_server=own)
    return _remote(work, judge, workspace, recipe, questions, known)


def _own(name: str, workspace: Workspace, recipe: Recipe, questions: Questions, known: Known) -> Workload:
    work = Workload(name, "own", questions.pairs, 0, questions.pairs, facts=recipe.judge.models.get(name, Model()))
    try:
        judge = make_judge(name, Materials(_nothing, _nothing, _nothing, ""), recipe)
    except Exception as error:  # code of the user's own, which may want a key that is not there yet
        return replace(work, remark=f"cannot be made now ({type(error).__name__}: {error})")
    if not isinstance(judge, RemoteJudge):
        return replace(work, kind="offline", remark="runs here")
    return _remote(work, judge, workspace, recipe, questions, known)


def _nothing() -> Any:
    raise JudgeError("a plan has no materials")


def _remote(work: Workload, judge: RemoteJudge, workspace: Workspace, recipe: Recipe, questions: Questions, known: Known) -> Workload:
    """Add what is left, what the journal knows and what a sample of prompts takes."""
    history = known.history(judge.name, judge.prompt_id)
    estimates = getattr(judge, "estimate", None) is not None and questions.sample
    sample = _sample([estimated(judge, c) for c in questions.sample]) if estimates else None
    across = questions.across if getattr(judge, "across", False) else 0
    if questions.drawn is None:
        swapped = round(recipe.judge.swapped_share * questions.pairs)
        remark = (
            f"{history.answers:,} answers are in the journal; which of them can be used is known after `pair`" if history.answers else ""
        )
        return replace(
            work, swapped=swapped, left=questions.pairs + swapped + across, across=across, sample=sample, history=history, remark=remark
        )
    if questions.sealed is not None:
        return replace(work, swapped=questions.sealed.get(judge.name, 0), left=across, across=across, sample=sample, history=history)
    pairs = read_pairs(workspace.path(inputs.judged(recipe)))
    query, a, b = questions.drawn
    leads, twice = a_first(pairs, judge.name, recipe.seed), swapped_rows(pairs, recipe.judge.swapped_share, recipe.seed)
    shown = np.column_stack([query, np.where(leads, a, b), np.where(leads, b, a)])
    every = np.concatenate([shown, shown[twice][:, [0, 2, 1]]])
    room = recipe.judge.max_output_tokens
    settled, sent = (count(judge.name, judge.prompt_id, questions.texts, every, room) for count in (known.settled, known.sent))
    left, under_way, swapped, remark = len(every) - settled.ours - sent.ours, sent.ours, len(twice), ""
    if questions.later is not None:
        most = questions.later * (1 + recipe.judge.swapped_share)
        later = most.copy()
        swapped += round(recipe.judge.swapped_share * int(questions.later.sum()))
        # Answers about a query's other pairs are taken for those of rounds: with the same settings, or fewer comparisons, they are.
        for place, count in settled.others.items():
            later[place] = max(0.0, later[place] - count)
        if credited := round(float(most.sum() - later.sum())):
            remark = f"{credited:,} answers about other pairs are taken for those of rounds; if another design asked for them, more is left"
        for place, count in sent.others.items():
            taken = min(count, int(later[place]))
            later[place], under_way = later[place] - taken, under_way + taken
        left += math.ceil(round(float(later.sum()), 6))
    work = replace(work, swapped=swapped, left=left + across, across=across, sent=under_way)
    return replace(work, sample=sample, history=history, remark=remark)


def _sample(estimates: Iterable[tuple[int, int, float]]) -> Sample:
    read, written, dollars = np.array(list(estimates), np.float64).T
    error = float(read.std(ddof=1)) / math.sqrt(len(read)) if len(read) > 1 else 0.0
    return Sample(float(read.mean()), error, float(written.mean()), float(dollars.mean()))


def plan_output(workspace: Workspace, recipe: Recipe, *, as_json: bool = False) -> Iterator[str]:
    """Yield what `zelo plan` prints; errors are those of `make_plan`."""
    plan = make_plan(workspace, recipe)
    if as_json:
        yield json.dumps(plain(plan), allow_nan=False)
    else:
        yield from plan_lines(plan, shlex.quote(str(workspace.root)))


def plan_lines(plan: Plan, name: str) -> Iterator[str]:
    """Yield a plan for people; `name` is the workspace's on the command line."""
    yield f"{plan.pairs:,} pairs of {plan.queries:,} queries, {plan.basis}."
    yield ""
    header = ("judge", "pairs", "swapped", "left", "tokens read", "tokens written", "US dollars", "by batch", "time")
    rows = [header, *(_row(one) for one in plan.bills)]
    if len(plan.bills) > 1:
        rows.append(_total(plan.bills))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells).rstrip()
    yield ""
    said: dict[str, list[str]] = {}
    for one in plan.bills:
        for note in _notes(one):
            said.setdefault(note, []).append(one.work.judge)
    remote = [one.work.judge for one in plan.bills if one.work.kind != "offline"]
    for note, judges in said.items():
        yield f"{note}." if judges == remote else f"{', '.join(judges)}: {note}."
    for note in plan.notes:
        yield f"{note}."
    if any(one.work.left or one.work.sent for one in plan.bills):
        yield f"Nothing was asked and nothing was paid for this plan. Next: zelo run {name}"


def _row(one: Bill) -> tuple[str, ...]:
    work = one.work
    if work.kind == "offline":
        return (work.judge, f"{work.pairs:,}", "", "", "", "", "no cost", "", "")
    money_ = "unknown" if one.dollars is None else spread(one.dollars, money)
    return (
        work.judge, f"{work.pairs:,}", f"{work.swapped:,}", f"{work.left:,}", plus_minus(one.read), plus_minus(one.written),
        money_, spread(one.by_batch, money) if one.by_batch else "", _time(one),
    )  # fmt: skip


def _total(bills: Sequence[Bill]) -> tuple[str, ...]:
    """The last line: sums, and the longest time, for all judges are asked at once."""
    dollars = total(b.dollars for b in bills)
    known = sum(b.dollars is not None for b in bills)
    cost = spread(dollars, money) if dollars else f"unknown for {len(bills) - known} of {len(bills)}"
    times = [b.seconds for b in bills if b.seconds is not None]
    longest = max(times, key=lambda t: t.value, default=None)
    left = sum(b.work.left for b in bills if b.work.kind != "offline")
    read, written = (total(amounts) for amounts in ([b.read for b in bills], [b.written for b in bills]))
    time = spread(longest, duration) if longest and longest.high else ""
    return ("all", "", "", f"{left:,}", plus_minus(read), plus_minus(written), cost, "", time)


def _notes(one: Bill) -> Iterator[str]:
    work = one.work
    if work.kind == "offline":
        if work.remark:
            yield work.remark
        return
    every = work.pairs + work.swapped + work.across
    if work.across:
        yield f"{work.across:,} of the comparisons are across queries (align.comparisons)"
    if work.sent:
        yield f"{work.sent:,} comparisons are under way in batches that were sent and not collected; what they cost is not counted here"
    if work.left + work.sent < every:
        done = every - work.left - work.sent
        yield f"{done:,} of {every:,} comparisons are answered already or cannot be, {work.left:,} are left"
    if work.left:
        notes = list(one.notes)
        if work.calls > 1:
            each = f"{work.calls // 2:,} per order" if work.thinks else "one per order"
            notes.insert(0, f"{work.calls} calls per comparison, {each}")
        if one.most:
            notes.append(f"at most {money(one.most)}, were every answer as long as judge.max_output_tokens allows")
        if one.bound and one.bound != "batch":
            notes.append(f"the speed is limited by {one.bound}")
        yield from notes


def _time(one: Bill) -> str:
    if one.bound == "batch":
        return "within a day"
    return spread(one.seconds, duration) if one.seconds and one.seconds.high else ""
