"""judge-pairwise: the trained model judges the tournament pairs, a judge like any other (paper section 5.3)."""

from __future__ import annotations

from zelo.artifacts import read_table, write_table
from zelo.judges.journal import Journal
from zelo.judges.pairwise_model import PairwiseModel
from zelo.pipeline import Context, Outcome
from zelo.stages import inputs
from zelo.stages.judge import JOURNAL, ask, show


def run(context: Context) -> Outcome:
    """Write preferences.parquet; what a killed run had answered is in the journal, under the name of the weights."""
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    judge = PairwiseModel(context.read("pairwise_model"), precision=context.recipe.pairwise.precision)
    pairs = read_table(context.read("pairs"), "pairs")
    comparisons = [show(row, texts, query_texts) for row in zip(*pairs.values(), strict=True)]
    with Journal(context.workspace.root / JOURNAL) as journal:
        answers = ask(judge, comparisons, pairs["query_id"], journal, context)
    prob_a = []
    for answer, side in zip(answers, pairs["shown_first"], strict=True):
        preference = answer.preference or 0.0  # a model that computes always answers
        prob_a.append((1 + preference if side == "a" else 1 - preference) / 2)
    names = {name: pairs[name] for name in ("query_id", "doc_id_a", "doc_id_b")}
    rows = write_table(context.write("preferences"), "preferences", names | {"prob_a": prob_a, "n_judges": [1] * len(prob_a)})
    note = f"{judge.computed:,} of {judge.tokens:,} tokens computed, the others shared" if judge.tokens else "all answers from the journal"
    return Outcome({"preferences": rows}, notes=(note,))
