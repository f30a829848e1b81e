"""Train an encoder on targets: the embedding student, and the retriever of the next round.

A query and a document become one vector each, and z = slope * cosine + bias is their logit. Losses on z are those of every student
(mean squared error of sigmoid(z) is the paper's); `contrastive` also sets a query against the documents of all others in the step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.core.metrics import ndcg_at
from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import load_sentence_transformer, quiet, token_limit
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError
from zelo.recipe import Train
from zelo.rerankers.card import model_card, name_of
from zelo.rerankers.embedding import KIND
from zelo.rerankers.scorer import Scorer, Tokens, batches_by_length, evaluating, pad_right, pick_device
from zelo.training.head import train_head
from zelo.training.loop import Report, Settings, train
from zelo.training.losses import OVER_LISTS, Loss, make_loss
from zelo.training.pointwise import Lesson, is_held_out
from zelo.training.token_file import TokenFile

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SLOPE = 20.0  # of the cosine in a contrastive loss, the inverse of its temperature
LOOKED_AT = 1024  # rows that slope and bias are fitted on
WHOLE = 1 << 30  # token budget that no step reaches: documents of other queries are negatives only within a forward pass
AT_ONCE = 2048  # padded tokens encoded together
MOST_MEASURED = 50  # held-out queries: each has all its documents encoded, after every epoch


@dataclass
class Cosine:
    """How a cosine becomes a logit: slope * cosine + bias."""

    slope: float
    bias: float


class Embedder(Scorer):
    """An encoder of sentence-transformers that is to learn. A sequence is [tokens of the query, query ..., document ...].

    Attributes:
        model: of sentence-transformers, on its device.
        read: how its cosine becomes a logit.
    """

    layers_once = False
    entries = ("vectors",)

    def __init__(self, model: Any, identity: str) -> None:
        """Take a sentence-transformers model that begins with a transformer."""
        self.model, self.identity, self.read = model, identity, Cosine(SLOPE, -SLOPE / 2)
        self._pad = int(getattr(model.tokenizer, "pad_token_id", None) or 0)
        self.module = _matrix(model, self.read)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Embedder:
        """Load a folder.

        Raises:
            InputError: it is no encoder with a transformer.
        """
        model = load_sentence_transformer(folder)
        if type(model[0]).__name__ != "Transformer":
            raise InputError("this encoder has no transformer that could learn", where=str(folder), remedy="choose another train.base")
        return cls(model.float().to(pick_device(device)).eval(), model_digest(folder))

    def tokenize(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Return the ids of texts, cut to `longest` tokens, as sentence-transformers makes them."""
        prompt = (getattr(self.model, "prompts", None) or {}).get(getattr(self.model, "default_prompt_name", None) or "", "")
        size = min(longest, token_limit(self.model))
        lists = self.model.tokenizer([prompt + text for text in texts], truncation=True, max_length=size, return_attention_mask=False)
        return [list(ids) for ids in lists["input_ids"]]

    def sequences(self, query: str, documents: Sequence[str], longest: int) -> list[NDArray[np.int32]]:
        """Return a sequence per document."""
        asked, *answers = self.tokenize([query, *documents], longest)
        return [np.array([len(asked), *asked, *ids], np.int32) for ids in answers]

    def collate(self, sequences: Sequence[Tokens]) -> tuple[Any, ...]:
        """Return the different texts as padded batches [(places, ids, mask)], and the places of each row's query and document [n]."""
        torch = import_extra("torch", "torch")
        places: dict[bytes, int] = {}
        texts: list[NDArray[np.int32]] = []
        sides = np.zeros((2, len(sequences)), np.int64)
        for row, sequence in enumerate(sequences):
            ids = np.asarray(sequence, np.int32)
            for side, text in enumerate((ids[1 : 1 + ids[0]], ids[1 + ids[0] :])):
                place = sides[side, row] = places.setdefault(text.tobytes(), len(places))
                if place == len(texts):
                    texts.append(text)
        batches = []
        for rows in batches_by_length(np.array([len(t) for t in texts], np.int64), AT_ONCE):
            padded, lengths = pad_right([texts[i] for i in rows.tolist()], self._pad)
            mask = (np.arange(padded.shape[1]) < lengths[:, None]).astype(np.int64)
            batches.append(tuple(torch.from_numpy(a).to(self.device) for a in (rows, padded, mask)))
        return batches, *(torch.from_numpy(side).to(self.device) for side in sides)

    def cosines(self, sequences: Sequence[Tokens]) -> FloatArray:
        """Return the cosine of each row's query and document [n], without gradients."""
        torch = import_extra("torch", "torch")
        if not len(sequences):
            return np.zeros(0)
        with torch.inference_mode(), evaluating(self.module):
            batches, queries, documents = self.collate(sequences)
            vectors = self.module.vectors(batches)
            return np.asarray((vectors[queries] * vectors[documents]).sum(1).double().cpu().numpy())

    def checkpoint_gradients(self) -> None:
        """Keep only what enters each layer."""
        self.model[0].auto_model.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write the folder as sentence-transformers does; it loads as it is."""
        with quiet():
            self.model.save(str(folder), create_model_card=False)
        for file in folder.rglob("*.safetensors"):  # safetensors writes them for the owner only
            file.chmod(0o644)


def _matrix(model: Any, read: Cosine) -> Any:
    """A module: what `collate` returns -> logits [n, n] of every row's query with every row's document.

    Minus infinity where that document is also another row's of the same query: as a negative it would be a false one.
    """
    torch = import_extra("torch", "torch")

    class Matrix(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def vectors(self, batches: Any) -> Any:
            """Unit vectors of the different texts."""
            return self._vectors(batches)

        def _vectors(self, batches: Any) -> Any:
            found = [self.model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"].float() for _, ids, mask in batches]
            order = torch.cat([rows for rows, _, _ in batches]).argsort()
            return torch.nn.functional.normalize(torch.cat(found)[order], dim=1)

        def forward(self, batches: Any, queries: Any, documents: Any) -> Any:
            vectors = self._vectors(batches)
            z = read.slope * vectors[queries] @ vectors[documents].T + read.bias
            own = torch.zeros(len(vectors), len(vectors), dtype=torch.bool, device=z.device)
            own[queries, documents] = True
            foreign = queries[:, None] != queries[None, :]
            return z.masked_fill(foreign & own[queries][:, documents], -torch.inf)

    return Matrix()


def contrastive(z: Any, targets: Any, groups: Any) -> Any:
    """Cross-entropy of a query's targets, as shares, to softmax(z) over its own documents and those of the other queries.

    Mean over queries with a target. One relevant document and the others at 0 make it InfoNCE.

    Args:
        z: [n, n], row i's query with row j's document.
        targets: [n] in [0, 1].
        groups: [n].
    """
    same = groups[:, None] == groups[None, :]
    total = (same * targets[None, :]).sum(1)
    share = targets / total.clamp(min=1e-3)
    queries = len(groups[total > 1e-3].unique())
    return -(share * z.log_softmax(1).diagonal()).sum() / max(queries, 1)


def _loss(name: str) -> Loss:
    if name == "contrastive":
        return contrastive
    if name == "pairs":
        raise InputError("the embedding student does not learn from pairs", remedy="choose contrastive, or another loss")
    base = make_loss(name)

    def loss(z: Any, targets: Any, groups: Any) -> Any:
        return base(z.diagonal(), targets, groups)

    loss.__qualname__ = f"{name} of cosines"
    return loss


def train_embedding(
    lessons: Iterable[Lesson],
    base: str,
    settings: Train,
    seed: int,
    folder: Path,
    work: Path,
    advance: Callable[[int, int], None],
    *,
    threads: int = 0,
) -> Report:
    """Train, and write a folder that sentence-transformers and `rerankers.embedding` load.

    Args:
        lessons: read once, one at a time.
        base: name or folder of an encoder.
        settings: the recipe's part.
        seed: of all draws.
        folder: where the model goes.
        work: for tokens, checkpoints and the log; a killed training goes on from there.
        advance: called with (steps done, steps).
        threads: cores to use; 0 = as many as torch is set to.

    Raises:
        InputError: no targets, a base that is no such encoder, or a loss that is not for encoders.
        ConvergenceError: the loss is not a number any more.
        MissingExtraError: a package of the extra `train` is not installed.
    """
    source, loss = resolve_model(base), _loss(settings.loss)
    scorer = Embedder.load(source)
    learned, held = _tokenize(lessons, scorer, settings, seed, work)
    if settings.loss not in ("contrastive", *OVER_LISTS):
        scorer.read.slope, scorer.read.bias = _reading(scorer, learned)
    how = Settings(
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        together=True,
        token_budget=settings.token_budget or WHOLE,
        gradient_checkpointing=settings.gradient_checkpointing,
        patience=settings.patience if len(held) else 0,
        watch="nDCG@10",
        threads=threads,
    )
    report = train(scorer, learned, loss, how, work, seed, advance, (lambda: measure(scorer, held)) if len(held) else None)
    scorer.read.slope, scorer.read.bias = _reading(scorer, held if len(held) else learned)
    _write(folder, scorer, base, settings, seed, report, learned)
    return report


def _tokenize(lessons: Iterable[Lesson], scorer: Embedder, settings: Train, seed: int, work: Path) -> tuple[TokenFile, TokenFile]:
    """The rows to learn, and those of the held-out queries, which keep all their documents."""
    learned, held = TokenFile(work / "learned.tokens"), TokenFile(work / "held.tokens")
    kept = 0
    with learned, held:
        for number, lesson in enumerate(lessons):
            if not lesson.documents:
                continue
            if kept < MOST_MEASURED and is_held_out(lesson.query, settings.held_out, seed):
                kept += 1
                held.add(number, scorer.sequences(lesson.query, lesson.documents, settings.max_tokens), lesson.targets)
                continue
            rows = chosen(lesson.targets, settings.documents_per_query, np.random.default_rng([seed, number, 0xE3B]))
            texts = [lesson.documents[i] for i in rows.tolist()]
            learned.add(number, scorer.sequences(lesson.query, texts, settings.max_tokens), lesson.targets[rows])
    if not len(learned):
        raise InputError("there are no targets to learn", remedy="train on at least one question")
    return learned, held


def chosen(targets: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Return which of a query's documents are learned: half by chance in proportion to their targets, the others by chance.

    Args:
        targets: [n] in [0, 1].
        size: how many; 0 = all.
        rng: of the draw.
    """
    n = len(targets)
    if not 0 < size < n:
        return np.arange(n)
    weight = targets + 1e-6
    high = rng.choice(n, size=(size + 1) // 2, replace=False, p=weight / weight.sum())
    rest = np.setdiff1d(np.arange(n), high)
    return np.concatenate([high, rng.choice(rest, size=size - len(high), replace=False)])


def measure(scorer: Embedder, held: TokenFile) -> dict[str, float]:
    """Return nDCG@10 of the cosines on held-out queries, gains = targets, and the loss: mean squared error of the scores."""
    cosines, gains = np.zeros(len(held)), []
    for group in np.unique(held.groups):
        rows = np.flatnonzero(held.groups == group)
        cosines[rows] = scorer.cosines(held.sequences(rows))
        wanted = held.targets[rows]
        gains.append(ndcg_at(wanted[np.argsort(-cosines[rows], kind="stable")].tolist(), wanted.tolist(), 10))
    _, error = train_head(cosines[:, None], held.targets)
    return {"loss": error**2, "nDCG@10": float(np.mean(gains))}


def _reading(scorer: Embedder, source: TokenFile) -> tuple[float, float]:
    """Slope and bias of least squared error to the targets, on the first rows; the slope is at least 1, so that the order stays."""
    rows = np.arange(min(len(source), LOOKED_AT))
    cosines = scorer.cosines(source.sequences(rows))
    head, _ = train_head(cosines[:, None], source.targets[rows])
    slope = max(1.0, head.weights[0] / head.scale[0])
    return slope, head.bias - slope * head.center[0]


def _write(folder: Path, scorer: Embedder, base: str, settings: Train, seed: int, report: Report, learned: TokenFile) -> None:
    scorer.save(folder)
    facts: dict[str, object] = {
        "made from": name_of(base),
        "loss": settings.loss,
        "questions": len(np.unique(learned.groups)),
        "pairs per pass": len(learned),
        **{name: getattr(settings, name) for name in ("epochs", "learning_rate", "batch_size", "documents_per_query", "max_tokens")},
        "steps": report.steps,
        "seed": seed,
        **{f"held-out questions: {name}": f"{value:.4f} (against targets, not labels)" for name, value in report.evaluation.items()},
    }
    about = {"kind": KIND, "version": 1, **asdict(scorer.read), "base": name_of(base), "base_digest": scorer.identity}
    (folder / "zelo.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    summary = (
        "An encoder: the cosine of a question's and a document's vector says how well the document answers. It was fine-tuned on zELO "
        "targets (arXiv 2509.12541), reranks, and serves as the encoder of a first stage."
    )
    usage = 'from sentence_transformers import SentenceTransformer\n\nvectors = SentenceTransformer("this folder").encode(["a question"])'
    (folder / "README.md").write_text(model_card("Embedding student", summary, facts, base, holds_weights=True, usage=usage), "utf-8")
