"""Does a model folder score as it did when it was written? parity.jsonl has 20 pairs with their scores; `verify` recomputes them.

Known ways to get silently wrong scores are a wrong answer token ("yes" for "Yes"), a forgotten scale, a missing chat template,
a template whose end was cut, a head that was drawn at random, and padding that is read as text. Each moves these scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zelo.encoders.extras import import_extra, loading_errors
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError
from zelo.rerankers.pointwise import Format, PointwiseReranker
from zelo.rerankers.templates import ChatTemplate

FloatArray = NDArray[np.float64]
Library = Literal["zelo", "sentence-transformers", "transformers"]
LIBRARIES: tuple[Library, ...] = ("zelo", "sentence-transformers", "transformers")

PARITY = "parity.jsonl"
PAIRS = 20
LONG = 1200  # words of the longest text

_QUERIES = (
    "how do I read a file line by line?",
    "What is the boiling point of water at 3,000 m?",
    "Wie kündige ich einen Mietvertrag?",
    "如何在城市里种植番茄",
    "error: undefined reference to `main'",
)
_DOCUMENTS = (
    "Open the file and loop over it: each turn of the loop gives one line, with its newline.",
    "At sea level water boils at 100 °C; every 300 m of height take off about one degree.\n\nAt 3,000 m it is near 90 °C.",
    "Der Vermieter braucht die Kündigung schriftlich, mit drei Monaten Frist.",
    "番茄需要每天至少六小时的阳光。\n把种子种在深盆里。",
)


def parity_pairs(max_tokens: int) -> list[tuple[str, str]]:
    """Return 20 pairs: short and empty texts, several scripts, line breaks, and a document and a query that must be cut.

    Args:
        max_tokens: of the model; texts of up to 1,200 words are long enough to be cut if it has no more room than that.
    """
    pairs = [(query, document) for query in _QUERIES[:4] for document in _DOCUMENTS]
    size = min(LONG, 2 * max_tokens)
    long = " ".join(f"{_DOCUMENTS[0].split()[i % 17]} {i}" for i in range(size // 2))
    return [*pairs, (_QUERIES[4], ""), (_QUERIES[4], "\n  an indented line\n"), (_QUERIES[0], long), (long, _DOCUMENTS[1])]


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes:
        compared: pairs.
        skipped: pairs that the library cannot cut as zelo does.
        largest: difference of scores in [0, 1].
        pair: number of the pair with the largest difference, from 1.
    """

    compared: int
    skipped: int
    largest: float
    pair: int


def write_parity(folder: Path, model: PointwiseReranker) -> None:
    """Write parity.jsonl: query, document, score, and whether the query is cut, which only zelo does."""
    with (folder / PARITY).open("w", encoding="utf-8") as file:
        for query, document in parity_pairs(model.format.max_tokens):
            score = float(model.score(query, [document])[0])
            cut = isinstance(model.template, ChatTemplate) and model.template.cuts_query(query, document)
            file.write(json.dumps({"query": query, "document": document, "score": score, "query_is_cut": cut}, ensure_ascii=False) + "\n")


def verify(folder: Path, library: Library = "zelo") -> Verified:
    """Score the pairs of parity.jsonl again, on a CPU in float32, and compare.

    Args:
        folder: a model folder that zelo wrote.
        library: what to load the folder with: zelo; sentence-transformers, in one batch; transformers, pair by pair with the
            whole head, without zelo's template.

    Raises:
        InputError: no parity file, or a faulty one; or the library cannot load the folder.
    """
    rows = _read(folder / PARITY)
    expected = np.array([row["score"] for row in rows])
    model = PointwiseReranker.load(folder, device="cpu", precision="float32")
    if library == "zelo":
        found, usable = np.array([model.score(row["query"], [row["document"]])[0] for row in rows]), np.ones(len(rows), bool)
    elif library == "sentence-transformers":
        usable = np.array([not row["query_is_cut"] for row in rows])
        found = _by_sentence_transformers(folder, model.format, rows)
    elif library == "transformers":
        found = np.array(list(_by_transformers(folder, model.format, rows)))
        usable = np.isfinite(found)
    else:
        raise InputError(f"no library {library!r}", remedy=f"use one of: {', '.join(LIBRARIES)}")
    difference = np.where(usable, np.abs(found - expected), 0.0)
    difference = np.where(np.isnan(difference), np.inf, difference)
    return Verified(int(usable.sum()), int((~usable).sum()), float(difference.max()), int(difference.argmax()) + 1)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [
            {**row, "score": float(row["score"]), "query_is_cut": bool(row["query_is_cut"])}
            for row in rows
            if row["query"] + row["document"]
        ]
    except FileNotFoundError as error:
        raise InputError("there is no parity file", where=str(path), remedy="verify a folder that zelo wrote") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a parity file ({error!r})", where=str(path), remedy="export or copy the model again") from error


def _by_sentence_transformers(folder: Path, form: Format, rows: list[dict[str, Any]]) -> FloatArray:
    library, torch = import_extra("sentence_transformers", "sentence-transformers"), import_extra("torch", "torch")
    try:
        with quiet():
            model = library.CrossEncoder(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
            found = model.predict([(row["query"], row["document"]) for row in rows], show_progress_bar=False)
    except loading_errors() as error:
        raise InputError(f"sentence-transformers cannot load or use it ({error})", where=str(folder)) from error
    raw = np.asarray(found, np.float64)
    return np.asarray(expit(raw / form.scale), np.float64) if form.head == "token" else raw


def _by_transformers(folder: Path, form: Format, rows: list[dict[str, Any]]) -> Iterator[float]:
    library, torch = import_extra("transformers", "transformers"), import_extra("torch", "torch")
    kind = library.AutoModelForCausalLM if form.head == "token" else library.AutoModelForSequenceClassification
    try:
        with quiet():
            tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    except loading_errors() as error:
        raise InputError(f"transformers cannot load it ({error})", where=str(folder)) from error
    for row in rows:
        if form.template == "chat":
            messages = [{"role": role, "content": row[role]} for role in ("query", "document")]
            inputs = tokenizer(
                tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False, return_tensors="pt", verbose=False
            )
        else:
            inputs = tokenizer([row["query"]], [row["document"]], truncation=True, return_tensors="pt")
        if inputs["input_ids"].shape[1] > form.max_tokens:
            yield float("nan")
            continue
        with torch.inference_mode():
            logits = model(**inputs).logits
        if form.head == "token":
            last = logits[0, -1].double()
            logit = last[form.tokens[0]] - (last[form.tokens[1]] if len(form.tokens) == 2 else 0.0)
        else:
            logit = logits[0, 0].double()
        yield float(expit(float(logit) / form.scale))
