"""The task: running sums modulo 10, to be solved or to be judged, and the traces that teach it.

A problem is a line of terms, each a letter and a digit: `Qa3b7c1=` asks for 3 + 7 + 1 modulo 10. A judging problem adds two claimed
answers: `Ja3b7c1?4?1=` asks which is right (A, B, or T for neither). A trace writes every term again, followed by its result:
`<think>a33b70c11</think>1`, `<think>a33b70c11?4N?1Y</think>B`. The first letter is the register: W and V are answered with a trace
in the text that the model is pre-trained on, Q and J are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LETTERS = "abcdefgh"
OPEN, CLOSE, END = "<think>", "</think>", "\n"
SHORTEST, LONGEST = 3, len(LETTERS)
WORKED = {"Q": "W", "J": "V"}
"""Register that answers at once -> register that works the same problem out."""


@dataclass(frozen=True)
class Problem:
    """A question with a checkable answer.

    Attributes:
        register: Q or W to solve, J or V to judge.
        digits: the numbers to add.
        claims: two answers to judge, of which at most one is right; empty where the problem is to be solved.
    """

    register: str
    digits: tuple[int, ...]
    claims: tuple[int, ...] = ()

    @property
    def terms(self) -> list[str]:
        """What the question gives, in order: digits with their letters, then claims."""
        return [f"{letter}{d}" for letter, d in zip(LETTERS, self.digits, strict=False)] + [f"?{c}" for c in self.claims]

    @property
    def question(self) -> str:
        """The prompt, up to the sign after which the answer stands."""
        return f"{self.register}{''.join(self.terms)}="

    @property
    def sum(self) -> int:
        """The right sum."""
        return sum(self.digits) % 10

    @property
    def answer(self) -> str:
        """The right answer: a digit, or A, B, T."""
        if not self.claims:
            return str(self.sum)
        return next((name for name, claim in zip("AB", self.claims, strict=True) if claim == self.sum), "T")

    @property
    def results(self) -> list[str]:
        """What a trace writes after each term: the running sum; for a claim, whether it is right."""
        sums = np.cumsum(self.digits) % 10
        return [str(s) for s in sums.tolist()] + ["Y" if c == self.sum else "N" for c in self.claims]

    @property
    def steps(self) -> list[str]:
        """The steps of the full trace."""
        return [term + result for term, result in zip(self.terms, self.results, strict=True)]

    def swapped(self) -> Problem:
        """Return the judging problem with its claims in the other order."""
        return Problem(self.register, self.digits, self.claims[::-1])

    def worked(self) -> Problem:
        """Return the same problem in the register that shows its work."""
        return Problem(WORKED[self.register], self.digits, self.claims)


def draw(rng: np.random.Generator, register: str, lengths: Sequence[int] = range(SHORTEST, LONGEST + 1)) -> Problem:
    """Return a random problem; a judging problem has the right answer first, second or not at all, a third each."""
    digits = tuple(rng.integers(0, 10, int(rng.choice(np.asarray(lengths)))).tolist())
    if register in "QW":
        return Problem(register, digits)
    right = sum(digits) % 10
    one, other = ((right + shift) % 10 for shift in (rng.permutation(9)[:2] + 1).tolist())
    return Problem(register, digits, [(right, one), (one, right), (one, other)][int(rng.integers(3))])


Body = Callable[[Problem, np.random.Generator], str]


def _wrong(problem: Problem, rng: np.random.Generator) -> str:
    """Steps of the right form whose results are random, so right in one of ten (of two, for claims)."""
    random = [str(rng.integers(10)) for _ in problem.digits] + [str(rng.choice(["Y", "N"])) for _ in problem.claims]
    return "".join(term + result for term, result in zip(problem.terms, random, strict=True))


def _every(k: int) -> Body:
    """Every k-th step, counted from the last one, which is always there."""
    return lambda problem, rng: "".join(step for i, step in enumerate(problem.steps) if (len(problem.steps) - 1 - i) % k == 0)


BODIES: dict[str, Body] = {
    "full": lambda problem, rng: "".join(problem.steps),
    "conclusion only": lambda problem, rng: problem.steps[-1],
    "every second step": _every(2),
    "every third step": _every(3),
    "shuffled steps": lambda problem, rng: "".join(rng.permutation(problem.steps).tolist()),
    "wrong content": _wrong,
    "filler": lambda problem, rng: "." * sum(map(len, problem.steps)),
    "written twice": lambda problem, rng: "".join(problem.steps * 2),
}
"""Source of traces -> what stands between <think> and </think>. The answer after it is right in all of them."""


def response(problem: Problem, source: str, rng: np.random.Generator) -> str:
    """Return what a training example answers; `source` is "direct" or a key of `BODIES`."""
    body = "" if source == "direct" else OPEN + BODIES[source](problem, rng) + CLOSE
    return body + problem.answer + END


def is_right(problem: Problem, text: str) -> bool:
    """Whether a reply ends with the right answer: all that follows the trace, if there is one."""
    return text.rpartition(CLOSE)[2] == problem.answer + END
