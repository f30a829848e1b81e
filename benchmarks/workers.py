"""What workers on Ray cost: starting them, a shard that does nothing, and a fit of many parts beside the same fit in this process.

python benchmarks/workers.py [--workers 2] [--queries 2000] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zelo.artifacts import write_table
from zelo.cluster.ray_workers import RayWorkers
from zelo.fitting import fit_parquet


class Nothing:
    """A work that returns its shard."""

    def open(self) -> Callable[[int], int]:
        """Return it."""
        """Return it."""
        return lambda shard: shard


def preferences(path: Path, queries: int, documents: int = 100, degree: int = 8) -> int:
    """Write preferences of cycles over each query's documents."""
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(queries), documents * degree // 2)
    a = np.tile(np.arange(documents), queries * degree // 2)
    b = (a + np.tile(np.repeat(np.arange(1, degree // 2 + 1), documents), queries)) % documents
    one = np.ones(len(query))
    names = {"query_id": [f"q{q}" for q in query], "doc_id_a": [f"d{d}" for d in a], "doc_id_b": [f"d{d}" for d in b]}
    votes = {"prob_a": rng.binomial(3, 0.5, len(query)) / 3, "n_judges": np.full(len(query), 3)}
    return write_table(path, "preferences", names | votes | {"weight": 3 * one, "slope": one, "offset": 0 * one})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    row: dict[str, Any] = {"workers": given.workers, "queries": given.queries}

    def timed(name: str, do: Callable[[], object]) -> None:
        start = time.perf_counter()
        do()
        row[name] = round(time.perf_counter() - start, 3)

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "preferences.parquet"
        row["rows"] = preferences(source, given.queries)
        batch = row["rows"] // 16
        fit_parquet(source, Path(folder) / "warm", batch_rows=batch, threads=1)  # compiles
        timed("fit here", lambda: fit_parquet(source, Path(folder) / "here", batch_rows=batch, threads=1))
        executor = RayWorkers("ray", given.workers)
        timed("start Ray", executor.__enter__)
        try:
            timed("start workers, 1 shard", lambda: list(executor.map(Nothing(), range(1))))
            timed("start workers, 1,000 shards", lambda: list(executor.map(Nothing(), range(1000))))
            timed("fit there", lambda: fit_parquet(source, Path(folder) / "there", batch_rows=batch, threads=1, executor=executor))
        finally:
            executor.__exit__(None, None, None)
        row["same bytes"] = (Path(folder) / "here").read_bytes() == (Path(folder) / "there").read_bytes()
    print(json.dumps(row) if given.json else "\n".join(f"{name:<28} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
