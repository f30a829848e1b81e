"""Both lines and a refine round of each, on real questions, from a small encoder or a tiny decoder of random weights.

    python experiments/distilled/run.py lines --collection python_docs [--model minilm|tiny] [--folder WORK] [--like WORKSPACE]
        [--line direct distilled] [--set KEY=VALUE ...]
    python experiments/distilled/run.py trial WORKSPACE [--family encoder] [--sharpen GAP] [--pairs N] [--epochs N] [--rate R]

`lines` makes four workspaces in the folder and prints one JSON object for each: how well the pairwise model knows held-out lessons,
nDCG@10 of student and first stage on the test questions, and what the refine round changed. The folder can be given again: what is done
is not done again. `--like` takes over what another workspace ingested, encoded and retrieved, where that is what this one would.
`trial` trains a pairwise model on the lessons of a workspace (of the distilled line, after `pool`) and measures it on held-out training
queries; nothing is measured on labels. `--sharpen .1` learns only lessons that are .1 from a tie, as 0 or 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import numpy as np

from zelo import recipe as recipes
from zelo import refining, runner
from zelo.collections import open_collection
from zelo.core.significance import bootstrap_interval, paired_randomization_test
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.report.measured import find, read_measured
from zelo.stages.failures import student_values
from zelo.stages.train_pairwise import read_lessons
from zelo.training.pairwise import Lessons, measure, train_pairwise
from zelo.workspace import Workspace

TINY = {
    "pairwise.family": '"auto"',
    "pairwise.max_tokens": "256",
    "pairwise.learning_rate": "3e-3",
    "train.max_tokens": "128",
    "train.learning_rate": "3e-3",
    "train.epochs": "2",
}
"""Of a decoder of two layers and random weights, which has all to learn."""

FIRST_STAGE = ("ingest", "encode", "retrieve")


def tiny_decoder(folder: Path, collection: str) -> Path:
    """A Qwen3 of two layers, random weights and a byte-level BPE of the collection's own texts."""
    from tiny_models import write_tiny_qwen

    if not (folder / "config.json").is_file():
        texts = [d.full_text[:300] for d, _ in zip(open_collection(collection).documents(), range(2000), strict=False)]
        write_tiny_qwen(folder, [*texts, *(["Yes", "system", "user", "assistant"] * 50)], dim=64, vocabulary=4000)
    return folder


def lines(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    root = Path(options.folder or tempfile.mkdtemp())
    given = dict(setting.split("=", 1) for setting in options.set)
    collection = options.collection if not Path(options.collection).is_dir() else str(Path(options.collection).resolve())
    for line in options.line:
        settings = {"line": line, "ingest.collection": f'"{collection}"', **given}
        if options.model == "tiny":
            base = tiny_decoder((root / "tiny").resolve(), collection)
            settings = {**TINY, "pairwise.base": f'"{base}"', "train.student": "language_model", "train.base": f'"{base}"', **settings}
        recipe = recipes.load("distilled").with_settings(settings)
        first = _opened(root / line, recipe, options.like if line == options.line[0] else root / options.line[0])
        yield {"line": line, "round": 0, **_ran(first, options)}
        child = refining.open_child(first, root / f"{line}-refined", refining.recipe_for(first, root / f"{line}-refined"))
        yield {"line": line, "round": 1, **_ran(child, options)}
    if len(options.line) == 2:
        yield {"compared": "the distilled line's student minus the direct one's", **_compared(root / "direct", root / "distilled", options)}


def _opened(root: Path, recipe: recipes.Recipe, like: Path | None) -> Workspace:
    """Open or make a workspace; a new one begins with what another one encoded. The runner sees whether it is the same."""
    if (root / "recipe.toml").is_file():
        return Workspace.open(root)
    made = Workspace.create(root, recipe)
    for stage in FIRST_STAGE if like else ():
        made.adopt(Workspace.open(like), stage)
    return made


def _compared(direct: Path, distilled: Path, options: argparse.Namespace) -> dict[str, Any]:
    one, other = (student_values(Workspace.open(root).path("per_query"))["nDCG@10"] for root in (direct, distilled))
    a, b = np.array([other[q] for q in other]), np.array([one[q] for q in other])
    low, high = bootstrap_interval(a - b, rng=np.random.default_rng(0))
    p_value = paired_randomization_test(a, b, rng=np.random.default_rng(0))
    numbers = {"difference": (a - b).mean(), "difference_low": low, "difference_high": high, "p_value": p_value}
    return {**_named(options), **{name: round(float(value), 4) for name, value in numbers.items()}, "queries": len(a)}


def _named(options: argparse.Namespace) -> dict[str, Any]:
    return {"collection": Path(options.collection).name, "model": options.model}


def _sizes(recipe: recipes.Recipe) -> str:
    pairwise = recipe.pairwise
    how = f"{pairwise.teaching_pairs} teaching pairs, {pairwise.epochs} epochs, {pairwise.max_tokens} tokens"
    taught = f", {how}" if recipe.line == "distilled" else ""
    kept = f"{recipe.ingest.max_train_queries} training questions, {recipe.retrieve.candidates} candidates"
    return f"{kept}, degree {recipe.pair.degree}{taught}"


def _ran(workspace: Workspace, options: argparse.Namespace) -> dict[str, Any]:
    start = time.process_time()
    runner.run(workspace)
    rows = read_measured(workspace.path("metrics"))
    found: dict[str, Any] = {**_named(options), "sizes": _sizes(workspace.recipe)}
    for system in ("bm25", "dense", "fused", "judges", "pointwise"):
        row = find(rows, system, rows[0].measure)
        if row:
            found[system] = round(row.value, 4)
            if system == "pointwise":
                names = ("baseline", "difference", "difference_low", "difference_high", "p_value", "queries")
                found |= {name: getattr(row, name) for name in names}
    for stage in ("train-pairwise", "judge-pairwise", "failures", "compare"):
        entry = workspace.entry(stage)
        if entry:
            found[stage] = list(entry.notes)
    path = workspace.path("refinement")
    if workspace.recipe.refine.parent and path.exists():
        found["refinement"] = json.loads(path.read_text("utf-8").splitlines()[1])
    return {**found, "cpu_seconds": round(time.process_time() - start, 1)}


def trial(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    workspace = Workspace.open(Path(options.workspace))
    lessons = read_lessons(Context(workspace, workspace.recipe, workspace.root, Silent()))
    place = np.zeros(len(lessons.query), np.int64)  # which pair of its query each is
    for query in np.unique(lessons.query):
        place[lessons.query == query] = np.arange((lessons.query == query).sum())
    learned, held = lessons.select(np.flatnonzero(place < options.pairs)).hold_out(0.2, 0)
    if options.sharpen:
        learned = learned.select(np.flatnonzero(np.abs(learned.prob_a - 0.5) >= options.sharpen))
        learned = replace(learned, prob_a=(learned.prob_a > 0.5).astype(float))
    settings = recipes.Pairwise(
        family=options.family, epochs=options.epochs, learning_rate=options.rate, max_tokens=options.tokens, held_out=0.0
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        report, _ = train_pairwise(learned, "all-MiniLM-L6-v2", settings, 0, root / "model", root / "work", lambda *_: None, 1)
        found = _measured(root / "model", held) if held else {}
    about = {name: getattr(options, name) for name in ("family", "pairs", "epochs", "rate", "sharpen", "tokens")}
    yield {**about, "lessons": len(learned.prob_a), "steps": report.steps, "loss": round(report.loss, 4), **found,
           "cpu_seconds": round(time.process_time() - start, 1)}  # fmt: skip


def _measured(folder: Path, held: Lessons) -> dict[str, float]:
    from zelo.rerankers.pairwise import load_scorer

    scorer, template, tokenizer, both = load_scorer(folder, "cpu")
    found = measure(scorer, template, tokenizer, held, both)
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(required=True)
    whole = kinds.add_parser("lines")
    whole.add_argument("--collection", default="python_docs")
    whole.add_argument("--model", choices=("minilm", "tiny"), default="minilm")
    whole.add_argument("--folder")
    whole.add_argument("--like", type=Path)
    whole.add_argument("--line", nargs="+", choices=("direct", "distilled"), default=["direct", "distilled"])
    whole.add_argument("--set", action="append", default=[])
    whole.set_defaults(run=lines)
    one = kinds.add_parser("trial")
    one.add_argument("workspace")
    one.add_argument("--family", default="late_interaction")
    one.add_argument("--pairs", type=int, default=6)
    one.add_argument("--epochs", type=int, default=1)
    one.add_argument("--rate", type=float, default=3e-5)
    one.add_argument("--sharpen", type=float, default=0.0)
    one.add_argument("--tokens", type=int, default=300)
    one.set_defaults(run=trial)
    options = parser.parse_args()
    for row in options.run(options):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
