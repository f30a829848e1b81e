"""The audit of judges from their sealed answers: simulated judges with known faults, which it has to find."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fabricate import Fabricated
from zelo.artifacts import ARTIFACTS, Columns, read_table, write_table
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge
from zelo.report.judging import Answers, Audit, audit_answers, audit_judges, clamp
from zelo.stages import evaluate, report

ATTACKED = {("q00", "d07"), ("q03", "d11")}
"""Bad documents that sway the judge "gullible" into calling them perfect."""


def gain(query: str, text: str) -> float:
    """How good a document is: its number, in another order for each query."""
    return float(np.random.default_rng([int(query[1:]), int(text[1:])]).normal()) - 3.0 * ((query, text) in ATTACKED)


def gullible_gain(query: str, text: str) -> float:
    return 6.0 if (query, text) in ATTACKED else gain(query, text)


class Made:
    """Judgments of simulated judges about 12 queries with 24 documents, ordered and oriented as `judge` seals them."""

    def __init__(self, judges: list[SimulatedJudge], *, swapped_share: float = 0.3, flags: bool = True, clamped: bool = False) -> None:
        self.clamped = clamped
        self.table: Columns = {name: [] for name in ARTIFACTS["judgments"].columns}
        self.swapped: Columns = {name: [] for name in ARTIFACTS["judgments"].columns}
        self.queries = [f"q{q:02d}" for q in range(12)]
        for judge in judges:
            for query_id in self.queries:
                rng = rng_for(0, query_id, "test")
                edges = [(f"d{i:02d}", f"d{j:02d}") for i, j in hamiltonian_cycles(24, 8, rng).tolist()]
                if rng_for(0, query_id, judge.name).random() < 0.5:
                    edges = [(second, first) for first, second in edges]
                again = rng_for(0, query_id, "swapped").random(len(edges)) < swapped_share
                twice = [(second, first) for (first, second), chosen in zip(edges, again, strict=True) if chosen]
                for table, shown in ((self.table, sorted(edges, key=sorted)), (self.swapped, sorted(twice, key=sorted))):
                    self.ask(judge, query_id, shown, table, flags=flags)

    def ask(self, judge: SimulatedJudge, query_id: str, shown: list[tuple[str, str]], table: Columns, *, flags: bool) -> None:
        answers = judge.judge([Comparison(query_id, first, second) for first, second in shown])
        for (first, second), answer in zip(shown, answers, strict=True):
            a, b = sorted((first, second))
            lead = 1 if first == a else -1
            flagged = "instructions" if flags and {(query_id, a), (query_id, b)} & ATTACKED else ""
            row: dict[str, Any] = {
                "query_id": query_id, "doc_id_a": a, "doc_id_b": b, "judge": judge.name, "status": answer.status, "flags": flagged,
                "given": np.nan if answer.preference is None else answer.preference * lead, "shown_first": "a" if lead == 1 else "b",
            }  # fmt: skip
            row["preference"] = float(clamp(row["given"])) if self.clamped else row["given"]
            for name, values in table.items():
                values.append(row.get(name, 0 if ARTIFACTS["judgments"].columns[name] in ("int64", "double") else ""))

    def audit(self, labels: dict[str, dict[str, float]] | None = None) -> Audit:
        answers = Answers(self.table)
        return audit_answers(answers, self.swapped, np.ones(len(answers.judges)), labels or {})


def ensemble() -> list[SimulatedJudge]:
    return [
        SimulatedJudge("openai:good", gain, noise=0.4),
        SimulatedJudge("openai:biased", gain, noise=0.6, order_bias=1.2, failure_rate=0.1),
        SimulatedJudge("openai:gullible", gullible_gain, noise=0.4, tie_band=0.3),
    ]


@pytest.fixture(scope="module")
def found() -> Audit:
    labels = {q: {f"d{d:02d}": float(gain(q, f"d{d:02d}") > 0.2) for d in range(0, 24, 2)} for q in ("q00", "q01", "q02")}
    return Made(ensemble()).audit(labels)


def test_each_judge_is_known_by_its_faults(found: Audit) -> None:
    good, biased, gullible = found.judges
    assert good.order.first.low < 0.5 < good.order.first.high
    assert biased.order.first.low > 0.5
    assert biased.order.preference.low > 0
    assert good.flips is not None
    assert biased.flips is not None
    assert good.flips.rate.value == 0  # its draw belongs to the pair, whichever is shown first
    assert biased.flips.rate.low > 0.05
    assert biased.flips.first == round(biased.flips.rate.value * biased.flips.rate.n)
    assert not good.missing
    assert set(biased.missing) <= {"failed", "refused", "truncated", "unparsable"}
    assert sum(biased.missing.values()) / biased.judgments == pytest.approx(0.1, abs=0.03)
    assert (good.ties, gullible.ties > 0) == (0, True)
    assert sum(good.distribution) == good.judgments
    assert 0.5 < good.evenness < 1
    assert good.cycles.n > 100
    assert good.cycles.value < 0.15


def test_the_attacked_documents_are_listed_for_the_judge_that_fell_for_them(found: Audit) -> None:
    listed = {judge.judge: {(o.query_id, o.doc_id) for o in judge.outliers if o.z > 0} for judge in found.judges}
    assert listed["openai:gullible"] >= ATTACKED
    first = found.judges[2].outliers[0]
    assert (first.query_id, first.doc_id) in ATTACKED
    assert first.rank + 5 <= first.rank_without  # among all judges it does better than among the other two
    assert first.documents == 24
    others = [o for judge in found.judges for o in judge.outliers if (o.query_id, o.doc_id) not in ATTACKED]
    assert len(others) <= 5


def test_flags_name_the_documents_and_not_their_opponents(found: Audit) -> None:
    flag = found.judges[0].flags[0]
    assert (flag.kind, flag.documents) == ("instructions", 2)
    assert set(flag.examples) == ATTACKED
    assert flag.comparisons == 16
    assert Made(ensemble()[:1], flags=False).audit().judges[0].flags == ()


def test_labels_are_compared_where_they_differ(found: Audit) -> None:
    good, biased, _ = found.judges
    assert good.labels.low > 0.5
    assert good.labels.n > good.labels_both.n > 0
    assert good.labels.value > biased.labels.value
    without = Made(ensemble()[:1]).audit().judges[0]
    assert (without.labels.n, without.labels_both.n) == (0, 0)


def test_agreement_and_the_two_uses(found: Audit) -> None:
    pairs = {frozenset((a, b)): agreement for a, b, agreement in found.agreement}
    assert len(pairs) == 3
    assert all(0.5 < agreement.raw.value < 1 and 0 < agreement.kappa < 1 for agreement in pairs.values())
    soft, clamped = found.uses
    assert (soft.name, clamped.name) == ("soft", "clamped")
    assert 0.7 < clamped.labels.value < 1
    assert 0 < clamped.top < 1
    assert soft.labels.n == clamped.labels.n == 3


def test_what_was_said_is_audited_also_where_it_is_clamped(found: Audit) -> None:
    clamped = Made(ensemble(), clamped=True).audit()
    for said, used in zip(found.judges, clamped.judges, strict=True):
        assert said.distribution == used.distribution
        assert said.order == used.order
        assert said.flips == used.flips
        assert used.ties > said.ties
    assert [use.top for use in clamped.uses] == [use.top for use in found.uses]
    assert clamp(np.array([0.33, 1 / 3, -0.4, 0.0, np.nan])).tolist()[:4] == [0, 1, -1, 0]


def test_one_judge_and_no_answers() -> None:
    alone = Made([SimulatedJudge("openai:alone", gain, noise=0.5, soft=False)], swapped_share=0).audit()
    assert alone.agreement == ()
    assert alone.uses == ()
    assert alone.judges[0].flips is None
    assert alone.judges[0].outlying == 0
    silent = Made([SimulatedJudge("openai:silent", gain, noise=0.5, failure_rate=1.0), *ensemble()[:1]]).audit()
    assert sum(silent.judges[0].missing.values()) == silent.judges[0].judgments
    assert np.isnan(silent.judges[0].evenness)
    assert silent.judges[0].flips is not None
    assert silent.judges[0].flips.rate.n == 0
    assert silent.judges[0].outlying == 0
    assert np.isnan(silent.agreement[0][2].kappa)


def test_from_a_workspace(tmp_path: Path) -> None:
    made = Made(ensemble())

    def path(artifact: str) -> Path:
        return tmp_path / ARTIFACTS[artifact].path

    write_table(path("judgments"), "judgments", made.table)
    bare = audit_judges(path, "test")
    assert [judge.flips for judge in bare.judges] == [None] * 3
    write_table(path("swapped"), "swapped", made.swapped)
    assert audit_judges(path, "test") == made.audit()


def page(made: Fabricated) -> str:
    evaluate.run(made.context())
    report.run(made.context())
    return made.workspace.path("report").read_text("utf-8")


def test_the_page_shows_what_there_is_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = page(Fabricated(tmp_path / "offline"))
    assert "How they answer" in offline
    assert "Right" in offline  # compared with the labels
    for absent in ("First preferred", "Flips", "Texts that talk to the judge", "The same answers used in two ways"):
        assert absent not in offline
    monkeypatch.setattr("fabricate.JUDGES", {"openai:one": 0.5, "openai:two": 0.8, "lexical": 1.5})
    made = Fabricated(tmp_path / "remote")
    table = read_table(made.workspace.path("judgments"), "judgments")
    attacked = made.candidates["q003"][int(np.argmin(made.truth["q003"]))]
    for i, judge in enumerate(table["judge"]):
        a, b = table["doc_id_a"][i], table["doc_id_b"][i]
        if table["query_id"][i] == "q003" and attacked in (a, b):
            table["flags"][i] = "instructions,<b>"
            if judge == "openai:one":
                table["given"][i] = table["preference"][i] = 1.0 if attacked == a else -1.0
    write_table(made.workspace.path("judgments"), "judgments", table)
    rows = [i for i, judge in enumerate(table["judge"]) if judge == "openai:one"]
    again = {name: [values[i] for i in rows] for name, values in table.items()} | {"shown_first": ["b"] * len(rows)}
    write_table(made.workspace.path("swapped"), "swapped", again)
    remote = page(made)
    for present in ("First preferred", "Flips", "The same answers used in two ways", "Documents about which one judge stands alone"):
        assert present in remote
    assert f"instructions in 8 comparisons, of 1 document (such as {attacked} for q003)" in remote
    assert "&lt;b&gt; in" in remote
    assert "<b> in" not in remote
    assert re.search(rf"<td>{attacked}</td><td class=\"n\">\+", remote)
    assert "no usable answer to" in remote


def test_tables_that_are_cut_say_so(tmp_path: Path) -> None:
    """Without JavaScript: shadows that scroll with the content, and a bar; every table has them."""
    source = page(Fabricated(tmp_path / "ws"))
    rule = re.search(r"\.scroll \{[^}]*\}", source)
    assert rule is not None
    assert "overflow-x: auto" in rule[0]
    assert (rule[0].count("no-repeat local"), rule[0].count("no-repeat scroll")) == (2, 2)
    assert "::-webkit-scrollbar" in source
    assert source.count("<table") == len(re.findall(r'<div class="scroll[^"]*"><table', source))
