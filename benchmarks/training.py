"""How fast a pointwise reranker is trained, as ratios to sentence-transformers' CrossEncoderTrainer: same rows, model, machine.

    python benchmarks/training.py [--json] [--rows 256] [--collection python_docs] [--family encoder language_model]
    python benchmarks/training.py --gpu --rows 8192 --base FOLDER        # on a GPU; says so and stops where there is none

Both learn the same rows in steps of 32 by mean squared error with AdamW; lengths are those of the collection's documents, cut at
--max-tokens. Tokens are counted without padding. Time is CPU time of one thread and includes tokenization, which
sentence-transformers does inside the step. The encoder is all-MiniLM-L6-v2 with a new head, the language model a random Qwen3 of
6 layers or --base; with both in float32, and with both in bfloat16 where the CPU computes it. On a GPU time is wall time. TFLOP/s
counts 6 operations per weight outside the embeddings and token, without attention; its share is of what a large matrix product
reaches here, measured in the same minute. The peer needs a package of its own: `make bench-training` installs it, and --alone leaves
it out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

STEP = 32
PER_QUERY = 16


def rows_of(collection: str, rows: int) -> tuple[list[str], list[list[str]]]:
    """Return queries and for each 16 documents, drawn from the whole collection."""
    from zelo.collections import open_collection

    opened = open_collection(collection)
    rng = np.random.default_rng(0)
    queries = [q.text for q in opened.queries()]
    documents = [d.full_text for d in opened.documents()]
    chosen = [queries[i] for i in rng.choice(len(queries), rows // PER_QUERY, replace=False)]
    return chosen, [[documents[i] for i in rng.choice(len(documents), PER_QUERY, replace=False)] for _ in chosen]


def bases(folder: Path, documents: list[list[str]], width: int, base: str) -> dict[str, str]:
    if base:
        return {"encoder": "all-MiniLM-L6-v2", "language_model": base}
    from tiny_models import write_tiny_qwen

    texts = ["Yes"] * 100 + ["system", "user", "assistant"] * 100 + [d[:2000] for group in documents for d in group]
    decoder = write_tiny_qwen(folder / "decoder", texts, dim=width, layers=6, vocabulary=8000)
    return {"encoder": "all-MiniLM-L6-v2", "language_model": str(decoder)}


def lessons(queries: list[str], documents: list[list[str]]) -> list[Any]:
    from zelo.training.pointwise import Lesson

    rng = np.random.default_rng(1)
    return [Lesson(q, d, rng.random(len(d))) for q, d in zip(queries, documents, strict=True)]


def ours(
    base: str, family: str, data: list[Any], size: int, precision: str, work: Path
) -> tuple[Callable[[], None], Callable[[], int], Any]:
    """Return what trains, what counts the tokens, and the model."""
    from zelo.encoders.weights import resolve_model
    from zelo.recipe import Train
    from zelo.rerankers.encoder_classifier import EncoderClassifier
    from zelo.rerankers.language_model import LanguageModel
    from zelo.training.loop import Settings, train
    from zelo.training.losses import make_loss
    from zelo.training.pointwise import new_format, tokenize

    settings = Train(max_tokens=size, documents_per_query=0, held_out=0.0)
    folder = resolve_model(base)
    form, tokenizer = new_format(folder, "language_model" if family == "language_model" else "cross_encoder", settings)
    token = form.head == "token"
    scorer = LanguageModel.load(folder, form.tokens, "float32") if token else EncoderClassifier.load(folder)
    counted: list[int] = []

    def run() -> None:
        learned, _ = tokenize(data, form.make_template(tokenizer), settings, 0, work)
        counted.append(int(learned.lengths.sum()))
        how = Settings(learning_rate=3e-5, batch_size=STEP, precision=precision, threads=1)  # type: ignore[arg-type]
        train(scorer, learned, make_loss("mse", form.scale), how, work, 0, lambda *_: None)

    return run, lambda: counted[-1], scorer.module


def theirs(base: str, family: str, data: list[Any], size: int, precision: str, work: Path) -> Callable[[], None]:
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import MSELoss
    from sentence_transformers.cross_encoder.modules import LogitScore

    from zelo.encoders.weights import resolve_model
    from zelo.rerankers.templates import ChatTemplate, answer_token, score_template

    folder = str(resolve_model(base))
    if family == "language_model":
        module = Transformer(folder, transformer_task="text-generation", processor_kwargs={"model_max_length": size})
        template = ChatTemplate.of(module.tokenizer, size)
        module.processor.chat_template = score_template(template, module.tokenizer.chat_template)
        head = LogitScore(true_token_id=answer_token(module.tokenizer))
        model = CrossEncoder(modules=[module, head], activation_fn=torch.nn.Sigmoid())
    else:
        model = CrossEncoder(folder, num_labels=1, max_length=size)
    rows = [(lesson.query, d, t) for lesson in data for d, t in zip(lesson.documents, lesson.targets.tolist(), strict=True)]
    dataset = Dataset.from_dict({name: [row[i] for row in rows] for i, name in enumerate(("query", "document", "label"))})
    given = CrossEncoderTrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=STEP,
        num_train_epochs=1,
        learning_rate=3e-5,
        bf16=precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = CrossEncoderTrainer(model=model, args=given, train_dataset=dataset, loss=MSELoss(model, activation_fn=torch.nn.Sigmoid()))
    return lambda: trainer.train() and None


def seconds(call: Callable[[], None]) -> float:
    import torch

    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def matrix_rate(precision: str) -> float:
    """Return what a product of two square matrices reaches, in TFLOP/s: the best of some tries."""
    import torch

    gpu = torch.cuda.is_available()
    n, device = (8192, "cuda") if gpu else (1024, "cpu")
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    a @ a
    return max(2 * n**3 / seconds(lambda: [a @ a for _ in range(8 if gpu else 4)] and None) * (8 if gpu else 4) for _ in range(3)) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--collection", default="python_docs")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--width", type=int, default=384, help="of the random language model")
    parser.add_argument("--family", nargs="+", choices=["encoder", "language_model"], default=["encoder", "language_model"])
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--base", default="", help="folder of a causal language model, instead of the random one")
    parser.add_argument("--gpu", action="store_true", help="only where there is a GPU")
    parser.add_argument("--alone", action="store_true", help="without sentence-transformers")
    options = parser.parse_args()
    import torch

    if options.gpu and not torch.cuda.is_available():
        print("skipped: no GPU")
        return
    if not options.alone and find_spec("datasets") is None:
        sys.exit("skipped: sentence-transformers trains only with the package datasets (make bench-training installs it; or use --alone)")

    torch.set_num_threads(1)
    queries, documents = rows_of(options.collection, options.rows)
    data = lessons(queries, documents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for family in options.family:
            base = bases(folder, documents, options.width, options.base)[family]
            for precision in options.precision:
                size = options.max_tokens
                peer = None if options.alone else seconds(theirs(base, family, data, size, precision, folder / "theirs"))
                run, tokens, module = ours(base, family, data, size, precision, folder / f"{family}-{precision}")
                own = seconds(run)
                report(options.json, family, precision, tokens(), own, peer, module)


def report(as_json: bool, family: str, precision: str, tokens: int, own: float, peer: float | None, module: Any) -> None:
    import torch

    weights = sum(p.numel() for n, p in module.named_parameters() if "embed" not in n and "lm_head" not in n)
    rate, most = 6 * weights * tokens / own / 1e12, matrix_rate(precision)
    row: dict[str, Any] = {
        "family": family,
        "precision": precision,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu, 1 thread",
        "tokens": tokens,
        "zelo_tokens_per_s": round(tokens / own, 1),
    }
    if peer is not None:
        row |= {"sentence_transformers_tokens_per_s": round(tokens / peer, 1), "ratio": round(peer / own, 2)}
    row |= {"zelo_tflop_per_s": round(rate, 4), "matrix_tflop_per_s": round(most, 4), "share_of_matrix_rate": round(rate / most, 3)}
    if as_json:
        print(json.dumps(row), flush=True)
        return
    beside = "" if peer is None else f"  sentence-transformers {tokens / peer:>9,.0f}/s  ratio {peer / own:.2f}"
    share = f"{rate:.3f} TFLOP/s in weights, {rate / most:.0%} of a matrix product's"
    print(f"{family:<15}{precision:<10}{tokens:>8,} tokens  zelo {tokens / own:>9,.0f}/s{beside}  ({row['device']}, {share})", flush=True)


if __name__ == "__main__":
    main()
