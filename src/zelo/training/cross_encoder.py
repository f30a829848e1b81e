"""Fine-tune an encoder as a pointwise cross-encoder: mean squared error of its score to the targets (paper section 5.5).

For those with a cross-encoder that was pretrained for ranking. One that starts from a small embedding model needs far more
data than a few hundred questions (experiments/students), which is why the blend is the default student.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import ConvergenceError, InputError
from zelo.recipe import Train
from zelo.rerankers.card import model_card, name_of
from zelo.training import Example

FloatArray = NDArray[np.float64]

WARM_UP = 0.1  # share of the steps in which the learning rate rises to its peak; it then falls to 0
WEIGHT_DECAY = 0.01  # of matrices; biases and norms are left alone
CLIP = 1.0  # largest norm of a step's gradient
BUCKET = 16  # batches made from one draw of pairs, by length


@dataclass(frozen=True, slots=True)
class _Row:
    query: str
    document: str
    target: float

    def __len__(self) -> int:
        return len(self.query) + len(self.document)


def train_cross_encoder(
    examples: Sequence[Example],
    model: str,
    settings: Train,
    seed: int,
    folder: Path,
    advance: Callable[[int, int], None],
    threads: int | None = None,
) -> str:
    """Train, and write a folder that `sentence_transformers.CrossEncoder` loads as it is and that predicts in [0, 1].

    The same data, settings, seed, machine and number of threads give the same weights.

    Args:
        examples: the questions with their documents' targets.
        model: name or folder of an encoder, or of a cross-encoder with one output.
        settings: epochs, learning_rate, batch_size, documents_per_query, max_tokens.
        seed: of all draws.
        folder: where the model goes; made if it does not exist.
        advance: called with (steps done, steps).
        threads: cores to use; None: as many as torch is set to, by default all, or OMP_NUM_THREADS.

    Returns:
        One line with the root mean squared error at the end of training.

    Raises:
        InputError: no targets, targets out of range, or a model that cannot be loaded.
        ConvergenceError: the loss is not a number any more.
        MissingExtraError: torch or sentence-transformers is not installed.
    """
    _check(examples)
    torch = import_extra("torch", "torch")
    source = resolve_model(model)
    with _repeatable(torch, seed, threads):
        network = _load(source, settings.max_tokens, examples)
        losses = _fit(network, examples, settings, seed, advance)
    error = float(np.sqrt(np.mean(losses[-max(1, len(losses) // 10) :])))
    _save(network, folder)
    pairs = settings.epochs * sum(min(settings.documents_per_query, len(e[1])) for e in examples)
    facts = {
        "questions": len(examples),
        "pairs per pass": pairs // settings.epochs,
        **{name: getattr(settings, name) for name in ("epochs", "learning_rate", "batch_size", "documents_per_query", "max_tokens")},
        "seed": seed,
        "root mean squared error on the targets": f"{error:.4f} (last tenth of training)",
    }
    _describe(folder, model, source, settings, seed, facts, error)
    return f"root mean squared error to the targets {error:.3f} at the end, {pairs:,} pairs in {len(losses):,} steps"


def _save(network: Any, folder: Path) -> None:
    with quiet():
        network.save_pretrained(str(folder), create_model_card=False)
    for file in folder.glob("*.safetensors"):  # safetensors writes them for the owner only; its neighbors are for all
        file.chmod(0o644)


def _check(examples: Sequence[Example]) -> None:
    if not any(len(targets) for _, _, targets in examples):
        raise InputError("there are no targets to learn", remedy="train on at least one question")
    for query, documents, targets in examples:
        if len(documents) != len(targets) or not ((targets >= 0) & (targets <= 1)).all():
            raise InputError("targets must be in [0, 1], one per document", where=f"question {query[:60]!r}")


def _load(source: Path, max_tokens: int, examples: Sequence[Example]) -> Any:
    """Return a sentence-transformers CrossEncoder with one output and a sigmoid on it."""
    library, torch = import_extra("sentence_transformers", "sentence-transformers"), import_extra("torch", "torch")
    chatty = logging.getLogger("sentence_transformers.base.model")  # says that it converts an encoder, as it should
    level = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with quiet():
            network = library.CrossEncoder(
                str(source), num_labels=1, max_length=max_tokens, activation_fn=torch.nn.Sigmoid(), device="cpu", local_files_only=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        what = f"cannot be loaded as a cross-encoder with one output ({str(error).strip().partition(chr(10))[0]})"
        raise InputError(what, where=str(source), remedy="choose another encode.model") from error
    finally:
        chatty.setLevel(level)
    trained = json.loads((source / "config.json").read_text("utf-8")).get("architectures") or [""]
    if not trained[0].endswith("ForSequenceClassification"):
        # A new head. It starts at the mean target, which at a fine-tuning rate it would take the whole training to find.
        share = float(np.clip(np.concatenate([e[2] for e in examples]).mean(), 1e-3, 1 - 1e-3))
        heads = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1 and m.bias is not None]
        for head in heads[-1:]:
            torch.nn.init.constant_(head.bias, float(np.log(share / (1 - share))))
    return network


def _fit(network: Any, examples: Sequence[Example], settings: Train, seed: int, advance: Callable[[int, int], None]) -> list[float]:
    """Train in place and return the loss of every step."""
    torch = import_extra("torch", "torch")
    rng = np.random.default_rng(seed)
    epochs = [_batches(_draw(examples, settings.documents_per_query, rng), settings.batch_size, rng) for _ in range(settings.epochs)]
    steps = sum(map(len, epochs))
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, steps))
    halves = bool({"avx512_bf16", "amx_bf16"} & {name for name, has in torch.cpu.get_capabilities().items() if has is True})
    losses: list[float] = []
    network.train()
    for batch in (batch for epoch in epochs for batch in epoch):
        inputs = network.preprocess([(row.query, row.document) for row in batch])
        targets = torch.tensor([row.target for row in batch], dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halves):
            logits = network(inputs)["scores"].squeeze(-1)
        loss = torch.nn.functional.mse_loss(torch.sigmoid(logits.float()), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise ConvergenceError(f"the loss was {losses[-1]} at step {len(losses)}", remedy="lower train.learning_rate")
        advance(len(losses), steps)
    network.eval()
    return losses


def learning_rate_share(step: int, steps: int) -> float:
    """Return the share of the peak rate at a step, from 0: linear up during the warm-up, then linear down to almost 0."""
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm + 1)


def _draw(examples: Sequence[Example], per_query: int, rng: np.random.Generator) -> list[_Row]:
    """Choose documents of every question, one from each of `per_query` equal slices of its targets in order."""
    rows = []
    for query, documents, targets in examples:
        order = np.argsort(targets, kind="stable")
        for part in np.array_split(order, min(per_query, len(order))) if len(order) else []:
            i = int(rng.choice(part))
            rows.append(_Row(query, documents[i], float(targets[i])))
    return rows


def _batches(rows: list[_Row], size: int, rng: np.random.Generator) -> list[list[_Row]]:
    """Return batches of similar length in random order: pairs are shuffled, and sorted by length a few batches at a time."""
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    batches = []
    for start in range(0, len(rows), size * BUCKET):
        bucket = sorted(shuffled[start : start + size * BUCKET], key=len)
        batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


@contextmanager
def _repeatable(torch: Any, seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch, fix its threads and forbid algorithms that do not repeat; afterwards all is as before."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads or before)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(before)


def _describe(folder: Path, model: str, source: Path, settings: Train, seed: int, facts: dict[str, object], error: float) -> None:
    """Write zelo.json and README.md."""
    about = {
        "kind": "cross_encoder",
        "version": 1,
        "encoder": model,
        "encoder_digest": model_digest(source),
        "questions": facts["questions"],
        "settings": asdict(settings),
        "seed": seed,
        "root_mean_squared_error": error,
    }
    (folder / "zelo.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    summary = (
        "A pointwise reranker: it reads a question and a document together and says in [0, 1] how well the document answers. "
        f"`{name_of(model)}` was fine-tuned by mean squared error to zELO targets (arXiv 2509.12541)."
    )
    usage = 'from sentence_transformers import CrossEncoder\n\nscores = CrossEncoder("this folder").predict([("question", "document")])'
    card = model_card("Cross-encoder", summary, {"made from": name_of(model), **facts}, model, holds_weights=True, usage=usage)
    (folder / "README.md").write_text(card, "utf-8")
