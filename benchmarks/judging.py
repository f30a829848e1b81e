"""What judging costs beside the models themselves: processor time and memory per judgment, and how long it takes to go on.

    python benchmarks/judging.py [--json] [--judgments 200000] [--resume 1000000] [--keep-reasoning all]

Parts, each in a process of its own: `all in` asks a server without latency (its own process) through the whole of zelo: limits,
prompt, HTTP client, parsing, journal. `runner and journal` asks a judge that answers at once. `prompt and parsing` asks nobody.
`resume` opens a journal in which everything is answered and finds that out; `seal` writes its answers into a Parquet file. CPU is that
of the measured process, memory its peak above what it had after the imports.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import aiohttp  # noqa: F401
import numpy as np
import pyarrow.parquet  # noqa: F401

import zelo.judges.batching
import zelo.judges.llm
from zelo.artifacts import write_parts
from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.judges import Answer, Comparison, make_judge
from zelo.judges.journal import Attempt, Journal
from zelo.language_models.protocol import Reply, Request
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import Recipe, from_dict
from zelo.stages import judge as stage
from zelo.stages.questions import Pairs, Texts, a_first
from zelo.workspace import Workspace

DOCUMENTS, CYCLES, JUDGES = 100, 4, 3
WORDS = (
    "socket",
    "parse",
    "thread",
    "the",
    "of",
    "buffer",
    "returns",
    "a",
    "value",
    "list",
    "when",
    "file",
    "is",
    "closed",
    "error",
    "and",
)
SAID = '{"first_document": "%s", "second_document": "%s", "comparison": "%s", "score": -0.4}' % (
    ("it answers the question in part " * 6,) * 3
)


def pairs_of(judgments: int) -> Pairs:
    """Pairs whose judgments by all judges are about so many."""
    rng = np.random.default_rng(0)
    queries = max(1, round(judgments / (JUDGES * DOCUMENTS * CYCLES)))
    edges = np.concatenate([hamiltonian_cycles(DOCUMENTS, 2 * CYCLES, rng) + DOCUMENTS * q for q in range(queries)])
    query = np.repeat(np.arange(queries), DOCUMENTS * CYCLES)
    cycle = np.tile(np.repeat(np.arange(CYCLES), DOCUMENTS), queries)
    a, b = edges.min(1), edges.max(1)
    return Pairs([f"q{i}" for i in range(queries)], [f"d{i}" for i in range(DOCUMENTS * queries)], query, a, b, edges[:, 0] == a, cycle)


def texts_of(pairs: Pairs) -> tuple[dict[str, str], dict[str, str]]:
    rng = np.random.default_rng(1)
    words = rng.choice(WORDS, 4096).tolist()
    queries = {q: f"how do I {' '.join(words[i % 4000 : i % 4000 + 6])} {i}" for i, q in enumerate(pairs.query_ids)}
    return queries, {d: f"{i} {' '.join(words[i % 3900 : i % 3900 + 90])}" for i, d in enumerate(pairs.doc_ids)}


def memory() -> float:
    """Resident memory now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak() -> float:
    """Most resident memory so far, MB."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) / 1e3


def measured(name: str, count: int, work: Callable[[], Any], before: float) -> dict[str, Any]:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "part": name,
        "judgments": count,
        "cpu_s": cpu,
        "wall_s": wall,
        "cpu_ms_per_judgment": 1000 * cpu / count,
        "memory_mb": peak() - before,
    }


class Instant:
    """A judge that answers without asking anybody."""

    prompt_id, concurrency = "p", 32

    def __init__(self, name: str) -> None:
        self.name = name

    async def attempt(self, comparison: Comparison) -> Answer:
        """Answer."""
        await asyncio.sleep(0)
        return Answer(-0.4, "ok", SAID, 500, 120, 0.001, 0.5, "schema")


def context(folder: Path, recipe: Recipe) -> Context:
    return Context(Workspace.create(folder / "ws", recipe), recipe, folder, Silent())


def ask(folder: Path, recipe: Recipe, judges: list[Any], judgments: int) -> tuple[int, Callable[[], Any]]:
    """How many judgments there are, and what asks for all of them."""
    pairs = pairs_of(judgments)
    queries, documents = texts_of(pairs)
    opened = context(folder, recipe)

    def work() -> None:
        with Journal(folder / stage.JOURNAL, keep_reasoning=recipe.judge.keep_reasoning) as journal:
            texts = Texts.register(pairs, queries, documents, journal)
            rows = [texts.shown(pairs, a_first(pairs, judge.name, 0)) for judge in judges]
            found = stage.ask_questions(judges, rows, texts, journal, opened)
        missing = sum(int((~standing.answered).sum()) for _, standing in found)
        if missing:
            raise SystemExit(f"{missing} missing")

    return JUDGES * len(pairs), work


def all_in(folder: Path, judgments: int, keep: str) -> dict[str, Any]:
    before = memory()
    script = Path(__file__).resolve().parents[1] / "tests" / "fault_server.py"
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as server:
        try:
            return all_in_at((server.stdout.readline() if server.stdout else "").strip(), folder, judgments, keep, before)
        finally:
            server.terminate()


def all_in_at(url: str, folder: Path, judgments: int, keep: str, before: float) -> dict[str, Any]:
    """Ask a server that runs."""
    names = [f"{url}#m{n}" for n in range(JUDGES)]
    recipe = from_dict({"judge": {"ensemble": names, "keep_reasoning": keep}})
    judges = [make_judge(name, None, recipe) for name in names]  # type: ignore[arg-type]
    count, work = ask(folder, recipe, judges, judgments)
    return measured("all in", count, work, before)


def requests_of(count: int) -> list[Request]:
    """What the first so many judgments send."""
    judge: Any = make_judge("http://127.0.0.1:9/v1#m", None, from_dict({}))  # type: ignore[arg-type]
    pairs = pairs_of(JUDGES * count)
    queries, documents = texts_of(pairs)
    texts = Texts([*queries.values(), *documents.values()], np.zeros(0, np.int64), len(queries))
    return [judge.request(texts.comparison(row)) for row in texts.shown(pairs, pairs.a_first)[:count]]


def runner_and_journal(folder: Path, judgments: int, keep: str) -> dict[str, Any]:
    before = memory()
    recipe = from_dict({"judge": {"keep_reasoning": keep}})
    count, work = ask(folder, recipe, [Instant(f"j{n}") for n in range(JUDGES)], judgments)
    return measured("runner and journal", count, work, before)


def prompt_and_parsing(folder: Path, judgments: int, keep: str) -> dict[str, Any]:
    before = memory()
    judge: Any = make_judge("http://127.0.0.1:9/v1#m", None, from_dict({}))  # type: ignore[arg-type]
    pairs = pairs_of(min(judgments, 20_000))
    queries, documents = texts_of(pairs)
    texts = Texts([*queries.values(), *documents.values()], np.zeros(0, np.int64), len(queries))
    rows = texts.shown(pairs, pairs.a_first)
    reply = Reply(SAID, "stop", 500, 0, 120, 0.5)

    def work() -> None:
        for row in rows:
            comparison = texts.comparison(row)
            judge.estimate(comparison)
            judge.request(comparison)
            judge.read(reply, flags=zelo.judges.batching.flags_of(comparison))

    return measured("prompt and parsing", len(rows), work, before)


def fill(folder: Path, judgments: int, keep: str) -> dict[str, Any]:
    """Not measured: a journal in which everything is answered."""
    pairs = pairs_of(judgments)
    queries, documents = texts_of(pairs)
    with Journal(folder / stage.JOURNAL, keep_reasoning=keep) as journal:  # type: ignore[arg-type]
        texts = Texts.register(pairs, queries, documents, journal)
        rows = np.concatenate([texts.keys(texts.shown(pairs, a_first(pairs, f"j{n}", 0))) for n in range(JUDGES)])
        for n, own in enumerate(np.split(journal.questions(rows), JUDGES)):
            number = journal.judge(f"j{n}", "p")
            for start in range(0, len(own), 5000):
                answer = Answer(-0.4, "ok", SAID, 500, 120, 0.001, 0.5, "schema")
                journal.add([Attempt(number, question, answer) for question in own[start : start + 5000].tolist()])
    return {}


def resume(folder: Path, judgments: int, keep: str) -> dict[str, Any]:
    pairs = pairs_of(judgments)
    queries, documents = texts_of(pairs)
    recipe = from_dict({})
    opened = context(folder / "resume", recipe)
    before = memory()
    judges = [Instant(f"j{n}") for n in range(JUDGES)]

    def work() -> None:
        with Journal(folder / stage.JOURNAL) as journal:
            texts = Texts.register(pairs, queries, documents, journal)
            rows = [texts.shown(pairs, a_first(pairs, judge.name, 0)) for judge in judges]
            found = stage.ask_questions(judges, rows, texts, journal, opened)
        if not all(standing.answered.all() for _, standing in found):
            raise SystemExit("not all is answered")

    return measured("resume", JUDGES * len(pairs), work, before)


def seal(folder: Path, judgments: int, keep: str) -> dict[str, Any]:
    pairs = pairs_of(judgments)
    queries, documents = texts_of(pairs)
    with Journal(folder / stage.JOURNAL) as journal:
        texts = Texts.register(pairs, queries, documents, journal)
        orders = [a_first(pairs, f"j{n}", 0) for n in range(JUDGES)]
        questions = np.split(journal.questions(np.concatenate([texts.keys(texts.shown(pairs, order)) for order in orders])), JUDGES)
        replies = []
        for n, (order, own) in enumerate(zip(orders, questions, strict=True)):
            number = journal.judge(f"j{n}", "p")
            replies.append(stage.Replies(Instant(f"j{n}"), number, pairs, order, journal.standing(number, own)))
        before = peak()  # of finding out what is answered
        parts = stage._parts(replies, journal)
        path = folder / "ensemble.parquet"
        found = measured("seal", JUDGES * len(pairs), lambda: write_parts(path, "judgments", parts), before)
    sizes = [sum(f.stat().st_size for f in folder.glob(f"{name}*")) for name in (stage.JOURNAL, path.name)]
    return {
        **found,
        **{f"{n}_bytes_per_judgment": size / found["judgments"] for n, size in zip(("journal", "parquet"), sizes, strict=True)},
    }


PARTS = {f.__name__: f for f in (all_in, runner_and_journal, prompt_and_parsing, fill, resume, seal)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one object per line")
    parser.add_argument("--judgments", type=int, default=200_000)
    parser.add_argument("--resume", type=int, default=1_000_000, help="judgments of the journal that is gone on with")
    parser.add_argument("--keep-reasoning", default="all", choices=("all", "sample", "none"))
    parser.add_argument("--only", choices=tuple(PARTS), nargs="*", default=tuple(PARTS))
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder, options.judgments, options.keep_reasoning)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in PARTS:
            if name not in options.only:
                continue
            late = name in ("fill", "resume", "seal")
            own = Path(folder) / ("late" if late else name)
            own.mkdir(exist_ok=True)
            count = options.resume if late else options.judgments
            command = [sys.executable, __file__, "--part", name, "--folder", str(own), "--judgments", str(count)]
            ran = subprocess.run([*command, "--keep-reasoning", options.keep_reasoning], capture_output=True, text=True, check=False)
            if ran.returncode:
                raise SystemExit(ran.stderr)
            found = json.loads(ran.stdout)
            if found and options.json:
                print(json.dumps(found), flush=True)
            elif found:
                sizes = "".join(f", {key.split('_')[0]} {v:.0f} B" for key, v in found.items() if "bytes" in key)
                each = f"{found['cpu_ms_per_judgment']:.4f} ms CPU each, {found['cpu_s']:.1f} s CPU, {found['wall_s']:.1f} s in all"
                print(f"{found['part']:<20} {found['judgments']:>9,} judgments  {each}, {found['memory_mb']:.0f} MB{sizes}", flush=True)


if __name__ == "__main__":
    main()
