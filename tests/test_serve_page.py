"""The server's page in a real browser: side by side, within the window, and nothing in a text comes alive."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import chromium
from serving import Overlap, Running, serving
from zelo.serve.loading import load_served

HOSTILE = (
    """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"'><svg/onload=alert(1)> &lt;b&gt; {{7*7}}"""
)


def browse(url: str, work: Callable[[chromium.Tab], Awaitable[Any]]) -> Any:
    browser = chromium.find()
    if browser is None:
        pytest.skip("no Chromium")

    async def main() -> Any:
        async with chromium.tab(url, browser) as tab:
            return await work(tab)

    return asyncio.run(main())


async def fits(tab: chromium.Tab) -> bool:
    return bool(await tab.run("document.documentElement.scrollWidth <= innerWidth"))


async def paste(tab: chromium.Tab, query: str, documents: list[str]) -> None:
    values = json.dumps([query, "\n\n".join(documents)])
    await tab.run(f"[$('query').value, $('documents').value] = {values}; $('form').requestSubmit()")


def test_the_page_is_whole_and_strict() -> None:
    with serving(Overlap()) as running:
        said = running.call("/")
    assert not re.search(r"""(?:src|href)=["']?(?!data:)\w""", said.body)
    assert "innerHTML" not in said.body
    policy = said.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_a_hostile_name_is_escaped() -> None:
    from zelo.serve.page import render

    html, _ = render(HOSTILE, with_queries=False)
    assert "<img" not in html
    assert "<script>document" not in html


def test_pasted_texts() -> None:
    texts = [HOSTILE, "nothing here", f"{HOSTILE} the words", "the words " + "unbroken" * 200]

    async def work(tab: chromium.Tab) -> None:
        await tab.view(1280, 900)
        await tab.until("document.readyState == 'complete'")
        await paste(tab, f"the words {HOSTILE}", texts)
        await tab.until("document.querySelectorAll('#new li').length == 4")
        assert "4 documents scored" in await tab.run("$('status').textContent")  # said aloud
        assert await tab.run("document.activeElement.id") == "shown"
        await tab.run("document.querySelectorAll('#new details').forEach((d) => { d.open = true })")
        await asyncio.sleep(0.3)
        old, new = await tab.run("['old', 'new'].map((id) => [...document.querySelectorAll(`#${id} p.clamp`)].map((p) => p.textContent))")
        assert old == texts
        assert new == [texts[2], texts[0], texts[3], texts[1]]
        assert await tab.run("document.querySelectorAll('main img, main svg, main script').length") == 0
        left, right = await tab.run("['old', 'new'].map((id) => $(id).getBoundingClientRect().left)")
        assert right > left + 300
        assert await fits(tab)
        await tab.view(400, 800)
        await asyncio.sleep(0.3)
        assert await fits(tab)
        above, below = await tab.run("['new', 'old'].map((id) => $(id).getBoundingClientRect().top)")
        assert above < below  # what matters comes first where there is one column
        assert await tab.run("document.title") == "tested, zelo"
        light = await tab.run("getComputedStyle(document.body).backgroundColor")
        await tab.view(400, 800, dark=True)
        assert await tab.run("getComputedStyle(document.body).backgroundColor") != light
        await paste(tab, "x", ["a"] * 1001)
        await tab.until("$('status').textContent.includes('1001 documents; this server takes 1000')")
        assert all("422" in message for message in tab.messages), tab.messages

    with serving(Overlap()) as running:
        browse(running.url, work)


def test_a_question_of_a_hostile_workspace(workspace: Path) -> None:
    for name in ("corpus.jsonl", "queries.jsonl"):
        rows = [json.loads(line) for line in (workspace / name).read_text().splitlines()]
        for row in rows:
            row["text"] = f"{HOSTILE} {row['text']}"
        (workspace / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(load_served(workspace)) as running:
        browse(f"{running.url}/", lambda tab: pick(tab, running))


async def pick(tab: chromium.Tab, running: Running) -> None:
    await tab.view(1280, 900)
    await tab.until("document.querySelectorAll('#queries button').length == 16")
    await tab.run("document.querySelector('#queries button').click()")
    await tab.until("document.querySelectorAll('#new li').length == 20")
    query_id = await tab.run("document.querySelector('#queries [aria-current=true]').dataset.id")
    assert await tab.run("document.querySelectorAll('#queries [aria-current]').length") == 1
    found = running.call(f"/api/query?query_id={query_id}").body
    texts = [d["full_text"] for d in found["documents"]]
    expected = running.call("/v1/rerank", {"query": found["text"], "documents": texts}).body["results"]
    assert await tab.run("[...document.querySelectorAll('#new li')].map((li) => Number(li.dataset.index))") == [
        r["index"] for r in expected
    ]
    assert await tab.run("[...document.querySelectorAll('#old li')].map((li) => Number(li.dataset.index))") == list(range(20))
    assert await tab.run("[...document.querySelectorAll('#new li')].filter((li) => li.offsetHeight).length") == 10
    await tab.run("$('all').click(); document.querySelector('#new details').open = true")
    assert await tab.run("[...document.querySelectorAll('#new li')].filter((li) => li.offsetHeight).length") == 20
    await tab.until("document.querySelector('#new details button')")
    await tab.run("document.querySelector('#new details button').click()")
    await tab.until("document.querySelector('#new details caption')")
    records = found["documents"][expected[0]["index"]]["records"]
    shown = await tab.run("document.querySelector('#new details .said tbody').innerText.match(/\\d+/g).map(Number)")
    assert shown == [n for record in records for n in record]
    await tab.view(400, 800)
    await asyncio.sleep(0.3)
    assert await fits(tab)
    assert await tab.run("document.querySelectorAll('main img, main svg, main script').length") == 0
    assert await tab.run("document.title") != "owned"
    assert not [m for m in tab.messages if "exception" in m.lower()]


def test_a_server_with_keys_asks_for_one() -> None:
    async def work(tab: chromium.Tab) -> None:
        await tab.until("document.readyState == 'complete'")
        await paste(tab, "a", ["a b", "a"])
        await tab.until("!$('key-row').hidden && $('status').textContent.includes('key')")
        await tab.run("$('key').value = 'sesame'; $('form').requestSubmit()")
        await tab.until("document.querySelectorAll('#new li').length == 2")

    with serving(Overlap(), keys=("sesame",)) as running:
        browse(running.url, work)
