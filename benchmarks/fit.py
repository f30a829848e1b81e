"""How fast scores are fitted, as ratios to named peers in this process (CPU time, one thread), and at the paper's scale.

    python benchmarks/fit.py [--json] [--queries 20]
    python benchmarks/fit.py --full [--json] [--folder FOLDER]

The first measures one query of 100 documents and 400 comparisons. `votes` are means of three judges' votes with ties: most queries
have no maximum without a prior. `soft` are probabilities without noise: there all peers have the same optimum, and how far each is
from it is printed. Peers: L-BFGS-B of SciPy on the same objective, evalica, choix, and the update rule that zbench publishes,
written anew here. Two more that one could name are left out: crowd-kit's BradleyTerry compares an array with itself, so that it
always stops after its second step, far from the optimum, and arena-rank compiles anew for each fit (about 1.2 s), which says nothing
about fitting. `--full` makes 112,000 such queries, fits them, and goes from Parquet to Parquet, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "--full" not in sys.argv:
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import numpy as np
from numpy.typing import NDArray

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.paired_comparison import Batch, fit_queries, fit_query, thread_count
from zelo.types import Link

FloatArray = NDArray[np.float64]
DOCUMENTS, DEGREE, PRIOR_SD = 100, 8, 1.5
ROWS = DOCUMENTS * DEGREE // 2
FULL, PER_BATCH = 112_000, 2_500


def simulated(queries: int, rng: np.random.Generator, *, soft: bool = False) -> tuple[NDArray[np.int32], FloatArray]:
    """Pairs [queries, 400, 2] along cycles, and P(first wins) [queries, 400]: three votes with ties, or the truth itself."""
    graphs = np.stack([hamiltonian_cycles(DOCUMENTS, DEGREE, rng) for _ in range(min(queries, 50))]).astype(np.int32)
    pairs = graphs[rng.integers(len(graphs), size=queries)]
    truth = rng.normal(0, 1.5, (queries, DOCUMENTS))
    gap = np.take_along_axis(truth, pairs[:, :, 0], 1) - np.take_along_axis(truth, pairs[:, :, 1], 1)
    if soft:
        return pairs, 1 / (1 + np.exp(-(gap + rng.normal(0, 0.2, gap.shape))))
    votes = gap[..., None] + rng.logistic(0, 1, (*gap.shape, 3))
    return pairs, np.where(np.abs(votes) < 0.4, 0.5, votes > 0).mean(axis=2)


def batch_of(pairs: NDArray[np.int32], prob: FloatArray) -> Batch:
    queries = len(pairs)
    first, second = np.ascontiguousarray(pairs.reshape(-1, 2).T)
    return Batch(np.full(queries, DOCUMENTS), np.arange(queries + 1) * ROWS, first, second, prob.ravel())


def lbfgs(first: FloatArray, second: FloatArray, prob: FloatArray) -> FloatArray:
    from scipy.optimize import minimize
    from scipy.special import expit, log_expit

    def objective(s: FloatArray) -> tuple[float, FloatArray]:
        x = s[first] - s[second]
        pull = expit(x) - prob
        gradient = s / PRIOR_SD**2 + np.bincount(first, pull, DOCUMENTS) - np.bincount(second, pull, DOCUMENTS)
        return 0.5 * s @ s / PRIOR_SD**2 - (log_expit(x) - (1 - prob) * x).sum(), gradient

    return np.asarray(minimize(objective, np.zeros(DOCUMENTS), jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-6}).x)


def zbench_rule(wins: FloatArray) -> FloatArray:
    """Newman's fixed point for all items at once, w_ii = .5, damped by (1 + t)^-.125, until the loss moves by less than 1e-4."""
    score, before = np.zeros(len(wins)), np.inf
    w = wins + 0.5 * np.eye(len(wins))
    for t in range(1000):
        gap = score[:, None] - score[None, :]
        loss = float((w * np.logaddexp(0, -gap)).sum())
        if abs(before - loss) < 1e-4:
            break
        strength = np.exp(score)
        both = strength[:, None] + strength[None, :]
        aim = np.log((w * strength[None, :] / both).sum(axis=1) / (w.T / both).sum(axis=1))
        score = score + (1 + t) ** -0.125 * (aim - score)
        score, before = score - score.mean(), loss
    return score


def peers(pairs: NDArray[np.int32], prob: FloatArray, alpha: float) -> dict[str, Callable[[], FloatArray]]:
    """Each peer on one query, its input made ready before the clock starts; returns scores on the logit scale. alpha is choix's prior."""
    first, second = pairs.T
    dense = np.zeros((DOCUMENTS, DOCUMENTS))
    np.add.at(dense, (first, second), prob)
    np.add.at(dense, (second, first), 1 - prob)
    calls: dict[str, Callable[[], FloatArray]] = {
        "scipy L-BFGS-B": lambda: lbfgs(first, second, prob),
        "zbench's rule": lambda: zbench_rule(dense),
    }
    try:
        import choix

        calls["choix ilsr_pairwise_dense"] = lambda: choix.ilsr_pairwise_dense(dense, alpha=alpha)
    except ImportError:
        print("choix is not installed: left out", file=sys.stderr)
    try:
        import evalica
        import pandas as pd

        xs, ys = [*first.tolist(), *second.tolist()], [*second.tolist(), *first.tolist()]
        weights, index = [*prob.tolist(), *(1 - prob).tolist()], pd.Index(range(DOCUMENTS))
        winners = [evalica.Winner.X] * len(xs)

        def bradley_terry() -> FloatArray:
            scores = evalica.bradley_terry(xs, ys, winners, index=index, weights=weights).scores
            with np.errstate(divide="ignore"):
                return np.log(scores.sort_index().to_numpy())

        calls["evalica bradley_terry"] = bradley_terry
    except ImportError:
        print("evalica is not installed: left out", file=sys.stderr)
    return calls


def cpu(call: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of CPU, the least of some tries: other work on the machine only adds."""
    tries = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        tries.append(time.process_time() - start)
    return min(tries)


def ours(regime: str, queries: int, rng: np.random.Generator) -> dict[str, float]:
    """CPU seconds per query of the batched fit, and of `fit_query` one at a time."""
    pairs, prob = simulated(queries, rng, soft=regime == "soft")
    batch = batch_of(pairs, prob)
    times = {}
    for link in ("logit", "probit"):
        for stderr in (False, True):
            call = _fit(batch, link, stderr)
            times[f"zelo {link}{' with stderr' if stderr else ''}"] = cpu(call, 5) / queries
    first, second = pairs[0].T
    times["zelo fit_query, logit"] = min(cpu(lambda: fit_query(DOCUMENTS, first, second, prob[0], link="logit")) for _ in range(50))
    return times


def _fit(batch: Batch, link: Any, stderr: bool) -> Callable[[], object]:
    return lambda: fit_queries(batch, link=link, threads=1, stderr=stderr)


def compare(queries: int) -> Iterator[dict[str, Any]]:
    """Yield one row per fit and regime: CPU ms per query, ratio to ours, distance from the optimum where the peer has ours."""
    fit_query(2, [0], [1], [1.0])
    for regime in ("votes", "soft"):
        rng = np.random.default_rng(0)
        times: dict[str, list[float]] = {name: [value] for name, value in ours(regime, 2000, rng).items()}
        errors: dict[str, list[float]] = {}
        for pairs, prob in zip(*simulated(queries, rng, soft=regime == "soft"), strict=True):
            for name, call in peers(pairs, prob, 0.0 if regime == "soft" else 1e-3).items():
                times.setdefault(name, []).append(cpu(call, 2))
                sd = PRIOR_SD if name.startswith("scipy") else 1e3
                if regime == "soft" or sd == PRIOR_SD:
                    scores, best = call(), fit_query(DOCUMENTS, *pairs.T, prob, link="logit", prior_sd=sd).score
                    errors.setdefault(name, []).append(float(np.abs(scores - scores.mean() - best).max()))
        reference = times["zelo logit"][0]
        for name, values in times.items():
            median = float(np.median(values))
            row = {"name": name, "regime": regime, "value": round(1000 * median, 4), "unit": "CPU ms per query", "baseline": "zelo logit"}
            error = {"largest_difference": float(f"{np.max(errors[name]):.1e}")} if name in errors else {}
            yield row | {"ratio": round(median / reference, 2)} | error


def solve_all(link: Link, stderr: bool) -> dict[str, Any]:
    """Fit 112,000 queries that are made batch by batch; only the fits are timed."""
    rng = np.random.default_rng(1)
    fit_query(2, [0], [1], [1.0])
    wall = used = 0.0
    for done in range(0, FULL, PER_BATCH):
        batch = batch_of(*simulated(min(PER_BATCH, FULL - done), rng))
        start, start_cpu = time.perf_counter(), time.process_time()
        fit_queries(batch, link=link, stderr=stderr)
        wall, used = wall + time.perf_counter() - start, used + time.process_time() - start_cpu
    name = f"solving, {link}{' with stderr' if stderr else ''}"
    return {"name": name, "value": round(wall, 2), "unit": "s", "cpu_s": round(used, 2), "queries_per_s": round(FULL / wall)}


def make_file(path: Path) -> None:
    """Write 112,000 x 400 preferences over a corpus of a million documents, as the stage `pool` would."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zelo.artifacts import ARTIFACTS

    rng = np.random.default_rng(2)
    corpus = pa.array([f"doc{i:07d}" for i in range(1_000_000)])
    kinds = {"string": pa.string(), "double": pa.float64(), "int32": pa.int32()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in ARTIFACTS["preferences"].columns.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for begin in range(0, FULL, PER_BATCH):
            queries = min(PER_BATCH, FULL - begin)
            pairs, prob = simulated(queries, rng)
            # a query's candidates: 100 different documents from anywhere in the corpus
            places = (rng.integers(10**6, size=(queries, 1)) + 9_973 * np.arange(DOCUMENTS)) % 10**6
            named = [corpus.take(pa.array(np.take_along_axis(places, pairs[:, :, side], 1).ravel())) for side in (0, 1)]
            ids = pa.array([f"query{begin + q:06d}" for q in range(queries)]).take(pa.array(np.repeat(np.arange(queries), ROWS)))
            m = queries * ROWS
            numbers = {"prob_a": prob.ravel(), "n_judges": np.full(m, 3), "weight": np.full(m, 3.0)}
            numbers |= {"slope": np.ones(m), "offset": np.zeros(m)}
            columns = {"query_id": ids, "doc_id_a": named[0], "doc_id_b": named[1], **numbers}
            writer.write_table(pa.table([pa.array(columns[name], schema.field(name).type) for name in schema.names], schema=schema))


def through_files(source: Path, link: Link) -> dict[str, Any]:
    """Parquet in to Parquet out, standard errors included."""
    from zelo.fitting import fit_parquet

    fit_query(2, [0], [1], [1.0])
    start, start_cpu = time.perf_counter(), time.process_time()
    totals = fit_parquet(source, source.with_name("scores.parquet"), source.with_name("fits.parquet"), link=link)
    row = {"name": f"Parquet to Parquet, {link} with stderr", "value": round(time.perf_counter() - start, 2), "unit": "s"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row | {"cpu_s": round(time.process_time() - start_cpu, 2), "peak_mb": round(peak), "queries": totals.queries}


def full(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what each part of the run at scale measured, in a process of its own, so that memory is that part's."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "preferences.parquet"
    for part in ("make", "solve:probit:", "solve:logit:", "solve:probit:stderr", "files:probit", "files:logit"):
        command = [sys.executable, __file__, "--full", "--part", part, "--folder", str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        if part == "make":
            yield {"name": "size of the file", "value": round(source.stat().st_size / 2**20), "unit": "MB"}
        else:
            yield json.loads(done.stdout)


def run_part(part: str, folder: Path) -> None:
    kind, *rest = part.split(":")
    if kind == "make":
        make_file(folder / "preferences.parquet")
    elif kind == "solve":
        print(json.dumps(solve_all(rest[0], bool(rest[1]))))  # type: ignore[arg-type]
    else:
        print(json.dumps(through_files(folder / "preferences.parquet", rest[0])))  # type: ignore[arg-type]


def show(rows: Iterator[dict[str, Any]], as_json: bool) -> None:
    for row in rows:
        if as_json:
            print(json.dumps(row), flush=True)
            continue
        label = f"{row['name']} ({row['regime']})" if "regime" in row else row["name"]
        notes = [f"{row['ratio']:>8.2f} x {row['baseline']}"] if "ratio" in row else []
        notes += [f"{key} {value}" for key, value in row.items() if key not in ("name", "regime", "value", "unit", "ratio", "baseline")]
        print(f"{label:<44}{row['value']:>10} {row['unit']}  {'  '.join(notes)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--queries", type=int, default=20, help="how many queries the peers fit")
    parser.add_argument("--full", action="store_true", help="112,000 queries instead of peers")
    parser.add_argument("--folder", type=Path, help="where --full puts its files (2 GB); default a temporary folder")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.folder)
        return
    if not options.json:
        size = f"{FULL:,} queries of " if options.full else ""
        print(f"{size}{DOCUMENTS} documents, {ROWS} comparisons; {os.cpu_count()} cores, {thread_count()} threads")
    if options.full:
        with tempfile.TemporaryDirectory() as temporary:
            show(full(options.folder or Path(temporary)), options.json)
    else:
        show(compare(options.queries), options.json)


if __name__ == "__main__":
    main()
