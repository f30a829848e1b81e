"""How fast one query's scores are fitted, as ratios to named peers in this process: same data, same prior, one thread.

    python benchmarks/fit.py [--json] [--queries 40]

Peers: choix 0.4 `opt_pairwise` (Newton-CG) and `ilsr_pairwise_dense`, scipy L-BFGS-B on our own objective. The plain fit
that is measured here is the reference; the batched one comes with the scores issue.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import choix
import numpy as np
from scipy.optimize import minimize

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.paired_comparison import fit_scores, negative_log_posterior

DOCUMENTS, DEGREE, PRIOR_SD = 100, 8, 1.5


def problems(queries: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return (first, second, winner is first) of simulated queries: 100 documents, 400 comparisons, logistic noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(queries):
        truth = rng.normal(0, 1.5, DOCUMENTS)
        first, second = hamiltonian_cycles(DOCUMENTS, DEGREE, rng).T
        made.append((first, second, (truth[first] - truth[second] + rng.logistic(0, 1, len(first)) > 0).astype(float)))
    return made


def cpu_ms(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def peers(first: np.ndarray, second: np.ndarray, wins: np.ndarray) -> dict[str, Callable[[], object]]:
    hard = [(int(a), int(b)) if w else (int(b), int(a)) for a, b, w in zip(first, second, wins, strict=True)]
    dense = np.zeros((DOCUMENTS, DOCUMENTS))
    for winner, loser in hard:
        dense[winner, loser] += 1
    weight = np.ones(len(first))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, _ = negative_log_posterior(x, first, second, wins, weight, link="logit", prior_sd=PRIOR_SD)
        return value, gradient

    return {
        "zelo probit": lambda: fit_scores(DOCUMENTS, first, second, wins),
        "zelo logit": lambda: fit_scores(DOCUMENTS, first, second, wins, link="logit", prior_sd=PRIOR_SD),
        "choix ilsr_pairwise_dense": lambda: choix.ilsr_pairwise_dense(dense, alpha=0.1),
        "choix opt_pairwise": lambda: choix.opt_pairwise(DOCUMENTS, hard, alpha=1 / (2 * PRIOR_SD**2), method="Newton-CG"),
        "scipy L-BFGS-B": lambda: minimize(objective, np.zeros(DOCUMENTS), jac=True, method="L-BFGS-B"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--queries", type=int, default=20)
    options = parser.parse_args()
    times: dict[str, list[float]] = {}
    for problem in problems(options.queries):
        for name, call in peers(*problem).items():
            times.setdefault(name, []).append(cpu_ms(call))
    ours = float(np.median(times["zelo logit"]))
    if not options.json:
        print(
            f"CPU ms per query, {DOCUMENTS} documents, {DOCUMENTS * DEGREE // 2} comparisons, "
            f"median of {options.queries}; {os.cpu_count()} cores"
        )
    for name, values in times.items():
        median = float(np.median(values))
        if options.json:
            row = {
                "name": name,
                "value": round(median, 3),
                "unit": "CPU ms per query",
                "baseline": "zelo logit",
                "ratio": round(median / ours, 2),
            }
            print(json.dumps(row))
        else:
            print(f"{name:<28}{median:>9.2f}   {median / ours:>7.2f} x zelo logit")


if __name__ == "__main__":
    main()
