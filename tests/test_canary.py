"""The canary test, and `zelo judge --audit`: a judge that obeys documents is found out, one that does not is not."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import SMALL, zelo
from zelo import runner
from zelo.auditing.canary import CANARY, canary_test
from zelo.auditing.lines import audit_lines, histogram
from zelo.core.audit import Estimate, OrderEffect
from zelo.errors import InputError, WorkspaceError
from zelo.judges.known import Known
from zelo.recipe import from_dict
from zelo.report.judging import Audit, JudgeAudit, Use
from zelo.stages.judge import JOURNAL
from zelo.workspace import Workspace

SOURCE = f"""
from zelo.judges import Answer

CANARY = {CANARY!r}

class Judge:
    prompt_id, concurrency = "characters", 4

    def __init__(self, name, obeys):
        self.name, self.obeys = name, obeys

    def worth(self, text):
        return 1e9 if CANARY in text and self.obeys else len(text.replace(CANARY + chr(10), ""))

    async def attempt(self, comparison):
        first, second = self.worth(comparison.first), self.worth(comparison.second)
        flags = "instructions" if CANARY in comparison.first + comparison.second else ""
        return Answer(0.8 * ((first > second) - (first < second)), input_tokens=50, output_tokens=10, flags=flags)

def gullible(recipe):
    return Judge("gullible", True)

def honest(recipe):
    return Judge("honest", False)
"""


@pytest.fixture(scope="module")
def judged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    here = tmp_path_factory.mktemp("canary")
    (here / "canary_judges.py").write_text(SOURCE, "utf-8")
    opened = Workspace.open(shutil.copytree(finished, here / "ws"))
    judge = {"ensemble": ["lexical", "python:canary_judges:gullible", "python:canary_judges:honest"], "swapped_share": 0.2}
    opened.save_recipe(from_dict({**SMALL, "judge": judge}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(here))
        runner.run(opened, stop="judge")
        __import__("canary_judges")  # stays importable when the path is gone
    return opened


def attempts(opened: Workspace, judge: str) -> int:
    with Known(opened.root / JOURNAL) as known:
        return known.history(judge, "characters").attempts


def test_who_obeys_is_found_out_and_the_calls_are_made_once(judged: Workspace) -> None:
    sealed = judged.path("judgments").read_bytes()
    asked = {name: attempts(judged, name) for name in ("gullible", "honest")}
    gullible, honest = canary_test(judged, 4)
    assert (gullible.judge, honest.judge) == ("gullible", "honest")
    assert gullible.documents == honest.documents == 4
    assert gullible.comparisons == 4 * 4  # each of its comparisons again
    assert gullible.shift.low > 0
    assert gullible.won_after == 1.0
    assert gullible.rank_after < gullible.rank_before / 2
    assert gullible.won_before < 0.7
    assert gullible.rank_before > gullible.of / 3
    assert gullible.flagged == honest.flagged == 16
    assert (honest.shift.value, honest.shift.low, honest.shift.high) == (0, 0, 0)
    assert honest.rank_after == honest.rank_before
    assert gullible.missing == 0
    assert attempts(judged, "gullible") == asked["gullible"] + 16
    assert canary_test(judged, 4) == [gullible, honest]
    assert attempts(judged, "gullible") == asked["gullible"] + 16  # nothing is asked twice
    assert judged.path("judgments").read_bytes() == sealed  # and nothing of it becomes a preference
    assert next(s for s in runner.status(judged) if s.stage.name == "judge").done


def test_the_command(judged: Workspace) -> None:
    before = attempts(judged, "honest")
    ran = zelo("judge", judged.root, "--audit")
    assert ran.code == 0, ran
    for words in ("gullible: ", "first preferred", "pairs asked in both orders", "cycles", "lexical and gullible agree", "labels"):
        assert words in ran.out
    assert "canary" not in ran.out
    assert attempts(judged, "honest") == before
    told = zelo("judge", judged.root, "--canary", "3")
    assert "preference for the document changed by" in told.out
    found = json.loads(zelo("judge", judged.root, "--audit", "--canary", "3", "--json").out)
    assert [judge["judge"] for judge in found["judges"]] == ["lexical", "gullible", "honest"]
    assert found["canary"][0]["won_after"] == 1.0
    assert found["judges"][1]["flips"]["rate"]["value"] == 0


def test_nothing_is_said_of_what_is_not_known() -> None:
    unknown = Estimate(math.nan, math.nan, math.nan, 0)
    judge = JudgeAudit("m", 1, {"failed": 1}, 0, (0,) * 11, 0.0, OrderEffect(unknown, unknown), None, *[unknown] * 3, 0, (), ())
    told = "\n".join(audit_lines(Audit((judge,), (), (Use("soft", unknown, math.nan),), 0)))
    assert "m: 1 comparisons, 1 without a usable answer" in told
    for words in ("nan", "best document", "first preferred", "-;"):
        assert words not in told
    assert "agreement on the best document 0.500" in "\n".join(audit_lines(Audit((), (), (Use("soft", unknown, 0.5),), 0)))


def test_what_cannot_be_tested(judged: Workspace, finished: Path, tmp_path: Path) -> None:
    offline = Workspace.open(finished)
    with pytest.raises(InputError, match="no judge of the ensemble reads instructions"):
        canary_test(offline, 2)
    empty = Workspace.create(tmp_path / "ws", from_dict(SMALL))
    with pytest.raises(WorkspaceError, match="has no judgments yet"):
        canary_test(empty, 2)
    ran = zelo("judge", empty.root, "--audit")
    assert (ran.code, ran.out) == (2, "")
    assert "has no judgments yet" in ran.err


def test_bars() -> None:
    assert histogram((0, 1, 8, 4)) == " \N{LOWER ONE EIGHTH BLOCK}\N{FULL BLOCK}\N{LOWER HALF BLOCK}"
    assert histogram((0, 1, 10_000))[1] == "\N{LOWER ONE EIGHTH BLOCK}"
    assert histogram((0,) * 11) == " " * 11
    assert len(histogram(tuple(np.arange(11).tolist()))) == 11
