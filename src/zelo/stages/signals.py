"""Students that learn from the encoder's signals: the blend, the blend with a learned map of its vectors, the embedding student."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zelo.progress import Progress
from zelo.recipe import Recipe
from zelo.rerankers.blend import BlendReranker, Head, Signals
from zelo.stages import inputs
from zelo.training import Example

if TYPE_CHECKING:
    from zelo.encoders.similarity import VectorBank
    from zelo.training.loop import Report
    from zelo.training.vector_map import Learned

FloatArray = NDArray[np.float64]


def learn_signals(
    recipe: Recipe, examples: list[Example], materials: inputs.CorpusSignals, work: Path, folder: Path, progress: Progress
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
    """
    signals = Signals(materials.lexical(), materials.bank(), *materials.token_frequency())
    notes: list[str] = []
    features: list[FloatArray] = []
    head: Head | None = None
    if recipe.train.student != "embedding" or recipe.train.prior == "signals":
        features = _features(signals, examples, progress.task("features"))
    if recipe.train.prior == "signals":
        examples, head, note = _with_prior(examples, features)
        notes.append(note)
    if recipe.train.student == "embedding":
        report = _train_encoder(recipe, examples, work, folder, progress)
        return (*notes, *training_notes(report))
    if recipe.train.student == "adapted_blend":
        learned, note = _learn_map(recipe.seed, examples, features, materials.bank(), progress.task("map"))
        notes.append(note)
        if learned.map is not None:
            signals, head = Signals(signals.lexical, signals.bank, signals.token_frequency, signals.documents, learned.map), None
            features = [np.column_stack([rows, column]) for rows, column in zip(features, learned.signal, strict=True)]
    if head is None:
        head, note = _head(features, examples, recipe.train.prior)
        notes += [note] if note else []
    trained_on = {"questions trained on": len(examples), "targets": sum(len(e[1]) for e in examples), "prior": recipe.train.prior}
    BlendReranker(signals, head, recipe.encode.model).save(folder, trained_on)
    return tuple(notes)


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


def _learn_map(
    seed: int, examples: list[Example], features: list[FloatArray], bank: VectorBank, advance: Callable[[int, int], None]
) -> tuple[Learned, str]:
    """A map of the vectors, and what became of it; without one where it does not help, or there is nothing to divide into folds."""
    from zelo.training.vector_map import FOLDS, Learned, Lists, learn_map

    if len(examples) < FOLDS:
        return Learned(None, (), np.inf, {}, 0.0), f"no map: {len(examples)} queries cannot be divided into {FOLDS} folds"
    texts: dict[str, int] = {}
    rows = [np.array([texts.setdefault(text, len(texts)) for text in documents], np.int64) for _, documents, _ in examples]
    vectors = [np.stack([bank.pooled(text) for text in side]) for side in ([query for query, _, _ in examples], texts)]
    folds = np.random.default_rng(seed).permutation(len(examples)) % FOLDS
    found = learn_map(Lists(vectors[0], vectors[1], rows, features, [targets for _, _, targets in examples]), folds, advance)
    none, best = found.losses[np.inf], min(loss for penalty, loss in found.losses.items() if np.isfinite(penalty))
    told = f"loss of held-out queries {none:.4f} without, {best:.4f} with (standard error of the gain {found.error:.4f})"
    return found, f"no map of the vectors: {told}" if found.map is None else f"a map of the vectors, ridge {found.penalty:g}: {told}"


def _train_encoder(recipe: Recipe, examples: list[Example], work: Path, folder: Path, progress: Progress) -> Report:
    from zelo.training.embedding import train_embedding
    from zelo.training.pointwise import Lesson

    lessons = (Lesson(*example) for example in examples)
    base = recipe.train.base or recipe.encode.model
    report = train_embedding(lessons, base, recipe.train, recipe.seed, folder, work, progress.task("training"))
    clear(work)
    return report


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
