"""Remote rerankers: what goes over the wire in each dialect, by samples of public schemas; failures; zelo's own server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from serving import DOCUMENTS, QUERY, SCORES, Overlap, overlap, serving
from zelo.errors import InputError, JudgeError, RecipeError, RetryError
from zelo.language_models.protocol import BadRequest
from zelo.rerankers import Reranker
from zelo.rerankers.remote import SERVICES, RemoteReranker

KEY = "s3cret-key-of-a-test"


class Recorder:
    """A server that keeps what it is asked, and answers in a dialect. `script` is dealt first: a status, or a body."""

    def __init__(self, dialect: str) -> None:
        self.dialect, self.script, self.seen = dialect, [], []
        self.headers: list[dict[str, str]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                recorder.seen.append((self.path, asked))
                recorder.headers.append({k.lower(): v for k, v in self.headers.items()})
                said = recorder.script.pop(0) if recorder.script else recorder.answer(asked)
                status, body = (said, {"message": f"no, {KEY}"}) if isinstance(said, int) else (200, said)
                data = json.dumps(body).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "0")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, asked: dict[str, Any]) -> Any:
        """As the services' documentation shows it, best first."""
        scores = overlap(asked["query"], asked.get("documents") or asked["texts"]).tolist()
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        rows = [{"index": i, "relevance_score": scores[i]} for i in order]
        if self.dialect == "cohere":
            return {"id": "07734bd2", "results": rows, "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}}
        if self.dialect == "voyage":
            return {"object": "list", "data": rows, "model": "rerank-2", "usage": {"total_tokens": 26}}
        if self.dialect == "tei":
            return [{"index": i, "score": scores[i]} for i in order]
        with_text = [{**row, "document": {"text": "..."}} for row in rows]
        return {"id": "rerank-fae51b2b", "model": "m", "usage": {"total_tokens": 56}, "results": with_text}

    def name(self) -> str:
        return f"{self.dialect}:m" if SERVICES[self.dialect].base else f"{self.dialect}:{self.url}#m"


@pytest.fixture(params=SERVICES)
def recorder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    made = Recorder(request.param)
    service = SERVICES[request.param]
    monkeypatch.setenv(service.key or "ZELO_API_KEY", KEY)
    if service.other_base:
        monkeypatch.setenv(service.other_base, made.url)
    monkeypatch.setattr("random.random", lambda: 0.0)  # no waiting between attempts
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def remote(recorder: Recorder) -> Iterator[RemoteReranker]:
    made = RemoteReranker(recorder.name(), retries=2)
    yield made
    made.stop()


EXPECTED = {
    "cohere": ("/v2/rerank", {"model": "m", "query": QUERY, "documents": DOCUMENTS}),
    "jina": ("/v1/rerank", {"model": "m", "query": QUERY, "documents": DOCUMENTS, "return_documents": False}),
    "voyage": ("/rerank", {"model": "m", "query": QUERY, "documents": DOCUMENTS}),
    "tei": ("/rerank", {"model": "m", "query": QUERY, "texts": DOCUMENTS, "truncate": True}),
    "vllm": ("/v1/rerank", {"model": "m", "query": QUERY, "documents": DOCUMENTS}),
    "zelo": ("/v1/rerank", {"model": "m", "query": QUERY, "documents": DOCUMENTS, "return_documents": False}),
}


def test_what_is_asked_and_read(recorder: Recorder, remote: RemoteReranker) -> None:
    assert isinstance(remote, Reranker)
    said = remote.ask_now(QUERY, DOCUMENTS)
    assert said.scores.tolist() == SCORES
    assert recorder.seen == [EXPECTED[recorder.dialect]]
    assert recorder.headers[0]["authorization"] == f"Bearer {KEY}"
    assert said.seconds > 0
    assert (said.searches > 0) == (recorder.dialect == "cohere")
    assert (said.tokens > 0) == (recorder.dialect in ("jina", "voyage", "vllm", "zelo"))
    assert remote.score(QUERY, []).tolist() == []


def test_long_lists_are_divided(recorder: Recorder, remote: RemoteReranker) -> None:
    texts = [f"read {'x' * (n % 7)}" for n in range(1100)]
    np.testing.assert_array_equal(remote.score("read it", texts), overlap("read it", texts))
    sizes = [len(asked.get("documents") or asked["texts"]) for _, asked in recorder.seen]
    assert sum(sizes) == 1100
    assert max(sizes) == SERVICES[recorder.dialect].most


def test_failures_are_repeated(recorder: Recorder, remote: RemoteReranker) -> None:
    recorder.script += [429, 500]
    assert remote.score(QUERY, DOCUMENTS).tolist() == SCORES
    assert len(recorder.seen) == 3
    recorder.script += [503] * 3
    with pytest.raises(RetryError, match="503") as caught:
        remote.score(QUERY, DOCUMENTS)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(("status", "error"), [(401, JudgeError), (404, JudgeError), (400, BadRequest), (422, BadRequest)])
def test_what_repeating_does_not_mend(recorder: Recorder, remote: RemoteReranker, status: int, error: type[Exception]) -> None:
    recorder.script += [status]
    with pytest.raises(error) as caught:
        remote.score(QUERY, DOCUMENTS)
    assert len(recorder.seen) == 1
    assert KEY not in str(caught.value)


def broken(dialect: str, rows: list[Any]) -> Any:
    service = SERVICES[dialect]
    rows = [{("score" if k == "relevance_score" else k) if dialect == "tei" else k: v for k, v in row.items()} for row in rows]
    return rows if dialect == "tei" else {service.results: rows}


def test_a_reply_with_holes_is_no_ranking(recorder: Recorder, remote: RemoteReranker) -> None:
    good = [{"index": i, "relevance_score": 0.5} for i in range(4)]
    wrong = [
        good[:3],
        [*good[:3], good[0]],
        [*good, {"index": 4, "relevance_score": 0.1}],
        [*good[:3], {"index": 3, "relevance_score": None}],
        [*good[:3], {"index": 3, "relevance_score": float("nan")}],
        [*good[:3], {"index": "3", "relevance_score": 0.1}],
        [],
    ]
    for rows in wrong:
        recorder.script += [broken(recorder.dialect, rows)] * 3
        with pytest.raises(RetryError, match="of 4 documents"):
            remote.score(QUERY, DOCUMENTS)
    recorder.script += [broken(recorder.dialect, wrong[0])]
    assert remote.score(QUERY, DOCUMENTS).tolist() == SCORES


def test_replies_that_were_of_no_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    for dialect, tokens, searches in (("cohere", 0, 3.0), ("voyage", 78, 0.0)):
        made, service = Recorder(dialect), SERVICES[dialect]
        monkeypatch.setenv(service.key, KEY)
        monkeypatch.setenv(service.other_base, made.url)
        short = made.answer({"query": QUERY, "documents": DOCUMENTS[:-1]})
        made.script = [short, short]
        system = RemoteReranker(made.name())
        said = system.ask_now(QUERY, DOCUMENTS)
        system.stop()
        made.server.shutdown()
        assert len(made.seen) == 3
        assert (said.tokens, said.searches) == (tokens, searches)
        assert said.scores.tolist() == SCORES


def test_names_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHERE_API_KEY", raising=False)
    with pytest.raises(JudgeError, match="COHERE_API_KEY is not set"):
        RemoteReranker("cohere:rerank-v3.5")
    with pytest.raises(InputError, match="no remote reranker"):
        RemoteReranker("cohere:")
    with pytest.raises(InputError, match="no remote reranker"):
        RemoteReranker("nobody:model")
    for name in ("tei:http://far.example", "vllm:https://user:key@far.example#m", "tei:https://h?api_key=x"):
        with pytest.raises(RecipeError):
            RemoteReranker(name)
    for name in ("tei:localhost:8080", "zelo:ftp://far.example", "vllm:far.example#m"):
        with pytest.raises(InputError, match="is no address of a server"):
            RemoteReranker(name)
    monkeypatch.setenv("COHERE_API_KEY", KEY)
    assert KEY not in repr(RemoteReranker("cohere:m").__dict__)


@pytest.mark.parametrize("dialect", ["cohere", "jina", "voyage", "tei", "vllm", "zelo"])
def test_zelos_own_server_answers_every_dialect(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Overlap(), keys=(KEY,)) as running:
        service = SERVICES[dialect]
        monkeypatch.setenv(service.key or "ZELO_API_KEY", KEY)
        base = f"{running.url}/voyage/v1" if dialect == "voyage" else running.url
        if service.other_base:
            monkeypatch.setenv(service.other_base, base)
        remote = RemoteReranker(f"{dialect}:m" if service.base else f"{dialect}:{base}")
        assert remote.score(QUERY, DOCUMENTS).tolist() == SCORES
        remote.stop()
