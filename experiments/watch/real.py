"""Months of traffic on a real collection, judged by the offline judges of a real workspace; the faults are real ones.

The live system: BM25 over the workspace's corpus finds 50 candidates, the workspace's student reranks them, ten are shown. Faults:
never ingested = 30 % of the queries are about topics whose documents are not in the corpus; not retrieved = the query side lost its
stemmer, while the index is stemmed; misranked = the reranker reads only the first word of the query. The last two meet every search.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from material import make
from numpy.typing import NDArray
from run import DAYS, FIRST, follow, judged, summary
from world import FAULTS, START

from zelo import runner
from zelo.collections.beir import read_corpus
from zelo.encoders.lexical import LexicalAnalyzer
from zelo.judges.journal import Journal
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.types import Query
from zelo.watching.asking import JournalPanel, read_anchors
from zelo.watching.finding import WorkspaceFinder
from zelo.watching.log import Returned, Search
from zelo.workspace import Workspace

FloatArray = NDArray[np.float64]
CANDIDATES, SHOWN, NEW = 50, 10, 0.3


class Live:
    """The live system of a workspace, whole or with a fault; answers are kept, for the same queries come again."""

    def __init__(self, workspace: Workspace, finder: WorkspaceFinder) -> None:
        """Index the corpus."""
        documents = list(read_corpus(workspace.path("corpus")))
        self._texts, self._finder = {d.doc_id: d.full_text for d in documents}, finder
        self._words = LexicalAnalyzer("en")
        self._stems = True
        self._index = Bm25Retriever(documents, analyzer=self._analyze)
        self._kept: dict[tuple[str, str], tuple[tuple[str, ...], tuple[Returned, ...]]] = {}

    def _analyze(self, text: str) -> list[str]:
        return (
            self._words(text)
            if self._stems
            else [word for word in text.lower().replace(".", " ").replace(",", " ").split() if len(word) > 2]
        )

    def search(self, query: str, fault: str) -> tuple[tuple[str, ...], tuple[Returned, ...]]:
        """Return candidates and what is shown."""
        key = (query, fault if fault in ("not_retrieved", "misranked") else "")
        if key not in self._kept:
            self._stems = fault != "not_retrieved"
            found = [row.doc_id for row in self._index.search([Query("live", query)], CANDIDATES)["live"]]
            asked = query.split()[0] if fault == "misranked" else query
            scores = self._finder.student.score(asked, [self._texts[d] for d in found]) if found else np.zeros(0)
            order = np.argsort(-scores, kind="stable")[:SHOWN]
            self._kept[key] = tuple(found), tuple(Returned(found[i], float(scores[i])) for i in order)
        return self._kept[key]

    def month(
        self, queries: dict[str, list[str]], answers: dict[str, set[str]], fault: str, seed: int, per_day: int
    ) -> dict[str, list[Search]]:
        """Return a month's log; clicks are on labeled documents among the first three, six times in ten."""
        rng, log = np.random.default_rng([seed, 7]), {}
        for day in range(DAYS):
            bad = fault if day >= FIRST else "none"
            for i in range(max(5, rng.poisson(per_day))):
                kind = "new" if bad == "never_ingested" and rng.random() < NEW else "live"
                query = queries[kind][rng.integers(len(queries[kind]))]
                candidates, returned = self.search(query, bad)
                clicks = tuple(r.doc_id for r in returned[:3] if r.doc_id in answers[query] and rng.random() < 0.6)
                at = START + timedelta(days=day, seconds=int(rng.integers(86_400)))
                search = Search(f"log:{day}.{i}", at, query, returned, candidates, clicks)
                log.setdefault(search.day, []).append(search)
        return log


class Remembering:
    """A panel that says again what it has said about a level: the same queries come every day."""

    def __init__(self, panel: JournalPanel) -> None:
        """Take a panel."""
        self.weights, self.across, self.ask, self._panel = panel.weights, panel.across, panel.ask, panel
        self._said: dict[tuple[str, tuple[str, ...]], FloatArray] = {}

    def levels(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return what the panel says."""
        key = (query, tuple(texts))
        if key not in self._said:
            self._said[key] = self._panel.levels(query, texts)
        return self._said[key]


def real(folder: Path, source: tuple[Path, str], months: int, faulty: int, tell: Callable[[dict[str, Any]], None], only: str = "") -> None:
    """Run months on a workspace that was made from `material.make`'s folder; the journal is shared, so repeated questions are free."""
    if not (folder / "recipe.toml").is_file():
        made = make(*source, folder.with_name(f"{folder.name}-collection"))
        Workspace.create(folder, from_dict({"ingest": {"collection": str(made.folder.resolve())}}))
    workspace = Workspace.open(folder)
    runner.run(workspace, stop="rank")
    recipe = workspace.recipe
    traffic = make(*source, Path(recipe.ingest.collection))
    context = Context(workspace, recipe, workspace.root, Silent())
    finder = WorkspaceFinder(context, recipe.watch.pool)
    anchors, live = read_anchors(context), Live(workspace, finder)
    queries = {kind: sorted(found, key=lambda q: hashlib.sha256(q.encode()).hexdigest()) for kind, found in traffic.answers.items()}
    answers = {q: ids for found in traffic.answers.values() for q, ids in found.items()}
    for fault in ("none", *FAULTS):
        if only not in fault:
            continue
        start, rows = time.process_time(), []
        with Journal(folder / "watch-experiment.sqlite") as journal:
            panel = Remembering(JournalPanel(context, journal, finder.signals, anchors))
            for seed in range(months if fault == "none" else faulty):
                log = live.month(queries, answers, fault, seed, 200)
                rows.append(follow(judged(log, finder, panel, anchors, recipe.watch, seed), recipe.watch, fault))
        line = summary(rows, NEW if fault == "never_ingested" else 1.0, kind="real", panel="offline judges", per_day=recipe.watch.per_day)
        tell(line | {"cpu_s": round(time.process_time() - start)})
