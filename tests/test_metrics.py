"""Measures against trec_eval's code and ir_measures on integer labels, and by hand on fractions."""

import math

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.metrics import evaluate_ranking, ndcg_at
from zelo.errors import InputError

Rankings = dict[str, list[tuple[str, float]]]
Qrels = dict[str, dict[str, int]]


def collection(seed: int, decimals: int | None) -> tuple[Rankings, Qrels]:
    """40 queries; graded labels, some negative, some queries without a relevant document; scores rounded so that they tie."""
    rng = np.random.default_rng(seed)
    ranking: Rankings = {}
    qrels: Qrels = {}
    for q in range(40):
        doc_ids = [f"d{i}" for i in rng.permutation(60)]
        scores = rng.permutation(60) / 64 if decimals is None else rng.normal(size=60).round(decimals)
        depth = int(rng.integers(1, 50))
        ranking[f"q{q}"] = list(zip(doc_ids[:depth], scores.tolist()[:depth], strict=True))
        judged = rng.choice(60, size=20, replace=False)
        labels = rng.choice([-1, 0, 0, 1, 2, 3], size=20) if q % 10 else np.zeros(20, dtype=int)
        qrels[f"q{q}"] = {f"d{i}": int(label) for i, label in zip(judged, labels, strict=True)}
    return ranking, qrels


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_agrees_with_trec_eval_ties_included(decimals: int | None) -> None:
    ranking, qrels = collection(1, decimals)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.5,10,100", "recall.5,10,100", "recip_rank"}).evaluate(
        {query_id: dict(documents) for query_id, documents in ranking.items()}
    )
    names = {f"nDCG@{k}": f"ndcg_cut_{k}" for k in (5, 10, 100)} | {f"Recall@{k}": f"recall_{k}" for k in (5, 10, 100)}
    names["MRR@100"] = "recip_rank"
    ours = evaluate_ranking(ranking, qrels, names)
    for name, theirs_name in names.items():
        assert ours[name] == pytest.approx({query_id: values[theirs_name] for query_id, values in theirs.items()}, abs=1e-12)
    assert len(set(ours["nDCG@10"].values())) > 10  # The agreement is not one about zeros.


def test_agrees_with_ir_measures_and_counts_missing_queries() -> None:
    ranking, qrels = collection(2, None)  # Without ties: ir_measures' judged breaks them the other way than its nDCG.
    for query_id in ("q3", "q7"):
        del ranking[query_id]
    ranking["unknown"] = [("d1", 1.0)]
    names = {"nDCG@10": "nDCG@10", "Recall@20": "R@20", "MRR@3": "RR@3", "judged@7": "Judged@7"}
    ours = evaluate_ranking(ranking, qrels, names)
    measures = {name: ir_measures.parse_measure(theirs) for name, theirs in names.items()}
    run = {query_id: dict(documents) for query_id, documents in ranking.items()}
    theirs: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in names}
    for name, measure in measures.items():
        for metric in ir_measures.iter_calc([measure], qrels, run):
            theirs[name][metric.query_id] = metric.value
    for name in names:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-12)
        assert ours[name]["q3"] == ours[name]["q7"] == 0.0
    assert np.mean(list(ours["nDCG@10"].values())) == pytest.approx(
        ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10]
    )


def test_fractional_gains_by_hand() -> None:
    qrels = {"q": {"a": 0.4, "b": 1.9, "c": 2.6, "d": -1.5}}
    ranking = {"q": [("b", 0.9), ("x", 0.8), ("d", 0.7), ("c", 0.6)]}
    values = evaluate_ranking(ranking, qrels, ["nDCG@4", "nDCG@2", "Recall@3", "MRR@1", "judged@3", "judged@10"])
    ideal = 2.6 + 1.9 / math.log2(3) + 0.4 / 2
    assert values["nDCG@4"]["q"] == pytest.approx((1.9 + 2.6 / math.log2(5)) / ideal)
    assert values["nDCG@2"]["q"] == pytest.approx(1.9 / (2.6 + 1.9 / math.log2(3)))
    assert values["Recall@3"]["q"] == pytest.approx(1 / 3)
    assert values["MRR@1"]["q"] == 1.0
    assert values["judged@3"]["q"] == pytest.approx(2 / 3)
    assert values["judged@10"]["q"] == pytest.approx(3 / 4)


gains = st.lists(st.floats(-1.0, 5.0).map(lambda gain: round(gain, 6)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(gains=gains, k=st.integers(1, 15), factor=st.sampled_from([0.125, 0.5, 3.0, 10.0]), data=st.data())
def test_ndcg_properties(gains: list[float], k: int, factor: float, data: st.DataObject) -> None:
    value = ndcg_at(gains, gains, k)
    assert 0.0 <= value <= 1.0 + 1e-12
    assert ndcg_at([factor * gain for gain in gains], [factor * gain for gain in gains], k) == pytest.approx(value, abs=1e-9)
    best = sorted(gains, reverse=True)
    assert ndcg_at(best, data.draw(st.permutations(gains)), k) == pytest.approx(1.0 if best[0] > 0 else 0.0)
    i = data.draw(st.integers(0, len(gains) - 1))
    j = data.draw(st.integers(0, i))
    if gains[i] > gains[j]:  # Moving the better document up never hurts.
        swapped = list(gains)
        swapped[i], swapped[j] = gains[j], gains[i]
        assert ndcg_at(swapped, gains, k) >= value - 1e-12


def test_ties_are_broken_by_id_descending_whatever_the_order_given() -> None:
    qrels = {"q": {"a": 1.0, "b": 0.0}}
    for documents in ([("a", 1.0), ("b", 1.0)], [("b", 1.0), ("a", 1.0)]):
        assert evaluate_ranking({"q": documents}, qrels, ["MRR@10"]) == {"MRR@10": {"q": 0.5}}


def test_unusable_input_is_refused() -> None:
    qrels = {"q": {"a": 1.0}}
    for name in ("NDCG@10", "nDCG@0", "nDCG", "nDCG@ten", "nDCG@10 "):
        with pytest.raises(InputError, match="unknown measure"):
            evaluate_ranking({}, qrels, [name])
    with pytest.raises(InputError, match="query 'q': a document is ranked twice"):
        evaluate_ranking({"q": [("a", 1.0), ("a", 0.5)]}, qrels, ["nDCG@10"])
    with pytest.raises(InputError, match="query 'q': a score is NaN"):
        evaluate_ranking({"q": [("a", math.nan)]}, qrels, ["nDCG@10"])
    with pytest.raises(InputError, match="a gain is not finite"):
        evaluate_ranking({}, {"q": {"a": math.inf}}, ["nDCG@10"])
    with pytest.raises(InputError, match="cutoff"):
        ndcg_at([1.0], [1.0], 0)
