"""Does the pointwise loop train? A random decoder and a random encoder learn a task with known truth, from nothing.

    python experiments/it_trains/pointwise.py [--seeds 3]

A document is 3 to 9 of 24 words; every word has a value; the question is "easy" or "strict". The target is
sigmoid(3 * mean value + 1) for easy questions, - 1 for strict ones. 250 questions x 16 documents (a tenth held out), mean squared
error; measured on 20 other questions x 40 documents. Prints one JSON object per model and seed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import numpy as np
from scipy.stats import spearmanr

from test_pointwise_training import SETTINGS, base_of, lessons
from zelo.training.pointwise import train_pointwise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for seed in range(options.seeds):
        for kind, rate in (("language_model", 6e-3), ("cross_encoder", 3e-3)):
            with tempfile.TemporaryDirectory() as name:
                folder, start = Path(name), time.process_time()
                base, settings = str(base_of(folder, kind)), replace(SETTINGS, learning_rate=rate)
                given = lessons(seed, 250)
                model, report = train_pointwise(
                    given, base, settings, seed, folder / "m", folder / "w", lambda *_: None, kind=kind, threads=1
                )
                seconds = time.process_time() - start
                found = [spearmanr(model.score(x.query, x.documents), x.targets).statistic for x in lessons(1000 + seed, 20, 40)]
                held = {name: round(value, 4) for name, value in report.evaluation.items()}
                row = {"model": kind, "seed": seed, "rank_correlation": round(float(np.mean(found)), 4), "lowest": round(min(found), 4)}
                print(json.dumps({**row, "held_out": held, "tokens": report.tokens, "cpu_seconds": round(seconds, 1)}), flush=True)


if __name__ == "__main__":
    main()
