"""Train a pointwise reranker on targets (paper section 5.5): a language model in the released zerank format, or an encoder.

Rows are read as a stream and tokenized into a file, so the training set may be larger than memory. Queries are held out by a
hash of their text; the model is measured on them, and `patience` stops on what they say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zelo.core.metrics import ndcg_at
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError
from zelo.recipe import Train
from zelo.rerankers.card import model_card, name_of
from zelo.rerankers.encoder_classifier import EncoderClassifier
from zelo.rerankers.export import serve_section, usage_of, write_pointwise
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.pointwise import KIND, Format, PointwiseReranker, longest
from zelo.rerankers.scorer import Scorer
from zelo.rerankers.templates import Template, answer_token, load_tokenizer
from zelo.training.loop import LOG, Report, Settings, train
from zelo.training.losses import OVER_LISTS, make_loss, pair_targets
from zelo.training.token_file import TokenFile

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

MOST_HELD_OUT = 500  # queries; more make an evaluation slow and no more certain
SCHEDULE = "training.jsonl"


@dataclass(frozen=True)
class Lesson:
    """A training query.

    Attributes:
        query: its text.
        documents: the texts of its documents [n].
        targets: [n] in [0, 1].
        first, second, prob_first: the comparisons that were observed [m]: numbers of two documents, P(first beats second). Only
            the loss `pairs` needs them.
    """

    query: str
    documents: list[str]
    targets: FloatArray
    first: IntArray | None = None
    second: IntArray | None = None
    prob_first: FloatArray | None = None

    def __post_init__(self) -> None:
        if len(self.documents) != len(self.targets) or not ((self.targets >= 0) & (self.targets <= 1)).all():
            raise InputError("targets must be in [0, 1], one per document", where=f"question {self.query[:60]!r}")


def train_pointwise(
    lessons: Iterable[Lesson],
    base: str,
    settings: Train,
    seed: int,
    folder: Path,
    work: Path,
    advance: Callable[[int, int], None],
    *,
    kind: Literal["language_model", "cross_encoder"] = "language_model",
    threads: int = 0,
    origin: Mapping[str, str] | None = None,
) -> tuple[PointwiseReranker, Report]:
    """Train, and write a folder that zelo, sentence-transformers and transformers load as it is.

    Args:
        lessons: read once, one at a time.
        base: name or folder of a causal language model, or of an encoder with or without a head of one output.
        settings: the recipe's part.
        seed: of all draws.
        folder: where the model goes. Low-rank adapters are written into `folder/adapter` too, unmerged.
        work: for tokens, checkpoints and the log (log.jsonl); a killed training goes on from there.
        advance: called with (steps done, steps).
        kind: of the model.
        threads: cores to use; 0 = as many as torch is set to.
        origin: where targets and candidates come from, name -> value: for the card.

    Returns:
        The model, and what the training did.

    Raises:
        InputError: no targets, or a base that cannot be used.
        ConvergenceError: the loss is not a number any more.
        MissingExtraError: a package of the extra `train` is not installed.
    """
    source = resolve_model(base)
    form, tokenizer = new_format(source, kind, settings)
    template = form.make_template(tokenizer)
    learned, held = tokenize(lessons, template, settings, seed, work)
    scorer = _new_scorer(source, form, settings, seed, learned)
    model = PointwiseReranker(scorer, template, form, settings.token_budget)
    how = _how(settings, threads, measured=len(held) > 0)
    evaluate = (lambda: measure(scorer, held, form.scale, settings.token_budget)) if len(held) else None
    report = train(scorer, learned, make_loss(settings.loss, form.scale), how, work, seed, advance, evaluate)
    _write(folder, model, base, source, settings, seed, work, report, (learned, held), origin or {})
    return model, report


def _how(settings: Train, threads: int, *, measured: bool) -> Settings:
    return Settings(
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        together=settings.loss in OVER_LISTS,
        token_budget=settings.token_budget,
        gradient_checkpointing=settings.gradient_checkpointing,
        patience=settings.patience if measured else 0,
        watch="nDCG@10",
        threads=threads,
    )


def new_format(source: Path, kind: Literal["language_model", "cross_encoder"], settings: Train) -> tuple[Format, Any]:
    """Return how a new student on a base is asked and read, and the base's tokenizer.

    Raises:
        InputError: the base has no usable tokenizer.
    """
    tokenizer = load_tokenizer(source)
    size = min(settings.max_tokens, longest(source, tokenizer))
    if kind == "language_model":
        return Format("token", "chat", (answer_token(tokenizer),), settings.scale, size), tokenizer
    return Format("classifier", "pair", (), 1.0, size), tokenizer


def tokenize(lessons: Iterable[Lesson], template: Template, settings: Train, seed: int, work: Path) -> tuple[TokenFile, TokenFile]:
    """Write the sequences of the lessons into files; return those to learn and those that are held out.

    Held-out queries keep all documents. Of the others `documents_per_query` are learned, spread over the targets (all, for the loss
    `pairs`, whose comparisons reach any two).

    Raises:
        InputError: nothing to learn, or comparisons are lacking.
    """
    learned, held = TokenFile(work / "learned.tokens"), TokenFile(work / "held.tokens")
    held_queries = 0
    with learned, held:
        for number, lesson in enumerate(lessons):
            if not lesson.documents:
                continue
            if held_queries < MOST_HELD_OUT and is_held_out(lesson.query, settings.held_out, seed):
                held.add(number, template.sequences(lesson.query, lesson.documents), lesson.targets)
                held_queries += 1
                continue
            rows, targets = _chosen(lesson, settings, np.random.default_rng([seed, number, 0xD0C5]))
            learned.add(number, template.sequences(lesson.query, [lesson.documents[i] for i in rows.tolist()]), targets)
    if not len(learned):
        raise InputError("there are no targets to learn", remedy="train on at least one question")
    return learned, held


def is_held_out(query: str, share: float, seed: int) -> bool:
    """Say whether a query belongs to the held-out share, by a hash: other queries do not change it."""
    digest = hashlib.blake2b(f"{seed}\0{query}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _chosen(lesson: Lesson, settings: Train, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Places of the documents to learn, and their targets as the loss wants them."""
    n = len(lesson.documents)
    if settings.loss == "pairs":
        if lesson.first is None or lesson.second is None or lesson.prob_first is None:
            raise InputError("the loss pairs needs the comparisons of every query", where=f"question {lesson.query[:60]!r}")
        return np.arange(n), pair_targets(n, lesson.first, lesson.second, lesson.prob_first)
    order = np.argsort(lesson.targets, kind="stable")
    parts = np.array_split(order, min(settings.documents_per_query or n, n))  # one from each equal slice of the targets
    rows = np.array([rng.choice(part) for part in parts], np.int64)
    return rows, lesson.targets[rows]


def measure(scorer: Scorer, held: TokenFile, scale: float, budget: int = 0) -> dict[str, float]:
    """Measure a model on held-out queries, against their targets.

    Returns:
        loss: mean squared error of the scores; nDCG@10: of the ranking by score, gains = targets; rank_correlation: Spearman's
        of scores and targets; both a mean over queries (the latter over those with two different targets and scores).
    """
    from scipy.special import expit
    from scipy.stats import spearmanr

    scores = np.asarray(expit(scorer.score(held.sequences(np.arange(len(held))), budget) / scale))
    gains, correlations = [], []
    for group in np.unique(held.groups):
        found, wanted = scores[held.groups == group], held.targets[held.groups == group]
        gains.append(ndcg_at(wanted[np.argsort(-found, kind="stable")].tolist(), wanted.tolist(), 10))
        if np.ptp(found) > 0 and np.ptp(wanted) > 0:
            correlations.append(float(spearmanr(found, wanted).statistic))
    correlation = float(np.mean(correlations)) if correlations else 0.0
    return {"loss": float(np.mean((scores - held.targets) ** 2)), "nDCG@10": float(np.mean(gains)), "rank_correlation": correlation}


def _new_scorer(source: Path, form: Format, settings: Train, seed: int, learned: TokenFile) -> Scorer:
    if form.head == "token":
        # All weights learn in float32, or small steps are lost; frozen ones below adapters may be halves.
        model = LanguageModel.load(source, form.tokens, "auto" if settings.lora_rank else "float32")
        if settings.lora_rank:
            model.add_lora(settings.lora_rank, seed=seed)
        return model
    if settings.lora_rank:
        raise InputError("adapters are for language models", remedy="set train.lora_rank = 0")
    classifier = EncoderClassifier.load(source, seed=seed)
    if learned.targets.ndim == 1:
        classifier.start_at(float(learned.targets.mean()))
    return classifier


def _write(
    folder: Path,
    model: PointwiseReranker,
    base: str,
    source: Path,
    settings: Train,
    seed: int,
    work: Path,
    report: Report,
    files: tuple[TokenFile, TokenFile],
    origin: Mapping[str, str],
) -> None:
    learned, held = files
    queries = len(np.unique(learned.groups))
    about = {
        "base": name_of(base),
        "base_digest": model_digest(source),
        "queries": queries,
        "rows": len(learned),
        "tokens": report.tokens,
        "steps": report.steps,
        "held_out_queries": len(np.unique(held.groups)),
        "held_out": dict(report.evaluation),
        "settings": {name: value for name, value in asdict(settings).items() if name != "base"},
        "seed": seed,
        "origin": dict(origin),
    }
    scorer = model.scorer
    if isinstance(scorer, LanguageModel) and settings.lora_rank:
        _write_adapter(folder / "adapter", scorer, model, base)
    write_pointwise(folder, model, about, _card(model.format, base, about, settings, seed))
    lines = [json.loads(line) for line in (work / LOG).read_text("utf-8").splitlines()]
    kept = [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]  # the same in every run
    (folder / SCHEDULE).write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")


def _write_adapter(folder: Path, scorer: LanguageModel, model: PointwiseReranker, base: str) -> None:
    """The adapters alone, with what says how to read them; the tokenizer is the base's."""
    scorer.save_adapter(folder)
    config = folder / "adapter_config.json"
    content = json.loads(config.read_text("utf-8"))
    content["base_model_name_or_path"] = str(Path(base).resolve()) if Path(base).is_dir() else base
    config.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / "zelo.json").write_text(json.dumps({"kind": KIND, "version": 1, "format": model.format.to_dict()}, indent=1) + "\n", "utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's, a form that nobody filled in
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def _card(form: Format, base: str, about: dict[str, Any], settings: Train, seed: int) -> str:
    kind = "a causal language model in the released zerank format" if form.head == "token" else "an encoder with a classification head"
    score = "sigmoid(logit)" if form.scale == 1 else f"sigmoid(logit of Yes / {form.scale:g})"
    tuned = f"low-rank adapters of rank {settings.lora_rank}, merged" if settings.lora_rank else "all weights"
    facts = {
        "made from": name_of(base),
        "form": kind,
        "score": f"{score}, in [0, 1]",
        "longest sequence": f"{form.max_tokens} tokens",
        "loss": settings.loss,
        "trained": tuned,
        "questions": about["queries"],
        "pairs per pass": about["rows"],
        **{name: getattr(settings, name) for name in ("epochs", "learning_rate", "batch_size", "documents_per_query")},
        "steps": about["steps"],
        "tokens": about["tokens"],
        "seed": seed,
        **about["origin"],
        **{f"held-out questions: {name}": f"{value:.4f} (against targets, not labels)" for name, value in about["held_out"].items()},
    }
    summary = (
        "A pointwise reranker: it reads a question and a document together and says in [0, 1] how well the document answers. "
        f"`{name_of(base)}` was fine-tuned on zELO targets (arXiv 2509.12541). It reranks what a first stage found: other "
        "candidates than those it learned from may be ranked worse."
    )
    return model_card("Pointwise reranker", summary, facts, base, holds_weights=True, usage=usage_of(form)) + serve_section(
        "this-folder", form
    )
