"""judge-pairwise: the trained model judges the tournament pairs, a judge like any other (paper section 5.3)."""

from __future__ import annotations

import numpy as np

from zelo.artifacts import write_table
from zelo.judges.pairwise_model import PairwiseModel
from zelo.pipeline import Context, Outcome
from zelo.stages.judge import ask_all, open_journal
from zelo.stages.questions import read_pairs


def run(context: Context) -> Outcome:
    """Write preferences.parquet; what a killed run had answered is in the journal, under the name of the weights."""
    judge = PairwiseModel(context.read("pairwise_model"), precision=context.recipe.pairwise.precision)
    pairs = read_pairs(context.read("pairs"))
    with open_journal(context) as journal:
        ((replies, _),) = ask_all(pairs, journal, context, [judge])
        preference = replies.preferences(journal)  # a model that computes always answers
    places = {"query_id": (pairs.query_ids, pairs.query), "doc_id_a": (pairs.doc_ids, pairs.a), "doc_id_b": (pairs.doc_ids, pairs.b)}
    names = {name: [ids[i] for i in rows.tolist()] for name, (ids, rows) in places.items()}
    one = np.ones(len(pairs))
    numbers = {"prob_a": (1 + preference) / 2, "n_judges": [1] * len(pairs), "weight": one, "slope": one, "offset": 0 * one}
    rows = write_table(context.write("preferences"), "preferences", {**names, **numbers})
    note = f"{judge.computed:,} of {judge.tokens:,} tokens computed, the others shared" if judge.tokens else "all answers from the journal"
    return Outcome({"preferences": rows}, notes=(note,))
