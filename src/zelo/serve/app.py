"""The application: routes of every dialect over one batcher, and the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from zelo import __version__
from zelo.serve import page
from zelo.serve.batching import Batcher, Overloaded, ScoringFailed, TooLate, Watch
from zelo.serve.dialects import (
    OTHER,
    ROUTES,
    Ask,
    CohereAnswer,
    CohereRequest,
    DetailError,
    Dialect,
    FloatArray,
    JinaAnswer,
    JinaRequest,
    QueriesRequest,
    ScoreAnswer,
    ScoreRequest,
    TeiRequest,
    TeiResult,
    Vllm,
    VoyageAnswer,
    VoyageRequest,
    pairs_of,
)
from zelo.serve.gate import Gate, Settings
from zelo.serve.loading import Served
from zelo.serve.metrics import Metrics
from zelo.serve.reloading import reloads
from zelo.serve.view import WorkspaceView

log = logging.getLogger(__name__)

ERRORS = {
    400: "not JSON",
    401: "no key, or not one of the server's",
    408: "the request took too long to arrive",
    413: "more bytes than the server takes",
    415: "not application/json",
    421: "a host name that the server does not answer to",
    422: "JSON that is no request of this dialect, or more documents than the server takes",
    429: "too many requests are waiting; Retry-After says how long to wait",
    500: "the model failed",
    504: "not scored in time",
}
TeiOrJina = Annotated[TeiRequest | JinaRequest, Field(union_mode="left_to_right")]
SHAPES = tuple(shape.__name__ for shape in (TeiRequest, JinaRequest, ScoreRequest, QueriesRequest))
"""Requests that share a route with another shape."""
UNREADABLE = "the body is not JSON that can be read: not UTF-8, nested too deep, or a number too long"
LISTS = ("documents", "texts", "text_2", "queries", "text_1")
"""Fields that hold one entry per document."""


class Health(BaseModel):
    """The body of /health."""

    status: str


class Model(BaseModel):
    """One model of /v1/models."""

    id: str
    object: str
    created: int
    owned_by: str


class Models(BaseModel):
    """The body of /v1/models, as OpenAI's."""

    object: str
    data: list[Model]


class Failure(Exception):
    """An error to answer with."""

    def __init__(self, status: int, message: str, after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.after = status, message, after


def make_app(served: Served, settings: Settings) -> FastAPI:
    """Return the application for a reranker; it scores from its start to its shutdown."""
    metrics = Metrics(__version__, served.name)
    batcher = Batcher(served.reranker, batch_tokens=settings.batch_tokens, watch=Watch(metrics.batch))
    metrics.watch_queue(lambda: float(batcher.waiting), lambda: float(batcher.waiting_tokens))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        with reloads(served, batcher):
            yield
        await batcher.close()

    app = FastAPI(title="zelo", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, description=_ABOUT)
    app.state.batcher, app.state.metrics = batcher, metrics
    _add_errors(app)
    _add_dialects(app, Scoring(batcher, settings, served.name))
    _add_plain(app, served, batcher, metrics)
    _add_page(app, served)
    app.add_middleware(Gate, settings=settings, metrics=metrics, seconds_left=batcher.seconds_left)
    _describe_limits(app, settings)
    return app


_ABOUT = (
    "Orders documents by how well they answer a question, in the dialects of several rerank APIs. Scores are in [0, 1] and do not "
    "depend on the other documents. Header `X-Request-Timeout`: seconds to wait at most, below the server's own limit."
)


class Scoring:
    """What every scoring route does."""

    def __init__(self, batcher: Batcher, settings: Settings, name: str) -> None:
        self._batcher, self._settings, self.name = batcher, settings, name

    async def answer(self, request: Request, dialect: Dialect, ask: Ask) -> Response:
        """Score and answer."""
        (scores,) = await self.score(request, [ask])
        return _json(dialect.answer(ask, scores, self.name))

    async def score(self, request: Request, asks: list[Ask]) -> list[FloatArray]:
        """Return the scores of each ask.

        Raises:
            Failure: too many documents, no time, too late, or the model failed.
        """
        total = sum(len(ask.documents) for ask in asks)
        if total > self._settings.max_documents:
            raise Failure(422, f"{total} documents; this server takes {self._settings.max_documents} in a request")
        timeout = self._timeout(request)
        try:
            return await _unless_gone(request, _together([self._batcher.score(ask.query, ask.texts(), timeout) for ask in asks]))
        except Overloaded as error:
            raise Failure(429, str(error), error.after) from None
        except TooLate as error:
            raise Failure(504, str(error)) from None
        except ScoringFailed as error:
            log.error("%s", error, exc_info=error.__cause__)
            raise Failure(500, str(error)) from None

    def _timeout(self, request: Request) -> float:
        given = request.headers.get("x-request-timeout")
        if given is None:
            return self._settings.timeout
        try:
            seconds = float(given)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise Failure(422, "X-Request-Timeout is not a number of seconds above 0")
        return min(seconds, self._settings.timeout)


async def _together(calls: list[Awaitable[FloatArray]]) -> list[FloatArray]:
    """Await all; the first that fails stops the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(call)) for call in calls]
    return [task.result() for task in tasks]


async def _one(call: Awaitable[FloatArray]) -> FloatArray:
    return await call


async def _unless_gone(request: Request, work: Awaitable[list[FloatArray]]) -> list[FloatArray]:
    """Await work, and stop it when the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Failure(499, "the client left")
        return task.result()
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    finally:
        for part in (task, gone):
            part.cancel()
        await asyncio.wait((task, gone))


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(text, status, headers, media_type="application/json")


def _add_errors(app: FastAPI) -> None:
    """Say what went wrong in the words of the route's dialect."""

    def dialect_of(request: Request) -> Dialect:
        return ROUTES.get(request.url.path, OTHER)

    async def failed(request: Request, error: Exception) -> Response:
        if not isinstance(error, Failure):
            raise error
        headers = {"Retry-After": str(error.after)} if error.after is not None else {}
        return _json(dialect_of(request).error(error.status, error.message), error.status, headers)

    async def refused(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        words = UNREADABLE if error.status_code == 400 and request.url.path in ROUTES else str(error.detail)
        return _json(dialect_of(request).error(error.status_code, words), error.status_code, dict(error.headers or {}))

    async def invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        broken = next((fault for fault in error.errors() if fault["type"] == "json_invalid"), None)
        if broken is not None:
            words = f"the body is not JSON: {broken['ctx']['error']} at character {broken['loc'][-1]}"
            return _json(dialect_of(request).error(400, words), 400)
        return _json(dialect_of(request).error(422, _words(error)), 422)

    app.add_exception_handler(Failure, failed)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)


def _words(error: RequestValidationError) -> str:
    """Return what is wrong, without what was sent: texts do not belong into messages.

    Where a route takes requests of two shapes, that of the one which lacks the fewest fields.
    """
    shapes: dict[str, list[Any]] = {}
    for fault in error.errors():
        shapes.setdefault(next((str(step) for step in fault["loc"] if step in SHAPES), ""), []).append(fault)
    lacks = {shape: sum(fault["type"] == "missing" for fault in faults) for shape, faults in shapes.items()}
    nearest = [faults for shape, faults in shapes.items() if lacks[shape] == min(lacks.values())]
    return " or ".join("; ".join(map(_fault, faults[:3])) for faults in nearest).encode("utf-8", "replace").decode()


def _fault(fault: Any) -> str:
    place = ".".join(str(step) for step in fault["loc"] if step not in ("body", "str", "TextObject", *SHAPES))[:200]
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def _errors(dialect: Dialect) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": dialect.error_model, "description": about} for status, about in ERRORS.items()}


def _add_dialects(app: FastAPI, scoring: Scoring) -> None:
    def route(path: str, answer: Any, about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        options: dict[str, Any] = {"response_model_exclude_none": True, "tags": ["rerank"]}
        return app.post(path, response_model=answer, responses=_errors(ROUTES[path]), summary=about, **options)

    @route("/v2/rerank", CohereAnswer, "Cohere, version 2")
    async def cohere(request: Request, body: CohereRequest) -> Response:
        return await scoring.answer(request, ROUTES["/v2/rerank"], body.ask())

    @route("/v1/rerank", JinaAnswer, "Jina, vLLM, infinity")
    async def jina(request: Request, body: JinaRequest) -> Response:
        return await scoring.answer(request, ROUTES["/v1/rerank"], body.ask())

    @route("/voyage/v1/rerank", VoyageAnswer, "Voyage; the base address is /voyage/v1")
    async def voyage(request: Request, body: VoyageRequest) -> Response:
        return await scoring.answer(request, ROUTES["/voyage/v1/rerank"], body.ask())

    @route("/rerank", list[TeiResult] | JinaAnswer, "text-embeddings-inference where `texts` are given, otherwise as /v1/rerank")
    async def rerank(request: Request, body: TeiOrJina) -> Response:
        path = "/rerank" if isinstance(body, TeiRequest) else "/v1/rerank"
        return await scoring.answer(request, ROUTES[path], body.ask())

    async def score(request: Request, body: ScoreRequest | QueriesRequest) -> Response:
        pairs = pairs_of(body)
        if pairs is None:
            raise Failure(422, "give one query, or as many queries as documents")
        asks = [Ask(query, documents) for query, documents in pairs]
        return _json(Vllm().pairs(asks, await scoring.score(request, asks), scoring.name))

    for path in ("/score", "/v1/score"):
        route(path, ScoreAnswer, "vLLM: scores of pairs, in the order given")(score)


def _add_plain(app: FastAPI, served: Served, batcher: Batcher, metrics: Metrics) -> None:
    started = int(time.time())

    @app.get("/health", response_model=Health, responses={503: {"model": Health, "description": "it does not score any more"}})
    async def health() -> Response:
        return _json({"status": "ok"}) if batcher.alive else _json({"status": "stopped"}, 503)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}, 401: _unauthorized()}, response_class=Response)
    def metrics_page() -> Response:
        text, kind = metrics.text()
        return Response(text, media_type=kind)

    @app.get("/v1/models", response_model=Models, responses={401: _unauthorized()})
    async def models() -> Response:
        return _json({"object": "list", "data": [{"id": served.name, "object": "model", "created": started, "owned_by": "zelo"}]})


def _unauthorized() -> dict[str, Any]:
    return {"model": DetailError, "description": ERRORS[401]}


def _add_page(app: FastAPI, served: Served) -> None:
    view = WorkspaceView(served.context) if served.context else None
    html, policy = page.render(served.name, with_queries=view is not None)
    missing = {"model": DetailError, "description": "no such question, or no workspace is served"}
    responses: dict[int | str, dict[str, Any]] = {401: _unauthorized(), 404: missing, 422: {"model": DetailError}}

    @app.get("/", response_class=Response, responses={200: {"content": {"text/html": {}}}})
    async def index() -> Response:
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    def found(body: dict[str, Any] | None) -> Response:
        if body is None:
            raise Failure(404, "no such question, or no workspace is served")
        return _json(body)

    # Plain functions: they read files, and run in a thread of their own.
    @app.get("/api/queries", responses=responses)
    def queries(words: Annotated[str, Query(max_length=500)] = "") -> dict[str, Any]:
        return found(view.queries(words) if view else None)  # type: ignore[return-value]

    @app.get("/api/query", responses=responses)
    def query(query_id: Annotated[str, Query(max_length=500)]) -> dict[str, Any]:
        return found(view.query(query_id) if view else None)  # type: ignore[return-value]

    @app.get("/api/document", responses=responses)
    def document(query_id: Annotated[str, Query(max_length=500)], doc_id: Annotated[str, Query(max_length=500)]) -> dict[str, Any]:
        return found(view.comparisons(query_id, doc_id) if view else None)  # type: ignore[return-value]


def _describe_limits(app: FastAPI, settings: Settings) -> None:
    """Put the limits of this server, and its keys, into its OpenAPI."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            for model in schema["components"]["schemas"].values():
                for name, about in model.get("properties", {}).items():
                    for kind in (about, *about.get("anyOf", ())):
                        if name in LISTS and kind.get("type") == "array":
                            kind["maxItems"] = settings.max_documents
            if settings.keys:
                schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
