"""The page: self-contained, safe with hostile text, the same for the same workspace, and there also where parts are missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fabricate import Fabricated
from zelo.collections.beir import read_qrels
from zelo.collections.trec import read_run, write_run
from zelo.report import figures
from zelo.report.measured import Measured
from zelo.report.page import clean, seconds, snippet
from zelo.report.summary import summary_text
from zelo.report.verdict import decide, p_text, signed
from zelo.stages import evaluate, report
from zelo.types import ScoredDoc

HOSTILE = """</script></style><img src=x onerror=alert(1)> "quoted' {{ 7 * 7 }} <!-- \x07 \u202e"""
VOID = {"meta", "img", "br", "link", "input", "hr"}
DRAWN = {"rect", "path", "title", "svg"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data


def build(made: Fabricated) -> str:
    evaluate.run(made.context())
    report.run(made.context())
    return made.workspace.path("report").read_text("utf-8")


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    source = build(Fabricated(tmp_path / "ws"))
    page = Page(source)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "embed", "link"}
    for _, attributes in page.tags:
        assert not set(attributes) & {"src", "srcset", "data", "action", "background"}
        assert all(not name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?://|@import|url\(", source)
    policy = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    source = build(Fabricated(tmp_path / "ws", hostile=HOSTILE))
    page = Page(source)
    assert "<img src=x onerror=alert(1)>" in page.text  # as text, to be read
    assert "{{ 7 * 7 }}" in page.text
    assert not [tag for tag, _ in page.tags if tag in ("img", "script")]
    assert source.count("<style>") == source.count("</style>") == 1
    assert "\x07" not in source


def test_the_answers_come_in_order(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws", test=30)
    page = Page(build(made))
    headings = [page.text.index(h) for h in ("Is it better?", "How do we know?", "What did it cost?", "The systems", "The judges")]
    assert headings == sorted(headings)
    assert "Yes, the reranker is better." in page.text
    row = next(json.loads(line) for line in made.workspace.path("metrics").open() if '"pointwise", "measure": "nDCG@10"' in line)
    for value in (f"{row['value']:.3f}", signed(row["difference"]), signed(row["difference_low"]), p_text(row["p_value"])):
        assert value in page.text
    assert "30 test questions nobody trained on" in page.text
    details = [tag for tag, _ in page.tags if tag == "summary"]
    assert len(details) >= made.workspace.recipe.report.examples


def test_scores_as_chances(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws")
    assert "Can a score be read as a chance?" not in build(made)  # scores beyond [0, 1] are no chances
    path = made.workspace.root / "rankings/pointwise.trec"
    run = {q: [ScoredDoc(q, d.doc_id, 0.9 if n < 3 else 0.05) for n, d in enumerate(r)] for q, r in read_run(path).items()}
    write_run(path, run, tag="pointwise")
    text = " ".join(Page(build(made)).text.split())
    labels = read_qrels(made.workspace.root / "qrels/test.tsv")
    relevant = {(r.query_id, r.doc_id) for r in labels if r.relevance > 0}
    hits = sum((q, d.doc_id) in relevant for q, r in run.items() for d in r[:3])
    assert f"Documents {21 * 12} {3 * 12} Relevant" in text
    assert f"{100 * hits / 36:.0f} % " in text.partition("Relevant")[2]


@pytest.mark.parametrize(
    "options",
    [
        {"labels": False},
        {"labels": False, "test": 0},
        {"judges_ranking": False},
        {"test": 1, "train": 1},
        {"settings": {"report": {"examples": 0}}},
        {"candidates": 2},
        {"hostile": "\u4e2d\u6587 \u0645\u0631\u062d\u0628\u0627 \U0001f600 " + "x" * 500},
    ],
)
def test_parts_may_be_missing(tmp_path: Path, options: dict[str, object]) -> None:
    made = Fabricated(tmp_path / "ws", **options)  # type: ignore[arg-type]
    text = Page(build(made)).text
    assert ("There are no labels" in text) == (options.get("labels") is False)
    assert "nan" not in text.replace("unanimous", "").split()
    assert summary_text(made.workspace)


def test_two_systems_are_enough(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws", judges_ranking=False)
    for name in ("bm25", "fused"):
        (made.workspace.root / f"candidates/{name}.trec").unlink()
    (made.workspace.root / "models/pointwise/zelo.json").unlink()
    text = Page(build(made)).text
    assert "What the reranker learned" not in text
    assert "dense search" in text


@pytest.mark.parametrize("labels", [True, False])
def test_the_rounds_of_refinement(tmp_path: Path, labels: bool) -> None:
    made = Fabricated(tmp_path / "ws", labels=labels, settings={"refine": {"parent": "somewhere"}})
    rows: list[dict[str, object]] = [{"round": 0, "added": 0, "dollars": 0.5}, {"round": 1, "added": 1234, "dollars": 0.25}]
    if labels:
        change = {"difference": -0.0123, "difference_low": -0.02, "difference_high": 0.004, "p_value": 0.0345}
        values = ({"value": 0.5, "low": 0.4, "high": 0.6}, {"value": 0.4877, "low": 0.39, "high": 0.59, **change})
        rows = [{"measure": m, **row, **value} for m in ("nDCG@10", "MRR@10") for row, value in zip(rows, values, strict=True)]
    path = made.workspace.path("refinement")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    text = Page(build(made)).text
    section = " ".join(text[text.index("The rounds of refinement") : text.index("The judges")].split())
    assert "0 (before)" in section
    assert "1,234" in section
    assert "$0.25" in section
    for part in ("0.488", "0.390\N{EN DASH}0.590", signed(-0.0123), f"({signed(-0.02)} to {signed(0.004)})", p_text(0.0345)):
        assert section.count(part) == (2 if labels else 0)  # once per measure
    assert ("No test question is labeled" in section) is not labels


def test_same_workspace_same_page(tmp_path: Path) -> None:
    one, two = (build(Fabricated(tmp_path / name)) for name in ("one", "two"))
    assert one == two
    assert len(one) < 2_000_000


def test_a_big_run_stays_small(tmp_path: Path) -> None:
    bars = figures.gain_bars({f"q{i}": 1 - i / 5000 for i in range(10_000)}, {})
    assert len(bars.bars) == figures.MAX_BARS
    assert (bars.bars[0].kind, bars.bars[-1].kind) == ("gain", "loss")


def test_the_terminal_says_what_the_page_says(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws")
    page = " ".join(Page(build(made)).text.split())
    table = summary_text(made.workspace)
    assert decide(_measured(made)).sentence in page
    assert decide(_measured(made)).sentence.split(":")[0] in " ".join(table.split())
    assert all(system in table for system in ("bm25", "dense", "fused", "judges", "pointwise", "baseline"))
    assert max(map(len, table.splitlines())) <= 100


def _measured(made: Fabricated) -> list[Measured]:
    from zelo.report.measured import read_measured

    return read_measured(made.workspace.path("metrics"))


def test_few_questions_are_called_few() -> None:
    baseline = Measured("dense", "nDCG@10", "test", 0.5, 0.4, 0.6, 4, "dense")
    student = Measured("pointwise", "nDCG@10", "test", 0.6, 0.5, 0.7, 4, "dense", 0.125, 0.1, 0.0, 0.2)
    assert decide([baseline, student]).headline == "Too few test questions to tell: 4."


def test_nothing_relevant_is_no_verdict() -> None:
    baseline = Measured("dense", "nDCG@10", "test", 0.0, 0.0, 0.0, 30, "dense")
    student = Measured("pointwise", "nDCG@10", "test", 0.0, 0.0, 0.0, 30, "dense", 1.0, 0.0, 0.0, 0.0)
    assert decide([baseline, student]).answer == "unknown"


@pytest.mark.parametrize(
    ("difference", "p_value", "answer", "words"),
    [
        (0.05, 0.001, "yes", "is better"),
        (0.02, 0.4, "unproven", "chance alone could explain it"),
        (-0.05, 0.001, "no", "is worse"),
        (-0.02, 0.4, "no", "not better"),
        (0.0, 1.0, "no", "No difference was shown"),
    ],
)
def test_the_verdict_is_honest(difference: float, p_value: float, answer: str, words: str) -> None:
    baseline = Measured("dense", "nDCG@10", "test", 0.5, 0.4, 0.6, 50, "dense")
    student = Measured("pointwise", "nDCG@10", "test", 0.5 + difference, 0.4, 0.6, 50, "dense", p_value, difference, -0.1, 0.1)
    verdict = decide([baseline, student])
    assert verdict.answer == answer
    assert words in f"{verdict.headline} {verdict.sentence}"
    assert "nobody trained on" in verdict.sentence
    assert "0.500" in verdict.sentence


def test_the_verdict_without_labels_or_student() -> None:
    assert decide([]).answer == "unknown"
    assert decide([Measured("dense", "nDCG@10", "test", 0.5, 0.4, 0.6, 50, "dense")]).answer == "unknown"


@pytest.mark.parametrize(
    "values", [[0.2, 0.8], [0.0, 0.0], [-0.31, 0.0, 0.9], [1e-6, 2e-6], [5.0], [], [float("nan"), 1.0], [-1000.0, 1000.0]]
)
def test_axes_hold_their_values_and_have_round_ticks(values: list[float]) -> None:
    scale = figures.axis(values)
    assert scale.ticks
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert all(0 <= scale.at(tick) <= 100 for tick in scale.ticks)
    assert len({scale.label(tick) for tick in scale.ticks}) == len(scale.ticks)
    assert all(scale.low <= v <= scale.high for v in values if v == v)


def test_texts_are_cut_between_words() -> None:
    assert snippet("one two three", 8) == "one two\N{HORIZONTAL ELLIPSIS}"
    assert len(snippet("x" * 1_000_000)) < 300
    assert clean("a\x00b\n\tc \ud800") == "a b c"


def test_durations_and_signs() -> None:
    assert [seconds(v) for v in (0.31, 61.2, 200, 7260)] == ["0.3 s", "61 s", "3 min 20 s", "2 h 1 min"]
    assert [signed(v) for v in (0.1, -0.1, 0.0001, -0.0001)] == ["+0.100", "\N{MINUS SIGN}0.100", "0.000", "0.000"]
