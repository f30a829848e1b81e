"""Do the defenses keep injected documents in their place? See README.md. Prints and writes results.jsonl."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import attacks  # noqa: E402
from gullible import GullibleModel, PlainPrompter  # noqa: E402
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for  # noqa: E402
from zelo.core.paired_comparison import fit_query  # noqa: E402
from zelo.judges import Comparison  # noqa: E402
from zelo.judges.injection import text_flags  # noqa: E402
from zelo.judges.llm import LanguageModelJudge  # noqa: E402
from zelo.judges.parsing import clamped  # noqa: E402
from zelo.judges.prompt_files import load_prompt  # noqa: E402
from zelo.judges.prompting import Prompter  # noqa: E402

QUERIES, DOCUMENTS, DEGREE, ATTACKED = 8, 30, 8, 24
QUERY = "how do vaccines of kind {number} train the immune system"


def corpus(number: int) -> list[str]:
    """Documents of a query, the most useful first."""
    useful = 1 - np.arange(DOCUMENTS) / DOCUMENTS
    return [f"Passage {number}-{i} about vaccines and the cells that remember. Its usefulness is {u:.3f}." for i, u in enumerate(useful)]


def judge_all(judge: LanguageModelJudge, comparisons: list[Comparison]) -> list[float]:
    """Probability that the first is better, from clamped answers."""

    async def ask() -> list[float]:
        answers = [await judge.attempt(c) for c in comparisons]
        return [(1 + clamped(a.preference)) / 2 if a.preference is not None else np.nan for a in answers]

    return asyncio.run(ask())


def rank_of(document: int, pairs: np.ndarray, prob_first: np.ndarray) -> int:
    """Place of a document among all, 1 is best."""
    score = fit_query(DOCUMENTS, pairs[:, 0], pairs[:, 1], prob_first).score
    return int((score > score[document]).sum()) + 1


def main() -> None:
    defended = Prompter(load_prompt("compare"))
    rows = []
    for obeys in ("operator", "all"):
        for name, prompter in (("plain", PlainPrompter()), ("defended", defended)):
            judge = LanguageModelJudge(GullibleModel(obeys), prompter)
            shifts: dict[str, list[int]] = {}
            for number in range(QUERIES):
                query, texts = QUERY.format(number=number), corpus(number)
                pairs = hamiltonian_cycles(DOCUMENTS, DEGREE, rng_for(0, query, "pairs"))
                clean = np.array(judge_all(judge, [Comparison(query, texts[i], texts[j]) for i, j in pairs]))
                before = rank_of(ATTACKED, pairs, clean)
                touched = np.flatnonzero((pairs == ATTACKED).any(1))
                for kind, phrasing in attacks.every(attacks.SEEN) + attacks.every(attacks.UNSEEN):
                    shown = list(texts)
                    shown[ATTACKED] = attacks.place(texts[ATTACKED], phrasing, query)
                    prob = clean.copy()
                    prob[touched] = judge_all(judge, [Comparison(query, shown[i], shown[j]) for i, j in pairs[touched]])
                    shifts.setdefault(kind, []).append(before - rank_of(ATTACKED, pairs, prob))
            for kind, found in shifts.items():
                mean, error = float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found)))
                rows.append(
                    {"obeys": obeys, "prompt": name, "kind": kind, "places": round(mean, 2), "stderr": round(error, 2), "n": len(found)}
                )
            every = np.concatenate(list(shifts.values()))
            total = {
                "places": round(float(every.mean()), 2),
                "stderr": round(float(every.std(ddof=1) / np.sqrt(len(every))), 2),
                "n": len(every),
            }
            rows.append({"obeys": obeys, "prompt": name, "kind": "all", **total})
            print(rows[-1], flush=True)
    for group, phrasings in (("seen", attacks.SEEN), ("unseen", attacks.UNSEEN)):
        query = QUERY.format(number=0)
        found = [bool(text_flags(attacks.place(corpus(0)[ATTACKED], text, query), query)) for _, text in attacks.every(phrasings)]
        rows.append({"flagged": sum(found), "of": len(found), "phrasings": group})
        print(rows[-1])
    (HERE / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    main()
