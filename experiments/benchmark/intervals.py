"""Do the intervals hold what they promise?

`python experiments/benchmark/intervals.py`

Scores are drawn from the prior, four systems rank by them with noise, judges answer as the model says (clamped votes, two judges) over
cycles. The interval of each system's nDCG@10 and of each difference should hold the mean over all questions that could be asked in 95 %
of repetitions. One line of JSON per setting.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.links import PRIOR_SD, win_probability
from zelo.core.paired_comparison import Batch
from zelo.core.score_draws import draw_scores
from zelo.core.system_comparison import anchors, gains_of, ranking_values, replicate_means, rescaled

FloatArray = NDArray[np.float64]
DOCUMENTS, JUDGES, DRAWS = 25, 2, 60
NOISE = (0.3, 0.4, 0.8, 2.0)  # of the systems, in units of the scores' spread


def truth(rng: np.random.Generator, spiky: bool) -> FloatArray:
    """Scores of a question's documents: from the prior, or two good ones among equals."""
    if not spiky:
        return rng.normal(scale=PRIOR_SD["probit"], size=DOCUMENTS)
    return np.where(np.arange(DOCUMENTS) < 2, 1.2, 0.0)


def shown(scores: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """The first ten documents of every system [systems, 10]."""
    spread = scores.std()
    return np.stack([np.argsort(-(scores + noise * spread * rng.normal(size=len(scores))))[:10] for noise in NOISE])


def once(questions: int, degree: int, spiky: bool, rng: np.random.Generator) -> FloatArray:
    """Replicates [resamples, systems] of one benchmark."""
    rows, places, ends = [], [], [0]
    for _ in range(questions):
        scores = truth(rng, spiky)
        places.append(shown(scores, rng))
        pairs = hamiltonian_cycles(DOCUMENTS, degree, rng)
        chance = win_probability(scores[pairs[:, 0]] - scores[pairs[:, 1]])
        rows.append(np.column_stack([pairs, (rng.random((len(pairs), JUDGES)) < chance[:, None]).mean(axis=1)]))
        ends.append(ends[-1] + len(pairs))
    table = np.concatenate(rows)
    batch = Batch(
        [DOCUMENTS] * questions, ends, table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], np.full(len(table), float(JUDGES))
    )
    normal = [rng.standard_normal((DRAWS, DOCUMENTS)) for _ in range(questions)]
    drawn = draw_scores(batch, normal).drawn
    values = []
    for scores, place in zip(drawn, places, strict=True):
        gains = gains_of(scores, "probit")
        values.append(np.concatenate([ranking_values(gains, place), anchors(gains, 10)], axis=1))
    return replicate_means(np.stack(values), 1000, rng)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200)
    chosen = parser.parse_args()
    for spiky in (False, True):
        rng = np.random.default_rng(7)
        every = [(s := truth(rng, spiky), shown(s, rng)) for _ in range(20_000)]
        expected = np.mean([ranking_values(gains_of(s[None], "probit"), p)[0] for s, p in every], axis=0)
        for degree in (4, 8, 16):
            held, held_differences, bias, plain = np.zeros(len(NOISE)), np.zeros(len(NOISE) - 1), np.zeros(len(NOISE)), np.zeros(len(NOISE))
            for repetition in range(chosen.repetitions):
                raw = once(60, degree, spiky, np.random.default_rng([repetition, degree, int(spiky)]))
                plain += raw[:, :-2].mean(axis=0) - expected
                drawn = rescaled(raw)
                low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
                held += (low <= expected) & (expected <= high)
                bias += drawn.mean(axis=0) - expected
                low, high = np.quantile(drawn[:, :1] - drawn[:, 1:], (0.025, 0.975), axis=0)
                held_differences += (low <= expected[0] - expected[1:]) & (expected[0] - expected[1:] <= high)
            line = {"scores": "two good ones" if spiky else "as the prior says", "degree": degree, "repetitions": chosen.repetitions}
            line |= {"values_held": (held / chosen.repetitions).round(3).tolist(), "bias": (bias / chosen.repetitions).round(3).tolist()}
            line |= {"bias_without_correction": (plain / chosen.repetitions).round(3).tolist()}
            line |= {"differences_held": (held_differences / chosen.repetitions).round(3).tolist(), "expected": expected.round(3).tolist()}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
