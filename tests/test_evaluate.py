"""The evaluate stage: its numbers against pytrec_eval, and what it does where something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from fabricate import Fabricated
from zelo.artifacts import read_table
from zelo.collections.beir import read_qrels
from zelo.collections.trec import read_run, write_run
from zelo.core.significance import holm
from zelo.report.measured import Measured, find, read_measured
from zelo.stages import evaluate
from zelo.types import ScoredDoc

KEYS = ["system", "measure", "split", "value", "low", "high", "queries", "baseline", "p_value"]


def rows_of(made: Fabricated) -> list[Measured]:
    evaluate.run(made.context())
    return read_measured(made.workspace.path("metrics"))


def test_values_are_pytrec_evals(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws")
    rows = rows_of(made)
    qrels: dict[str, dict[str, int]] = {}
    for row in read_qrels(made.workspace.path("qrels") / "test.tsv"):
        qrels.setdefault(row.query_id, {})[row.doc_id] = int(row.relevance)
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100"})
    run = read_run(made.workspace.root / "rankings/pointwise.trec")
    expected = evaluator.evaluate({q: {d.doc_id: d.score for d in ranking} for q, ranking in run.items()})
    for measure, name in (("nDCG@10", "ndcg_cut_10"), ("Recall@100", "recall_100")):
        row = find(rows, "pointwise", measure)
        assert row is not None
        assert row.value == pytest.approx(np.mean([found[name] for found in expected.values()]))
        assert row.low <= row.value <= row.high
        assert row.queries == len(made.test)
    per_query = read_table(made.workspace.path("per_query"), "per_query")
    values = zip(*per_query.values(), strict=True)
    found = {q: v for system, measure, q, v in values if (system, measure) == ("pointwise", "nDCG@10")}
    assert found == pytest.approx({q: expected[q]["ndcg_cut_10"] for q in made.test})


def test_one_object_per_line_with_the_promised_keys(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws")
    evaluate.run(made.context())
    lines = made.workspace.path("metrics").read_text("utf-8").splitlines()
    assert all(list(json.loads(line))[: len(KEYS)] == KEYS for line in lines)
    pairs = [(row["system"], row["measure"]) for row in map(json.loads, lines)]
    assert len(set(pairs)) == len(pairs)
    assert {system for system, _ in pairs} == {"bm25", "dense", "fused", "judges", "pointwise"}


def test_the_baseline_is_the_best_first_stage_and_not_tested(tmp_path: Path) -> None:
    rows = rows_of(Fabricated(tmp_path / "ws", test=40))
    first = [row for row in rows if row.measure == "nDCG@10"]
    best = max((row for row in first if row.system in ("bm25", "dense", "fused")), key=lambda row: row.value)
    assert {row.baseline for row in first} == {best.system}
    assert best.p_value is None
    assert best.difference is None
    for row in first:
        if row is not best:
            assert row.difference == pytest.approx(row.value - best.value)
            assert row.difference_low is not None
            assert row.difference_high is not None
            assert row.difference_low <= row.difference <= row.difference_high
    student = find(rows, "pointwise", "nDCG@10")
    assert student is not None
    assert student.p_value is not None
    assert student.p_value < 0.05
    judged = [row for row in rows if row.measure == "judged@10"]
    assert all(row.p_value is None and row.baseline is None for row in judged)
    unchanged = find(rows, "pointwise", "Recall@100")  # the same documents in another order
    assert unchanged is not None
    assert unchanged.p_value == 1.0


def test_p_values_are_corrected_for_the_systems_compared() -> None:
    queries = [f"q{i}" for i in range(30)]
    rng = np.random.default_rng(0)
    dense = dict(zip(queries, rng.random(30).tolist(), strict=True))
    better = {q: v + 0.05 * rng.random() for q, v in dense.items()}
    alike = {q: v + 0.2 * rng.normal() - 0.1 for q, v in dense.items()}
    alone = evaluate.compare({"nDCG@10": {"dense": dense, "judges": better}}, "nDCG@10", "test", 2000, 0)
    both = evaluate.compare({"nDCG@10": {"dense": dense, "judges": better, "pointwise": alike}}, "nDCG@10", "test", 2000, 0)
    single = next(row.p_value for row in alone if row.system == "judges")
    paired = {row.system: row.p_value for row in both}
    assert single is not None
    assert paired["judges"] == pytest.approx(holm([single, 1.0])[0]) == pytest.approx(2 * single)


def test_a_question_that_a_system_lacks_counts_0(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws")
    full = find(rows_of(made), "pointwise", "nDCG@10")
    path = made.workspace.root / "rankings/pointwise.trec"
    run = read_run(path)
    dropped = made.test[0]
    lost = {q: v for s, m, q, v in _per_query(made) if (s, m) == ("pointwise", "nDCG@10")}[dropped]
    write_run(path, {q: ranking for q, ranking in run.items() if q != dropped}, "pointwise")
    part = find(rows_of(made), "pointwise", "nDCG@10")
    assert full is not None
    assert part is not None
    assert part.queries == full.queries
    assert part.value == pytest.approx(full.value - lost / full.queries)


def test_equal_scores_keep_the_order_of_the_file(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws", test=1)
    query_id = made.test[0]
    best = [made.candidates[query_id][i] for i in np.argsort(-made.truth[query_id])]
    for name, order in (("a", best), ("b", best[::-1])):
        write_run(made.workspace.root / f"rankings/{name}.trec", [[ScoredDoc(query_id, d, 0.5) for d in order]], name)
    rows = rows_of(made)
    first, last = find(rows, "a", "nDCG@10"), find(rows, "b", "nDCG@10")
    assert first is not None
    assert last is not None
    assert (first.value, last.value) == (1.0, 0.0)


def test_training_questions_are_not_measured(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws")
    with (made.workspace.path("qrels") / "test.tsv").open("a") as handle:
        handle.write(f"{made.queries[0]}\td0000\t3\n")
    row = rows_of(made)[0]
    assert row.queries == len(made.test)


def test_agreement_with_labels_ranks_the_systems_by_their_noise(tmp_path: Path) -> None:
    rows = rows_of(Fabricated(tmp_path / "ws", test=30))
    accuracy = {row.system: row.value for row in rows if row.measure == "pairwise_accuracy_labels"}
    assert accuracy["judges"] > accuracy["pointwise"] > accuracy["fused"] > 0.5
    tau = {row.system: row.value for row in rows if row.measure == "kendall_tau_labels"}
    assert 1 > tau["judges"] > tau["fused"] > 0


def test_without_labels_nothing_is_measured_and_it_says_so(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws", labels=False)
    outcome = evaluate.run(made.context())
    assert made.workspace.path("metrics").read_bytes() == b""
    assert read_table(made.workspace.path("per_query"), "per_query")["query_id"] == []
    assert "no test question has labels" in outcome.notes[0]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        made = Fabricated(tmp_path / name)
        evaluate.run(made.context())
        outputs.append([made.workspace.path(a).read_bytes() for a in ("metrics", "per_query")])
    assert outputs[0] == outputs[1]


def _per_query(made: Fabricated) -> list[tuple[str, str, str, float]]:
    return list(zip(*read_table(made.workspace.path("per_query"), "per_query").values(), strict=True))
