"""train-pairwise: the pairwise reranker learns what the ensemble said of the teaching pairs (paper section 5.3)."""

from __future__ import annotations

import shutil

import numpy as np

from zelo.artifacts import read_table
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError, MissingExtraError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.stages import inputs
from zelo.training.pairwise import Lessons, train_pairwise

WORK = "training/pairwise"
"""In the workspace: checkpoints and the log of the running training. It outlives a kill, as `.partial` does not."""

CHANCE = 1.0  # two standard deviations of a coin's share of heads are 1 / sqrt(n)


def check(recipe: Recipe) -> None:
    """Raise for what would be found out only after the ensemble was paid.

    Raises:
        RecipeError: the base has no adapters to train.
        InputError: there is no such base.
    """
    from zelo.rerankers.pairwise import family_of

    settings = recipe.pairwise
    family = family_of(resolve_model(settings.base or recipe.encode.model)) if settings.family == "auto" else settings.family
    if family != "language_model" and settings.lora_rank:
        raise RecipeError("pairwise.lora_rank is for language models, the base is an encoder", remedy="set pairwise.lora_rank = 0")


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the base by its weights; "" if it is not there."""
    try:
        return {"base": model_digest(resolve_model(recipe.pairwise.base or recipe.encode.model))}
    except (InputError, MissingExtraError):
        return {"base": ""}  # the stage will say so


def run(context: Context) -> Outcome:
    """Write models/pairwise.

    Raises:
        InputError: there are no lessons, or the base cannot be used.
        ConvergenceError: the loss is not a number any more.
    """
    recipe = context.recipe
    work = context.workspace.root / WORK
    lessons = read_lessons(context)
    report, found = train_pairwise(
        lessons,
        recipe.pairwise.base or recipe.encode.model,
        recipe.pairwise,
        recipe.seed,
        context.write("pairwise_model"),
        work,
        context.progress.task("training the pairwise model"),
    )
    for checkpoint in work.glob("step-*"):
        shutil.rmtree(checkpoint)  # the model is written; the log stays, with its speeds, and belongs to no artifact
    notes = [f"cross-entropy {report.loss:.3f} at the end of training, {report.tokens:,} tokens in {report.steps:,} steps"]
    if found:
        accuracy, decided = found["accuracy"], found["decided"]
        notes.append(f"held-out queries: prefers what the ensemble prefers in {accuracy:.1%}, cross-entropy {found['loss']:.3f}")
        if accuracy - 0.5 < CHANCE / max(decided, 1) ** 0.5:
            notes.append("that is no better than chance: raise pairwise.teaching_pairs or epochs, or choose another pairwise.base")
    return Outcome({"lessons": len(lessons.prob_a), "queries": len(np.unique(lessons.query))}, notes=tuple(notes))


def read_lessons(context: Context) -> Lessons:
    """Read lessons.parquet with the texts that it is about.

    Raises:
        InputError: there are none.
    """
    table = read_table(context.read("lessons"), "lessons")
    if not len(table["prob_a"]):
        raise InputError("there are no lessons", where=str(context.read("lessons")), remedy="see why the judges gave no usable answer")
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    query_ids = list(dict.fromkeys(table["query_id"]))
    doc_ids = list(dict.fromkeys([*table["doc_id_a"], *table["doc_id_b"]]))
    query_place = {query_id: i for i, query_id in enumerate(query_ids)}
    doc_place = {doc_id: i for i, doc_id in enumerate(doc_ids)}
    return Lessons(
        [query_texts[q] for q in query_ids],
        [texts[d] for d in doc_ids],
        np.array([query_place[q] for q in table["query_id"]], np.int64),
        np.array([doc_place[d] for d in table["doc_id_a"]], np.int64),
        np.array([doc_place[d] for d in table["doc_id_b"]], np.int64),
        np.asarray(table["prob_a"], np.float64),
    )
