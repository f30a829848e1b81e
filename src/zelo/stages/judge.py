"""judge: every judge compares every pair. What the journal knows is not asked again; the answers are sealed into Parquet files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from zelo import pipeline, runner
from zelo.artifacts import Columns, write_parts
from zelo.errors import InputError, JudgeError, RecipeError
from zelo.judges import Comparison, Judge, Materials, RemoteJudge, known_judge, lacks_price, make_judge
from zelo.judges.journal import CUT, STATUSES, Attempt, Journal, Standing
from zelo.judges.parsing import cut_remedy
from zelo.judges.running import MOST_UNUSABLE, Job, Limits
from zelo.judges.running import ask as ask_remote
from zelo.judges.sending import Sendable, judge_work
from zelo.pipeline import Context, Outcome
from zelo.progress import Progress
from zelo.recipe import Recipe
from zelo.shards import Here, keeping
from zelo.stages import inputs
from zelo.stages.questions import BoolArray, IntArray, Pairs, Rows, Texts, a_first, in_shard, read_pairs, swapped_rows
from zelo.stages.rounds import in_rounds
from zelo.workspace import Workspace

JOURNAL = "judgments.sqlite"
_PART = 10_000  # rows sealed at once
_FAILED_CALLS = 5  # of a judge that is asked query by query, after which the run stops
AnyJudge = Judge | RemoteJudge
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Replies:
    """What the journal has of one judge about some pairs.

    Attributes:
        judge: who was asked.
        number: of the judge in the journal.
        pairs: what it was asked about, [m].
        a_first: whether it was shown document a first [m].
        standing: the attempts that count [m].
    """

    judge: AnyJudge
    number: int
    pairs: Pairs
    a_first: BoolArray
    standing: Standing

    def columns(self, journal: Journal, rows: slice) -> Columns:
        """Return the columns of the sealed file for some of the rows."""
        first, read = self.a_first[rows].tolist(), journal.read(self.standing.attempt[rows])
        names = ("preference", "status", "input_tokens", "output_tokens", "cost", "seconds", "note", "flags", "reasoning")
        columns: Columns = dict(zip(names, map(list, zip(*read, strict=True)), strict=True))
        value = _clamped if getattr(self.judge, "clamp", False) else float
        columns["given"] = [None if p is None else (p if a else -p) or 0.0 for p, a in zip(columns["preference"], first, strict=True)]
        columns["preference"] = [None if p is None else value(p) for p in columns["given"]]
        columns["status"] = ["failed" if STATUSES[s] == "error" else STATUSES[s] for s in columns["status"]]
        columns["judge"], columns["prompt_id"] = [self.judge.name] * len(first), [self.judge.prompt_id] * len(first)
        columns["shown_first"] = ["a" if a else "b" for a in first]
        columns["query_id"] = [self.pairs.query_ids[i] for i in self.pairs.query[rows].tolist()]
        for name, places in (("doc_id_a", self.pairs.a), ("doc_id_b", self.pairs.b)):
            columns[name] = [self.pairs.doc_ids[i] for i in places[rows].tolist()]
        return columns

    def preferences(self, journal: Journal) -> FloatArray:
        """Return what the judge prefers [m], positive for document a, NaN where it has no usable answer."""
        parts = [self.columns(journal, slice(i, i + _PART))["preference"] for i in range(0, len(self.pairs), _PART)]
        return np.array([value for part in parts for value in part], np.float64)  # None becomes NaN


def check(recipe: Recipe) -> None:
    """Raise RecipeError for an unknown judge or a cap that cannot hold, InputError for a prompt that is none."""
    for name in recipe.judge.ensemble:
        known_judge(name, recipe)
        if recipe.judge.budget_dollars and lacks_price(name, recipe):
            what = f"judge.budget_dollars cannot hold: the price of {name} is not known"
            raise RecipeError(what, remedy=f'set input_price and output_price of [judge.models."{name}"], or judge.budget_tokens instead')


def external(recipe: Recipe) -> dict[str, str]:
    """Return the digests of the language models' prompts, which may be files of the user's."""
    from zelo.judges.llm import asked_with

    return asked_with(recipe)


def run(context: Context) -> Outcome:
    """Ask what the journal does not know; write judgments/ensemble.parquet, ordered by judge, query and pair, and swapped.parquet.

    Raises:
        JudgeError: a judge cannot go on, the budget is spent, or too many answers are missing. What was answered is kept.
    """
    with open_journal(context) as journal:
        asked, chosen = _ask_in_rounds(read_pairs(context.read(inputs.judged(context.recipe))), journal, context)
        for replies, _ in asked:
            check_missing(replies, context.recipe.judge.max_missing, journal)
        rows = write_parts(context.write("judgments"), "judgments", _parts([replies for replies, _ in asked], journal))
        swapped = write_parts(context.write("swapped"), "swapped", _parts([replies for _, replies in asked], journal))
        cost = sum(journal.spent(replies.number)[0] for replies, _ in asked)
        notes = tuple(note for note in (chosen, *(_missing_note(replies) for replies, _ in asked)) if note)
    return Outcome({"judgments": rows, **({"swapped": swapped} if swapped else {})}, cost=cost, notes=notes)


def judge_shard(workspace: Workspace, shard: str, progress: Progress) -> str:
    """Ask the questions of one machine of several and seal nothing: `zelo merge` brings the journals together.

    Args:
        workspace: a copy of one that has run up to `pair`.
        shard: "I/N": this machine, from 1, and how many there are.
        progress: shows what happens.

    Returns:
        What was done, in a line.

    Raises:
        InputError: no such shard.
        WorkspaceError: another process works here, or a stage before this one has to run.
        JudgeError: a judge cannot go on, the budget is spent, or too many answers are missing to plan the next round with.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"{shard!r} is no shard", where="--shard", remedy="write I/N with I from 1 to N, for example 1/4")
    runner.check(workspace.recipe)
    with workspace.locked():
        runner.require_before(workspace, pipeline.find(workspace.recipe, "judge"))
        context = Context(workspace, workspace.recipe, workspace.root, progress)
        pairs = read_pairs(context.read(inputs.judged(context.recipe)))
        with open_journal(context) as journal:
            asked, _ = _ask_in_rounds(pairs.select(in_shard(pairs, part - 1, parts)), journal, context)
    total = sum(len(replies.pairs) for replies, _ in asked)
    missing = total - sum(int(replies.standing.answered.sum()) for replies, _ in asked)
    return f"shard {shard}: {total:,} judgments, {missing:,} of them missing. When all shards are done: zelo merge"


def _ask_in_rounds(pairs: Pairs, journal: Journal, context: Context) -> tuple[list[tuple[Replies, Replies]], str]:
    """Ask about the pairs, and with an adaptive design about those that follow from the answers; the remark says how many.

    Raises:
        JudgeError: too many answers are missing to plan a round with, so that none is paid for on holes.
    """

    def ask(all_pairs: Pairs) -> list[tuple[Replies, Replies]]:
        return ask_all(all_pairs, journal, context)

    def votes(asked: list[tuple[Replies, Replies]]) -> FloatArray:
        for replies, _ in asked:
            check_missing(replies, context.recipe.judge.max_missing, journal)
        return np.stack([replies.preferences(journal) for replies, _ in asked], axis=1)

    if context.recipe.pair.design != "adaptive":
        return ask(pairs), ""
    # What a refine round added is asked at the end: rounds planned without it are those of the parent, which are paid.
    drawn, added = pairs.select(pairs.cycle >= 0), pairs.select(pairs.cycle < 0)
    chosen, asked, remark = in_rounds(drawn, ask, votes, context.recipe.pair, context.recipe.seed)
    return (ask(chosen.with_added(added)) if len(added) else asked), remark


def open_journal(context: Context) -> Journal:
    """Open the workspace's journal."""
    return Journal(context.workspace.root / JOURNAL, keep_reasoning=context.recipe.judge.keep_reasoning)


def ask_all(pairs: Pairs, journal: Journal, context: Context, judges: Sequence[AnyJudge] | None = None) -> list[tuple[Replies, Replies]]:
    """Have every judge of the ensemble answer every pair; may be called again with more pairs, which asks only about those.

    Args:
        pairs: all pairs so far.
        journal: has what was answered before, gets what is new.
        context: of the stage.
        judges: if not those of the recipe.

    Returns:
        Per judge its answers about all pairs, in their order, and those about some pairs shown in the other order (remote judges).

    Raises:
        JudgeError: a judge cannot go on, or the budget is spent.
    """
    recipe = context.recipe
    query_texts, doc_texts = inputs.queries(context), inputs.documents(context)
    if judges is None:
        signals = inputs.CorpusSignals(context, doc_texts, query_texts)
        materials = Materials(signals.lexical, signals.bank, signals.token_frequency, _identity(context))
        judges = [make_judge(name, materials, recipe) for name in recipe.judge.ensemble]
        _check_different(judges)
    texts = Texts.register(pairs, query_texts, doc_texts, journal)
    twice = swapped_rows(pairs, recipe.judge.swapped_share, recipe.seed)
    orders, rows = [], []
    for judge in judges:
        again = twice if _is_remote(judge) else twice[:0]
        order = a_first(pairs, judge.name, recipe.seed)
        orders.append((order, again))
        rows.append(np.concatenate([texts.shown(pairs, order), texts.shown(pairs.select(again), ~order[again])]))
    found = ask_questions(judges, rows, texts, journal, context)
    asked = []
    for judge, (order, again), (number, standing) in zip(judges, orders, found, strict=True):
        base = Replies(judge, number, pairs, order, standing.select(slice(0, len(pairs))))
        asked.append((base, Replies(judge, number, pairs.select(again), ~order[again], standing.select(slice(len(pairs), None)))))
    return asked


def ask_questions(
    judges: Sequence[AnyJudge], rows: Sequence[Rows], texts: Texts, journal: Journal, context: Context
) -> list[tuple[int, Standing]]:
    """Have each judge answer its questions, [n, 4] places in `texts`, unless the journal has the answer.

    Returns:
        Per judge its number in the journal, and what the journal then knows of its questions.

    Raises:
        JudgeError: a judge cannot go on, or the budget is spent.
    """
    numbers = [journal.judge(judge.name, judge.prompt_id) for judge in judges]
    every = journal.questions(np.concatenate([texts.keys(own) for own in rows]))
    questions = np.split(every, np.cumsum([len(own) for own in rows])[:-1])
    room = context.recipe.judge.max_output_tokens
    jobs, standings = [], []
    for judge, number, own, shown in zip(judges, numbers, questions, rows, strict=True):
        standing = journal.standing(number, own, room)
        standings.append(standing)
        if isinstance(judge, RemoteJudge):
            jobs.append(_job(judge, number, own, shown, standing, texts))
        else:
            _ask_offline(judge, number, own, shown, standing, texts, journal, context)
    _ask_remote(jobs, journal, context)
    return [
        (number, standing if standing.answered.all() else journal.standing(number, own, room))
        for number, own, standing in zip(numbers, questions, standings, strict=True)
    ]


def _check_different(judges: Sequence[AnyJudge]) -> None:
    """Two that the journal cannot tell apart would be one, asked once and counted twice."""
    for (name, prompt_id), count in Counter((judge.name, judge.prompt_id) for judge in judges).items():
        if count > 1:
            what = f"{count} judges are called {name!r} with the prompt {prompt_id!r}"
            raise RecipeError(what, where="judge.ensemble", remedy="give each a name or a prompt_id of its own")


def _is_remote(judge: AnyJudge) -> bool:
    return isinstance(judge, RemoteJudge)


def _open(questions: IntArray, standing: Standing, shown: Rows, most_unusable: int | None) -> IntArray:
    """Rows to ask, those of one query together; a question that occurs twice is asked once."""
    left = ~standing.answered if most_unusable is None else ~standing.answered & (standing.unusable < most_unusable)
    rows = np.flatnonzero(left)
    rows = rows[np.unique(questions[rows], return_index=True)[1]]
    return rows[np.lexsort((rows, shown[rows, 0]))]


def _job(judge: RemoteJudge, number: int, questions: IntArray, shown: Rows, standing: Standing, texts: Texts) -> Job:
    rows = _open(questions, standing, shown, MOST_UNUSABLE)
    asked = shown[rows]
    return Job(
        judge,
        number,
        questions[rows].tolist(),
        lambda place: texts.comparison(asked[place]),
        standing.unusable[rows].tolist(),
        total=len(questions),
    )


def _ask_remote(jobs: Sequence[Job], journal: Journal, context: Context) -> None:
    settings = context.recipe.judge
    limits = Limits(settings.retries, settings.timeout, settings.budget_dollars or None, settings.budget_tokens or None)
    advances = {job.judge.name: context.progress.task(f"judge {job.judge.name}") for job in jobs if job.questions}

    def shown(job: Job) -> None:
        advances[job.judge.name](job.total - job.left, job.total, job.detail)

    ask_remote(jobs, journal, limits, shown, context.progress.note)


def _ask_offline(
    judge: Judge, number: int, questions: IntArray, shown: Rows, standing: Standing, texts: Texts, journal: Journal, context: Context
) -> None:
    """Ask query by query; the journal keeps the answers about a query together."""
    rows = _open(questions, standing, shown, None)
    advance = context.progress.task(f"judge {judge.name}")
    done = len(questions) - len(rows)
    together = np.argsort(shown[:, 0], kind="stable")
    ends = np.searchsorted(shown[together, 0], np.arange(len(texts.texts) + 1))

    def shards() -> Iterator[tuple[tuple[list[int], set[int]], list[Comparison]]]:
        for query, group in groupby(rows.tolist(), key=lambda row: int(shown[row, 0])):
            new = list(group)
            # Answers of the user's own judge may be paid: it sees only what is new. One that measures against all sees all.
            every = together[ends[query] : ends[query + 1]].tolist() if getattr(judge, "sees_whole_queries", False) else new
            yield (every, set(new)), [texts.comparison(shown[row]) for row in every]

    failed = 0  # calls in a row
    sent = isinstance(judge, Sendable) and context.executor.elsewhere
    for (every, wanted), reply in keeping(context.executor if sent else Here(), judge_work(judge, sent), shards()):
        if sent and isinstance(judge, Sendable):
            judge.count(*reply.counted)
        asked = zip(every, reply.answers, strict=True)
        journal.add([Attempt(number, int(questions[row]), answer, bool(reply.fault)) for row, answer in asked if row in wanted])
        failed = failed + 1 if reply.fault else 0
        if failed == _FAILED_CALLS:
            what = f"{failed} calls in a row failed, the last one: {reply.fault}"
            raise JudgeError(what, where=judge.name, remedy="what was answered is kept; when it is mended, the same command goes on")
        done += len(wanted)
        advance(done, len(questions))


def _parts(asked: Iterable[Replies], journal: Journal) -> Iterator[Columns]:
    for replies in asked:
        for start in range(0, len(replies.pairs), _PART):
            yield replies.columns(journal, slice(start, start + _PART))


def check_missing(replies: Replies, most: float, journal: Journal) -> None:
    """Raise JudgeError where more than the share `most` of a judge's answers is missing."""
    standing = replies.standing
    lost = np.flatnonzero(~standing.answered)
    if len(lost) <= most * len(replies.pairs):
        return
    name, total = replies.judge.name, len(replies.pairs)
    cut = lost[standing.status[lost] == CUT]
    last, last_cut = (journal.read(standing.attempt[rows[-1:]])[0][6] if len(rows) else "" for rows in (lost, cut))
    what = f"judge {name} gave no usable answer to {len(lost):,} of {total:,} comparisons ({_reasons(standing)}; the last one: {last})"
    settled = _is_remote(replies.judge) and bool((standing.unusable[lost] >= MOST_UNUSABLE).all())
    retry = _change(standing.status[lost], last_cut) if settled else "run again to retry only those"
    raise JudgeError(what, remedy=f"{retry}, or raise judge.max_missing")


def _change(status: NDArray[np.int8], last_cut: str) -> str:
    """What to do about answers that would come out the same again."""
    mostly = 2 * int((status == CUT).sum()) >= len(status)
    return (cut_remedy(last_cut) if mostly else "") or "change its prompt, or raise judge.max_output_tokens if answers were cut"


def _missing_note(replies: Replies) -> str:
    lost = int((~replies.standing.answered).sum())
    return f"{replies.judge.name}: {lost:,} of {len(replies.pairs):,} missing ({_reasons(replies.standing)})" if lost else ""


def _reasons(standing: Standing) -> str:
    counts = Counter("failed" if STATUSES[s] == "error" else STATUSES[s] for s in standing.status[~standing.answered].tolist())
    return ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))


def _clamped(preference: float) -> float:
    from zelo.judges.parsing import clamped

    return clamped(preference)


def _identity(context: Context) -> str:
    # An offline judge measures a difference against all that is shown for the query, with the corpus's statistics.
    parts = [context.workspace.digest(a) or "" for a in ("corpus", "queries", "vectors", inputs.judged(context.recipe))]
    parts.append(context.recipe.retrieve.language)  # of the word statistics
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
