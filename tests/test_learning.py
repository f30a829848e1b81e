"""What batches learn from refusals while several of them are open, which end in any order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fault_server import FaultServer
from refusals import NEW_LIMIT, NO_SCHEMA, NO_TEMPERATURE, refusing
from zelo.judges import Comparison
from zelo.judges.journal import Journal
from zelo.judges.llm import LanguageModelJudge
from zelo.judges.prompt_files import load_prompt
from zelo.judges.prompting import Prompter
from zelo.judges.running import Job, Limits, ask
from zelo.language_models.names import open_batches, open_model


class Ordered(FaultServer):
    """Its batches end after so many looks each, the others at the first."""

    looks: Mapping[str, int]

    def _told(self, batch: Mapping[str, Any], anthropic: bool) -> dict[str, Any]:
        self.polls = self.looks.get(batch["id"], 1)
        return super()._told(batch, anthropic)


@pytest.mark.parametrize("looks", [{}, {"batch_1": 3, "batch_2": 6, "batch_3": 20}, {"batch_0": 9, "batch_2": 4}, {"batch_1": 12}])
@pytest.mark.parametrize("rules", [(NO_TEMPERATURE, NEW_LIMIT), (NO_TEMPERATURE, NEW_LIMIT, NO_SCHEMA)])
def test_a_refusal_of_an_older_way_of_asking_loses_no_question(
    rules: tuple[Any, ...], looks: Mapping[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zelo.judges.batching.MOST", 5)
    monkeypatch.setattr("zelo.judges.batching.POLL", (0.01, 0.01))
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with Ordered(check=refusing(*rules)) as server, Journal(tmp_path / "journal.sqlite") as journal:
        server.looks = looks
        prompter, batches = Prompter(load_prompt("compare")), open_batches("openai:m", base=server.url)
        judge = LanguageModelJudge(open_model("openai:m", base=server.url), prompter, batch=batches)
        asked = [Comparison("q", f"a{i}", f"b{i}") for i in range(10)]
        numbers = journal.texts(["q", *(c.first for c in asked), *(c.second for c in asked)], map(str, range(21)))
        questions = journal.questions(np.array([[numbers[0], numbers[1 + i], numbers[11 + i], 0] for i in range(10)]))
        job = Job(judge, journal.judge(judge.name, judge.prompt_id), questions.tolist(), asked.__getitem__, [0] * 10)
        ask([job], journal, Limits())
        standing = journal.standing(job.number, questions)
    assert standing.answered.all()
    assert standing.unusable.sum() == 0
    assert len(server.batches) <= 2 * (2 + len(rules)) + 2  # each question a few times
