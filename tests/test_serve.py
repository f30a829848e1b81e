"""The server: dialects by samples of their public schemas and the real Cohere client, limits, keys, leaving, stopping, exactness."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import REPO, zelo
from serving import DOCUMENTS, ORDER, QUERY, SCORES, SCORING, Overlap, Running, malformed, sample, serving
from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.serve.loading import load_served


def message_of(path: str, body: Any) -> str:
    """What went wrong, from where the dialect puts it; the shape is checked on the way."""
    if path == "/v2/rerank":
        assert set(body) == {"message"}
        return str(body["message"])
    if path == "/rerank":
        assert set(body) == {"error", "error_type", "detail"}
        return str(body["error"])
    if path.endswith("/score"):
        assert set(body["error"]) == {"message", "type", "code"}
        return str(body["error"]["message"])
    assert set(body) == {"detail"}
    return str(body["detail"])


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(Overlap(poison="poison"), max_body=100_000, max_documents=50) as running:
        yield running


class TestDialects:
    """Requests and responses as the public documentation of each API shows them, with values of our own."""

    def test_cohere(self, server: Running) -> None:
        body = {"model": "rerank-v3.5", "query": QUERY, "documents": DOCUMENTS, "top_n": 3, "max_tokens_per_doc": 4096}
        said = server.call("/v2/rerank", body)
        assert said.status == 200
        assert set(said.body) == {"id", "results", "meta"}
        assert said.body["results"] == [{"index": i, "relevance_score": SCORES[i]} for i in ORDER[:3]]
        assert said.body["meta"]["api_version"]["version"] == "2"

    def test_cohere_cuts_documents(self, server: Running) -> None:
        body = {"model": "m", "query": "read", "documents": ["read", "not xx read"], "max_tokens_per_doc": 1}
        assert [r["relevance_score"] > 0.9 for r in server.call("/v2/rerank", body).body["results"]] == [True, False]

    def test_jina(self, server: Running) -> None:
        objects = [{"text": d} for d in DOCUMENTS]
        for documents in (DOCUMENTS, objects):
            said = server.call("/v1/rerank", {"model": "jina-reranker-v2", "query": QUERY, "documents": documents, "top_n": 2})
            assert said.status == 200
            assert said.body["model"] == "tested"
            assert said.body["results"] == [
                {"index": i, "relevance_score": SCORES[i], "document": {"text": DOCUMENTS[i]}} for i in ORDER[:2]
            ]
            assert said.body["usage"]["total_tokens"] == said.body["usage"]["prompt_tokens"] > 0

    @pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
    def test_vllm(self, server: Running, path: str) -> None:
        body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 0, "return_documents": False, "truncate_prompt_tokens": 512}
        said = server.call(path, body)
        assert said.body["results"] == [{"index": i, "relevance_score": SCORES[i]} for i in ORDER]
        assert said.body["id"].startswith("rerank-")

    def test_voyage(self, server: Running) -> None:
        body = {"query": QUERY, "documents": DOCUMENTS, "model": "rerank-2", "top_k": 2, "truncation": True}
        said = server.call("/voyage/v1/rerank", body)
        assert said.body["object"] == "list"
        assert said.body["data"] == [{"index": i, "relevance_score": SCORES[i]} for i in ORDER[:2]]
        assert said.body["usage"]["total_tokens"] > 0
        said = server.call("/voyage/v1/rerank", {**body, "return_documents": True})
        assert [row["document"] for row in said.body["data"]] == [DOCUMENTS[i] for i in ORDER[:2]]

    def test_tei(self, server: Running) -> None:
        body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "return_text": True, "truncate": True}
        said = server.call("/rerank", body)
        assert said.body == [{"index": i, "score": SCORES[i], "text": DOCUMENTS[i]} for i in ORDER]
        raw = server.call("/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}).body
        assert [set(row) for row in raw] == [{"index", "score"}] * 4
        np.testing.assert_allclose([1 / (1 + np.exp(-row["score"])) for row in raw], [SCORES[i] for i in ORDER], atol=1e-9)

    def test_score(self, server: Running) -> None:
        for path, body in (
            ("/score", {"model": "m", "text_1": QUERY, "text_2": DOCUMENTS}),
            ("/v1/score", {"queries": QUERY, "documents": DOCUMENTS}),
            ("/score", {"text_1": [QUERY] * 4, "text_2": DOCUMENTS}),
            ("/score", {"data_1": QUERY, "data_2": DOCUMENTS}),
            ("/v1/score", {"queries": QUERY, "items": DOCUMENTS}),
        ):
            said = server.call(path, body)
            assert said.status == 200, said
            assert said.body["data"] == [{"index": i, "object": "score", "score": s} for i, s in enumerate(SCORES)]
            assert (said.body["object"], said.body["model"]) == ("list", "tested")
        assert server.call("/score", {"text_1": QUERY, "text_2": DOCUMENTS[2]}).body["data"][0]["score"] == SCORES[2]
        uneven = server.call("/score", {"text_1": [QUERY, QUERY], "text_2": DOCUMENTS})
        assert uneven.status == 422
        assert "as many" in message_of("/score", uneven.body)

    def test_equal_scores_keep_their_order(self, server: Running) -> None:
        said = server.call("/v2/rerank", {"model": "m", "query": "x", "documents": ["b", "a", "c", "a"]})
        assert [r["index"] for r in said.body["results"]] == [0, 1, 2, 3]

    def test_the_cohere_client_works_unchanged(self, server: Running) -> None:
        import cohere

        modern = cohere.ClientV2(api_key="any", base_url=server.url)
        found = modern.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, top_n=3)
        assert [(r.index, r.relevance_score) for r in found.results] == [(i, SCORES[i]) for i in ORDER[:3]]
        older = cohere.Client(api_key="any", base_url=server.url).rerank(query=QUERY, documents=DOCUMENTS, model="m", return_documents=True)
        assert [(r.index, r.relevance_score, r.document.text if r.document else "") for r in older.results] == [
            (i, SCORES[i], DOCUMENTS[i]) for i in ORDER
        ]
        with pytest.raises(cohere.UnprocessableEntityError):
            modern.rerank(model="m", query=QUERY, documents=[])

    def test_the_cohere_client_is_told_of_a_wrong_key(self) -> None:
        import cohere

        with serving(Overlap(), keys=("right",)) as running:
            assert cohere.ClientV2(api_key="right", base_url=running.url).rerank(model="m", query="a", documents=["a"]).results
            with pytest.raises(cohere.UnauthorizedError):
                cohere.ClientV2(api_key="wrong", base_url=running.url).rerank(model="m", query="a", documents=["a"])


class TestPlain:
    def test_health_models_metrics(self, server: Running) -> None:
        assert server.call("/health").body == {"status": "ok"}
        models = server.call("/v1/models").body
        assert [m["id"] for m in models["data"]] == ["tested"]
        server.call("/made/up/path")
        said = server.call("/metrics")
        assert said.headers["content-type"].startswith("text/plain")
        assert re.search(r'^zelo_requests_total\{path="/health",status="200"\} [1-9]', said.body, re.MULTILINE)
        assert re.search(r'^zelo_requests_total\{path="other",status="404"\} 1', said.body, re.MULTILINE)
        for name in ("zelo_queue_requests", "zelo_documents_scored_total", "zelo_batch_seconds_count", "process_resident_memory_bytes"):
            assert re.search(rf"^{name} ", said.body, re.MULTILINE), name

    def test_no_workspace_no_questions(self, server: Running) -> None:
        assert server.call("/api/queries").status == 404
        assert 'id="words"' not in server.call("/").body


class TestRefusals:
    @pytest.mark.parametrize("path", SCORING)
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"{", "JSON"),
            (b"\xff\xfe", "JSON"),
            (b"[]", "dict"),
            (b"[" * 50_000, ""),
            ({"query": "x"}, "required"),
            ({"query": 7, "documents": [None], "texts": "x", "text_1": {}, "text_2": 3}, "valid"),
        ],
    )
    def test_what_is_no_request(self, server: Running, path: str, body: Any, words: str) -> None:
        said = server.call(path, body)
        assert said.status == (400 if isinstance(body, bytes) and body != b"[]" else 422), said
        assert words in message_of(path, said.body)

    @pytest.mark.parametrize("path", SCORING)
    def test_what_is_not_said_to_be_json(self, server: Running, path: str) -> None:
        for headers in ({"Content-Type": "text/plain"}, {"Content-Type": ""}, {"Content-Encoding": "gzip"}):
            said = server.call(path, sample(path), headers)
            assert said.status == 415
            assert "send " in message_of(path, said.body)
        for kind in ("application/json; charset=utf-8", "Application/JSON", "application/problem+json"):
            assert server.call(path, sample(path), {"Content-Type": kind}).status == 200

    @pytest.mark.parametrize(
        ("path", "body", "words"),
        [
            ("/rerank", {"query": "q", "texts": "abc"}, "texts: Input should be a valid list"),
            ("/rerank", {"query": "q", "texts": ["a"], "truncate": False}, "truncate: Input should be True"),
            ("/rerank", {"query": "q"}, "texts: Field required or documents: Field required"),
            ("/v1/rerank", {"query": "q", "documents": [7]}, "documents.0: Input should be a valid string"),
            ("/v1/rerank", {"query": "q", "documents": ["a"], "rank_fields": ["title"]}, "rank_fields.0: Input should be 'text'"),
            ("/score", {"queries": "q"}, "documents: Field required"),
        ],
    )
    def test_words_are_of_the_shape_that_was_meant(self, server: Running, path: str, body: Any, words: str) -> None:
        said = server.call(path, body)
        assert said.status == 422
        assert message_of(path, said.body).startswith(words)
        assert "Request" not in message_of(path, said.body)

    def test_probes_that_ask_for_no_body(self, server: Running) -> None:
        for path in ("/", "/health"):
            said = server.call(path, method="HEAD")
            assert (said.status, said.body) == (200, None)

    @pytest.mark.parametrize("path", SCORING)
    def test_limits(self, server: Running, path: str) -> None:
        said = server.call(path, sample(path, ["a"] * 51))
        assert said.status == 422
        assert "51 documents; this server takes 50" in message_of(path, said.body)
        assert server.call(path, sample(path, ["a"] * 50)).status == 200
        said = server.call(path, sample(path, ["a" * 100_000]))
        assert said.status == 413
        assert "100000 bytes" in message_of(path, said.body)
        assert server.call(path, b"x" * 5_000_000).status == 413

    @pytest.mark.parametrize("path", SCORING)
    def test_keys(self, path: str) -> None:
        with serving(Overlap(), keys=("first-key", "zweiter-schlüssel")) as running:
            for given in ({}, {"Authorization": "Bearer first"}, {"Authorization": "Basic first-key"}, {"Authorization": "Bearer"}):
                said = running.call(path, sample(path), given)
                assert said.status == 401
                assert said.headers["www-authenticate"] == "Bearer"
                assert "key" in message_of(path, said.body)
            assert running.call(path, sample(path), {"Authorization": "bearer first-key"}).status == 200
            assert running.call("/metrics").status == running.call("/v1/models").status == running.call("/openapi.json").status == 401
            assert running.call("/health").status == running.call("/").status == 200

    @pytest.mark.parametrize("path", SCORING)
    def test_too_many_at_once(self, path: str) -> None:
        with serving(Overlap(pause=0.1), queue=1) as running, ThreadPoolExecutor(4) as pool:
            said = list(pool.map(lambda _: running.call(path, sample(path)), range(4)))
            refused = [s for s in said if s.status == 429]
            assert {s.status for s in said} == {200, 429}
            assert all(1 <= int(s.headers["retry-after"]) <= 60 and "too many" in message_of(path, s.body) for s in refused)
            assert running.call(path, sample(path)).status == 200

    def test_time(self, server: Running) -> None:
        with serving(Overlap(pause=0.2)) as running:
            said = running.call("/v2/rerank", sample("/v2/rerank"), {"X-Request-Timeout": "0.05"})
            assert (said.status, said.body["message"]) == (504, "not scored within 0.05 s")
            assert running.call("/v2/rerank", sample("/v2/rerank")).status == 200
        for wrong in ("soon", "-1", "0", "nan"):
            assert server.call("/v2/rerank", sample("/v2/rerank"), {"X-Request-Timeout": wrong}).status == 422

    def test_a_body_that_does_not_come(self) -> None:
        with serving(Overlap(), timeout=0.3) as running, socket.create_connection((running.host, running.port)) as client:
            client.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
            client.settimeout(10)
            assert client.recv(1000).startswith(b"HTTP/1.1 408")

    def test_host_names(self) -> None:
        with serving(Overlap(), hosts=("localhost", "127.0.0.1", "[::1]")) as running:
            for host in ("localhost", "127.0.0.1:80", "[::1]:8000", "LOCALHOST"):
                assert running.call("/health", headers={"Host": host}).status == 200
            for host in ("evil.example", "localhost.evil.example", "localhost@evil.example"):
                assert running.call("/health", headers={"Host": host}).status == 421

    def test_a_model_that_fails(self) -> None:
        with serving(Overlap()) as running:
            said = running.call("/v2/rerank", sample("/v2/rerank", ["\0"]))
            assert said.status == 500
            assert "poisoned" not in str(said.body)
            assert running.call("/v2/rerank", sample("/v2/rerank")).status == 200

    def test_messages_do_not_show_texts(self, server: Running) -> None:
        said = server.call("/v2/rerank", {"model": "m", "query": "s3cret", "documents": [{"s3cret": 1}], "top_n": "s3cret"})
        assert said.status == 422
        assert "s3cret" not in json.dumps(said.body)

    def test_lone_surrogates(self, server: Running) -> None:
        for text in (b'"\\ud800"', b'"\\ud83d\\ude00"'):
            said = server.call("/v1/rerank", b'{"query": "a", "documents": [' + text + b"]}")
            assert said.status in (200, 422)


def test_malformed_bodies_never_are_the_servers_fault(server: Running) -> None:
    rng = random.Random(0)
    for n in range(400):
        path = SCORING[n % len(SCORING)]
        assert server.call(path, malformed(rng, path)).status < 500


def test_openapi_is_truthful(server: Running) -> None:
    """Schemathesis makes requests from the schema, good and bad, and checks status, headers and bodies against it."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import settings as effort
    from hypothesis.errors import Unsatisfiable
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tested = []
    for found in schema.get_all_operations():
        operation = found.ok()
        tested.append(operation.path)
        for mode in schemathesis.GenerationMode:

            @effort(max_examples=12, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                # JSON Schema cannot say that two lists are of one length.
                case.call_and_validate(excluded_checks=[positive_data_acceptance] if case.path.endswith("score") else [])

            try:
                check()
            except Unsatisfiable:  # nothing can be wrong with a request without parameters
                assert operation.path not in SCORING
    assert {*SCORING, "/health", "/v1/models", "/metrics", "/", "/api/queries", "/api/query", "/api/document"} == set(tested)
    documents = server.call("/openapi.json").body["components"]["schemas"]["CohereRequest"]["properties"]["documents"]
    assert documents["maxItems"] == 50


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize("path", SCORING)
def test_a_client_that_leaves_frees_its_work(path: str) -> None:
    reranker = Overlap(pause=0.005)
    with serving(reranker, batch_tokens=40) as running:
        body = json.dumps(sample(path, ["x" * 40] * 500)).encode()
        client = socket.create_connection((running.host, running.port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        wait_for(lambda: bool(reranker.calls))
        client.close()
        wait_for(lambda: running.batcher.waiting_tokens == 0)
        scored = sum(n for _, n in reranker.calls)
        assert scored < 250
        assert running.call(path, sample(path, ["a"])).status == 200
        assert sum(n for _, n in reranker.calls) == scored + 1
        assert 'status="499"} 1.0' in running.call("/metrics").body


SLOW = """
import sys
sys.path[:0] = [{tests!r}]
from serving import Overlap
from zelo.serve.gate import Settings
from zelo.serve.loading import Served
from zelo.serve.running import serve

serve(Served("slow", Overlap(pause=0.1)), Settings(), "127.0.0.1", 0, lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_under_way_finish(number: int) -> None:
    code = SLOW.format(tests=str(REPO / "tests"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2].strip().strip("/"))
    running = Running("127.0.0.1", port, None)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(running.call, "/v2/rerank", sample("/v2/rerank", ["a"] * 4)) for _ in range(3)]
        wait_for(lambda: "zelo_batch_documents_count 1" in running.call("/metrics").body or any(c.done() for c in calls))
        process.send_signal(number)
        assert [call.result().status for call in calls] == [200] * 3
    assert process.wait(20) == 0
    assert process.stdout.read() == "stopped\n"
    with pytest.raises(ConnectionRefusedError):
        running.call("/health")


class TestWorkspace:
    """What is served of a workspace scores as its rank stage and as `zelo rerank` do, to the last bit."""

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, finished: Path) -> Iterator[Running]:
        with serving(load_served(finished)) as running:
            yield running

    def test_the_rank_stages_scores(self, running: Running, finished: Path) -> None:
        texts = {d.doc_id: d.full_text for d in read_corpus(finished / "corpus.jsonl")}
        queries = {q.query_id: q.text for q in read_queries(finished / "queries.jsonl")}
        ranked = read_run(finished / "rankings/pointwise.trec")
        candidates = read_run(finished / "candidates/fused.trec")

        def check(query_id: str) -> None:
            doc_ids = [d.doc_id for d in candidates[query_id]]
            body = {"model": "m", "query": queries[query_id], "documents": [texts[d] for d in doc_ids]}
            results = running.call("/v2/rerank", body).body["results"]
            assert [doc_ids[r["index"]] for r in results] == [d.doc_id for d in ranked[query_id]]
            assert [r["relevance_score"] for r in results] == [d.score for d in ranked[query_id]]

        assert ranked
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(check, ranked))

    def test_zelo_reranks_scores_whatever_else_is_asked(self, running: Running, finished: Path, tmp_path: Path) -> None:
        rng = random.Random(1)
        words = " ".join(d.full_text for d in read_corpus(finished / "corpus.jsonl")).split()
        requests = [
            (" ".join(rng.sample(words, 5)), [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(7)]) for _ in range(8)
        ]
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(running.call, "/score", {"text_1": q, "text_2": d}) for q, d in requests]
        for place in (finished, finished / "models/pointwise"):
            reranker = load_served(place).reranker
            for (query, documents), call in zip(requests, asked, strict=True):
                assert [row["score"] for row in call.result().body["data"]] == reranker.score(query, documents).tolist()
        query, documents = requests[0]
        (tmp_path / "d.txt").write_text("\n".join(documents))
        ran = zelo("rerank", finished, "--query", query, tmp_path / "d.txt")
        printed = sorted(json.loads(line)["score"] for line in ran.out.splitlines())
        assert printed == sorted(round(row["score"], 6) for row in asked[0].result().body["data"])

    def test_what_the_page_reads(self, running: Running, finished: Path) -> None:
        found = running.call("/api/queries").body
        assert found["total"] == 16
        assert found["queries"][0]["split"] == "test"
        first = found["queries"][0]
        word = first["text"].split()[0]
        assert first["query_id"] in [q["query_id"] for q in running.call(f"/api/queries?words={word.upper()}").body["queries"]]
        assert running.call("/api/queries?words=no-such-word").body == {"total": 0, "queries": []}
        query = running.call(f"/api/query?query_id={first['query_id']}").body
        assert query["text"] == first["text"]
        run = read_run(finished / "candidates/fused.trec")[first["query_id"]]
        assert [d["doc_id"] for d in query["documents"]] == [d.doc_id for d in run]
        judged = next(d for d in query["documents"] if d["records"])
        assert len(judged["records"]) == len(query["judges"]) == 3
        comparisons = running.call(f"/api/document?query_id={first['query_id']}&doc_id={judged['doc_id']}").body["comparisons"]
        for judge, (won, tied, lost) in zip(query["judges"], judged["records"], strict=True):
            said = [s["preference"] for c in comparisons for s in c["said"] if s["judge"] == judge]
            assert (won, tied, lost) == (sum(p > 0 for p in said), sum(p == 0 for p in said), sum(p < 0 for p in said))
        assert running.call("/api/query?query_id=nobody").status == 404


class TestCommand:
    def test_what_cannot_be_served(self, tmp_path: Path) -> None:
        assert "holds no model" in zelo("serve", tmp_path).err
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            from zelo.errors import InputError
            from zelo.serve.running import listen

            with pytest.raises(InputError, match="cannot listen"):
                listen("127.0.0.1", taken.getsockname()[1])
            with pytest.raises(InputError, match="cannot listen"):
                listen("no.such.host.invalid", 80)

    def test_a_workspace_without_a_model(self, finished: Path, tmp_path: Path) -> None:
        (tmp_path / "ws").mkdir()
        (tmp_path / "ws/recipe.toml").write_bytes((finished / "recipe.toml").read_bytes())
        assert "has no trained model yet" in zelo("serve", tmp_path / "ws").err

    def test_serves_and_warns(self, finished: Path) -> None:
        """The command itself, open to the network and without keys; ended by a signal."""
        command = [sys.executable, "-m", "zelo", "serve", str(finished / "models/pointwise"), "--host", "0.0.0.0", "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        line = process.stderr.readline()
        assert line.startswith("serving pointwise at http://0.0.0.0:")
        assert "ZELO_SERVE_KEYS" in process.stderr.readline()
        running = Running("127.0.0.1", int(line.strip().rstrip("/").rpartition(":")[2]), None)  # type: ignore[arg-type]
        assert running.call("/v2/rerank", sample("/v2/rerank")).status == 200
        process.terminate()
        assert process.wait(30) == 0
        watchdog.cancel()
