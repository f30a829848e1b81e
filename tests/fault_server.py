"""A language model's server with faults, on loopback: OpenAI chat, Anthropic, Gemini, and both batch APIs.

    with FaultServer(rate=0.3, seed=1) as server:             # 30 % of the calls fail, each kind as often
        judge = f"{server.url}#m"                             # a name for a recipe, or for open_model
    with FaultServer(script=["429", "hang"]) as server: ...   # the first calls fail so, in order of arrival; then none
    with FaultServer(answer=lambda call: '{"score": 1}'): ... # what the model says; `call` is a `Call`

`server.url` ends in /v1; `server.gemini` in /v1beta. What a call meets is drawn from (seed, text of the call, how often it came), so it
does not depend on the order in which calls arrive. `server.calls` counts calls by their text (system and user joined with "\n\n"),
`server.answered` those with a whole, usable reply, `server.repeated()` how many calls were repeated after such a reply,
`server.most_at_once` how many were open together. It runs in a thread; as `python tests/fault_server.py [--port N]` in a process of its
own (prints its address), where it is also the zero-latency peer of benchmarks/client.py.

Batches are done at the `polls`-th look at them; `batch_faults` are dealt to their requests by the same draw: "expired", "canceled",
"error" (400), "overloaded", "duplicate", "left-out". `batch_status` ends a batch otherwise ("failed", "expired").
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FAULTS = (
    "429",
    "429-after",
    "500",
    "503",
    "hang",
    "cut",
    "wrong-schema",
    "no-json",
    "refusal",
    "filter",
    "length",
    "disconnect",
    "utf8",
    "empty",
)
"""What `rate` draws from. `script` and `faults` also take any status ("404", "529"), "close", "redirect", "echo-key" and "huge"."""

TEXTS = {"wrong-schema": '{"verdict": ["neither"]}', "no-json": "I would rather not say it in JSON."}
KEY = re.compile(rb"(?im)^(?:authorization: bearer|x-api-key:|x-goog-api-key:|api-key:)\s*(\S+)")
LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")


@dataclass(frozen=True)
class Call:
    """What a model was asked, whatever the API."""

    text: str
    body: Mapping[str, Any]
    number: int
    """How often this text had come before."""


@dataclass
class FaultServer:
    """See the module."""

    rate: float = 0.0
    faults: Sequence[str] = FAULTS
    script: Sequence[str] = ()
    seed: int = 0
    answer: Callable[[Call], str] = lambda call: '{"reasoning": "both were read", "score": 0.5}'
    logprobs: Callable[[Call], Mapping[str, float]] | None = None
    check: Callable[[Mapping[str, Any]], tuple[int, Any] | None] | None = None
    """May refuse a body: (status, JSON)."""
    after: float = 0.05
    hang: float = 30.0
    latency: float = 0.0
    elsewhere: str = "http://127.0.0.1:9/v1/chat/completions"
    polls: int = 1
    batch_faults: Mapping[str, float] = field(default_factory=dict)
    batch_status: str = ""
    port: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    heads: list[bytes] = field(default_factory=list)
    """First lines and headers of all requests."""
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    keep: bool = True
    """Whether to keep heads, bodies and counts by text; off for benchmarks."""

    def __post_init__(self) -> None:
        self.open = self.most_at_once = self.total = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def gemini(self) -> str:
        return f"{self.root}/v1beta"

    def repeated(self) -> int:
        """How many calls came after a usable reply to the same text had been sent."""
        return sum(n - 1 for n in self.answered.values() if n > 1)

    def __enter__(self) -> FaultServer:
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self, started: threading.Event) -> None:
        asyncio.run(self.serve(started.set))

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until `__exit__`."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        connections: set[Connection] = set()
        server = await self._loop.create_server(lambda: Connection(self, connections), "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._stop.wait()
        server.close()
        for connection in list(connections):
            connection.transport.abort()

    def fault(self, text: str, number: int) -> str:
        """Draw what a call meets; "" is nothing."""
        if self.total <= len(self.script):
            return self.script[self.total - 1]
        if not self.rate:
            return ""
        digest = hashlib.blake2b(f"{self.seed}\0{number}\0{text}".encode("utf-8", "replace"), digest_size=8).digest()
        draw = int.from_bytes(digest, "big") / 2**64
        return self.faults[int(draw / self.rate * len(self.faults))] if draw < self.rate else ""

    def respond(self, method: str, path: str, head: bytes, body: bytes) -> Response:
        """Answer one request."""
        if self.keep:
            self.heads.append(head)
        if "/files" in path or "batches" in path:
            return self._batch_api(method, path.partition("?")[0], body, head)
        asked = json.loads(body)
        text = text_of(asked)
        self.total += 1
        number = self.calls[text]
        if self.keep:
            self.calls[text] += 1
            self.bodies.append(asked)
        found = self.fault(text, number)
        self.met[found] += 1
        if not found and self.check and (refused := self.check(asked)):
            return Response(refused[0], dump(refused[1]))
        reply = self._fail(found, head, api_of(path), Call(text, asked, number))
        if reply.usable and self.keep:
            self.answered[text] += 1
        return reply

    def _fail(self, found: str, head: bytes, api: str, call: Call) -> Response:
        error = error_body(api, found)
        if found == "429-after":
            return Response(429, error, headers=f"retry-after-ms: {1000 * self.after:g}\r\nretry-after: 1\r\n")
        if found.isdigit():
            return Response(int(found), error)
        if found == "redirect":
            return Response(307, b"{}", headers=f"location: {self.elsewhere}\r\n")
        if found == "echo-key":
            key = KEY.search(head)
            shown = key.group(1).decode() if key else "none"
            return Response(401, dump({"error": {"message": f"Incorrect API key provided: {shown}; {shown[:9]}***{shown[-4:]}"}}))
        if found == "huge":
            return Response(200, b'{"x": "' + b"x" * 2**25 + b'"}')
        text = TEXTS.get(found) or self.answer(call)
        finish = found if found in ("refusal", "filter", "length") else "stop"
        body = completion(api, text[: len(text) // 2] if found == "length" else text, finish, call, self.logprobs)
        if found == "cut":
            body = body[: len(body) * 2 // 3]
        elif found == "utf8":
            body = body.replace(b"model", b"mod\xff\xfel", 1)
        elif found == "empty":
            body = b"{}"
        return Response(200, body, how=found if found in ("hang", "disconnect", "close") else "", usable=not found)

    def _batch_api(self, method: str, path: str, body: bytes, head: bytes) -> Response:
        parts = [p for p in path.split("/") if p]
        if parts[-1] == "files":
            boundary = re.search(rb"boundary=\"?([^\";\r\n]+)", head).group(1)  # type: ignore[union-attr]
            pieces = [piece.partition(b"\r\n\r\n") for piece in body.split(b"--" + boundary)]
            content = next(content for headers, _, content in pieces if b"filename=" in headers)
            self.files[f"file-{len(self.files)}"] = content.rstrip(b"\r\n") + b"\n"
            return Response(200, dump({"id": f"file-{len(self.files) - 1}", "object": "file", "bytes": len(content), "purpose": "batch"}))
        if "files" in parts:
            return (
                Response(200, self.files[parts[-2]]) if parts[-2] in self.files else Response(404, dump({"error": {"message": "no file"}}))
            )
        anthropic = "messages" in parts
        if parts[-1] == "batches" and method == "GET":
            return Response(200, dump({"data": [self._told(b, anthropic) for b in self.batches.values()], "has_more": False}))
        if parts[-1] == "batches":
            return self._create(json.loads(body), anthropic)
        batch = self.batches.get(parts[-2] if parts[-1] == "results" else parts[-1])
        if batch is None:
            return Response(404, dump({"error": {"type": "not_found_error", "message": "no such batch"}}))
        if parts[-1] == "results":
            return Response(200, b"".join(batch["lines"]))
        batch["looks"] += 1
        return Response(200, dump(self._told(batch, anthropic)))

    def _create(self, asked: Mapping[str, Any], anthropic: bool) -> Response:
        self.total += 1
        found = self.script[self.total - 1] if self.total <= len(self.script) else ""
        if found.isdigit() and found != "200":
            return Response(int(found), error_body("anthropic" if anthropic else "openai", found))
        rows = asked["requests"] if anthropic else [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        batch: dict[str, Any] = {"id": f"batch_{len(self.batches)}", "looks": 0, "rows": rows, "file": asked.get("input_file_id")}
        self.batches[batch["id"]] = batch
        self._work(batch, anthropic)
        return Response(200, dump(self._told(batch, anthropic)), how=found if found in ("close", "disconnect", "cut") else "")

    def _work(self, batch: dict[str, Any], anthropic: bool) -> None:
        batch["lines"], batch["errors"], batch["counts"] = [], [], Counter()
        for row in batch["rows"]:
            asked = row["params"] if anthropic else row["body"]
            text = text_of(asked)
            call = Call(text, asked, self.calls[text])
            self.calls[text] += 1
            refused = self.check(asked) if self.check else None
            found = "refused" if refused else self._batch_fault(text, call.number)
            if found in ("", "duplicate"):
                self.answered[text] += 1
            says = str(refused[1]["error"]["message"]) if refused else self.answer(call)
            line, kind = (anthropic_row if anthropic else openai_row)(row["custom_id"], found, call, says)
            batch["counts"][kind] += 1
            if found != "left-out":
                errors = not anthropic and kind != "succeeded"
                batch["errors" if errors else "lines"] += [dump(line) + b"\n"] * (2 if found == "duplicate" else 1)
        batch["lines"].reverse()
        if not anthropic:
            for kind in ("lines", "errors"):
                self.files[f"{batch['id']}-{kind}"] = b"".join(batch[kind])

    def _batch_fault(self, text: str, number: int) -> str:
        digest = hashlib.blake2b(f"batch\0{self.seed}\0{number}\0{text}".encode("utf-8", "replace"), digest_size=8).digest()
        draw = int.from_bytes(digest, "big") / 2**64
        for kind, share in self.batch_faults.items():
            if draw < share:
                return kind
            draw -= share
        return ""

    def _told(self, batch: Mapping[str, Any], anthropic: bool) -> dict[str, Any]:
        done = batch["looks"] >= self.polls
        counts, total = batch["counts"], len(batch["rows"])
        if anthropic:
            kinds = ("succeeded", "errored", "canceled", "expired")
            counted = {kind: counts[kind] if done else 0 for kind in kinds} | {"processing": 0 if done else total}
            return {
                "id": batch["id"],
                "type": "message_batch",
                "processing_status": "ended" if done else "in_progress",
                "request_counts": counted,
            }
        status = (self.batch_status or "completed") if done else "in_progress"
        good = counts["succeeded"]
        told = {"id": batch["id"], "object": "batch", "status": status, "input_file_id": batch["file"]}
        told["request_counts"] = {"total": total, "completed": good if done else 0, "failed": total - good if done else 0}
        if status == "failed":
            told["errors"] = {"object": "list", "data": [{"code": "invalid_json_line", "message": "line 1 is not JSON", "line": 1}]}
        elif done:
            told |= {f"{name}_file_id": f"{batch['id']}-{kind}" for name, kind in (("output", "lines"), ("error", "errors")) if batch[kind]}
        return told


@dataclass(slots=True)
class Response:
    status: int
    body: bytes
    headers: str = ""
    how: str = ""
    usable: bool = False

    def wire(self) -> bytes:
        head = f"HTTP/1.1 {self.status} X\r\ncontent-type: application/json\r\n{self.headers}content-length: {len(self.body)}\r\n\r\n"
        return head.encode() + self.body


class Connection(asyncio.Protocol):
    """HTTP/1.1 with kept-alive connections: enough of it, and no more, so that the server is cheap."""

    def __init__(self, server: FaultServer, connections: set[Connection]) -> None:
        self.server, self.connections, self.buffer = server, connections, bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end])
            whole = self._body(head, end + 4)
            if whole is None:
                return
            body, used = whole
            del self.buffer[:used]
            method, path = head.split(b" ", 2)[:2]
            self._reply(self.server.respond(method.decode(), path.decode(), head, body))

    def _body(self, head: bytes, start: int) -> tuple[bytes, int] | None:
        length = LENGTH.search(head)
        if length:
            end = start + int(length.group(1))
            return (bytes(self.buffer[start:end]), end) if len(self.buffer) >= end else None
        if b"chunked" not in head.lower():
            return b"", start
        body = b""
        while (end := self.buffer.find(b"\r\n", start)) >= 0:
            size = int(self.buffer[start:end], 16)
            if len(self.buffer) < end + 2 + size + 2:
                return None
            body += self.buffer[end + 2 : end + 2 + size]
            start = end + 2 + size + 2
            if size == 0:
                return body, start
        return None

    def _reply(self, reply: Response) -> None:
        server = self.server
        server.open += 1
        server.most_at_once = max(server.most_at_once, server.open)
        wait = server.hang if reply.how == "hang" else server.latency
        if wait:
            asyncio.get_running_loop().call_later(wait, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: Response) -> None:
        self.server.open -= 1
        if self.transport.is_closing():
            return
        if reply.how in ("hang", "close"):
            self.transport.abort()
        elif reply.how == "disconnect":
            wire = reply.wire()
            self.transport.write(wire[: len(wire) - len(reply.body) // 2])
            self.transport.close()
        else:
            self.transport.write(reply.wire())


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def api_of(path: str) -> str:
    return "gemini" if "generateContent" in path else "anthropic" if "/messages" in path else "openai"


def text_of(asked: Mapping[str, Any]) -> str:
    """The texts of a request in any of the APIs."""

    def texts(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        if isinstance(part, list):
            return [text for inner in part for text in texts(inner)]
        return texts(part.get("content", part.get("parts", part.get("text", [])))) if isinstance(part, dict) else []

    parts = [asked.get("system"), asked.get("systemInstruction"), asked.get("messages"), asked.get("contents")]
    return "\n\n".join(text for part in parts for text in texts(part))


def error_body(api: str, found: str) -> bytes:
    words = f"fault {found}"
    if api == "anthropic":
        return dump({"type": "error", "error": {"type": "api_error", "message": words}})
    if api == "gemini":
        return dump({"error": {"code": int(found[:3]) if found[:3].isdigit() else 0, "message": words, "status": "UNAVAILABLE"}})
    return dump({"error": {"message": words, "type": "server_error", "code": None}})


def completion(api: str, text: str, finish: str, call: Call, logprobs: Callable[[Call], Mapping[str, float]] | None) -> bytes:
    """A reply with `finish` stop, length, refusal or filter."""
    read, written = max(len(call.text) // 4, 1), max(len(text) // 4, 1)
    top = dict(logprobs(call)) if logprobs else {}
    if api == "anthropic":
        stop = {"stop": "end_turn", "length": "max_tokens"}.get(finish, "refusal")
        content: list[Any] = [{"type": "text", "text": text}] if finish != "filter" else []
        if call.body.get("tool_choice"):
            content = [{"type": "tool_use", "id": "t", "name": call.body["tool_choice"]["name"], "input": json.loads(text)}]
            stop = "tool_use" if stop == "end_turn" else stop
        usage = {"input_tokens": read, "output_tokens": written, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
        return dump({"id": "msg", "type": "message", "model": "m", "content": content, "stop_reason": stop, "usage": usage})
    if api == "gemini":
        usage = {"promptTokenCount": read, "candidatesTokenCount": written, "thoughtsTokenCount": 3, "totalTokenCount": read + written + 3}
        if finish == "filter":
            return dump({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage, "modelVersion": "m"})
        reason = {"stop": "STOP", "length": "MAX_TOKENS"}.get(finish, "PROHIBITED_CONTENT")
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason}
        if top:
            candidate["logprobsResult"] = {"topCandidates": [{"candidates": [{"token": t, "logProbability": p} for t, p in top.items()]}]}
        return dump({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"})
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if finish == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    choice = {"index": 0, "message": message, "finish_reason": {"filter": "content_filter", "refusal": "stop"}.get(finish, finish)}
    if top and call.body.get("logprobs"):
        first = [{"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "replace"))} for token, value in top.items()]
        choice["logprobs"] = {"content": [{**first[0], "top_logprobs": first[: call.body.get("top_logprobs", 0)]}]}
    counts: dict[str, Any] = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    return dump({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": counts})


def openai_row(custom_id: str, found: str, call: Call, text: str) -> tuple[dict[str, Any], str]:
    row: dict[str, Any] = {"id": f"r_{custom_id}", "custom_id": custom_id, "response": None, "error": None}
    if found in ("expired", "canceled", "left-out"):
        row["error"] = {"code": "batch_expired" if found == "expired" else "batch_cancelled", "message": found}
        return row, "expired"
    if found in ("error", "overloaded", "refused"):
        told = {"message": text if found == "refused" else found, "type": "x", "code": None}
        row["response"] = {"status_code": 503 if found == "overloaded" else 400, "request_id": "r", "body": {"error": told}}
        return row, "errored"
    row["response"] = {"status_code": 200, "request_id": "r", "body": json.loads(completion("openai", text, "stop", call, None))}
    return row, "succeeded"


def anthropic_row(custom_id: str, found: str, call: Call, text: str) -> tuple[dict[str, Any], str]:
    if found in ("expired", "canceled"):
        return {"custom_id": custom_id, "result": {"type": found}}, found
    if found in ("error", "overloaded", "refused"):
        kind = "overloaded_error" if found == "overloaded" else "invalid_request_error"
        error = {"type": "error", "error": {"type": kind, "message": text if found == "refused" else found}}
        return {"custom_id": custom_id, "result": {"type": "errored", "error": error}}, "errored"
    message = json.loads(completion("anthropic", text, "stop", call, None))
    return {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}, "succeeded"


def main() -> None:
    parser = argparse.ArgumentParser(description="A zero-latency language model that says the same to everyone.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    options = parser.parse_args()
    server = FaultServer(rate=options.rate, seed=options.seed, latency=options.latency, port=options.port, keep=options.rate > 0)
    try:
        asyncio.run(server.serve(lambda: print(server.url, flush=True)))
    except KeyboardInterrupt:
        time.sleep(0)


if __name__ == "__main__":
    main()
