"""What may lie in a workspace: the path, the columns and the meaning of every artifact. Each has one writer, a stage.

Formats: collections are BEIR, rankings are TREC runs, arithmetic is Parquet, models are folders. Texts live once, in
corpus.jsonl and queries.jsonl; everything else holds ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zelo.errors import InputError, WorkspaceError

Columns = dict[str, Any]
"""Column name -> values, all of one length: lists or NumPy arrays."""


@dataclass(frozen=True)
class Artifact:
    """A file or folder of a workspace. `columns` (Parquet only) maps names to Arrow types."""

    name: str
    path: str
    about: str
    columns: Mapping[str, str] = field(default_factory=dict)


_PAIR = {"query_id": "string", "doc_id_a": "string", "doc_id_b": "string"}
_DOC = {"query_id": "string", "doc_id": "string"}
_JUDGMENT = {
    **_PAIR,
    "judge": "string",
    "preference": "double",
    "given": "double",  # the preference before clamping
    "shown_first": "string",
    "status": "string",
    "reasoning": "string",
    "prompt_id": "string",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "cost": "double",
    "seconds": "double",
    "note": "string",
    "flags": "string",
}

ARTIFACTS: dict[str, Artifact] = {
    a.name: a
    for a in (
        Artifact("corpus", "corpus.jsonl", "the documents, BEIR"),
        Artifact("queries", "queries.jsonl", "the questions that are used, BEIR"),
        Artifact("qrels", "qrels", "labels of the test questions, BEIR; copied by `ingest`, read by `evaluate` and `report` only"),
        Artifact("splits", "splits.tsv", "which questions train and which are reported on: query-id, split"),
        Artifact("vectors", "vectors", "pooled and token vectors of documents/ and queries/, NumPy files"),
        Artifact("candidates", "candidates", "first-stage rankings, TREC runs: bm25, dense, fused"),
        Artifact(
            "pairs",
            "pairs/tournament.parquet",
            "the pairs to judge, and the Hamiltonian cycle each belongs to (-1: a refine round added it)",
            {**_PAIR, "shown_first": "string", "cycle": "int16"},
        ),
        Artifact(
            "graphs",
            "pairs/graphs.parquet",
            "health of each query's comparison graph",
            {
                "query_id": "string",
                "documents": "int32",
                "pairs": "int32",
                "min_degree": "int32",
                "max_degree": "int32",
                "components": "int32",
                "diameter": "int32",
                "mean_resistance": "double",
                "max_resistance": "double",
            },
        ),
        Artifact("duplicates", "pairs/duplicates.parquet", "candidates whose text another one has", {**_DOC, "same_as": "string"}),
        Artifact(
            "judgments",
            "judgments/ensemble.parquet",
            "every judge's answer about every pair, sealed from the journal",
            _JUDGMENT,
        ),
        Artifact(
            "swapped",
            "judgments/swapped.parquet",
            "some of the pairs again, shown in the other order: how far order sways a judge",
            _JUDGMENT,
        ),
        Artifact(
            "judges",
            "judgments/judges.parquet",
            "what is known about each judge, without labels",
            {
                "judge": "string",
                "judgments": "int64",
                "missing": "int64",
                "ties": "int64",
                "reliability": "double",
                "weight": "double",
                "order_effect": "double",
                "order_stderr": "double",
                "slope": "double",
                "slope_stderr": "double",
            },
        ),
        Artifact(
            "agreement",
            "judgments/agreement.parquet",
            "how far two judges agree",
            {"judge_a": "string", "judge_b": "string", "pairwise_agreement": "double", "top_agreement": "double"},
        ),
        Artifact(
            "teaching_pairs",
            "pairs/teaching.parquet",
            "few pairs for the ensemble to judge (distilled line)",
            {**_PAIR, "shown_first": "string", "cycle": "int16"},
        ),
        Artifact("lessons", "lessons.parquet", "its opinion of them (distilled line)", {**_PAIR, "prob_a": "double", "n_judges": "int32"}),
        Artifact("pairwise_model", "models/pairwise", "the pairwise reranker that learned it (distilled line)"),
        Artifact(
            "preferences",
            "preferences.parquet",
            "the ensemble's opinion of each pair: rows of the score fit (weight, slope and offset are those of its model)",
            {**_PAIR, "prob_a": "double", "n_judges": "int32", "weight": "double", "slope": "double", "offset": "double"},
        ),
        Artifact(
            "scores", "scores.parquet", "zELO scores", {**_DOC, "score": "double", "stderr": "double", "degree": "int32", "link": "string"}
        ),
        Artifact(
            "fits",
            "fits.parquet",
            "diagnostics of each query's fit",
            {
                "query_id": "string",
                "iterations": "int32",
                "gradient_norm": "double",
                "log_likelihood": "double",
                "components": "int32",
                "separated": "bool",
                "dispersion": "double",
            },
        ),
        Artifact(
            "across",
            "judgments/across.parquet",
            "every judge's answer to questions across queries: does a answer its query better than b its own?",
            {"query_id_a": "string", "doc_id_a": "string", "query_id_b": "string", "doc_id_b": "string"}
            | {name: kind for name, kind in _JUDGMENT.items() if name not in _PAIR},
        ),
        Artifact(
            "offsets",
            "offsets.parquet",
            "what to add to the scores of each query so that they are on one scale",
            {"query_id": "string", "offset": "double", "stderr": "double", "degree": "int32", "component": "int32", "link": "string"},
        ),
        Artifact("targets", "targets.parquet", "calibrated scores in [0, 1]: what the student learns", {**_DOC, "target": "double"}),
        Artifact("model", "models/pointwise", "the pointwise reranker"),
        Artifact("rankings", "rankings", "final rankings of the test questions, TREC runs"),
        Artifact(
            "metrics",
            "report/metrics.jsonl",
            "one object per line: system, measure, split, value, low, high, queries, baseline, p_value, difference and its interval",
        ),
        Artifact(
            "failures",
            "refine/failures.parquet",
            "documents that should be on top and the ones ranked just above them, of all rounds so far (refine round)",
            {**_DOC, "above": "string", "rank": "int32", "reference": "string", "round": "int32"},
        ),
        Artifact(
            "before",
            "refine/before.jsonl",
            "one object per earlier round: failures, pairs added, dollars spent so far, and its student's values (refine round)",
        ),
        Artifact(
            "refinement",
            "report/refinement.jsonl",
            "one object per measure and round: value, interval, difference to the round before, p value (refine round)",
        ),
        Artifact(
            "per_query",
            "report/per_query.parquet",
            "every measure of every system on every test question",
            {"system": "string", "measure": "string", "query_id": "string", "value": "double"},
        ),
        Artifact("runs", "runs", "the systems' rankings, cut to benchmark.depth, TREC runs (benchmark)"),
        Artifact(
            "standings",
            "report/standings.json",
            "systems compared: values with intervals, differences with tests, each judge's order, whom it sides with, cost (benchmark)",
        ),
        Artifact("report", "report/index.html", "the page for people"),
    )
}


def write_table(path: Path, artifact: str, columns: Mapping[str, Any]) -> int:
    """Write an artifact's Parquet file, columns in the declared order and types; the same rows give the same bytes.

    Returns:
        The number of rows.

    Raises:
        WorkspaceError: the columns are not those that the artifact declares.
    """
    import pyarrow.parquet as pq

    table = _table(artifact, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def write_parts(path: Path, artifact: str, parts: Iterable[Mapping[str, Any]]) -> int:
    """Write an artifact's Parquet file part by part, for tables that do not fit into memory; the same parts give the same bytes.

    Returns:
        The number of rows.

    Raises:
        WorkspaceError: the columns are not those that the artifact declares.
    """
    with table_writer(path, artifact) as write:
        return sum(write(part) for part in parts)


@contextmanager
def table_writer(path: Path, artifact: str) -> Iterator[Callable[[Mapping[str, Any]], int]]:
    """Open an artifact's Parquet file; yields what adds a part to it, a row group, and returns its rows. As `write_parts`."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    empty = _table(artifact, {name: [] for name in ARTIFACTS[artifact].columns})
    with pq.ParquetWriter(path, empty.schema, compression="zstd") as writer:

        def write(part: Mapping[str, Any]) -> int:
            table = _table(artifact, part)
            if table.num_rows:
                writer.write_table(table)
            return int(table.num_rows)

        yield write


def _table(artifact: str, columns: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    declared = ARTIFACTS[artifact].columns
    if set(columns) != set(declared):
        raise WorkspaceError(f"columns {sorted(columns)} are not {sorted(declared)}", where=ARTIFACTS[artifact].path)
    types: dict[str, Any] = {"bool": pa.bool_(), "double": pa.float64()}
    arrays = [pa.array(columns[name], types.get(kind) or getattr(pa, kind)(), from_pandas=True) for name, kind in declared.items()]
    return pa.table(arrays, names=list(declared))


def read_codes(path: Path, artifact: str, name: str) -> tuple[Any, list[str]]:
    """Read a column of strings as places [rows] in a list of its different values, in order of appearance: small where few differ.

    Raises:
        InputError: the file is not Parquet or lacks the column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = pq.read_table(path, columns=[name])[name].combine_chunks().dictionary_encode()
    except (OSError, pa.ArrowException, KeyError) as error:
        what = f"no column {name!r} of {ARTIFACTS[artifact].path} ({error})"
        raise InputError(what, where=str(path), remedy="delete it and run again") from error
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.indices.to_numpy(zero_copy_only=False), column.dictionary.to_pylist()


def read_table(path: Path, artifact: str, names: Sequence[str] | None = None) -> Columns:
    """Read an artifact's Parquet file, or some of its columns: strings as lists, numbers as NumPy arrays, null as NaN.

    Raises:
        InputError: the file is not Parquet or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    declared = ARTIFACTS[artifact].columns
    try:
        table = pq.read_table(path, columns=list(names or declared))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not readable as Parquet ({error})", where=str(path), remedy="delete it and run again") from error
    missing = set(names or declared) - set(table.column_names)
    if missing:
        raise InputError(f"lacks {', '.join(sorted(missing))}", where=str(path), remedy="delete it and run again")
    return {
        name: table[name].to_pylist() if declared[name] == "string" else table[name].to_numpy(zero_copy_only=False)
        for name in table.column_names
    }
