"""judge-pairwise: the trained model judges the tournament pairs, a judge like any other (paper section 5.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, write_parts
from zelo.judges.pairwise_model import PairwiseModel
from zelo.pipeline import Context, Outcome
from zelo.stages.judge import ask_all, open_journal
from zelo.stages.questions import Pairs, read_pairs

_PART = 1_000_000  # rows written at once


def run(context: Context) -> Outcome:
    """Write preferences.parquet; what a killed run had answered is in the journal, under the name of the weights."""
    judge = PairwiseModel(context.read("pairwise_model"), precision=context.recipe.pairwise.precision)
    pairs = read_pairs(context.read("pairs"))
    with open_journal(context) as journal:
        ((replies, _),) = ask_all(pairs, journal, context, [judge])
        preference = replies.preferences(journal)  # a model that computes always answers
    parts = (_part(pairs, preference, slice(start, start + _PART)) for start in range(0, len(pairs), _PART))
    rows = write_parts(context.write("preferences"), "preferences", parts)
    note = f"{judge.computed:,} of {judge.tokens:,} tokens computed, the others shared" if judge.tokens else "all answers from the journal"
    return Outcome({"preferences": rows}, notes=(note,))


def _part(pairs: Pairs, preference: NDArray[np.float64], rows: slice) -> Columns:
    places = {"query_id": (pairs.query_ids, pairs.query), "doc_id_a": (pairs.doc_ids, pairs.a), "doc_id_b": (pairs.doc_ids, pairs.b)}
    names = {name: [ids[i] for i in of[rows].tolist()] for name, (ids, of) in places.items()}
    prob_a = (1 + preference[rows]) / 2
    one = np.ones(len(prob_a))
    return {**names, "prob_a": prob_a, "n_judges": [1] * len(prob_a), "weight": one, "slope": one, "offset": 0 * one}
