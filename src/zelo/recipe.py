"""The parameters of a workspace: frozen dataclasses, read from and written to TOML.

One section per stage. A stage reruns when its own section (or its inputs) changed, so a parameter lives in the section
of the stage that reads it. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from zelo.errors import RecipeError
from zelo.parameters import build, parameter, parse_value, require_known, toml_section, toml_value
from zelo.sections import Benchmark as Benchmark
from zelo.sections import Customer as Customer
from zelo.sections import Ingest as Ingest
from zelo.sections import Planning as Planning
from zelo.sections import Rankings as Rankings
from zelo.sections import Refine as Refine
from zelo.sections import Watch as Watch
from zelo.types import Link

LEGS = ("bm25", "dense", "imported")
"""What the first stage can be made of."""


@dataclass(frozen=True)
class Encode:
    """The small encoder whose vectors the dense leg, the judges and the student share."""

    model: str = parameter("all-MiniLM-L6-v2", "a sentence-transformers model: a name or a folder")
    engine: Literal["auto", "openvino", "torch"] = parameter("auto", "auto = OpenVINO where it is installed and fits the model")
    max_token_vectors: int = parameter(
        2_000_000, "keep the token vectors of the whole corpus up to this many tokens (768 bytes each for MiniLM)", least=0
    )


@dataclass(frozen=True)
class Retrieve:
    """The first stage: its legs, fused."""

    legs: tuple[str, ...] = parameter(["bm25", "dense"], "any of bm25, dense and imported")
    run: str = parameter("", "the leg `imported`: a TREC run that another engine made, for these queries and documents")
    depth: int = parameter(1000, "documents per leg before fusion", least=1)
    candidates: int = parameter(100, "documents per query after fusion (paper: top-k = 100)", least=2)
    fusion: Literal["rrf", "min_max"] = parameter("rrf", "rrf = reciprocal rank fusion (the paper's), min_max = scaled scores")
    rrf_k: float = parameter(60.0, "constant of reciprocal rank fusion", least=0.0)
    language: str = parameter("auto", "ISO code for stemming and stop words; auto = detected")
    k1: float = parameter(1.5, "BM25 term saturation", least=0.01)
    b: float = parameter(0.75, "BM25 length normalization", least=0.0, most=1.0)


@dataclass(frozen=True)
class Pairs:
    """Which pairs of candidates the judges compare: the comparison graph (paper section 4)."""

    degree: int = parameter(8, "comparisons per document, even: degree / 2 random Hamiltonian cycles (paper: k = 8)", least=2)
    queries: Literal["train", "all"] = parameter("all", "all = the test questions too, so that the judges' own ranking is measured")
    design: Literal["cycles", "adaptive"] = parameter(
        "cycles", "cycles = all pairs drawn at once; adaptive = more pairs in rounds, chosen from the answers so far"
    )
    aim: Literal["top", "balanced", "information"] = parameter(
        "balanced", "what adaptive pairs are for: top = the ranking's head, balanced = targets of all documents, information = all alike"
    )
    comparisons: int = parameter(200, "most pairs per query, at least one per candidate, with aim top one per two (adaptive)", least=1)
    per_round: int = parameter(50, "pairs per query and round after the first one, which compares every document (adaptive)", least=1)
    settle: float = parameter(
        0.03, "stop a query when the head of its ranking moves by no more in two rounds running, as 1 - nDCG; 0 = never (adaptive)",
        least=0.0, most=1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What is to be known about one language model: its price, its limits, its prompt."""

    input_price: float = parameter(0.0, "US dollars per million tokens read; 0 = unknown or free", least=0.0)
    cached_price: float = parameter(0.0, "US dollars per million tokens read from the provider's cache; 0 = as input_price", least=0.0)
    output_price: float = parameter(0.0, "US dollars per million tokens written; 0 = unknown or free", least=0.0)
    requests_per_minute: int = parameter(0, "the provider's limit; 0 = none", least=0)
    tokens_per_minute: int = parameter(0, "the provider's limit, tokens read and written; 0 = none", least=0)
    concurrency: int = parameter(32, "most calls at once", least=1, most=4096)
    batch: bool = parameter(False, "ask by the provider's batch service: half the price, answers within a day")
    prompt: str = parameter("", "how it is asked: the name of a prompt, or a file; empty = the one that fits the mode")
    traces: int = parameter(1, "of a thinking judge: traces per order; more than one needs judge.temperature above 0", least=1, most=1024)


@dataclass(frozen=True)
class Judging:
    """Who compares them, and how far it may go."""

    ensemble: tuple[str, ...] = parameter(["lexical", "dense", "late_interaction"], "names of judges, see `zelo judges`")
    max_missing: float = parameter(0.2, "fail when more than this share of a judge's judgments is missing", least=0.0, most=1.0)
    criterion: str = parameter("", "what relevance means here, told to language models; empty = the prompt's own words")
    context: str = parameter("", "what the documents are, told to language models; empty = nothing")
    mode: Literal["auto", "reason", "logprobs"] = parameter(
        "auto", "of language models: reason = think, then score; logprobs = probability of the first token; auto = reason"
    )
    answers: Literal["soft", "clamped"] = parameter(
        "clamped", "of language models: clamped = -1, 0 or 1 (the paper's), soft = as given; offline judges are always soft"
    )
    max_output_tokens: int = parameter(1024, "of one answer of a language model; a longer one is cut, and then missing", least=1)
    document_characters: int = parameter(6000, "what a language model is shown of a document; the rest is cut", least=100)
    temperature: float = parameter(0.0, "of language models", least=0.0, most=2.0)
    retries: int = parameter(5, "more attempts after a failed call", least=0, most=100)
    timeout: float = parameter(120.0, "seconds to wait for one answer", least=0.1)
    budget_dollars: float = parameter(0.0, "stop before the judgments of this workspace cost more US dollars; 0 = no cap", least=0.0)
    budget_tokens: int = parameter(0, "stop before they take more tokens; 0 = no cap", least=0)
    keep_reasoning: Literal["all", "sample", "none"] = parameter("all", "what language models wrote; sample = one answer in fifty")
    swapped_share: float = parameter(
        0.02, "share of pairs that language models see in both orders, for the audit; not used in the fit", least=0.0, most=1.0
    )
    models: Mapping[str, Model] = parameter({}, 'one table per language model: [judge.models."openai:MODEL"]')


@dataclass(frozen=True)
class Pool:
    """How the judges' answers about a pair become one preference."""

    weighting: Literal["agreement", "equal", "slopes"] = parameter(
        "agreement", "agreement = by reliability, estimated without labels; slopes = by how sharply each judge tells documents apart"
    )
    order_effect: bool = parameter(False, "estimate how far each judge leans toward the text shown first, and take it out")
    ties: Literal["half", "outcome"] = parameter("half", "half = half a win for each; outcome = Rao and Kupper's model, logit link only")


@dataclass(frozen=True)
class Fit:
    """From preferences to scores."""

    link: Link = parameter("probit", "probit = Thurstone, (1 + erf x) / 2; logit = Bradley-Terry")  # noqa: RUF009
    prior_sd: float = parameter(0.0, "standard deviation of the Gaussian prior, in units of the link; 0 = the link's default", least=0.0)
    dispersion: Literal["estimated", "none"] = parameter(
        "estimated", "estimated = preferences weigh as far as they agree with each other, and standard errors follow; none = as given"
    )


@dataclass(frozen=True)
class Align:
    """Scores of different queries on one scale, by comparisons across queries."""

    comparisons: int = parameter(0, "comparisons across queries to ask of each judge, per query; 0 = none, 4 or more help", least=0)
    prior_sd: float = parameter(
        0.0, "standard deviation of the offsets' Gaussian prior, in units of the link; 0 = estimated from the comparisons", least=0.0
    )


@dataclass(frozen=True)
class Calibrate:
    """From scores to targets in [0, 1]."""

    scale: Literal["query", "across"] = parameter(
        "query", "query = scores are standardized per query; across = over all queries, their offsets (align) added"
    )
    spread: float = parameter(3.0, "logits per standard deviation of the scores", least=0.1, most=20.0)
    threshold: float = parameter(2.0, "standard deviations above the mean score at which a target is 1/2", least=-5.0, most=5.0)
    ratings: str = parameter(
        "", "with scale = across: ratings from 0 to 10 of some candidates, as BEIR qrels; then targets are expected ratings / 10"
    )


@dataclass(frozen=True)
class Pairwise:
    """The pairwise reranker that learns from the ensemble and plays the tournament (line = "distilled")."""

    teaching_pairs: int = parameter(1, "random pairs of candidates per training query that the ensemble judges (paper: 1)", least=1)
    base: str = parameter("", "the model that it starts from, a name or a folder; empty = encode.model")
    family: Literal["auto", "encoder", "late_interaction", "language_model"] = parameter(
        "auto", "auto = encoder or language_model, as the base's config.json says; late_interaction = an encoder reads the texts apart"
    )
    epochs: int = parameter(3, "passes over the teaching pairs; the order of documents is drawn anew in each", least=1)
    learning_rate: float = parameter(1e-4, "peak learning rate", least=1e-8, most=1.0)
    batch_size: int = parameter(32, "pairs per step", least=1)
    max_tokens: int = parameter(512, "of query and both documents; longer texts are cut, both documents alike", least=16)
    token_budget: int = parameter(0, "most padded tokens of a forward pass; 0 = what suits the device", least=0)
    lora_rank: int = parameter(0, "train low-rank adapters of this rank, for language models; 0 = all weights", least=0)
    precision: Literal["auto", "float32", "bfloat16"] = parameter(
        "auto", "of the products, in training and judging; auto = bfloat16 where the device computes it"
    )
    gradient_checkpointing: bool = parameter(False, "less memory, a third more work")
    antisymmetric: bool = parameter(True, "judge in both orders and average: place alone says nothing; twice the work")
    held_out: float = parameter(0.1, "share of the teaching queries that the model is measured on and not taught", least=0.0, most=0.5)
    patience: int = parameter(
        0, "stop after so many epochs that did not help on the held-out queries, and keep the best; 0 = never", least=0
    )


@dataclass(frozen=True)
class Train:
    """The pointwise reranker that learns the targets."""

    student: Literal["blend", "adapted_blend", "embedding", "cross_encoder", "language_model"] = parameter(
        "blend",
        "blend = encoder features with a learned head; adapted_blend = the same with a learned map of the vectors, where held-out queries "
        "gain by it; embedding = a fine-tuned encoder, by cosine; cross_encoder = one that reads both texts; language_model = a causal one",
    )
    prior: Literal["none", "signals"] = parameter(
        "none",
        "signals = targets become P(relevant | score, signals of the blend), for blend, adapted_blend and embedding, where judges err in "
        "other ways than the signals do",
    )
    base: str = parameter("", "the model to fine-tune, a name or a folder; empty = encode.model, but for language_model")
    loss: Literal["mse", "bce", "ranknet", "listwise_kl", "pairs", "infonce", "contrastive"] = parameter(
        "mse",
        "of fine-tuning: mse (paper), bce, ranknet, listwise_kl, infonce; pairs = the judges' preferences, without scores; contrastive = "
        "against the documents of other queries too, for embedding",
    )
    scale: float = parameter(5.0, "score = sigmoid(logit / scale), for language_model (released models: 5)", least=0.1, most=100.0)
    epochs: int = parameter(1, "passes over the documents that are learned", least=1)
    learning_rate: float = parameter(3e-5, "peak learning rate; adapters take about ten times more", least=1e-8, most=1.0)
    batch_size: int = parameter(32, "documents per step; losses over lists take whole queries, and so perhaps a few more", least=1)
    documents_per_query: int = parameter(16, "documents learned per query, spread over its targets; 0 = all", least=0)
    max_tokens: int = parameter(192, "longer sequences are cut, at the end of the document", least=16)
    token_budget: int = parameter(0, "most padded tokens of a forward pass; 0 = what suits the device", least=0)
    lora_rank: int = parameter(0, "train low-rank adapters of this rank, for language_model; 0 = all weights", least=0)
    gradient_checkpointing: bool = parameter(False, "less memory, a third more work")
    held_out: float = parameter(0.1, "share of the training queries that fine-tuning is measured on and leaves out", least=0.0, most=0.5)
    patience: int = parameter(0, "stop after so many passes that helped no held-out query, and keep the best weights; 0 = never", least=0)


@dataclass(frozen=True)
class Rank:
    """What is reranked at the end."""

    depth: int = parameter(100, "candidates reranked per test question", least=1)
    engine: Literal["auto", "torch", "openvino", "optimized"] = parameter("auto", "what computes a student that reads both texts")


@dataclass(frozen=True)
class System:
    """What a system of `zelo evaluate --system` costs, and how it is asked. Language models have theirs in [judge.models]."""

    token_price: float = parameter(0.0, "US dollars per million tokens, as the service counts them; 0 = unknown or free", least=0.0)
    search_price: float = parameter(0.0, "US dollars per thousand searches, where a service bills those; 0 = unknown or free", least=0.0)
    concurrency: int = parameter(4, "most calls at once, of hosted rerankers", least=1, most=4096)
    depth: int = parameter(0, "candidates that pairwise:JUDGE and listwise:MODEL see, the others stay below; 0 = rank.depth", least=0)
    window: int = parameter(20, "documents that listwise:MODEL orders in a call; the next call has half of them new", least=2, most=20)


@dataclass(frozen=True)
class Evaluate:
    """What is measured, against human labels that no earlier stage has seen."""

    measures: tuple[str, ...] = parameter(["nDCG@10", "MRR@10", "Recall@100", "judged@10"], "measures; the first one decides")
    resamples: int = parameter(10_000, "resamples of bootstrap intervals and randomization tests", least=100)
    systems: Mapping[str, System] = parameter({}, 'one table per system: [evaluate.systems."cohere:MODEL"]')


@dataclass(frozen=True)
class Report:
    """The page for people."""

    examples: int = parameter(12, "questions to drill down into", least=0)


@dataclass(frozen=True)
class Recipe:
    """All parameters of a workspace. `line` chooses the order of stages, `seed` seeds every random draw."""

    line: Literal["direct", "distilled", "benchmark"] = parameter(
        "direct",
        "direct = the judges play the tournament; distilled = a pairwise model does; benchmark = systems are compared, nothing is trained",
    )
    seed: int = parameter(0, "seed of every random draw", least=0)
    ingest: Ingest = field(default_factory=Ingest)
    encode: Encode = field(default_factory=Encode)
    retrieve: Retrieve = field(default_factory=Retrieve)
    pair: Pairs = field(default_factory=Pairs)
    judge: Judging = field(default_factory=Judging)
    pool: Pool = field(default_factory=Pool)
    fit: Fit = field(default_factory=Fit)
    align: Align = field(default_factory=Align)
    calibrate: Calibrate = field(default_factory=Calibrate)
    pairwise: Pairwise = field(default_factory=Pairwise)
    train: Train = field(default_factory=Train)
    rank: Rank = field(default_factory=Rank)
    evaluate: Evaluate = field(default_factory=Evaluate)
    benchmark: Benchmark = field(default_factory=Benchmark)
    refine: Refine = field(default_factory=Refine)
    report: Report = field(default_factory=Report)
    plan: Planning = field(default_factory=Planning)
    watch: Watch = field(default_factory=Watch)

    def with_settings(self, settings: Mapping[str, str]) -> Recipe:
        """Return a copy with some parameters replaced, given as on the command line: {"pair.degree": "6"}.

        Raises:
            RecipeError: an unknown key, or a value of the wrong type or out of range.
        """
        data = to_dict(self)
        for key, text in settings.items():
            *sections, name = key.split(".")
            if len(sections) > 1:
                raise RecipeError(f"{key!r} has too many dots", where="--set", remedy="write section.key=value")
            table = data
            for section in sections:
                require_known(section, {k: v for k, v in data.items() if isinstance(v, dict)}, "--set", "section")
                table = data[section]
            require_known(name, table, "--set", "key")
            table[name] = parse_value(text)
        return from_dict(data, where="--set")


def load(name_or_path: str | Path) -> Recipe:
    """Read a recipe: the name of a packaged one (`names()`), or the path of a TOML file.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, or a value of the wrong type or out of range.
    """
    path = Path(name_or_path)
    if str(name_or_path) in names():
        text, where = (resources.files("zelo") / "recipes" / f"{name_or_path}.toml").read_text("utf-8"), f"{name_or_path}.toml"
    elif path.is_file():
        try:
            text, where = path.read_text("utf-8-sig"), str(path)  # some editors begin a file with a byte order mark
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot be read ({error})", where=str(path)) from error
    else:
        raise RecipeError(f"no recipe {str(name_or_path)!r}", remedy=f"give a TOML file or one of: {', '.join(names())}")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML ({error})", where=where) from error
    return from_dict(data, where=where)


def names() -> list[str]:
    """Return the names of the recipes that come with zelo."""
    return sorted(f.name.removesuffix(".toml") for f in (resources.files("zelo") / "recipes").iterdir() if f.name.endswith(".toml"))


def from_dict(data: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Build a recipe from plain tables; what they leave out has its default.

    Raises:
        RecipeError: an unknown key, or a value of the wrong type or out of range; `where` begins the message.
    """
    recipe = typing.cast(Recipe, build(Recipe, data, where, ""))
    if recipe.pair.degree % 2:
        raise RecipeError(f"pair.degree = {recipe.pair.degree} is odd", where=where, remedy="use an even one: cycles add two per document")
    legs = recipe.retrieve.legs
    unknown = [leg for leg in legs if leg not in LEGS]
    if unknown:
        raise RecipeError(f"retrieve.legs names {unknown[0]!r}", where=where, remedy=f"use any of: {', '.join(LEGS)}")
    if ("imported" in legs) != bool(recipe.retrieve.run):
        remedy = 'set retrieve.run to a TREC run and put "imported" among retrieve.legs, or neither'
        raise RecipeError("retrieve.run and the leg imported go together", where=where, remedy=remedy)
    if recipe.watch.baseline_from:
        try:
            datetime.strptime(recipe.watch.baseline_from, "%Y-%m-%d")
        except ValueError:
            what = f"watch.baseline_from = {recipe.watch.baseline_from!r} is no day"
            raise RecipeError(what, where=where, remedy="write it as 2026-03-01") from None
    return recipe


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain tables, tuples as lists: the shape of its TOML and of a stage's fingerprint."""
    tables = dataclasses.asdict(recipe)
    return {k: {n: list(v) if isinstance(v, tuple) else v for n, v in t.items()} if isinstance(t, dict) else t for k, t in tables.items()}


def to_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML, every parameter with the line that explains it."""
    lines: list[str] = []
    for item in dataclasses.fields(recipe):
        value = getattr(recipe, item.name)
        if dataclasses.is_dataclass(value):
            lines += toml_section(item.name, value)
        else:
            lines.append(f"{item.name} = {toml_value(value)}  # {item.metadata['about']}")
    return "\n".join(lines) + "\n"
