"""A judge as a reranker: it compares candidates in pairs, and the core fits scores to what it says (the paper's "gemini-reranker").

The pairs are drawn as the stage `pair` draws them, and asked through the journal of the workspace with its limits and its budget: what
the judge answered there about the same pair is not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.paired_comparison import fit_query
from zelo.errors import InputError, RecipeError
from zelo.judges import JUDGES, Judge, Materials, RemoteJudge, known_judge, lacks_price, make_judge
from zelo.judges.journal import Journal
from zelo.language_models.names import is_model_name
from zelo.pipeline import Context
from zelo.recipe import Recipe, System
from zelo.stages.judge import Replies, ask_questions, check_missing, open_journal
from zelo.stages.pair import append_pairs
from zelo.stages.questions import Pairs, Texts, a_first
from zelo.systems.asking import Answer, Question, below


def open_judge(name: str, context: Context) -> Judge | RemoteJudge:
    """Return the judge of a name such as pairwise:openai:MODEL.

    Raises:
        RecipeError: no such judge, a prompt that does not fit, or a budget in dollars without a price.
        InputError: an offline judge: its ranking is that of the workspace's judges.
        JudgeError: a language model that cannot be asked, for lack of a key for example.
    """
    _, _, judge = name.partition(":")
    require_price(judge, context.recipe)
    if known_judge(judge, context.recipe) in JUDGES:
        raise InputError(f"{judge} is an offline judge", where="--system", remedy="name a language model: pairwise:openai:MODEL")
    return make_judge(judge, Materials(_nothing, _nothing, _nothing, ""), context.recipe)


def require_price(model: str, recipe: Recipe) -> None:
    """Raise RecipeError where a budget in dollars cannot hold for a language model, as its price is not known."""
    if recipe.judge.budget_dollars and is_model_name(model.removeprefix("thinking:")) and lacks_price(model, recipe):
        remedy = f'set input_price and output_price of [judge.models."{model}"], or judge.budget_tokens instead'
        raise RecipeError(f"judge.budget_dollars cannot hold: the price of {model} is not known", where="--system", remedy=remedy)


def _nothing() -> Any:
    raise InputError("this judge needs the signals of the workspace", where="--system")


def compare_and_fit(judge: Judge | RemoteJudge, questions: Sequence[Question], settings: System, context: Context) -> dict[str, Answer]:
    """Have a judge compare the candidates of all questions; return query_id -> fitted scores, with what the answers took.

    Raises:
        JudgeError: the judge cannot go on, the budget is spent, or more answers are missing than judge.max_missing allows.
    """
    recipe = context.recipe
    depth = settings.depth or recipe.rank.depth
    asked = {q.query_id: Question(q.query_id, q.text, q.doc_ids[:depth], q.documents[:depth]) for q in questions}
    pairs = _draw(list(asked.values()), recipe.pair.degree, recipe.seed)
    with open_journal(context) as journal:
        texts = {d: t for q in asked.values() for d, t in zip(q.doc_ids, q.documents, strict=True)}
        register = Texts.register(pairs, {q.query_id: q.text for q in asked.values()}, texts, journal)
        order = a_first(pairs, judge.name, recipe.seed)
        ((number, standing),) = ask_questions([judge], [register.shown(pairs, order)], register, journal, context)
        replies = Replies(judge, number, pairs, order, standing)
        check_missing(replies, recipe.judge.max_missing, journal)
        taken, preferences = _taken(replies, journal), replies.preferences(journal)
    found = {}
    for question in questions:
        head = asked[question.query_id]
        scores = _scores(head, pairs, preferences, context)
        tokens, dollars, seconds = taken.get(question.query_id, (0, 0.0, 0.0))
        scores = below(scores, len(question.doc_ids) - len(head.doc_ids))
        found[question.query_id] = Answer(scores, tokens, 0.0, seconds, dollars)
    return found


def _draw(questions: Sequence[Question], degree: int, seed: int) -> Pairs:
    """The pairs of all questions; candidates of the same text are compared once."""
    columns: Columns = {name: [] for name in ("query_id", "doc_id_a", "doc_id_b", "shown_first", "cycle")}
    for question in questions:
        kept: dict[str, str] = {}
        for doc_id, text in zip(question.doc_ids, question.documents, strict=True):
            kept.setdefault(text, doc_id)
        edges = hamiltonian_cycles(len(kept), degree, rng_for(seed, question.query_id, "pair"))
        append_pairs(columns, question.query_id, list(kept.values()), edges)
    query_ids = [q.query_id for q in questions]
    doc_ids = sorted({d for q in questions for d in q.doc_ids})
    places = ({d: i for i, d in enumerate(of)} for of in (query_ids, doc_ids))
    place_of_query, place = places
    query = np.array([place_of_query[q] for q in columns["query_id"]], np.int64)
    a, b = (np.array([place[d] for d in columns[name]], np.int64) for name in ("doc_id_a", "doc_id_b"))
    first = np.array([side == "a" for side in columns["shown_first"]], np.bool_)
    return Pairs(query_ids, doc_ids, query, a, b, first, np.array(columns["cycle"], np.int64))


def _taken(replies: Replies, journal: Journal) -> Mapping[str, tuple[int, float, float]]:
    """Tokens, dollars and seconds of the answers that count, by question."""
    found: dict[str, tuple[int, float, float]] = {}
    rows = journal.read(replies.standing.attempt)
    for place, row in zip(replies.pairs.query.tolist(), rows, strict=True):
        query_id = replies.pairs.query_ids[place]
        tokens, dollars, seconds = found.get(query_id, (0, 0.0, 0.0))
        found[query_id] = (tokens + row[2] + row[3], dollars + row[4], seconds + row[5])
    return found


def _scores(question: Question, pairs: Pairs, preferences: NDArray[np.float64], context: Context) -> NDArray[np.float64]:
    """The fit of one question; candidates of the same text share a score."""
    rows = np.flatnonzero(pairs.query == pairs.query_ids.index(question.query_id))
    doc_ids = [pairs.doc_ids[i] for i in np.unique([pairs.a[rows], pairs.b[rows]])]
    place = {d: i for i, d in enumerate(doc_ids)}
    first, second = ([place[pairs.doc_ids[i]] for i in of[rows].tolist()] for of in (pairs.a, pairs.b))
    settings = context.recipe.fit
    fit = fit_query(len(doc_ids), first, second, (1 + preferences[rows]) / 2, link=settings.link, prior_sd=settings.prior_sd or None)
    of_text = {t: float(fit.score[place[d]]) for d, t in zip(question.doc_ids, question.documents, strict=True) if d in place}
    return np.array([of_text.get(text, 0.0) for text in question.documents], np.float64)
