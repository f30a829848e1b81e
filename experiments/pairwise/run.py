"""Does the pairwise reranker learn, and what does sharing prefixes save? `python experiments/pairwise/run.py trains|prefix`.

One line of JSON per result. Everything is made up and tiny; no download.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from tiny_models import write_tiny_qwen
from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.recipe import Pairwise
from zelo.rerankers.pairwise import load_scorer, new_scorer, new_template, pair_logits
from zelo.rerankers.pairwise_template import DOCUMENT_A, DOCUMENT_B, PLAIN_END, QUERY, TASK
from zelo.training.pairwise import Lessons, measure, train_pairwise

QUERIES = ("largest", "smallest")
TEMPLATE = TASK + QUERY + DOCUMENT_A + DOCUMENT_B + PLAIN_END
FILLER = ("tree", "sun", "hill", "rain", "wood", "lake")
NUMBERS = [f"n{i}" for i in range(20)]


def lessons(number: int, seed: int, smallest: float) -> tuple[Lessons, np.ndarray]:
    """Pairs of documents with a number word among filler; the query says which number is better. Soft targets .9, .5, .1."""
    rng = np.random.default_rng(seed)
    value, documents = rng.integers(20, size=2 * number), []
    for v in value.tolist():
        words = rng.choice(FILLER, rng.integers(1, 4)).tolist()
        words.insert(int(rng.integers(len(words) + 1)), NUMBERS[v])
        documents.append(" ".join(words))
    asked = (rng.random(number) < smallest).astype(np.int64)
    a, b = np.arange(number), np.arange(number, 2 * number)
    better = np.sign(value[a] - value[b]) * np.where(asked == 0, 1, -1)
    texts = [" ".join([QUERIES[i]] * 6) for i in asked.tolist()]
    return Lessons(texts, documents, np.arange(number), a, b, 0.5 + 0.4 * better), asked


def trains(seed: int) -> None:
    """From random weights to held-out pairs, numbers among filler, the query deciding the direction."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        learned, _ = lessons(4000, seed, 0.3)
        texts = [*learned.documents, *QUERIES, TEMPLATE]
        base = write_tiny_qwen(root / "base", texts, dim=64, layers=2, vocabulary=450, seed=seed)
        how = Pairwise(epochs=5, learning_rate=3e-3, batch_size=16, max_tokens=256, held_out=0.0, precision="float32")
        start = time.process_time()
        report, _ = train_pairwise(learned, str(base), how, seed, root / "model", root / "work", lambda *_: None, 1)
        seconds = time.process_time() - start
        scorer, template, tokenizer, _ = load_scorer(root / "model", "cpu")
        told, asked = lessons(1000, seed + 1000, 0.5)
        found = {q: measure(scorer, template, tokenizer, told.select(asked == i), antisymmetric=True) for i, q in enumerate(QUERIES)}
        one = measure(scorer, template, tokenizer, told, antisymmetric=False)
        row = {"experiment": "trains", "seed": seed, "steps": report.steps, "tokens": report.tokens, "cpu_seconds": round(seconds, 1)}
        row |= {f"accuracy_{q}": round(m["accuracy"], 4) for q, m in found.items()}
        row |= {f"excess_{q}": round(m["excess"], 4) for q, m in found.items()}
        print(json.dumps(row | {"accuracy_one_order": round(one["accuracy"], 4)}), flush=True)


def prefix(documents: int, words: tuple[int, int], query_words: int) -> None:
    """Tokens and time of one query's tournament, degree 8: with and without the prefixes that pairs share."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        base = write_tiny_qwen(Path(folder) / "base", [TEMPLATE, " ".join(FILLER)], dim=256, layers=6, vocabulary=450)
        tokenizer, template = new_template(base, "auto", 1024)
        scorer = new_scorer(base, template)
        texts = [" ".join(rng.choice(FILLER, rng.integers(*words))) for _ in range(documents)]
        query = " ".join(rng.choice(FILLER, query_words))
        pairs = [(query, texts[i], texts[j]) for i, j in hamiltonian_cycles(documents, 8, rng).tolist()]
        row = {"experiment": "prefix", "documents": documents, "pairs": len(pairs), "words": words, "query_words": query_words}
        logits, seconds, found = {}, {}, None
        for shared in (False, True, False, True):  # the first round warms up
            start = time.process_time()
            found = pair_logits(scorer, template, tokenizer, pairs, share_prefix=shared)
            logits[shared], seconds[shared] = found.logits, time.process_time() - start
        row |= {"tokens": found.tokens, "saved": round(1 - found.computed / found.tokens, 4)}
        row |= {"cpu_seconds_apart": round(seconds[False], 2), "cpu_seconds_shared": round(seconds[True], 2)}
        print(json.dumps(row | {"largest_difference": float(np.abs(logits[True] - logits[False]).max())}), flush=True)


def main() -> None:
    import torch

    torch.set_num_threads(1)
    if sys.argv[1:] == ["trains"]:
        for seed in range(3):
            trains(seed)
    elif sys.argv[1:] == ["prefix"]:
        for words in ((20, 60), (60, 120), (120, 240)):
            prefix(40, words, 12)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
