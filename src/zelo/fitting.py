"""From a file of preferences to a file of scores, a batch of whole queries at a time: memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import ARTIFACTS
from zelo.core.dispersion import Dispersion, centered_stderr, estimate_dispersion
from zelo.core.links import PRIOR_SD
from zelo.core.paired_comparison import Batch, BatchFit, fit_queries
from zelo.errors import InputError
from zelo.shards import Executor, Here, keeping
from zelo.types import Link
from zelo.whole_queries import query_starts, whole_queries

_IDS = ("query_id", "doc_id_a", "doc_id_b")
_NUMBERS = ("prob_a", "weight", "slope", "offset", "n_judges")
_FEW = ["query_id", "degree", "link"]  # columns with few different values: only these gain from a dictionary
_REMEDY = "write the rows of a query one after another"

Copies = Mapping[str, Mapping[str, Sequence[str]]]
"""query_id -> doc_id that was compared -> other documents that share its score."""


@dataclass
class Totals:
    """Numbers of queries, of rows of scores, of queries that are separated, and of those with several components (see `Fit`)."""

    queries: int = 0
    scores: int = 0
    separated: int = 0
    disconnected: int = 0

    def add(self, fit: BatchFit, rows: int) -> None:
        """Count a batch that gave so many rows."""
        self.queries += len(fit.separated)
        self.scores += rows
        self.separated += int(fit.separated.sum())
        self.disconnected += int((fit.components > 1).sum())


@dataclass(frozen=True)
class _FitQueries:
    """The fit of a batch of queries as a work."""

    link: Link
    prior_sd: float | None
    threads: int | None
    stderr: bool
    dispersion: float | None

    def open(self) -> Callable[[Batch], BatchFit]:
        return self._fit

    def _fit(self, batch: Batch) -> BatchFit:
        fit = fit_queries(batch, link=self.link, prior_sd=self.prior_sd, threads=self.threads, stderr=self.stderr)
        if self.dispersion and self.stderr:
            stderr = centered_stderr(fit.stderr, np.diff(fit.starts), self.prior_sd or PRIOR_SD[self.link])
            fit = replace(fit, stderr=stderr)
        return fit


def fit_parquet(
    source: Path,
    scores: Path,
    fits: Path | None = None,
    *,
    link: Link = "probit",
    prior_sd: float | None = None,
    stderr: bool = True,
    threads: int | None = None,
    batch_rows: int = 1_000_000,
    copies: Copies | None = None,
    dispersion: float | None = None,
    advance: Callable[[int, int], object] = lambda done, total: None,
    executor: Executor | None = None,
) -> Totals:
    """Fit the scores of a Parquet file's queries and write them to another.

    Args:
        source: columns query_id, doc_id_a, doc_id_b, prob_a (null = missing) and, optionally, weight (else n_judges, else 1),
            slope (else 1) and offset (else 0). The rows of a query follow one another.
        scores: written as the artifact `scores`, stderr null if not asked for; queries as in the source, documents by their ids.
        fits: if given, written as the artifact `fits`, one row of diagnostics per query.
        link: see `fit_queries`, as for the next three.
        prior_sd: one for all queries.
        stderr: whether to compute standard errors.
        threads: how many.
        batch_rows: about how many rows to hold.
        copies: documents that get the score of another one.
        dispersion: if given (`dispersion_of`), divides the weights; standard errors are then of scores around their query's mean.
        advance: is told how many rows are done, of how many.
        executor: does the fits, if not this process; the result is the same.

    Raises:
        InputError: the source is not Parquet or lacks a column, a name is null, a query's rows are apart, a value is out of range.
        ConvergenceError: a query's fit did not converge; names the query.
    """
    totals, done, file, executor = Totals(), 0, _open(source), executor or Here()
    work = _FitQueries(link, prior_sd, threads or (1 if executor.elsewhere else None), stderr, dispersion)
    with ExitStack() as stack:
        stack.callback(file.close)
        write_scores, write_fits = _writer(stack, scores, "scores"), _writer(stack, fits, "fits")
        read = _ahead(_batches(file, batch_rows, str(source), dispersion or 1.0))
        parts = (((names, documents, np.size(batch.prob_first)), batch) for names, batch, documents in read)
        for (names, documents, rows), fit in keeping(executor, work, parts):
            write_scores(table := _score_table(names, documents, fit, copies or {}))
            write_fits(_fit_table(names, fit, dispersion or 1.0))
            totals.add(fit, table.num_rows)
            done += rows
            advance(done, file.metadata.num_rows)
    return totals


def _open(source: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source, read_dictionary=["query_id"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not readable as Parquet ({error})", where=str(source)) from error
    missing = [name for name in (*_IDS, "prob_a") if name not in file.schema_arrow.names]
    if missing:
        file.close()
        raise InputError(f"lacks {', '.join(missing)}", where=str(source), remedy=f"give it {', '.join((*_IDS, 'prob_a'))}")
    return file


def dispersion_of(source: Path, *, link: Link = "probit", prior_sd: float | None = None, batch_rows: int = 1_000_000) -> Dispersion:
    """Estimate the dispersion of a Parquet file's preferences from 200 queries among about the first `batch_rows` rows.

    Raises:
        InputError: as `fit_parquet`.
        ConvergenceError: as `fit_parquet`.
    """
    file = _open(source)
    try:
        # The second part is the query that the first one was cut before: in a small file its last one.
        parts = [batch for _, batch, _ in islice(_batches(file, batch_rows, str(source), 1.0), 2)]
        return estimate_dispersion(_joined_batches(parts), link=link, prior_sd=prior_sd)
    finally:
        file.close()


def _joined_batches(batches: Sequence[Batch]) -> Batch:
    """One batch of the queries of several."""
    ends = np.cumsum([0, *(np.size(b.prob_first) for b in batches)])
    rows = [np.asarray(b.rows, np.int64)[1:] + end for b, end in zip(batches, ends[:-1].tolist(), strict=True)]

    def column(name: str) -> NDArray[Any] | None:
        values = [getattr(b, name) for b in batches]
        return None if any(v is None for v in values) else np.concatenate([np.zeros(0, np.int64), *map(np.asarray, values)])

    whole = {name: column(name) for name in ("documents", "first", "second")}
    parts = {name: column(name) for name in ("prob_first", "weight", "slope", "offset")}
    return Batch(rows=np.concatenate([[0], *rows]), **{k: np.asarray(v, np.int64) for k, v in whole.items()}, **parts)  # type: ignore[arg-type]


def _batches(file: Any, batch_rows: int, where: str, dispersion: float) -> Iterator[tuple[list[str], Batch, Any]]:
    """Read whole queries, their weights divided by the dispersion; see `_numbered` for what comes."""
    columns = [name for name in (*_IDS, *_NUMBERS) if name in file.schema_arrow.names]
    seen: set[str] = set()
    for part in whole_queries(file.iter_batches(batch_rows, columns=columns)):
        names, batch, documents = _numbered(part, where)
        if not seen.isdisjoint(names):
            again = next(name for name in names if name in seen)
            raise InputError(f"the rows of query {again!r} are apart", where=where, remedy=_REMEDY)
        seen.update(names)
        if dispersion != 1.0:
            weight = np.ones(np.size(batch.prob_first)) if batch.weight is None else np.asarray(batch.weight)
            batch = replace(batch, weight=weight / dispersion)
        yield names, batch, documents


def _writer(stack: ExitStack, path: Path | None, artifact: str) -> Callable[[Any], object]:
    """Open a Parquet file until the stack is left; returns what writes a table to it, or does nothing without a path."""
    import pyarrow.parquet as pq

    if path is None:
        return lambda table: None
    file = stack.enter_context(pq.ParquetWriter(path, _schema(artifact), compression="zstd", use_dictionary=_FEW))
    return file.write_table  # type: ignore[no-any-return]


def _schema(artifact: str) -> Any:
    import pyarrow as pa

    types = {"bool": pa.bool_(), "double": pa.float64(), "int32": pa.int32(), "string": pa.string()}
    return pa.schema([(name, types[kind]) for name, kind in ARTIFACTS[artifact].columns.items()])


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Make the next item in another thread while the present one is used."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item


def _numbered(part: Any, where: str) -> tuple[list[str], Batch, Any]:
    """Names of the part's queries, their rows as the fit wants them, and the documents' names (Arrow) in the order of its scores."""
    import pyarrow as pa

    from zelo.core._numbering import number_rows

    for name in _IDS:
        if part[name].null_count:
            raise InputError(f"a {name} is null", where=where, remedy="name every query and document")
    starts = query_starts(part["query_id"])
    names = part["query_id"].take(pa.array(starts)).cast(pa.string()).to_pylist()
    if len(set(names)) < len(names):
        again = next(name for n, name in enumerate(names) if name in names[:n])
        raise InputError(f"the rows of query {again!r} are apart", where=where, remedy=_REMEDY)
    m, rows = part.num_rows, np.append(starts, part.num_rows).astype(np.int64)
    known = pa.concat_arrays([part["doc_id_a"].cast(pa.string()), part["doc_id_b"].cast(pa.string())])
    _, offsets, text = known.buffers()
    first, second, documents, own = np.empty(m, np.int32), np.empty(m, np.int32), np.empty(len(names), np.int64), np.empty(2 * m, np.int32)
    total = number_rows(
        rows, np.frombuffer(offsets, np.int32, 2 * m + 1), np.frombuffer(text or b"", np.uint8), first, second, documents, own
    )  # fmt: skip
    numbers = {name: _floats(part[name]) for name in part.schema.names if name in _NUMBERS}
    weight = numbers.get("weight", numbers.get("n_judges"))
    batch = Batch(documents, rows, first, second, numbers["prob_a"], weight, numbers.get("slope"), numbers.get("offset"), names=names)
    return names, batch, known.take(pa.array(own[:total]))


def _floats(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _score_table(names: list[str], documents: Any, fit: BatchFit, copies: Copies) -> Any:
    import pyarrow as pa

    queries = pa.array(names, pa.string())
    place, of_query = np.arange(len(documents)), np.repeat(np.arange(len(names)), np.diff(fit.starts))
    shared = [(q, copies[name]) for q, name in enumerate(names) if name in copies]
    if shared:
        listed, also = documents.to_pylist(), dict[int, Sequence[str]]()
        for q, same in shared:
            also |= {i: same[listed[i]] for i in range(int(fit.starts[q]), int(fit.starts[q + 1])) if listed[i] in same}
        place = np.repeat(place, [1 + len(also.get(i, ())) for i in place.tolist()])
        documents = pa.array([name for i, own in enumerate(listed) for name in (own, *also.get(i, ()))], pa.string())
    stderr = pa.array(fit.stderr[place]) if len(fit.stderr) == len(fit.score) else pa.nulls(len(place), pa.float64())
    numbers = (pa.array(fit.score[place]), stderr, pa.array(fit.degree[place]))
    link = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(place), np.int32)), pa.array([fit.link])).dictionary_decode()
    return pa.table([queries.take(pa.array(of_query[place])), documents, *numbers, link], schema=_schema("scores"))


def _fit_table(names: list[str], fit: BatchFit, dispersion: float) -> Any:
    import pyarrow as pa

    spread = np.full(len(names), dispersion)
    numbers = (fit.iterations, fit.gradient_norm, fit.log_likelihood, fit.components, fit.separated, spread)
    return pa.table([pa.array(names, pa.string()), *(pa.array(values) for values in numbers)], schema=_schema("fits"))
