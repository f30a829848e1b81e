"""The workspace's judges as a panel: each question once by the watch's own journal, within a day's budget, with a customer's criterion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import read_table
from zelo.core.groups import group_rows
from zelo.encoders.similarity import DenseSimilarity, LateInteraction, LexicalSimilarity, Similarity
from zelo.judges import JUDGES, Comparison, Materials, make_judge
from zelo.judges.journal import Journal
from zelo.judges.limits import BudgetSpent
from zelo.judges.parsing import clamped
from zelo.pipeline import Context
from zelo.recipe import Recipe
from zelo.stages import inputs
from zelo.stages.judge import AnyJudge, ask_questions
from zelo.stages.questions import Texts
from zelo.watching.judging import Anchor
from zelo.watching.log import Search

FloatArray = NDArray[np.float64]
MOST_ANCHORS = 200


class JournalPanel:
    """The ensemble of a recipe, asked through a journal. `spent` says that the budget ended before all was asked."""

    def __init__(self, context: Context, journal: Journal, signals: inputs.CorpusSignals, anchors: Sequence[Anchor]) -> None:
        """Make the judges of the context's recipe; its `judge.budget_dollars` and `budget_tokens` are caps on the journal's total."""
        self._context, self._journal = context, journal
        identity = hashlib.sha256("".join(context.workspace.digest(a) or "" for a in ("corpus", "vectors")).encode()).hexdigest()[:12]
        materials = Materials(signals.lexical, signals.bank, signals.token_frequency, f"watch {identity}")
        names = context.recipe.judge.ensemble
        self._judges = [_Asked(make_judge(name, materials, context.recipe), name, context.recipe).judge for name in names]
        self.names = [(judge.name, judge.prompt_id) for judge in self._judges]
        self.weights = _weights(context, names)
        self.across = np.array(
            [name not in JUDGES and bool(getattr(j, "across", False)) for name, j in zip(names, self._judges, strict=True)]
        )
        self._scales: list[Callable[[str, Sequence[str]], float] | None] = [_scale(name, signals, anchors) for name in names]
        self.spent = False
        self.answered = 0

    def ask(self, comparisons: Sequence[Comparison]) -> FloatArray:
        """Return preferences [n, judges]; see `Panel.ask`. Across queries only those are asked that can say something."""
        within = [i for i, c in enumerate(comparisons) if c.second_query is None]
        beyond = [i for i, c in enumerate(comparisons) if c.second_query is not None]
        found = np.full((len(comparisons), len(self._judges)), np.nan)
        for rows, judges in ((within, range(len(self._judges))), (beyond, np.flatnonzero(self.across).tolist())):
            if rows and len(judges):
                found[np.ix_(rows, judges)] = self._answers([comparisons[i] for i in rows], [self._judges[j] for j in judges])
        return found

    def levels(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return what offline judges say of the level: the share of anchors whose similarity the best text's is above."""
        return np.array([np.nan if scale is None else scale(query, texts) for scale in self._scales])

    def _answers(self, comparisons: Sequence[Comparison], judges: Sequence[AnyJudge]) -> FloatArray:
        queries = list(dict.fromkeys(q for c in comparisons for q in (c.query, c.second_query) if q is not None))
        documents = list(dict.fromkeys(text for c in comparisons for text in (c.first, c.second)))
        texts = [*queries, *documents]
        registered = Texts(texts, self._journal.texts(texts, ["live"] * len(texts)), len(queries))
        query: dict[str | None, int] = {None: -1, **{text: i for i, text in enumerate(queries)}}
        document = {text: i + len(queries) for i, text in enumerate(documents)}
        places = [(query[c.query], document[c.first], document[c.second], query[c.second_query]) for c in comparisons]
        shown = np.array(places, np.int32)
        try:
            if self.spent:
                raise BudgetSpent("the day's budget is spent", remedy="wait for tomorrow", pending=False)
            standings = [standing for _, standing in ask_questions(judges, [shown] * len(judges), registered, self._journal, self._context)]
        except BudgetSpent:
            self.spent = True
            questions = self._journal.questions(registered.keys(shown))
            numbers = [self._journal.judge(judge.name, judge.prompt_id) for judge in judges]
            standings = [self._journal.standing(number, questions) for number in numbers]
        self.answered += sum(int(standing.answered.sum()) for standing in standings)
        columns = []
        for judge, standing in zip(judges, standings, strict=True):
            read = [row[0] for row in self._journal.read(standing.attempt)]
            value = clamped if getattr(judge, "clamp", False) else float
            columns.append([np.nan if p is None else value(p) for p in read])
        return np.array(columns, np.float64).T


class _Asked:
    """A judge whose name in the journal says for whom it is asked: a judge of the user's own may not change its prompt id by itself."""

    def __init__(self, judge: AnyJudge, name: str, recipe: Recipe) -> None:
        told = f"{recipe.judge.criterion}\0{recipe.judge.context}"
        if name.startswith("python:") and told != "\0":
            judge.prompt_id = f"{judge.prompt_id} told {hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self.judge = judge


def told(recipe: Recipe, search: Search) -> tuple[str, str]:
    """Return the criterion and the context for a search: of its line where the recipe trusts lines, of its customer, of the recipe."""
    customer = recipe.watch.customers.get(search.customer)
    criterion = (customer.criterion if customer else "") or recipe.judge.criterion
    context = (customer.context if customer else "") or recipe.judge.context
    if recipe.watch.trust_lines:
        criterion, context = search.criterion or criterion, search.context or context
    return criterion, context


def recipe_told(recipe: Recipe, criterion: str, context: str) -> Recipe:
    """Return the recipe with what the judges are told."""
    return replace(recipe, judge=replace(recipe.judge, criterion=criterion, context=context))


def read_anchors(context: Context) -> list[Anchor]:
    """Return training queries, each with the document that has its highest score; at most `MOST_ANCHORS`, spread by their order."""
    split = inputs.splits(context.read("splits"))
    query_texts, texts = inputs.queries(context), inputs.documents(context)
    scores = read_table(context.read("scores"), "scores", ("query_id", "doc_id", "score"))
    groups = {q: rows for q, rows in group_rows(scores["query_id"]).items() if split.get(q) == "train"}
    chosen = sorted(groups, key=lambda q: hashlib.blake2b(q.encode(), digest_size=8).digest())[:MOST_ANCHORS]
    best = {q: scores["doc_id"][max(groups[q], key=lambda row: scores["score"][row])] for q in chosen}
    return [Anchor(query_texts[q], texts[d]) for q, d in best.items()]


def _weights(context: Context, names: Sequence[str]) -> FloatArray:
    """The judges' weights from stage `pool`, equal ones where it has none for them."""
    table = read_table(context.read("judges"), "judges", ("judge", "weight"))
    weight = dict(zip(table["judge"], table["weight"].tolist(), strict=True))
    found = np.array([weight.get(name, np.nan) for name in names])
    return found if np.isfinite(found).all() and found.sum() > 0 else np.ones(len(names))


def _scale(name: str, signals: inputs.CorpusSignals, anchors: Sequence[Anchor]) -> Callable[[str, Sequence[str]], float] | None:
    """Return what places a judge's similarity among those of the anchors: weak evidence, for similarities depend on the query too."""
    if name not in JUDGES or not anchors:
        return None
    makers: dict[str, Callable[[], Similarity]] = {
        "lexical": lambda: LexicalSimilarity(signals.lexical()),
        "dense": lambda: DenseSimilarity(signals.bank()),
        "late_interaction": lambda: LateInteraction(signals.bank(), *signals.token_frequency()),
    }
    similarity = makers[name]()
    good = np.sort([float(similarity.score(anchor.query, [anchor.text])[0]) for anchor in anchors])

    def share_below(query: str, texts: Sequence[str]) -> float:
        best = float(similarity.score(query, list(texts)).max())
        return float((np.searchsorted(good, best, "left") + np.searchsorted(good, best, "right")) / (2 * len(good)))

    return share_below
