"""The properties of a set of traces: difficulty, diversity, length, structure, hygiene. They are measured; none is taken for a merit."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.core.diversity import effective_number, entropy, mean_distance
from zelo.core.transitions import jensen_shannon, matrix_correlation
from zelo.errors import InputError
from zelo.reasoning.behavior import BEHAVIORS, Profile, profile, steps_of
from zelo.reasoning.difficulty import Difficulty, counts_of, difficulties, tiers_line
from zelo.reasoning.folder import Folder
from zelo.reasoning.hygiene import Overlap, all_leaks, contaminated
from zelo.reasoning.rates import RatesSummary, imported_rates, rates_of, summary
from zelo.reasoning.vectors import Kind, text_vectors
from zelo.types import Problem, Trace

FloatArray = NDArray[np.float64]
MOST_VECTORS = 2000
"""More texts than this are thinned out evenly: distances and effective numbers are of a sample then."""


@dataclass(frozen=True)
class Diversity:
    """How different things are.

    Attributes:
        count: how many there are.
        subjects: number of different subjects.
        subject_entropy: nats; its most is log(subjects).
        distance: mean cosine distance between two.
        effective: how many entirely different ones they are worth.
    """

    count: int
    subjects: int
    subject_entropy: float
    distance: float
    effective: float


@dataclass(frozen=True)
class Lengths:
    """How long traces are: quartiles (25, 50, 75 %) each.

    Attributes:
        words: by blanks.
        tokens: as billed, of the traces where they are known; NaN where of none.
        steps: lines, short ones joined.
        compression: bytes after zlib / bytes before; a low one is repetition.
    """

    words: tuple[float, float, float]
    tokens: tuple[float, float, float]
    steps: tuple[float, float, float]
    compression: tuple[float, float, float]


@dataclass(frozen=True)
class Overview:
    """What is known of a folder's problems, whoever wrote about them.

    Attributes:
        problems: how many.
        tasks: task -> problems.
        tiers: tier -> problems.
        bases: what the tiers are from -> problems.
        certain: problems whose whole interval lies in their tier.
        questions: how different they are.
        rates: what imported rates say, None where there are none.
    """

    problems: int
    tasks: Mapping[str, int]
    tiers: Mapping[str, int]
    bases: Mapping[str, int]
    certain: int
    questions: Diversity
    rates: RatesSummary | None

    def lines(self) -> list[str]:
        """Return it for people."""
        tasks = ", ".join(f"{count:,} of {task}" for task, count in self.tasks.items())
        found = [self.rates.line()] if self.rates is not None else []
        if not self.problems:
            return found
        difficulty = f"  difficulty   {tiers_line(self.tiers, self.bases, self.certain)}"
        return [f"problems: {tasks}", difficulty, f"  questions    {different(self.questions)}", *found]


@dataclass(frozen=True)
class Analysis:
    """What is known of some traces.

    Attributes:
        name: of the set.
        traces: how many.
        problems: how many they are about.
        right: share of the verified ones that is right, NaN where none is verified.
        tiers: tier -> problems.
        bases: what the tiers are from -> problems.
        certain: problems whose whole interval lies in their tier.
        mean_difficulty: of the problems where it is known, else NaN.
        problem_diversity: of the questions.
        trace_diversity: of the traces' texts.
        lengths: of the traces.
        behaviors: of their steps.
        reference: (Jensen-Shannon divergence of the shares in bits, correlation of the transition matrices) to reference traces.
        overlaps: problems that share text with an evaluation set, None = there was none to compare with.
        leaks: (problem, source, sample, how) of traces that show that their writer knew the answer.
    """

    name: str
    traces: int
    problems: int
    right: float
    tiers: Mapping[str, int]
    bases: Mapping[str, int]
    certain: int
    mean_difficulty: float
    problem_diversity: Diversity
    trace_diversity: Diversity
    lengths: Lengths
    behaviors: Profile
    reference: tuple[float, float] | None
    overlaps: Sequence[Overlap] | None
    leaks: Sequence[tuple[str, str, int, str]]


def analyze(
    name: str,
    traces: Sequence[Trace],
    problems: Mapping[str, Problem],
    difficulties: Mapping[str, Difficulty],
    *,
    evaluation: Sequence[Problem] | None = None,
    reference: Profile | None = None,
    vectors: Kind = "words",
) -> Analysis:
    """Measure a set of traces.

    Args:
        name: of the set.
        traces: at least one.
        problems: by id.
        difficulties: by problem.
        evaluation: problems that must not be among them.
        reference: profile to compare the structure with.
        vectors: what distances are measured on.

    Raises:
        InputError: there are no traces.
    """
    if not traces:
        raise InputError("there are no traces", where=name, remedy="import or sample some")
    texts = [trace.reasoning for trace in traces]
    about = [problems[i] for i in dict.fromkeys(trace.problem_id for trace in traces)]
    marks = [trace.correct for trace in traces if trace.correct is not None]
    known = [difficulties[p.problem_id] for p in about if p.problem_id in difficulties]
    values = [d.difficulty for d in known if d.difficulty == d.difficulty]
    found = profile(texts)
    return Analysis(
        name,
        len(traces),
        len(about),
        float(np.mean(marks)) if marks else float("nan"),
        *counts_of(known),
        float(np.mean(values)) if values else float("nan"),
        diversity([p.prompt for p in about], [p.subject for p in about], vectors),
        diversity(texts, [problems[t.problem_id].subject for t in traces], vectors),
        lengths(traces),
        found,
        None if reference is None else compare(found, reference),
        None if evaluation is None else contaminated(about, evaluation),
        [(t.problem_id, t.source, t.sample, how) for t, how in all_leaks(traces, problems)],
    )


def of_folder(
    folder: Folder, source: str, stage: int | None = None, reference: str | None = None, like: Path | None = None, vectors: Kind = "words"
) -> Analysis:
    """Measure the traces of one source in a folder.

    Args:
        folder: with them.
        source: whose.
        stage: None = the last one.
        reference: source whose pass rates in stage 1 say how hard problems are; None = all.
        like: a folder whose traces are the measure for structure.
        vectors: what distances are measured on.

    Raises:
        InputError: the reference has no traces.
    """
    problems = folder.problems()
    texts = [t for t in folder.traces(stage) if t.source == source]
    measure = None if like is None else profile(t.reasoning for t in Folder(like).traces())
    hard = difficulties_of(folder, problems, reference)
    return analyze(source, texts, problems, hard, evaluation=folder.evaluation(), reference=measure, vectors=vectors)


def difficulties_of(folder: Folder, problems: Mapping[str, Problem], reference: str | None = None) -> dict[str, Difficulty]:
    """Return how hard a folder's problems are: by traces of stage 1, by imported rates, by stated levels.

    Raises:
        InputError: the reference has no traces.
    """
    tried = folder.traces(1) if 1 in folder.stages() else []
    if reference is not None:
        tried = [t for t in tried if t.source == reference]
        if not tried:
            raise InputError(f"no traces of {reference!r} in stage 1", where=str(folder.root), remedy="name a source that is there")
    return difficulties(problems.values(), tried, rates_of(problems, imported_rates(folder)))


def overview(folder: Folder, reference: str | None = None, vectors: Kind = "words") -> Overview:
    """Return what is known of a folder's problems; arguments and errors as of `of_folder`."""
    problems = folder.problems() if folder.has_problems() else {}
    known = list(difficulties_of(folder, problems, reference).values())
    questions = diversity([p.prompt for p in problems.values()], [p.subject for p in problems.values()], vectors)
    return Overview(len(problems), Counter(p.task for p in problems.values()), *counts_of(known), questions, summary(folder))


def diversity(texts: Sequence[str], subjects: Sequence[str], vectors: Kind = "words") -> Diversity:
    """Measure how different texts are; `subjects` are one per text, "" = not known and not counted."""
    counts = Counter(subject for subject in subjects if subject)
    chosen: Sequence[int] = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), MOST_VECTORS)).astype(int)).tolist() if texts else []
    table = text_vectors([texts[i] for i in chosen], vectors)
    return Diversity(len(texts), len(counts), entropy(list(counts.values()) or [0]), mean_distance(table), effective_number(table))


def lengths(traces: Sequence[Trace]) -> Lengths:
    """Measure how long traces are."""
    texts = [trace.reasoning for trace in traces]
    packed = [len(zlib.compress(data)) / max(1, len(data)) for data in (text.encode("utf-8", "surrogatepass") for text in texts)]
    return Lengths(
        quartiles([len(text.split()) for text in texts]),
        quartiles([trace.tokens for trace in traces if trace.tokens]),
        quartiles([len(steps_of(text)) for text in texts]),
        quartiles(packed),
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 25th, 50th and 75th percentile, NaN of none."""
    if not values:
        return float("nan"), float("nan"), float("nan")
    low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
    return low, middle, high


def compare(profile: Profile, reference: Profile) -> tuple[float, float]:
    """Return how far the shares of behaviors are from a reference's (bits), and how well the transitions agree (correlation)."""
    if not profile.steps or not reference.steps:
        return float("nan"), float("nan")
    return jensen_shannon(profile.shares, reference.shares), matrix_correlation(profile.smoothed, reference.smoothed)


def different(d: Diversity) -> str:
    """Return how different things are for people."""
    subjects = f", {d.subjects} subjects (entropy {d.subject_entropy:.2f} of {np.log(max(1, d.subjects)):.2f})" if d.subjects else ""
    return f"worth {d.effective:,.1f} entirely different ones of {d.count:,}; mean distance {d.distance:.2f}{subjects}"


def as_json(analysis: Analysis | Overview) -> dict[str, Any]:
    """Return an analysis as values for JSON; what is not known is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | np.ndarray):
            return [plain(inner) for inner in (value.tolist() if isinstance(value, np.ndarray) else value)]
        return None if isinstance(value, float) and value != value else value

    found: dict[str, Any] = plain(asdict(analysis))
    return found


def analysis_lines(analysis: Analysis) -> list[str]:
    """Return an analysis as lines for people."""
    a = analysis

    def three(values: tuple[float, float, float], digits: int = 0) -> str:
        return "not known" if values[1] != values[1] else " / ".join(f"{v:,.{digits}f}" for v in values)

    hard = f"; mean {a.mean_difficulty:.2f}" if a.mean_difficulty == a.mean_difficulty else ""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(BEHAVIORS, a.behaviors.shares.tolist(), strict=True))
    marks = ", ".join(f"{name} {value:.1f}" for name, value in a.behaviors.marks.items())
    lines = [
        f"{a.name}: {a.traces:,} traces of {a.problems:,} problems"
        + (f", {a.right:.1%} right" if a.right == a.right else ", not verified"),
        f"  difficulty   {tiers_line(a.tiers, a.bases, a.certain)}{hard}",
        f"  questions    {different(a.problem_diversity)}",
        f"  traces       {different(a.trace_diversity)}",
        f"  length       words {three(a.lengths.words)}; tokens {three(a.lengths.tokens)}; steps {three(a.lengths.steps)} (quartiles)",
        f"  compression  {three(a.lengths.compression, 2)} of the bytes are left",
        f"  behavior     {shares} of {a.behaviors.steps:,} steps; marks per 1,000 words: {marks}",
    ]
    if a.reference is not None:
        lines.append(f"  reference    divergence {a.reference[0]:.3f} bits, transitions correlate {a.reference[1]:.2f}")
    if a.overlaps is not None:
        names = "".join(f"; {o.problem_id} ~ {o.evaluation_id}" for o in a.overlaps[:3])
        lines.append(f"  evaluation   {len(a.overlaps):,} problems share text with the evaluation set{names}")
    kinds = ", ".join(f"{count:,} x {how}" for how, count in Counter(how for *_, how in a.leaks).most_common(3))
    lines.append(f"  leaks        {len(a.leaks):,} traces show that the answer was known{': ' + kinds if kinds else ''}")
    return lines
