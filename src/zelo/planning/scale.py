"""`zelo plan RECIPE`: what a whole line will take on a collection that is not there yet, stage by stage. `rates` has the measured units.

Four kinds of figures: counts follow from the recipe and its section [plan] exactly; tokens from mean lengths; CPU seconds and bytes from
rates measured on small runs; GPU-hours from the products that the models' sizes imply, at an assumed share of the device's peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from zelo.judges import JUDGES, Comparison
from zelo.judges.known import Known
from zelo.pipeline import stages
from zelo.planning.bill import Bill, bill, pairs_of, total
from zelo.planning.models import Size, size_of
from zelo.planning.prospect import Plan, Questions, workload
from zelo.planning.rates import BYTES, CPU_FLOPS, FIXED, SECONDS, START
from zelo.recipe import Recipe
from zelo.stages.pair import BLOCK as PAIRS_BLOCK
from zelo.stages.pair import check as check_pairs
from zelo.workspace import Workspace

CHARACTERS_PER_TOKEN = 4
"""Of English; what [plan] counts lengths in."""
_TEMPLATE = 40
"""Tokens that a template adds to query and documents."""
_FORWARD, _TRAINING = 2.0, 6.0
"""Products and sums per parameter and token, of a forward pass, and of one forward and backward."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one stage takes. `tokens` are those that local models read; `dollars` None = unknown, those of calls only."""

    stage: str
    calls: float = 0.0
    tokens: float = 0.0
    dollars: float | None = 0.0
    gpu_seconds: float | None = 0.0
    core_seconds: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """What a line takes: per stage, the judges' calls in detail, and what was taken for granted."""

    needs: tuple[Need, ...]
    judging: Plan
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """What there will be: questions that train, that are judged, that are reported on; candidates, pairs per question and in all."""

    train: int
    test: int
    judged: int
    candidates: int
    pairs: int
    teaching: int

    @classmethod
    def of(cls, recipe: Recipe) -> Counts:
        """Count what the recipe's stages will make of the collection that [plan] describes."""
        plan, ingest = recipe.plan, recipe.ingest
        train = min(plan.queries, ingest.max_train_queries or plan.queries)
        test = min(plan.test_queries, ingest.max_test_queries or plan.test_queries)
        judged = train + (test if recipe.pair.queries == "all" else 0)
        candidates = min(recipe.retrieve.candidates, plan.documents)
        every = candidates * (candidates - 1) // 2
        played = min(every, candidates * recipe.pair.degree // 2) if recipe.pair.design == "cycles" else min(every, recipe.pair.comparisons)
        teaching = train * min(every, recipe.pairwise.teaching_pairs) if recipe.line == "distilled" else 0
        return cls(train, test, judged, candidates, judged * played, teaching)


class _Planner:
    """The work of every stage, a method each, named after it."""

    def __init__(self, recipe: Recipe, counts: Counts, bills: tuple[Bill, ...]) -> None:
        self.recipe, self.counts, self.plan, self.bills = recipe, counts, recipe.plan, bills
        self.encoder = size_of(recipe.encode.model)
        self.student = size_of(recipe.train.base or recipe.encode.model)
        self.pairwise = size_of(recipe.pairwise.base or recipe.encode.model)
        self.queries = counts.train + counts.test
        self.document = self.plan.document_tokens
        self.corpus_tokens = self.plan.documents * self.document

    def need(self, stage: str) -> Need:
        """Return what a stage takes, nothing for one that is not planned."""
        planned = getattr(self, f"_{stage.replace('-', '_')}", None)
        return planned(stage) if planned else Need(stage)

    def _computed(self, size: Size, tokens: float, factor: float) -> tuple[float | None, float]:
        """GPU seconds and core seconds of a model over so many tokens."""
        if not size.parameters:
            return None, 0.0
        products = factor * size.parameters * tokens
        if size.on_a_gpu:
            return products / (self.plan.gpu_tflops * 1e12 * self.plan.utilization), 0.0
        return 0.0, products / CPU_FLOPS

    def _seconds(self, stage: str, **units: float) -> float:
        return START.get(stage, 0.0) + sum(SECONDS[name.replace("_", " ")] * count for name, count in units.items())

    def _pair_bytes(self, pairs: float, queries: float) -> float:
        """Two numbers per pair that name its documents, and the documents' ids, half of the two, once per part of the file."""
        parts = max(1.0, queries / PAIRS_BLOCK)
        different = min(self.plan.documents, min(queries, PAIRS_BLOCK) * self.counts.candidates)
        return pairs * (2 * math.log2(max(2, different)) + 1) / 8 + parts * different * self.plan.id_characters / 2

    def _ingest(self, stage: str) -> Need:
        size = self.plan.documents * CHARACTERS_PER_TOKEN * self.document + self.queries * CHARACTERS_PER_TOKEN * self.plan.query_tokens
        size += (self.plan.documents + self.queries) * (BYTES["document"] + self.plan.id_characters)
        return Need(stage, core_seconds=self._seconds(stage, document=self.plan.documents), bytes=size)

    def _encode(self, stage: str) -> Need:
        queries = self.queries * (self.plan.query_tokens + 2)
        corpus = self.plan.documents * min(float(self.encoder.tokens), self.document + 2)
        gpu, cores = self._computed(self.encoder, corpus + queries, _FORWARD)
        kept = corpus + queries if corpus <= self.recipe.encode.max_token_vectors else queries
        vectors = (self.plan.documents + self.queries) * (4 * self.encoder.dimension + 8 + self.plan.id_characters / 2)
        size = vectors + kept * 2 * self.encoder.dimension + 4 * (corpus + queries)
        return Need(stage, 0, corpus + queries, 0.0, gpu, cores + self._seconds(stage, document=self.plan.documents), size)

    def _retrieve(self, stage: str) -> Need:
        settings, units = self.recipe.retrieve, {"document": float(self.plan.documents)}
        units["found"] = self.queries * len(settings.legs) * min(settings.depth, self.plan.documents)
        if "bm25" in settings.legs:
            units |= {"bm25_token": self.corpus_tokens, "posting": self.queries * self.plan.documents}
            if settings.language == "auto":
                units["language_token"] = self.plan.documents / math.ceil(self.plan.documents / 256) * min(250.0, self.document)
        if "dense" in settings.legs:
            units["product"] = self.queries * self.plan.documents * self.encoder.dimension
        lines = self.queries * self.counts.candidates * (1 + len(settings.legs))
        return Need(stage, core_seconds=self._seconds(stage, **units), bytes=lines * (BYTES["candidate"] + self.plan.id_characters))

    def _pair(self, stage: str) -> Need:
        counts = self.counts
        size = self._pair_bytes(counts.pairs, counts.judged) + counts.judged * BYTES["graph"] + FIXED[stage]
        if counts.teaching:
            size += counts.teaching * (1 + self.plan.id_characters)
        pairs = counts.pairs + counts.teaching
        return Need(stage, core_seconds=self._seconds(stage, compared=self.plan.documents, drawn_pair=pairs), bytes=size)

    def _judge(self, stage: str) -> Need:
        offline = sum(b.work.pairs for b in self.bills if b.work.kind == "offline")
        calls = float(sum(b.work.left * b.work.calls for b in self.bills if b.work.kind != "offline"))
        tokens = [amount.value for b in self.bills for amount in (b.read, b.written) if amount]
        dollars = total(b.dollars for b in self.bills)
        units = {"judged": offline, "judged_token": offline * min(self.document, self.encoder.tokens), "call": calls}
        sealed = sum(b.work.left for b in self.bills)
        size = sealed * BYTES["judgment"] + FIXED[stage]
        seconds = self._seconds(stage, document=self.plan.documents, **units)
        return Need(stage, calls, sum(tokens), dollars.value if dollars else None, 0.0, seconds, size)

    def _pool(self, stage: str) -> Need:
        votes = sum(b.work.pairs for b in self.bills)
        pairs = votes / max(1, len(self.bills))
        return Need(stage, core_seconds=self._seconds(stage, vote=votes), bytes=pairs * BYTES["preference"])

    def _two(self, most: int) -> float:
        """Tokens of a query and two documents."""
        return min(float(most), self.plan.query_tokens + 2 * self.document + _TEMPLATE)

    def _train_pairwise(self, stage: str) -> Need:
        settings = self.recipe.pairwise
        read = self.counts.teaching * settings.epochs * self._two(settings.max_tokens)
        gpu, cores = self._computed(self.pairwise, read, _TRAINING + _FORWARD * settings.gradient_checkpointing)
        size = self.pairwise.parameters * BYTES["weight"]
        return Need(stage, 0, read, 0.0, gpu, cores + self._seconds(stage, document=self.plan.documents), size)

    def _judge_pairwise(self, stage: str) -> Need:
        settings = self.recipe.pairwise
        if settings.family == "late_interaction":  # reads the texts apart, each once per query
            read = self.counts.judged * (self.plan.query_tokens + self.counts.candidates * min(self.document, settings.max_tokens))
        else:
            read = self.counts.pairs * self._two(settings.max_tokens) * (2 if settings.antisymmetric else 1)
        gpu, cores = self._computed(self.pairwise, read, _FORWARD)
        cores += self._seconds(stage, document=self.plan.documents, answered=self.counts.pairs)
        return Need(stage, 0, read, 0.0, gpu, cores, self.counts.pairs * (BYTES["preference"] + BYTES["answer"]))

    def _fit(self, stage: str) -> Need:
        size = self._scores * BYTES["score"] + self.counts.judged * BYTES["graph"] / 2 + FIXED[stage]
        return Need(stage, core_seconds=self._seconds(stage, comparison=self.counts.pairs), bytes=size)

    def _align(self, stage: str) -> Need:
        return Need(stage, core_seconds=self._seconds(stage), bytes=FIXED[stage])

    def _calibrate(self, stage: str) -> Need:
        return Need(stage, core_seconds=self._seconds(stage, score=self._scores), bytes=self._scores * BYTES["target"] + FIXED[stage])

    @property
    def _scores(self) -> int:
        return self.counts.judged * self.counts.candidates

    def _train(self, stage: str) -> Need:
        settings, scored = self.recipe.train, self.counts.train * self.counts.candidates
        fixed = self._seconds(stage, document=self.plan.documents)
        if settings.student == "blend":
            tokens = scored * min(self.document, self.encoder.tokens)
            return Need(stage, core_seconds=fixed + self._seconds("", learned=scored, learned_token=tokens), bytes=FIXED[stage])
        learned = self.counts.train * min(self.counts.candidates, settings.documents_per_query or self.counts.candidates)
        read = learned * settings.epochs * self._one()
        gpu, cores = self._computed(self.student, read, _TRAINING + _FORWARD * settings.gradient_checkpointing)
        return Need(stage, 0, read, 0.0, gpu, cores + fixed, self.student.parameters * BYTES["weight"])

    def _one(self) -> float:
        """Tokens of a query and a document."""
        return min(float(self.recipe.train.max_tokens), self.plan.query_tokens + self.document + _TEMPLATE)

    def _rank(self, stage: str) -> Need:
        ranked = self.counts.test * min(self.counts.candidates, self.recipe.rank.depth)
        lines = ranked * (2 if self.counts.judged > self.counts.train else 1)
        size = lines * (BYTES["ranked"] + self.plan.id_characters)
        fixed = self._seconds(stage, document=self.plan.documents)
        if self.recipe.train.student == "blend":
            tokens = ranked * min(self.document, self.encoder.tokens)
            return Need(stage, core_seconds=fixed + self._seconds("", ranked=ranked, ranked_token=tokens), bytes=size)
        gpu, cores = self._computed(self.student, ranked * self._one(), _FORWARD)
        return Need(stage, 0, ranked * self._one(), 0.0, gpu, cores + fixed, size)

    def _evaluate(self, stage: str) -> Need:
        settings, systems = self.recipe.evaluate, 3 + len(self.recipe.retrieve.legs)
        values = self.counts.test * systems * (len(settings.measures) + 2)
        seconds = self._seconds(stage, draw=values * settings.resamples)
        return Need(stage, core_seconds=seconds, bytes=values * BYTES["measured"] + FIXED[stage])

    def _report(self, stage: str) -> Need:
        return Need(stage, core_seconds=self._seconds(stage, document=self.plan.documents), bytes=FIXED[stage])


def plan_recipe(recipe: Recipe) -> ScalePlan:
    """Say what a recipe's line takes on the collection that its section [plan] describes. Reads no collection and asks nothing.

    Raises:
        RecipeError: a judge or its prompt does not exist, or the pairs per query are too few for their design.
    """
    check_pairs(recipe)
    counts = Counts.of(recipe)
    distilled = recipe.line == "distilled"
    queries, pairs = (counts.train, counts.teaching) if distilled else (counts.judged, counts.judged * pairs_of(counts.candidates, recipe))
    sample = [_comparison(recipe)] if counts.candidates > 1 else []
    questions = Questions(queries, pairs, "as the recipe says", sample, recipe.align.comparisons * queries)
    nowhere = Path("no workspace")
    with Known(nowhere / "journal") as known:
        works = [workload(name, Workspace(nowhere, recipe), recipe, questions, known) for name in recipe.judge.ensemble]
    bills = tuple(map(bill, works))
    planner = _Planner(recipe, counts, bills)
    needs = tuple(planner.need(stage.name) for stage in stages(recipe) if stage.name not in ("failures", "compare"))
    judging = Plan(queries, pairs, "as the recipe says", False, bills, 0.0, ())
    return ScalePlan(needs, judging, _assumptions(recipe, counts, planner))


def _comparison(recipe: Recipe) -> Comparison:
    """Return a comparison of texts of the mean lengths."""

    def text(tokens: float) -> str:
        return "word " * max(1, round(tokens * CHARACTERS_PER_TOKEN / 5))

    return Comparison(text(recipe.plan.query_tokens), text(recipe.plan.document_tokens), text(recipe.plan.document_tokens))


def _assumptions(recipe: Recipe, counts: Counts, planner: _Planner) -> tuple[str, ...]:
    plan = recipe.plan
    said = [
        f"{plan.documents:,} documents of {plan.document_tokens:g} tokens, {counts.train:,} training and "
        f"{counts.test:,} test queries of {plan.query_tokens:g} (section [plan]; a token is {CHARACTERS_PER_TOKEN} characters)",
        f"GPU: {plan.gpu_tflops:g} TFLOP/s at {100 * plan.utilization:g} % of the peak; {_FORWARD:g} operations per parameter "
        f"and token read, {_TRAINING:g} in training; attention over long texts, loading and idle time are not counted",
        "CPU and bytes: measured on small runs (experiments/plan), one core of a busy machine; hours are divided by cores where a stage "
        "goes over shards (`zelo run --on ray`: fit, judge-pairwise, rank, evaluate, pair)",
    ]
    if left := [stage.name for stage in stages(recipe) if not hasattr(planner, f"_{stage.name.replace('-', '_')}")]:
        said.append(f"not planned, so shown as nothing: {', '.join(left)}")
    used = [("encode.model", planner.encoder)]
    used += [("pairwise.base", planner.pairwise)] if recipe.line == "distilled" else []
    used += [("train.base", planner.student)] if recipe.train.student != "blend" else []
    for key, size in used:
        count = f"{size.parameters / 1e9:.3g} billion parameters ({size.source})" if size.parameters else size.source
        said.append(f"{key} = {size.name}: {count}")
    if any(name in JUDGES for name in recipe.judge.ensemble):
        said.append("offline judges: measured with the built-in three on short texts")
    gigabytes = plan.documents * planner.encoder.dimension * 4 / 1e9
    if "dense" in recipe.retrieve.legs and gigabytes > 64:
        said.append(
            f"the dense leg is exact and reads {gigabytes:,.0f} GB of vectors on one machine for every block of queries: "
            'at this size use an index (retrieve.engine = "lancedb", retrieve.index = "ivf"), or import an engine\'s run (docs/scale.md)'
        )
    return tuple(said)
