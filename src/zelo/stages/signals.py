"""Students that learn from the encoder's signals: the blend, the embedding student, and the blend with that one's signals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.progress import Progress
from zelo.recipe import Recipe
from zelo.rerankers.blend import ENCODER, BlendReranker, Head, Signals
from zelo.stages import inputs
from zelo.training import Example

if TYPE_CHECKING:
    from zelo.training.loop import Report

FloatArray = NDArray[np.float64]


def learn_signals(
    recipe: Recipe, examples: list[Example], materials: inputs.Signals, work: Path, folder: Path, progress: Progress
) -> tuple[str, ...]:
    """Train the recipe's student and write its folder.

    Args:
        recipe: the recipe.
        examples: the training queries.
        materials: word statistics and vectors.
        work: for what has to outlive a kill.
        folder: where the model goes.
        progress: shows what happens.

    Returns:
        Remarks for the user.

    Raises:
        InputError: there are too few queries to hold one out.
    """
    signals = Signals(materials.lexical(), materials.bank(), *materials.token_frequency())
    notes: list[str] = []
    features: list[FloatArray] = []
    head: Head | None = None
    if recipe.train.student == "blend" or recipe.train.prior == "signals":
        features = _features(signals, examples, progress.task("features"))
    if recipe.train.prior == "signals":
        examples, head, note = _with_prior(examples, features)
        notes.append(note)
    if recipe.train.student == "embedding":
        report = _train_encoder(recipe, examples, work, folder, progress)
        return (*notes, *training_notes(report))
    learned = examples
    if recipe.train.student == "adapted_blend":
        from zelo.training.pointwise import is_held_out

        held = [is_held_out(query, recipe.train.held_out, recipe.seed) for query, _, _ in examples]
        if all(held) or not any(held):
            what = f"{sum(held)} of {len(held)} queries are held out: the encoder and the head need some each"
            raise InputError(what, where="train.held_out", remedy='add queries, change train.held_out, or set train.student = "blend"')
        notes += training_notes(_train_encoder(recipe, _where(examples, held, False), work, folder / ENCODER, progress))
        learned, head = _where(examples, held, True), None
        signals = _adapted(signals, folder / ENCODER)
        features = _features(signals, learned, progress.task("features"))
    note = ""
    if head is None:
        head, note = _head(features, learned, recipe.train.prior)
    trained_on = {"questions trained on": len(examples), "targets": sum(len(e[1]) for e in examples), "prior": recipe.train.prior}
    BlendReranker(signals, head, recipe.encode.model).save(folder, trained_on)
    return (*notes, *([note] if note else []))


def _features(signals: Signals, examples: list[Example], advance: Callable[[int, int], None]) -> list[FloatArray]:
    found = []
    for done, (query, documents, _) in enumerate(examples, 1):
        found.append(signals(query, documents))
        advance(done, len(examples))
    return found


def _with_prior(examples: list[Example], features: list[FloatArray]) -> tuple[list[Example], Head, str]:
    """The examples with posteriors for targets, and the prior: P(relevant | signals), itself a head."""
    from zelo.training.posterior import posterior_targets

    found = posterior_targets(np.concatenate([e[2] for e in examples]), np.concatenate(features))
    ends = np.cumsum([len(e[2]) for e in examples])[:-1]
    changed = [(query, documents, targets) for (query, documents, _), targets in zip(examples, np.split(found.targets, ends), strict=True)]
    share = float(found.targets.mean())
    apart = found.relevant[0] - found.other[0]
    note = f"posterior targets: {share:.1%} of the documents are relevant, their scores {apart:.1f} deviations above the others'"
    return changed, found.head, note


def _head(features: list[FloatArray], examples: list[Example], prior: str) -> tuple[Head, str]:
    from zelo.training.head import train_head
    from zelo.training.posterior import logistic_head

    rows, targets = np.concatenate(features), np.concatenate([e[2] for e in examples])
    if prior == "signals":  # probabilities: their likelihood decides
        return logistic_head(rows, targets), ""
    head, error = train_head(rows, targets)
    return head, f"root mean squared error to the targets {error:.3f}"


def _adapted(signals: Signals, folder: Path) -> Signals:
    from zelo.encoders.similarity import VectorBank
    from zelo.encoders.transformer import load_encoder

    bank = VectorBank(load_encoder(folder))
    return Signals(signals.lexical, signals.bank, signals.token_frequency, signals.documents, bank)


def _train_encoder(recipe: Recipe, examples: list[Example], work: Path, folder: Path, progress: Progress) -> Report:
    from zelo.training.embedding import train_embedding
    from zelo.training.pointwise import Lesson

    # The blend's own held-out queries are gone from the examples; measuring on more would leave even fewer to learn from.
    settings = replace(recipe.train, held_out=0.0) if recipe.train.student == "adapted_blend" else recipe.train
    lessons = (Lesson(*example) for example in examples)
    base = recipe.train.base or recipe.encode.model
    report = train_embedding(lessons, base, settings, recipe.seed, folder, work, progress.task("training"))
    clear(work)
    return report


def _where(examples: list[Example], chosen: list[bool], wanted: bool) -> list[Example]:
    return [example for example, is_chosen in zip(examples, chosen, strict=True) if is_chosen == wanted]


def clear(work: Path) -> None:
    """Remove what a finished training does not need any more; the log with its speeds stays, it belongs to no artifact."""
    for left in work.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.suffix != ".jsonl":
            left.unlink()


def training_notes(report: Report) -> tuple[str, ...]:
    """Return what a training says of itself."""
    held = ", ".join(f"{name} {value:.4f}" for name, value in report.evaluation.items())
    note = f"loss {report.loss:.4f} at the end, {report.tokens:,} tokens in {report.steps:,} steps"
    return (note, f"held-out questions, against their targets: {held}") if held else (note,)
