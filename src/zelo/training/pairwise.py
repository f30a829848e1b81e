"""Train the pairwise reranker: binary cross-entropy to the ensemble's soft preferences (paper section 5.3).

Which document is shown as A is drawn anew in every epoch, and the target goes with it, so that place says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.openvino_engine import quiet
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError
from zelo.recipe import Pairwise
from zelo.rerankers.card import model_card, name_of
from zelo.rerankers.late_interaction import LateInteraction
from zelo.rerankers.pairwise import new_scorer, new_template, pair_logits
from zelo.rerankers.pairwise_template import Ids, PairwiseTemplate
from zelo.rerankers.scorer import Scorer, Tokens, computes_bfloat16
from zelo.training.batches import digest_of
from zelo.training.loop import LOG, Report, Settings, train
from zelo.training.losses import make_loss

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

FITTED = 300  # lessons that the weights of similarities are fitted to before training


@dataclass(frozen=True)
class Lessons:
    """What the ensemble said of some pairs.

    Attributes:
        queries: their texts.
        documents: their texts.
        query, a, b: places in `queries` and `documents` [m].
        prob_a: P(a is better) [m], in [0, 1].
    """

    queries: Sequence[str]
    documents: Sequence[str]
    query: IntArray
    a: IntArray
    b: IntArray
    prob_a: FloatArray

    def __post_init__(self) -> None:
        if not len(self.prob_a):
            raise InputError("there are no lessons", remedy="have the ensemble judge at least one pair")
        if not ((self.prob_a >= 0) & (self.prob_a <= 1)).all():
            raise InputError("a lesson's probability is not in [0, 1]")

    def select(self, rows: NDArray[Any]) -> Lessons:
        """Return some of the lessons."""
        return Lessons(self.queries, self.documents, self.query[rows], self.a[rows], self.b[rows], self.prob_a[rows])

    def hold_out(self, share: float, seed: int) -> tuple[Lessons, Lessons | None]:
        """Return lessons to learn from and lessons of other queries, about `share` of them; None where that would be less than one."""
        asked = np.unique(self.query)
        chosen = np.random.default_rng([seed, 0x0FF]).permutation(asked)[: round(share * len(asked))]
        held = np.isin(self.query, chosen)
        return (self.select(~held), self.select(held)) if 0 < len(chosen) < len(asked) else (self, None)


class PairSource:
    """Lessons as token sequences, in an order of documents drawn per epoch; texts are tokenized once."""

    def __init__(self, lessons: Lessons, template: PairwiseTemplate, tokenizer: Any, seed: int) -> None:
        """Tokenize the texts that the lessons are about."""
        self._lessons, self._template, self._seed = lessons, template, seed
        self._queries = _tokenized(lessons.queries, lessons.query, template, tokenizer)
        self._documents = _tokenized(lessons.documents, np.concatenate([lessons.a, lessons.b]), template, tokenizer)
        self.groups = lessons.query
        rows = zip(lessons.query.tolist(), lessons.a.tolist(), lessons.b.tolist(), strict=True)
        sizes = [(len(self._queries[q]), len(self._documents[a]), len(self._documents[b])) for q, a, b in rows]
        self.lengths = np.array([template.length(*size) for size in sizes], np.int64)
        texts = [ids for table in (self._queries, self._documents) for ids in table.values()]
        pieces = np.array([t for piece in template.pieces for t in piece], np.int64)
        self.identity = digest_of(*texts, pieces, lessons.query, lessons.a, lessons.b, lessons.prob_a)

    def items(self, rows: IntArray, epoch: int) -> tuple[list[Tokens], FloatArray]:
        """Return the sequences, and the probability that the document shown as A is better."""
        flip = np.random.default_rng([self._seed, epoch, 0xF11B]).random(len(self.groups)) < 0.5
        lessons, sequences = self._lessons, []
        for row in rows.tolist():
            first, second = (lessons.b[row], lessons.a[row]) if flip[row] else (lessons.a[row], lessons.b[row])
            parts = self._queries[int(lessons.query[row])], self._documents[int(first)], self._documents[int(second)]
            sequences.append(self._template.join(*parts))
        return list(sequences), np.where(flip[rows], 1 - lessons.prob_a[rows], lessons.prob_a[rows])


def _tokenized(texts: Sequence[str], used: IntArray, template: PairwiseTemplate, tokenizer: Any) -> dict[int, Ids]:
    places = np.unique(used).tolist()
    return dict(zip(places, template.tokenize(tokenizer, [texts[i] for i in places]), strict=True))


def measure(scorer: Scorer, template: PairwiseTemplate, tokenizer: Any, lessons: Lessons, antisymmetric: bool) -> dict[str, float]:
    """Return how well the model knows some lessons.

    Returns:
        loss: mean cross-entropy, nats; excess: that minus the least possible, the targets' own entropy; decided: how many pairs have
        a probability that is not 1/2; accuracy: share of these where the model prefers the same document.
    """
    pairs = [(lessons.queries[q], lessons.documents[a], lessons.documents[b]) for q, a, b in _rows(lessons)]
    logits = pair_logits(scorer, template, tokenizer, pairs, antisymmetric=antisymmetric).logits
    p = lessons.prob_a
    loss = float(np.mean(np.logaddexp(0, logits) - p * logits))
    inner = np.clip(p, 1e-300, 1)
    other = np.clip(1 - p, 1e-300, 1)
    least = float(np.mean(-p * np.log(inner) - (1 - p) * np.log(other)))
    decided = p != 0.5
    right = np.sign(logits[decided]) == np.sign(p[decided] - 0.5)
    return {
        "loss": loss,
        "excess": loss - least,
        "accuracy": float(right.mean()) if decided.any() else 0.5,
        "decided": float(decided.sum()),
    }


def _rows(lessons: Lessons) -> list[tuple[int, int, int]]:
    return list(zip(lessons.query.tolist(), lessons.a.tolist(), lessons.b.tolist(), strict=True))


def train_pairwise(
    lessons: Lessons,
    base: str,
    settings: Pairwise,
    seed: int,
    folder: Path,
    work: Path,
    advance: Callable[[int, int], None],
    threads: int = 0,
) -> tuple[Report, dict[str, float]]:
    """Train a pairwise reranker and write it.

    Args:
        lessons: of the training queries.
        base: name or folder of an encoder or a causal language model.
        settings: how.
        seed: of all draws.
        folder: where the model goes: weights, tokenizer, template (zelo.json), the training's log and a card.
        work: for checkpoints; a killed training goes on from there. The caller removes it when the model is safe.
        advance: called with (steps done, steps).
        threads: cores to use; 0 = as many as torch is set to.

    Returns:
        What the training did, and how well the model knows the held-out lessons (empty if none are held out).

    Raises:
        InputError: no lessons, or a base that cannot be used.
        ConvergenceError: the loss is not a number any more.
        MissingExtraError: a package of the extra `train` is not installed.
    """
    source_folder = resolve_model(base)
    tokenizer, template = new_template(source_folder, settings.family, settings.max_tokens)
    scorer = new_scorer(source_folder, template, lora_rank=settings.lora_rank, seed=seed)
    learned, held = lessons.hold_out(settings.held_out, seed)
    how = _how(settings, held is not None, threads)
    source = PairSource(learned, template, tokenizer, seed)
    if isinstance(scorer, LateInteraction):
        halves = computes_bfloat16(scorer.device) if settings.precision == "auto" else settings.precision == "bfloat16"
        scorer.fit_weights(*source.items(_spread(len(learned.prob_a), FITTED), 0), halves=halves)
    evaluate = None if held is None else lambda: measure(scorer, template, tokenizer, held, settings.antisymmetric)
    report = train(scorer, source, make_loss("bce"), how, work, seed, advance, evaluate)
    found = dict(report.evaluation)
    scorer.save(folder)
    _keep(tokenizer, work / LOG, folder)
    size = {"lessons": len(learned.prob_a), "queries": len(np.unique(learned.query))}
    facts = {**size, **asdict(settings), "base": name_of(base), "seed": seed}
    _describe(folder, base, source_folder, template, settings, facts, found)
    return report, found


def _spread(rows: int, most: int) -> IntArray:
    """Rows, evenly spread, at most so many."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def _how(settings: Pairwise, measured: bool, threads: int) -> Settings:
    return Settings(
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        precision=settings.precision,
        gradient_checkpointing=settings.gradient_checkpointing,
        patience=settings.patience if measured else 0,
        threads=threads,
    )


def _keep(tokenizer: Any, log: Path, folder: Path) -> None:
    """Write the tokenizer, and the training's log less what differs between two runs: a model folder has the same bytes."""
    with quiet():
        tokenizer.save_pretrained(folder)
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    kept = [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]
    (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")


def _describe(
    folder: Path,
    base: str,
    source: Path,
    template: PairwiseTemplate,
    settings: Pairwise,
    facts: Mapping[str, object],
    found: Mapping[str, float],
) -> None:
    """Write zelo.json and README.md."""
    about = {
        "kind": "pairwise",
        "version": 1,
        "antisymmetric": settings.antisymmetric,
        "template": template.to_dict(),
        "base_digest": model_digest(source),
        **facts,
        "held_out": found,
    }
    (folder / "zelo.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    summary = (
        "A pairwise reranker: it reads a query and two documents and says how likely the first one answers the query better, "
        f"P = sigmoid(logit). `{name_of(base)}` was trained by cross-entropy on an ensemble's soft preferences (arXiv 2509.12541, 5.3)."
    )
    usage = (
        "from pathlib import Path\n\nfrom zelo.judges import Comparison\nfrom zelo.judges.pairwise_model import PairwiseModel\n\n"
        'PairwiseModel(Path("this folder")).judge([Comparison("query", "a document", "another one")])'
    )
    measured = {f"held out: {name}": f"{value:.4f}" for name, value in found.items()}
    card = model_card("Pairwise reranker", summary, {**facts, **measured}, base, holds_weights=True, usage=usage)
    (folder / "README.md").write_text(card, "utf-8")
