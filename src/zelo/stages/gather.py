"""gather: the rankings of the systems that are compared, and the union of their heads, which the judges will see (pooling, as in TREC)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.lines import shown
from zelo.collections.trec import read_run, upside_down, write_run
from zelo.core.fusion import reciprocal_rank_fusion
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Rankings, Recipe
from zelo.types import ScoredDoc

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,99}")  # it becomes the name of a file and the tag of a run
Runs = dict[str, dict[str, list[ScoredDoc]]]
"""system -> query_id -> ranking, best first."""


def check(recipe: Recipe) -> None:
    """Raise RecipeError for fewer than two systems, a name that cannot be a file's, or a system without rankings."""
    systems = recipe.benchmark.systems
    if len(systems) < 2:
        raise RecipeError(
            f"{len(systems)} system(s) to compare", where="benchmark.systems", remedy="give two runs or more: --run FILE --run FILE"
        )
    for name, settings in systems.items():
        if not _NAME.fullmatch(name):
            remedy = "use letters, digits and . _ + @ -, as in --run bm25=FILE"
            raise RecipeError(f"{shown(name)} cannot be the name of a system", where="benchmark.systems", remedy=remedy)
        if not settings.run:
            raise RecipeError(f"the system {name!r} has no rankings", where="benchmark.systems", remedy="set its run to a TREC run")


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the systems' runs by their contents; "" for one that is not there."""
    return {f"run {name}": _digest(Path(system.run)) for name, system in recipe.benchmark.systems.items()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def read_systems(systems: Mapping[str, Rankings]) -> Runs:
    """Return every system's rankings.

    Raises:
        InputError: a file is missing or no TREC run; two systems have the same rankings under two names.
    """
    found: Runs = {}
    same: dict[str, str] = {}
    for name, settings in systems.items():
        found[name] = read_run(Path(settings.run))
        first = same.setdefault(_digest(Path(settings.run)), name)
        if first != name:
            raise InputError(f"the systems {first!r} and {name!r} are the same file", where=settings.run, remedy="name each system once")
    return found


def run(context: Context) -> Outcome:
    """Write runs/<system>.trec, cut to the depth, and candidates/fused.trec, the pool.

    Raises:
        InputError: a run names documents that the corpus lacks, or answers none of the questions.
    """
    settings, most = context.recipe.benchmark, context.recipe.retrieve.candidates
    query_ids = [q.query_id for q in read_queries(context.read("queries"))]
    runs = read_systems(settings.systems)
    known = {d.doc_id for d in read_corpus(context.read("corpus"))}
    folder = context.write("runs")
    folder.mkdir()
    notes, rows = [], {}
    for name, rankings in runs.items():
        cut = {q: rankings[q][: settings.depth] for q in query_ids if rankings.get(q)}
        _check_known(name, settings.systems[name].run, cut, known)
        rows[name] = write_run(folder / f"{name}.trec", cut, tag=name)
        lacking = len(query_ids) - len(cut)
        if lacking == len(query_ids):
            what = f"answers none of the {len(query_ids):,} questions (the first is {query_ids[0]!r})"
            raise InputError(what, where=settings.systems[name].run, remedy="its first column has to hold the ids of these queries")
        wrong, asked = upside_down(Path(settings.systems[name].run))
        if 2 * wrong > asked:
            notes.append(
                f"{name}: in {wrong:,} of {asked:,} questions the document of the first rank has the lowest score; scores count, the "
                "highest first, as in trec_eval. If they are distances, write them with a minus"
            )
        if lacking:
            notes.append(f"{name} answers {len(cut):,} of {len(query_ids):,} questions; the others count 0 for it")
        runs[name] = cut
    pool, left_out = _pool(runs, query_ids, most)
    context.write("candidates").mkdir()
    pooled = write_run(context.write("candidates") / "fused.trec", pool, tag="pool")
    if left_out:
        notes.append(
            f"{left_out:,} documents are beyond the first {most} of a question's pool (retrieve.candidates): not judged, they count 0"
        )
    return Outcome({"questions": len(query_ids), "pooled": pooled, **rows}, notes=tuple(notes))


def _check_known(name: str, path: str, rankings: Mapping[str, Sequence[ScoredDoc]], known: set[str]) -> None:
    hits = [hit for ranking in rankings.values() for hit in ranking]
    unknown = [hit for hit in hits if hit.doc_id not in known]
    if unknown:
        what = (
            f"{len(unknown):,} of {len(hits):,} documents that {name} ranks first are not in the corpus, such as {shown(unknown[0].doc_id)}"
        )
        some = shown(min(known)) if known else "none"
        raise InputError(what, where=path, remedy=f"run the system on this corpus, whose ids are like {some}")


def _pool(runs: Runs, query_ids: Sequence[str], most: int) -> tuple[dict[str, list[ScoredDoc]], int]:
    """The union of the systems' heads, and how many documents were left out, the last by reciprocal ranks.

    In the order of their ids: one more system that finds nothing new then changes no pair, and nothing is asked again.
    """
    pool, left_out = {}, 0
    for query_id in query_ids:
        legs = [[(hit.doc_id, hit.score) for hit in rankings.get(query_id, ())] for rankings in runs.values()]
        fused = reciprocal_rank_fusion(legs)
        left_out += max(0, len(fused) - most)
        pooled = sorted(doc_id for doc_id, _ in fused[:most])
        pool[query_id] = [ScoredDoc(query_id, doc_id, 1.0 / place) for place, doc_id in enumerate(pooled, 1)]
    return pool, left_out
