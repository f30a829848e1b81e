"""Fusion against exact arithmetic, and its rule for ties."""

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.fusion import min_max_fusion, reciprocal_rank_fusion
from zelo.errors import InputError

Leg = list[tuple[str, float]]


def leg(doc_ids: Sequence[str]) -> Leg:
    return [(doc_id, float(-rank)) for rank, doc_id in enumerate(doc_ids)]


doc_lists = st.lists(st.sampled_from("abcdefgh"), unique=True)
several = st.lists(doc_lists.map(leg), min_size=1, max_size=4)
scored = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(-4, 4).map(float)), unique_by=lambda row: row[0]).map(
    lambda rows: sorted(rows, key=lambda row: -row[1])
)


def by_hand(legs: Sequence[Leg], parts: Sequence[dict[str, Fraction]]) -> list[tuple[str, Fraction]]:
    fused = {doc_id: sum((part.get(doc_id, Fraction(0)) for part in parts), Fraction(0)) for ranking in legs for doc_id, _ in ranking}
    ranks = {doc_id: min([d for d, _ in ranking].index(doc_id) for ranking in legs if doc_id in dict(ranking)) for doc_id in fused}
    return sorted(fused.items(), key=lambda row: (-row[1], ranks[row[0]], row[0]))


@settings(max_examples=80, deadline=None)
@given(several)
def test_reciprocal_rank_fusion_is_exact(legs: list[Leg]) -> None:
    parts = [{doc_id: Fraction(1, 60 + rank) for rank, (doc_id, _) in enumerate(ranking, 1)} for ranking in legs]
    expected = by_hand(legs, parts)
    fused = reciprocal_rank_fusion(legs)
    assert [doc_id for doc_id, _ in fused] == [doc_id for doc_id, _ in expected]
    assert [score for _, score in fused] == pytest.approx([float(score) for _, score in expected], rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.lists(scored, min_size=2, max_size=2))
def test_min_max_fusion_is_exact(legs: list[Leg]) -> None:
    parts = []
    for ranking in legs:
        scores = [Fraction(score) for _, score in ranking]
        width = max(scores) - min(scores) if scores else Fraction(0)
        parts.append({doc_id: (Fraction(score) - min(scores)) / width if width else Fraction(1) for doc_id, score in ranking})
    expected = {doc_id: float(score / 2) for doc_id, score in by_hand(legs, parts)}
    fused = min_max_fusion(legs)
    assert dict(fused) == pytest.approx(expected, rel=1e-12)
    assert all(0.0 <= score <= 1.0 for _, score in fused)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@settings(max_examples=60, deadline=None)
@given(legs=several, data=st.data())
def test_the_order_of_legs_and_the_depth_change_nothing_else(legs: list[Leg], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(legs))
    depth = data.draw(st.integers(0, 9))
    for fuse in (reciprocal_rank_fusion, min_max_fusion):
        assert fuse(shuffled) == fuse(legs)
        assert fuse(legs, depth=depth) == fuse(legs)[:depth]


def test_ties_go_to_the_best_rank_then_the_id() -> None:
    # x and w tie (1/61), y and z tie (1/62): by id. With three legs, sums in any order must still tie.
    assert [d for d, _ in reciprocal_rank_fusion([leg(["x", "y"]), leg(["w", "z"])])] == ["w", "x", "y", "z"]
    rotated = [leg("abc"), leg("bca"), leg("cab")]
    fused = reciprocal_rank_fusion(rotated)
    assert [d for d, _ in fused] == ["a", "b", "c"]
    assert len({score for _, score in fused}) == 1
    # a, m and z all have 0.5, but m was never first: the best rank decides before the id does.
    ranked = min_max_fusion([[("z", 2.0), ("m", 1.0), ("a", 0.0)], [("a", 4.0), ("m", 2.0), ("q", 0.0)]])
    assert [d for d, _ in ranked] == ["a", "z", "m", "q"]


def test_min_max_by_hand() -> None:
    lexical, dense = [("a", 30.0), ("b", 20.0), ("c", 10.0)], [("b", 0.9), ("d", 0.8)]
    assert min_max_fusion([lexical, dense]) == [("b", 0.75), ("a", 0.5), ("d", 0.0), ("c", 0.0)]
    assert dict(min_max_fusion([lexical, dense], weights=[3, 1])) == pytest.approx({"a": 0.75, "b": 0.625, "c": 0.0, "d": 0.0})
    assert min_max_fusion([[("a", 5.0)], []]) == [("a", 0.5)]


def test_nothing_in_nothing_out() -> None:
    for fuse in (reciprocal_rank_fusion, min_max_fusion):
        assert fuse([]) == []
        assert fuse([[], []]) == []


def test_unusable_input_is_refused() -> None:
    twice = [("a", 2.0), ("b", 1.0), ("a", 0.0)]
    for fuse in (reciprocal_rank_fusion, min_max_fusion):
        with pytest.raises(InputError, match="a document twice"):
            fuse([twice])
        with pytest.raises(InputError, match="depth"):
            fuse([leg("ab")], depth=-1)
    with pytest.raises(InputError, match="k must be"):
        reciprocal_rank_fusion([leg("ab")], k=-1)
    with pytest.raises(InputError, match="not finite"):
        min_max_fusion([[("a", float("nan")), ("b", 1.0)]])
    with pytest.raises(InputError, match="1 fusion weights for 2 rankings"):
        min_max_fusion([leg("ab"), leg("ab")], weights=[1.0])
    for weights in ([0.0, 0.0], [2.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0]):
        with pytest.raises(InputError, match="fusion weights must be"):
            min_max_fusion([leg("ab"), leg("ab")], weights=weights)
