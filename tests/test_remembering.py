"""What is remembered is bounded by bytes, however long the texts."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from zelo.judges import Comparison, injection
from zelo.judges.injection import flags_of
from zelo.judges.prompt_files import load_prompt
from zelo.judges.prompting import Prompter
from zelo.judges.remembering import Recent, remembered


def test_what_is_in_use_stays_and_the_rest_goes() -> None:
    recent: Recent[int, str] = Recent(1000)
    for n in range(1, 200):
        recent.put(n, str(n), 100)
        recent.put(0, "used", 100) if n == 1 else None
        assert recent.get(0) == "used"
        assert recent.held <= 1000
    assert recent.get(1) is None
    assert recent.get(199) == "199"
    recent.put(-1, "large", 501)
    assert recent.get(-1) is None
    assert recent.pop(199) == "199"
    assert recent.pop(199) is None
    assert recent.get(0) == "used"


def test_a_function_is_called_once_for_what_fits() -> None:
    calls: list[str] = []

    def double(text: str) -> str:
        calls.append(text)
        return text * 2

    quick: Any = remembered(10_000)(double)
    assert [quick(text) for text in ("a", "b", "a", "b")] == ["aa", "bb", "aa", "bb"]
    assert calls == ["a", "b"]
    for n in range(100):
        quick(f"{n:0500}")
        assert quick.recent.held <= 10_000
    assert quick("a") == "aa"
    assert calls.count("a") == 2


def test_many_long_documents_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injection, "_scan", lambda text: ())  # slow while memory is traced, and it keeps nothing itself
    prompters = [Prompter(load_prompt(name)) for name in ("compare", "label")]

    def show(n: int) -> None:
        pair = Comparison(f"question {n}", f"{n} " + "word " * 4000, f"{n} \N{GREEK SMALL LETTER OMEGA} " + "other " * 3400)
        flags_of(pair)
        for prompter in prompters:
            prompter.write(pair)

    tracemalloc.start()
    try:
        for n in range(130):
            show(n)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 11 * 2**20  # unbounded, the caches would hold 15
