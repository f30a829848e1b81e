"""The system on one screen: the stages in order, with what each reads and writes. runner.py runs them.

Three lines: `DIRECT` (the judges play the tournament), `DISTILLED` (the judges teach a pairwise model on few pairs, and
that model, a judge like any other, plays it; the paper's line) and `BENCHMARK` (other systems' rankings are judged and compared).
A refine round is one of the first two with two stages more. The command line, the manifest, `zelo status` and the table in the
README are made from these tuples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from zelo.artifacts import ARTIFACTS
from zelo.errors import RecipeError
from zelo.progress import Progress
from zelo.recipe import Recipe
from zelo.shards import Executor, Here
from zelo.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """One step. `module` has `run(context) -> Outcome`; perhaps `check(recipe)`, which raises for names that it does not know.

    It has `external(recipe) -> digests` if it reads beyond the workspace; "" stands for what cannot be found now. `sections` are
    the recipe's sections that it depends on, or single parameters of others, as in "retrieve.language"; `version` goes up when
    its output for the same input changes. `derived` names artifacts of which it also reads what a command made from them, if anything.
    """

    name: str
    summary: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sections: tuple[str, ...]
    version: int = 1
    has_external: bool = False
    derived: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that runs it."""
        return f"zelo.stages.{self.name.replace('-', '_')}"


@dataclass(frozen=True)
class Outcome:
    """What a stage says of itself: rows per artifact, cost in US dollars, remarks for the user."""

    rows: Mapping[str, int] = field(default_factory=dict)
    cost: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a stage gets. It reads from `workspace` and writes under `out`, at the artifacts' paths.

    What it does alike for many queries it may give to `executor`, by shards.
    """

    workspace: Workspace
    recipe: Recipe
    out: Path
    progress: Progress
    executor: Executor = field(default_factory=Here)

    def read(self, artifact: str) -> Path:
        """Return the path of an artifact to read."""
        return self.workspace.path(artifact)

    def write(self, artifact: str) -> Path:
        """Return the path to write an artifact to; its folder exists."""
        path = self.out / ARTIFACTS[artifact].path
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


_POOL = ("pool", "fit.link", "fit.prior_sd")  # order effects are in the link's units

_DRAWN = tuple(f"pair.{name}" for name in ("degree", "queries", "design", "aim"))  # what the first pairs depend on
_ROUNDS = tuple(f"pair.{name}" for name in ("design", "aim", "comparisons", "per_round", "settle"))  # the judge stage may add pairs

DIRECT = (
    Stage("ingest", "read the collection, choose training questions", (), ("corpus", "queries", "qrels", "splits"), ("ingest",), 1, True),
    Stage("encode", "vectors of documents and questions", ("corpus", "queries"), ("vectors",), ("encode",), 1, True),
    Stage(
        "retrieve",
        "first stage: search, fuse, cut to the candidates",
        ("corpus", "queries", "vectors"),
        ("candidates",),
        ("retrieve",),
        1,
        True,
    ),
    Stage(
        "pair",
        "a sparse comparison graph per query",
        ("corpus", "splits", "candidates"),
        ("pairs", "graphs", "duplicates"),
        (*_DRAWN, "seed"),
        2,
    ),
    Stage(
        "judge",
        "every judge compares every pair",
        ("corpus", "queries", "vectors", "pairs"),
        ("judgments", "swapped"),
        ("judge", *_ROUNDS, "retrieve.language", "seed"),
        2,
        True,
    ),
    Stage(
        "pool",
        "reliability without labels; one preference per pair",
        ("judgments", "splits"),
        ("preferences", "judges", "agreement"),
        _POOL,
        2,
    ),
    Stage("fit", "one score per document, with its error", ("preferences", "duplicates"), ("scores", "fits"), ("fit",), 2),
    Stage("align", "queries on one scale", ("scores", "judges", "corpus", "queries"), ("across", "offsets"), ("align", "judge", "seed")),
    Stage("calibrate", "scores to targets in [0, 1]", ("scores", "offsets"), ("targets",), ("calibrate",), 1, True),
    Stage(
        "train",
        "the pointwise reranker learns the targets",
        ("targets", "preferences", "corpus", "queries", "splits", "vectors"),
        ("model",),
        ("encode", "train", "retrieve.language", "seed"),
        3,
    ),
    Stage(
        "rank",
        "it reranks the test questions' candidates",
        ("model", "corpus", "queries", "splits", "candidates", "vectors", "scores"),
        ("rankings",),
        ("rank",),
        2,
        derived=("model",),
    ),
    Stage(
        "evaluate",
        "every ranking against labels",
        ("rankings", "candidates", "qrels", "splits"),
        ("metrics", "per_query"),
        ("evaluate", "seed"),
    ),
    Stage(
        "report",
        "one page for people",
        (
            "metrics",
            "per_query",
            "corpus",
            "queries",
            "qrels",
            "splits",
            "judges",
            "agreement",
            "judgments",
            "swapped",
            "scores",
            "targets",
            "fits",
            "graphs",
            "candidates",
            "rankings",
            "model",
        ),
        ("report",),
        tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in ("watch", "plan")),  # the page shows the whole recipe of the line
    ),
)

_FIRST = DIRECT[:3]  # ingest, encode, retrieve
_LAST = DIRECT[6:]  # fit and everything after it

DISTILLED = (
    *_FIRST,
    Stage(
        "pair",
        "a few teaching pairs, and the tournament pairs",
        ("corpus", "splits", "candidates"),
        ("teaching_pairs", "pairs", "graphs", "duplicates"),
        (*_DRAWN, "seed", "pairwise.teaching_pairs"),
    ),
    Stage(
        "judge",
        "the ensemble judges the teaching pairs",
        ("corpus", "queries", "vectors", "teaching_pairs"),
        ("judgments", "swapped"),
        ("judge", *_ROUNDS, "retrieve.language", "seed"),
        2,
        True,
    ),
    Stage("pool", "one preference per teaching pair", ("judgments", "splits"), ("lessons", "judges", "agreement"), _POOL, 2),
    Stage(
        "train-pairwise",
        "a pairwise model learns them",
        ("lessons", "corpus", "queries"),
        ("pairwise_model",),
        ("pairwise", "encode.model", "seed"),
        1,
        True,
    ),
    Stage(
        "judge-pairwise",
        "it judges the tournament pairs, a judge like any other",
        ("pairwise_model", "pairs", "corpus", "queries"),
        ("preferences",),
        ("pairwise.precision", "seed"),
    ),
    *_LAST,
)

BENCHMARK = (
    replace(DIRECT[0], summary="read the documents and the questions that the systems answered", sections=("ingest", "benchmark.systems")),
    Stage(
        "gather",
        "the systems' rankings; the union of their heads",
        ("corpus", "queries"),
        ("runs", "candidates"),
        ("benchmark.systems", "benchmark.depth", "retrieve.candidates"),
        1,
        True,
    ),
    replace(
        DIRECT[1],
        summary="vectors of the pooled documents, for offline judges",
        reads=("corpus", "queries", "candidates"),
        sections=("encode", "judge.ensemble"),
    ),
    *DIRECT[3:7],  # pair, judge, pool, fit
    Stage(
        "standings",
        "the systems by the scores: intervals, tests, what the judges differ in",
        ("runs", "candidates", "judgments", "judges", "agreement", "duplicates"),
        ("standings", "per_query"),
        ("benchmark", "pool", "fit", "evaluate.resamples", "seed"),
        version=2,
    ),
    Stage(
        "report",
        "one page for people",
        ("standings", "queries", "corpus"),
        ("report",),
        tuple(f.name for f in dataclasses.fields(Recipe)),
    ),
)
"""Systems compared without labels, by `zelo benchmark`: no first stage and no student of our own."""

LINES: dict[str, tuple[Stage, ...]] = {"direct": DIRECT, "distilled": DISTILLED, "benchmark": BENCHMARK}

FAILURES = Stage(
    "failures",
    "what the parent's model ranks too low",
    ("corpus", "queries", "splits", "vectors", "candidates"),
    ("failures", "before"),
    ("refine", "rank.depth"),
    1,
    True,
)
"""Between `retrieve` and `pair` in a workspace that `zelo refine` made; the only stage that reads another workspace."""
COMPARE = Stage(
    "compare",
    "the rounds side by side",
    ("failures", "before", "per_query"),
    ("refinement",),
    ("evaluate.measures", "evaluate.resamples", "seed"),
)
"""After `evaluate` there. It reads the opinion of the pairs that were added, too: preferences, or lessons in the distilled line."""


def stages(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of the recipe's line; in a refine round with two more, and with failures among the pairs."""
    return refined(LINES[recipe.line]) if recipe.refine.parent else LINES[recipe.line]


def refined(line: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Return the stages of a refine round of a line; a benchmark has no model that a round could refine."""
    found: list[Stage] = []
    for stage in line:
        if stage.name == "pair":
            found += [FAILURES, replace(stage, reads=(*stage.reads, "failures"))]
        elif stage.name == "evaluate":
            opinion = next(s.writes[0] for s in line if s.name == "pool")
            found += [stage, replace(COMPARE, reads=(*COMPARE.reads, opinion))]
        elif stage.name == "report":
            found.append(replace(stage, reads=(*stage.reads, *COMPARE.writes)))
        else:
            found.append(stage)
    return tuple(found)


def select(recipe: Recipe, start: str | None = None, stop: str | None = None) -> tuple[Stage, ...]:
    """Return the stages from `start` to `stop`, both included.

    Raises:
        RecipeError: an unknown stage, or `stop` lies before `start`.
    """
    line = stages(recipe)
    first = line.index(find(recipe, start)) if start else 0
    last = line.index(find(recipe, stop)) if stop else len(line) - 1
    if last < first:
        raise RecipeError(f"stage {stop!r} comes before {start!r}", remedy="exchange --from and --to")
    return line[first : last + 1]


def find(recipe: Recipe, name: str) -> Stage:
    """Return a stage by name.

    Raises:
        RecipeError: the line has no such stage.
    """
    for stage in stages(recipe):
        if stage.name == name:
            return stage
    raise RecipeError(f"no stage {name!r}", remedy=f"stages: {', '.join(s.name for s in stages(recipe))}")
