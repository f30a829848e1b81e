"""train: a pointwise reranker learns the targets of the training questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import read_table
from zelo.collections import BUILT_IN
from zelo.core.groups import group_rows
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.rerankers.card import name_of
from zelo.stages import inputs
from zelo.stages.signals import clear, learn_signals, training_notes

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ROWS = 65_536  # of targets.parquet in memory at a time, where they are streamed


def check(recipe: Recipe) -> None:
    """Raise for what training would only find out at the end of the line."""
    if recipe.train.student == "language_model" and not recipe.train.base:
        raise RecipeError("train.student = 'language_model' has no base", remedy="set train.base to a causal language model")
    encoder = recipe.train.student == "embedding"
    if recipe.train.prior != "none" and recipe.train.student not in ("blend", "adapted_blend", "embedding"):
        what = f"train.prior = {recipe.train.prior!r} is for the students blend, adapted_blend and embedding"
        raise RecipeError(what, remedy='set train.prior = "none"')
    if (recipe.train.loss == "contrastive" and not encoder) or (recipe.train.loss == "pairs" and encoder):
        remedy = "choose another train.loss"
        raise RecipeError(f"train.student = {recipe.train.student!r} does not learn by {recipe.train.loss}", remedy=remedy)
    if recipe.train.student != "language_model" and recipe.train.lora_rank:
        raise RecipeError("train.lora_rank is for train.student = 'language_model'", remedy="set train.lora_rank = 0")


def run(context: Context) -> Outcome:
    """Write models/pointwise."""
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    split_of = inputs.splits(context.read("splits"))
    if context.recipe.train.student in ("cross_encoder", "language_model"):
        return _fine_tune(context, texts, query_texts, split_of)
    targets = read_table(context.read("targets"), "targets")
    groups = {q: rows for q, rows in group_rows(targets["query_id"]).items() if split_of[q] == "train"}
    examples = [(query_texts[q], [texts[targets["doc_id"][i]] for i in rows], targets["target"][rows]) for q, rows in groups.items()]
    rows = {"queries": len(examples), "targets": sum(len(e[1]) for e in examples)}
    materials = inputs.CorpusSignals(context, texts, query_texts)
    return Outcome(rows, notes=learn_signals(context.recipe, examples, materials, _work(context), context.write("model"), context.progress))


def _work(context: Context) -> Path:
    """Outlives a kill, which .partial does not."""
    return context.workspace.root / "training" / "pointwise"


def _fine_tune(context: Context, texts: Mapping[str, str], query_texts: Mapping[str, str], split_of: Mapping[str, str]) -> Outcome:
    from zelo.training.pointwise import Lesson, train_pointwise

    recipe = context.recipe
    compared = _comparisons(context) if recipe.train.loss == "pairs" else {}
    counts = {"queries": 0, "targets": 0}

    def lessons() -> Iterator[Lesson]:
        for query_id, doc_ids, targets in streamed_targets(context.read("targets")):
            if split_of[query_id] != "train":
                continue
            counts["queries"], counts["targets"] = counts["queries"] + 1, counts["targets"] + len(doc_ids)
            observed = _numbered(doc_ids, compared.get(query_id, [])) if recipe.train.loss == "pairs" else (None, None, None)
            yield Lesson(query_texts[query_id], [texts[d] for d in doc_ids], targets, *observed)

    work = _work(context)
    kind: Literal["language_model", "cross_encoder"] = "cross_encoder" if recipe.train.student == "cross_encoder" else "language_model"
    _, report = train_pointwise(
        lessons(),
        recipe.train.base or recipe.encode.model,
        recipe.train,
        recipe.seed,
        context.write("model"),
        work,
        context.progress.task("training"),
        kind=kind,
        origin=origin(recipe),
    )
    clear(work)
    return Outcome(counts, notes=training_notes(report))


def origin(recipe: Recipe) -> dict[str, str]:
    """Return what a model card says about the workspace: its collection, first stage and judges, by their parameters."""
    retrieve, built_in = recipe.retrieve, recipe.ingest.collection in BUILT_IN
    legs = [f"dense ({name_of(recipe.encode.model)})" if leg == "dense" else leg for leg in retrieve.legs]
    fused = f", fused by {retrieve.fusion}" if len(legs) > 1 else ""
    return {
        "collection": recipe.ingest.collection if built_in else Path(recipe.ingest.collection).name,
        "first stage": f"{' + '.join(legs)}{fused}, {retrieve.candidates} candidates per question",
        "judges": ", ".join(name.rpartition("#")[2] for name in recipe.judge.ensemble),  # a server's address stays here
        "line": recipe.line,
    }


def _comparisons(context: Context) -> dict[str, list[tuple[str, str, float]]]:
    """Return query_id -> (doc_id_a, doc_id_b, prob_a) of its comparisons; all of them are in memory."""
    table = read_table(context.read("preferences"), "preferences")
    found: dict[str, list[tuple[str, str, float]]] = {}
    rows = zip(table["query_id"], table["doc_id_a"], table["doc_id_b"], table["prob_a"].tolist(), strict=True)
    for query_id, a, b, prob_a in rows:
        found.setdefault(query_id, []).append((a, b, prob_a))
    return found


def _numbered(doc_ids: list[str], comparisons: list[tuple[str, str, float]]) -> tuple[IntArray, IntArray, FloatArray]:
    place = {doc_id: number for number, doc_id in enumerate(doc_ids)}
    first, second = (
        np.array([place[name] for name in names], np.int64) for names in ([c[0] for c in comparisons], [c[1] for c in comparisons])
    )
    return first, second, np.array([c[2] for c in comparisons], np.float64)


def streamed_targets(path: Path) -> Iterator[tuple[str, list[str], FloatArray]]:
    """Yield (query_id, doc_ids, targets) query by query; only some rows of the file are in memory.

    Raises:
        InputError: the rows of a query do not follow each other, or the file is not readable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    seen: set[str] = set()
    current, doc_ids, values = "", list[str](), list[float]()
    try:
        for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=["query_id", "doc_id", "target"]):
            for query_id, doc_id, value in zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True):
                if query_id != current:
                    if doc_ids:
                        yield current, doc_ids, np.array(values)
                    if query_id in seen:
                        raise InputError(f"the rows of query {query_id!r} are apart", where=str(path), remedy="run calibrate again")
                    seen.add(query_id)
                    current, doc_ids, values = query_id, [], []
                doc_ids.append(doc_id)
                values.append(float("nan") if value is None else value)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not readable as Parquet ({error})", where=str(path), remedy="delete it and run again") from error
    if doc_ids:
        yield current, doc_ids, np.array(values)
