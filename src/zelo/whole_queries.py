"""Batches of a Parquet file cut anew, so that the rows of a query are never in two: what streaming over queries needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole_queries(batches: Iterator[Any]) -> Iterator[Any]:
    """Cut a file's batches anew, so that none ends within a query; a query that lay in several comes alone."""
    open_query: list[Any] = []  # pieces of the query that the last batch ended with
    for batch in batches:
        if not batch.num_rows:
            continue
        starts = query_starts(batch["query_id"])
        begin, end = 0, int(starts[-1])
        if open_query and open_query[0]["query_id"][0].as_py() == batch["query_id"][0].as_py():
            begin = int(starts[1]) if len(starts) > 1 else batch.num_rows
            open_query.append(_copied(batch.slice(0, begin)))
        if open_query and begin < batch.num_rows:
            yield _joined(open_query)
            open_query = []
        if begin < end:
            yield batch.slice(begin, end - begin)
        if max(begin, end) < batch.num_rows:
            open_query = [_copied(batch.slice(max(begin, end)))]
    if open_query:
        yield _joined(open_query)


def query_starts(query: Any) -> NDArray[np.int64]:
    """Rows at which the query changes, the first row included."""
    import pyarrow as pa

    if not pa.types.is_dictionary(query.type):  # some writers' dictionaries are not Parquet's
        query = query.dictionary_encode()
    codes = query.indices.to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])


def _copied(batch: Any) -> Any:
    """Copy a few rows out of a batch, so that the batch can be let go."""
    import pyarrow as pa

    columns = [batch.column(n).dictionary_decode() if name == "query_id" else batch.column(n) for n, name in enumerate(batch.schema.names)]
    return pa.table([pa.concat_arrays([column]) for column in columns], names=batch.schema.names)


def _joined(tables: list[Any]) -> Any:
    import pyarrow as pa

    table = pa.concat_tables(tables)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return pa.RecordBatch.from_pydict(columns)
