"""train: a pointwise reranker learns the targets of the training questions."""

from __future__ import annotations

import numpy as np

from zelo.artifacts import read_table
from zelo.core.groups import group_rows
from zelo.pipeline import Context, Outcome
from zelo.rerankers.blend import BlendReranker, Signals
from zelo.stages import inputs
from zelo.training import Example


def run(context: Context) -> Outcome:
    """Write models/pointwise."""
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    split_of = inputs.splits(context.read("splits"))
    targets = read_table(context.read("targets"), "targets")
    groups = {q: rows for q, rows in group_rows(targets["query_id"]).items() if split_of[q] == "train"}
    examples = [(query_texts[q], [texts[targets["doc_id"][i]] for i in rows], targets["target"][rows]) for q, rows in groups.items()]
    rows = {"queries": len(examples), "targets": sum(len(e[1]) for e in examples)}
    if context.recipe.train.student == "cross_encoder":
        from zelo.training.cross_encoder import train_cross_encoder

        note = train_cross_encoder(
            examples,
            context.recipe.train.base or context.recipe.encode.model,
            context.recipe.train,
            context.recipe.seed,
            context.write("model"),
            context.progress.task("training"),
        )
        return Outcome(rows, notes=(note,))
    return Outcome(rows, notes=(_train_blend(context, examples, inputs.Signals(context, texts, query_texts)),))


def _train_blend(context: Context, examples: list[Example], materials: inputs.Signals) -> str:
    from zelo.training.head import train_head

    signals = Signals(materials.lexical(), materials.bank(), *materials.token_frequency())
    advance = context.progress.task("features")
    features = []
    for done, (query, documents, _) in enumerate(examples, 1):
        features.append(signals(query, documents))
        advance(done, len(examples))
    trained_on = {"questions trained on": len(examples), "targets": sum(len(e[1]) for e in examples)}
    head, error = train_head(np.concatenate(features), np.concatenate([e[2] for e in examples]))
    BlendReranker(signals, head, context.recipe.encode.model).save(context.write("model"), trained_on)
    return f"root mean squared error to the targets {error:.3f}"
