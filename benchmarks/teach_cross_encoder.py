"""Teach a cross-encoder of MiniLM's shape on a CPU, so that `reranking.py` has one whose ranking means something to lose.

    python benchmarks/teach_cross_encoder.py --collections FOLDER --out FOLDER

Four rounds through the product's own loop, about four hours of one core. In the first it learns to tell the passage that a sentence
was taken from (InfoNCE; no label is read). In three more it learns what a teacher says of BM25's and the encoder's candidates: their scores
added up, and more for what people labeled, on scifact's training questions, on half of mtragun's questions and on sentences of both
corpora. OUT/collections holds scifact as it is, and mtragun with the labels of the other half of the questions, for `reranking.py quality`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zelo.collections.beir import BeirFolder
from zelo.encoders.transformer import load_encoder
from zelo.recipe import Recipe, Train
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.training.pointwise import Lesson, train_pointwise
from zelo.types import Document, Query

SOURCES = (("scifact", 2), ("mtragun", 2), ("pubmedqa", 1), ("legalsum", 1))
"""Corpora of the first round, and sentences drawn of each document."""
FIRST = 2400  # lessons of the first round
DOCUMENTS = 8  # per lesson of the others
_COSINE, _BM25, _LABELED, _OWN = 18.0, 4.0, 5.0, 1.5  # log-odds of the teacher


@dataclass(frozen=True)
class Asked:
    """A question of a corpus, what is right, and the sentence that it was drawn from."""

    text: str
    right: tuple[str, ...]
    sentence: str | None = None


@dataclass(frozen=True)
class Round:
    """What a round draws, and how it is taught."""

    seed: int
    sentences: dict[str, int]
    repeats: dict[str, int]
    words: int
    max_tokens: int


ROUNDS = (
    Round(1, {"scifact": 1000, "mtragun": 800}, {"scifact": 1, "mtragun": 3}, 110, 160),
    Round(2, {"scifact": 1900, "mtragun": 900}, {"scifact": 1, "mtragun": 2}, 120, 176),
    Round(3, {"scifact": 2400, "mtragun": 1200}, {"scifact": 2, "mtragun": 2}, 120, 176),
)


def sentences(text: str) -> list[str]:
    """Return the sentences of 6 to 40 words."""
    return [s.strip() for s in re.split(r"(?<=[.?!])\s+", text) if 6 <= len(s.split()) <= 40]


def cut(text: str, words: int) -> str:
    """Return the first so many words."""
    return " ".join(text.split()[:words])


def is_taught(collection: str, query_id: str) -> bool:
    """Whether a labeled question is one to learn from: of mtragun a half by a hash of the id."""
    return collection != "mtragun" or hashlib.blake2b(query_id.encode(), digest_size=8).digest()[0] < 128


def sentence_lessons(collections: Path, rng: np.random.Generator) -> list[Lesson]:
    """Return lessons of a sentence, pieces of its document without it (or, for some, with it) and of the documents next to it by BM25."""
    made = [(d.title, sentences(d.text), uses) for name, uses in SOURCES for d in BeirFolder(collections / name).documents()]
    retriever = Bm25Retriever([Document(str(i), " ".join(found)) for i, (_, found, _) in enumerate(made)])
    asked = [
        (i, None if title and rng.random() < 0.3 else int(rng.integers(len(found))))
        for i, (title, found, uses) in enumerate(made)
        if len(found) >= 3
        for _ in range(uses)
    ]

    def question(i: int, place: int | None) -> str:
        return made[i][0] if place is None else made[i][1][place]

    near = retriever.search([Query(str(k), question(*which)) for k, which in enumerate(asked)], 24)

    def piece(i: int, without: int | None, titled: bool) -> str:
        title, found, _ = made[i]
        kept = [s for place, s in enumerate(found) if place != without] or found
        start = int(rng.integers(max(1, len(kept) - 2)))
        return (f"{title}. " if titled and title and rng.random() < 0.5 else "") + " ".join(kept[start : start + 3])

    lessons = []
    for k, (i, place) in enumerate(asked):
        others = [int(s.doc_id) for s in near[str(k)] if int(s.doc_id) != i]
        if len(others) < DOCUMENTS:
            continue
        if place is not None and rng.random() < 0.35:  # exact words are the first thing to learn
            start = max(0, place - int(rng.integers(3)))
            right = " ".join(made[i][1][start : start + 3])
        else:
            right = piece(i, place, place is not None)
        wrong = [others[x] for x in rng.permutation(len(others))[:5].tolist()] + rng.integers(len(made), size=2).tolist()
        texts = [cut(text, 60) for text in (right, *(piece(j, None, place is not None) for j in wrong if j != i))]
        asks = question(i, place).split()
        start = int(rng.integers(max(1, len(asks) - 12))) if place is not None and len(asks) > 14 else 0
        lessons.append(Lesson(" ".join(asks[start : start + 14]), texts, np.array([1.0] + [0.0] * (len(texts) - 1))))
    return [lessons[i] for i in rng.permutation(len(lessons))[:FIRST].tolist()]


def questions(collection: BeirFolder, name: str, plan: Round, documents: list[Document], rng: np.random.Generator) -> list[Asked]:
    """Return the labeled questions to learn from, as often as planned, and sentences of documents."""
    right: dict[str, list[str]] = {}
    for row in collection.qrels("train" if "train" in collection.splits() else "test"):
        if row.relevance > 0 and is_taught(name, row.query_id):
            right.setdefault(row.query_id, []).append(row.doc_id)
    texts = {q.query_id: q.text for q in collection.queries()}
    asked = [Asked(texts[q], tuple(right[q][:2])) for _ in range(plan.repeats[name]) for q in right]
    drawn = [documents[i] for i in rng.permutation(len(documents)).tolist()]
    for document in [d for d in drawn if len(sentences(d.text)) >= 3][: plan.sentences[name]]:
        found = sentences(document.text)
        said = found[int(rng.integers(len(found)))] if rng.random() < 0.7 or not document.title else document.title
        words = said.split()
        start = int(rng.integers(max(1, len(words) - 14)))
        text = said if rng.random() < 0.4 else " ".join(words[start : start + 14])
        asked.append(Asked(text, (document.doc_id,), said))
    return asked


def taught_lessons(collections: Path, plan: Round) -> list[Lesson]:
    """Return lessons with the teacher's targets."""
    rng, encoder = np.random.default_rng(plan.seed), load_encoder(threads=1)
    lessons: list[Lesson] = []
    for name in plan.sentences:
        collection = BeirFolder(collections / name)
        documents = list(collection.documents())
        asked = questions(collection, name, plan, documents, rng)
        ids = [d.doc_id for d in documents]
        place, texts = {d: i for i, d in enumerate(ids)}, {d.doc_id: cut(d.full_text, plan.words) for d in documents}
        vectors = encoder.encode([texts[d] for d in ids]).pooled
        found = Bm25Retriever([Document(d, texts[d]) for d in ids]).search([Query(str(k), a.text) for k, a in enumerate(asked)], 20)
        for k, (question, vector) in enumerate(zip(asked, encoder.encode([a.text for a in asked]).pooled, strict=True)):
            cosine: NDArray[np.float32] = vectors @ vector
            bm25 = {s.doc_id: s.score for s in found[str(k)]}
            most = max(bm25.values(), default=1.0)
            pool = dict.fromkeys([*bm25, *(ids[i] for i in np.argsort(-cosine)[:15].tolist())])
            wrong = [d for d in pool if d not in question.right]
            near = [wrong[i] for i in rng.permutation(min(10, len(wrong)))[:3].tolist()]
            rest = list(dict.fromkeys([*near, *(wrong[i] for i in rng.permutation(len(wrong)).tolist())]))
            right = [d for d in question.right if d in place]
            chosen = list(dict.fromkeys([*right, *rest[: DOCUMENTS - 1 - len(right)], ids[int(rng.integers(len(ids)))]]))
            more = _LABELED if question.sentence is None else _OWN
            said = np.array([_COSINE * cosine[place[d]] + _BM25 * bm25.get(d, 0.0) / most + more * (d in right) for d in chosen])
            shown = [texts[d] for d in chosen]
            if question.sentence is not None and rng.random() < 0.5:  # then by its neighbors
                without = documents[place[chosen[0]]].full_text.replace(question.sentence, " ")
                shown[0] = cut(without, plan.words) or shown[0]
            lessons.append(Lesson(question.text, shown, expit(np.clip(said - said.mean(), -9, 9))))
    return [lessons[i] for i in rng.permutation(len(lessons)).tolist()]


def write_held_out(collections: Path, out: Path) -> None:
    """Write the folder that quality is measured on."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("scifact", "mtragun"):
        target = out / name
        (target / "qrels").mkdir(parents=True, exist_ok=True)
        for file in ("corpus.jsonl", "queries.jsonl"):
            (target / file).unlink(missing_ok=True)
            (target / file).symlink_to((collections / name / file).resolve())
        head, *rows = (collections / name / "qrels" / "test.tsv").read_text("utf-8").splitlines()
        kept = [row for row in rows if name != "mtragun" or not is_taught(name, row.partition("\t")[0])]
        (target / "qrels" / "test.tsv").write_text("\n".join([head, *kept]) + "\n", "utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", type=Path, required=True, help="a folder of BEIR folders")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    write_held_out(given.collections, given.out / "collections")
    common = replace(Train(), student="cross_encoder", epochs=1, batch_size=32, documents_per_query=0, held_out=0.03)
    plans = [("round0", replace(common, loss="infonce", learning_rate=2e-4, max_tokens=96), None)]
    plans += [
        (f"round{plan.seed}", replace(common, loss="listwise_kl", learning_rate=5e-5, max_tokens=plan.max_tokens), plan)  # type: ignore[misc]
        for plan in ROUNDS
    ]
    base = Recipe().encode.model
    for name, settings, plan in plans:
        folder = given.out / name
        if not folder.is_dir():
            lessons = (
                sentence_lessons(given.collections, np.random.default_rng(0)) if plan is None else taught_lessons(given.collections, plan)
            )

            def advance(done: int, total: int, name: str = name) -> None:
                print(f"\r{name}: {done} of {total} steps", end="", file=sys.stderr, flush=True)

            work = given.out / f"{name}.work"
            _, report = train_pointwise(lessons, base, settings, 0, folder, work, advance, kind="cross_encoder", threads=1)
            print(f"\n{name}: {len(lessons)} lessons, {report.seconds:.0f} s, held out {report.evaluation}")
        base = str(folder)
    print(base)


if __name__ == "__main__":
    main()
