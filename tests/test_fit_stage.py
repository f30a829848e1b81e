"""The stage `fit` says what its scores are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zelo.artifacts import read_table, write_table
from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.links import win_probability
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.stages import fit
from zelo.workspace import Workspace


def notes(root: Path, pairs: list[list[int]], prob: list[float], weight: float = 1.0) -> tuple[str, ...]:
    """Run the stage on three queries that were compared alike."""
    workspace = Workspace.create(root, from_dict({"ingest": {"collection": "made_up"}}))
    m = len(pairs)
    table = {
        "query_id": [f"q{q}" for q in range(3) for _ in pairs],
        "doc_id_a": [f"d{a:02d}" for a, _ in pairs] * 3,
        "doc_id_b": [f"d{b:02d}" for _, b in pairs] * 3,
        "prob_a": prob * 3,
        "n_judges": [3] * m * 3,
        "weight": [weight] * m * 3,
        "slope": [1.0] * m * 3,
        "offset": [0.0] * m * 3,
    }
    for name, columns in (("preferences", table), ("duplicates", {"query_id": [], "doc_id": [], "same_as": []})):
        workspace.path(name).parent.mkdir(exist_ok=True)
        write_table(workspace.path(name), name, columns)
    outcome = fit.run(Context(workspace, workspace.recipe, root, Silent()))
    assert len(read_table(workspace.path("fits"), "fits")["query_id"]) == 3
    return outcome.notes


def cycles(seed: int, n: int = 200) -> tuple[list[list[int]], np.ndarray]:
    """Pairs, and P(the first wins) by the model of the fit."""
    rng = np.random.default_rng(seed)
    pairs, truth = hamiltonian_cycles(n, 16, rng), rng.normal(0, 0.5, n)
    return pairs.tolist(), win_probability(truth[pairs[:, 0]] - truth[pairs[:, 1]])


def test_disconnected_queries_are_reported(tmp_path: Path) -> None:
    text = " ".join(notes(tmp_path / "apart", [[0, 1], [2, 3]], [0.7, 0.4]))
    assert "3 of 3 queries are disconnected" in text
    pairs, prob = cycles(0)
    assert "disconnected" not in " ".join(notes(tmp_path / "one", pairs, prob.tolist()))


def test_the_dispersion_is_explained(tmp_path: Path) -> None:
    pairs, prob = cycles(1)
    exact = notes(tmp_path / "exact", pairs, prob.tolist())[0]
    assert exact == "dispersion 0.02 (the least that is believed): answers scatter far less than votes would"
    votes = np.random.default_rng(2).random(len(prob)) < prob
    assert "a weight of 1 counts as" in notes(tmp_path / "votes", pairs, votes.astype(float).tolist())[0]
    assert "the most that is believed" in notes(tmp_path / "wild", pairs, votes.astype(float).tolist(), weight=1e4)[0]
