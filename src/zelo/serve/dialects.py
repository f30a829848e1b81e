"""The request and response bodies of the rerank APIs that clients speak, written from their public schemas.

Each request becomes an `Ask`; `answer` puts scores into the dialect's response, `error` what went wrong into its shape of an error.
Fields that are not named here are ignored, as the services do. A token is counted as 4 characters wherever a dialect counts tokens.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from zelo.serve.batching import CHARS_PER_TOKEN

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ask:
    """What every dialect asks: documents for a query; how many to return (None = all), and whether with their texts."""

    query: str
    documents: Sequence[str]
    top: int | None = None
    with_text: bool = False
    raw: bool = False
    max_chars: int | None = None

    def texts(self) -> list[str]:
        """Return the documents, cut where the request says so."""
        return [d[: self.max_chars] for d in self.documents]

    def best(self, scores: FloatArray) -> list[int]:
        """Return the places of the documents to return, best first, equal scores in the given order."""
        return [int(i) for i in np.argsort(-scores, kind="stable")[: self.top]]

    def tokens(self) -> int:
        """Return an estimate of the tokens that were read."""
        return sum(len(self.query) + len(d) for d in self.texts()) // CHARS_PER_TOKEN + len(self.documents)


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


def _whole(value: object) -> object:
    """JSON has one kind of number: 3.0 is the whole number 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Least0 = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Least1 = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Query = Annotated[str, Field(min_length=1, description="The question.")]
Texts = Annotated[list[str], Field(min_length=1, description="The documents to order.")]
Top = Annotated[Least1 | None, Field(description="Return only so many, the best ones.")]
ModelName = Annotated[str | None, Field(description="Any name: the server has one model, and says which in /v1/models.")]


class TextObject(_Request):
    """A document as an object."""

    text: str


Documents = Annotated[list[str | TextObject], Field(min_length=1, description="The documents to order.")]


def _plain(documents: Sequence[str | TextObject]) -> list[str]:
    return [d if isinstance(d, str) else d.text for d in documents]


class CohereRequest(_Request):
    """Cohere's `POST /v2/rerank`."""

    model: str
    query: Query
    documents: Texts
    top_n: Top = None
    max_tokens_per_doc: Annotated[Least1 | None, Field(description="Cut documents to 4 times so many characters.")] = None

    def ask(self) -> Ask:
        """Return what is asked."""
        chars = None if self.max_tokens_per_doc is None else self.max_tokens_per_doc * CHARS_PER_TOKEN
        return Ask(self.query, self.documents, self.top_n, max_chars=chars)


class JinaRequest(_Request):
    """`POST /v1/rerank` of Jina, vLLM and infinity; Cohere's older form too."""

    model: ModelName = None
    query: Query
    documents: Documents
    top_n: Annotated[Least0 | None, Field(description="Return only so many, the best ones; 0 = all, as in vLLM.")] = None
    return_documents: Annotated[bool | None, Field(description="Return the texts too; yes unless said otherwise, as in vLLM.")] = None
    rank_fields: Annotated[list[Literal["text"]] | None, Field(description="Of a document as an object, `text` alone is read.")] = None

    def ask(self) -> Ask:
        """Return what is asked."""
        return Ask(self.query, _plain(self.documents), self.top_n or None, self.return_documents is not False)


class VoyageRequest(_Request):
    """Voyage's `POST /v1/rerank`."""

    model: ModelName = None
    query: Query
    documents: Texts
    top_k: Top = None
    return_documents: bool | None = None
    truncation: Annotated[Literal[True] | None, Field(description="What is too long for the model is always cut.")] = None

    def ask(self) -> Ask:
        """Return what is asked."""
        return Ask(self.query, self.documents, self.top_k, bool(self.return_documents))


class TeiRequest(_Request):
    """`POST /rerank` of text-embeddings-inference."""

    query: Query
    texts: Texts
    raw_scores: Annotated[bool | None, Field(description="Return ln(p / (1 - p)) in place of the score p.")] = None
    return_text: bool | None = None
    truncate: Annotated[Literal[True] | None, Field(description="What is too long for the model is always cut.")] = None
    truncation_direction: Literal["Right", "right"] | None = None

    def ask(self) -> Ask:
        """Return what is asked."""
        return Ask(self.query, self.texts, None, bool(self.return_text), bool(self.raw_scores))


Side = Annotated[str | list[str], Field(min_length=1)]


class ScoreRequest(_Request):
    """vLLM's `POST /score`: one text against one or many, or as many against as many; `data_1` and `data_2` mean the same."""

    model: ModelName = None
    text_1: Annotated[Side, Field(validation_alias=AliasChoices("text_1", "data_1"), description="The query, or one per text of text_2.")]
    text_2: Annotated[Side, Field(validation_alias=AliasChoices("text_2", "data_2"), description="The document or documents.")]


class QueriesRequest(_Request):
    """The same with the newer names; `items` are documents too."""

    model: ModelName = None
    queries: Annotated[Side, Field(description="The query, or a query for each document.")]
    documents: Annotated[Side, Field(validation_alias=AliasChoices("documents", "items"), description="The document or documents.")]


def pairs_of(request: ScoreRequest | QueriesRequest) -> list[tuple[str, list[str]]] | None:
    """Return (query, documents) per query, None where the two sides do not fit together."""
    first, second = (request.text_1, request.text_2) if isinstance(request, ScoreRequest) else (request.queries, request.documents)
    queries = [first] if isinstance(first, str) else first
    documents = [second] if isinstance(second, str) else second
    if len(queries) == 1:
        return [(queries[0], documents)]
    return [(q, [d]) for q, d in zip(queries, documents, strict=True)] if len(queries) == len(documents) else None


class _Answer(BaseModel):
    pass


class CohereResult(_Answer):
    """One document of Cohere's response."""

    index: int
    relevance_score: float


class CohereAnswer(_Answer):
    """Cohere's response."""

    id: str
    results: list[CohereResult]
    meta: dict[str, Any]


class JinaResult(_Answer):
    """One document of Jina's response."""

    index: int
    relevance_score: float
    document: TextObject | None = None


class JinaAnswer(_Answer):
    """Jina's and vLLM's response."""

    id: str
    model: str
    usage: dict[str, int]
    results: list[JinaResult]


class VoyageResult(_Answer):
    """One document of Voyage's response."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageAnswer(_Answer):
    """Voyage's response."""

    object: Literal["list"]
    data: list[VoyageResult]
    model: str
    usage: dict[str, int]


class TeiResult(_Answer):
    """One document of TEI's response."""

    index: int
    score: float
    text: str | None = None


class ScoreResult(_Answer):
    """One pair of vLLM's response."""

    index: int
    object: Literal["score"]
    score: float


class ScoreAnswer(_Answer):
    """vLLM's response to /score."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ScoreResult]
    usage: dict[str, int]


class MessageError(_Answer):
    """Cohere's shape of an error."""

    message: str


class DetailError(_Answer):
    """The shape of Jina's and Voyage's errors."""

    detail: str


class TeiError(_Answer):
    """TEI's shape of an error, with Jina's beside it: the route answers to both."""

    error: str
    error_type: str
    detail: str


class ErrorObject(_Answer):
    """The inside of `OpenAIError`."""

    message: str
    type: str
    code: int


class OpenAIError(_Answer):
    """vLLM's shape of an error, which is OpenAI's."""

    error: ErrorObject


def _identity(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex}"


class Dialect(ABC):
    """How one API writes answers and errors."""

    error_model: type[BaseModel]

    @abstractmethod
    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""

    def answer(self, ask: Ask, scores: FloatArray, model: str) -> Any:
        """Return the body of an answer."""
        raise NotImplementedError


class Cohere(Dialect):
    """`/v2/rerank`."""

    error_model = MessageError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        return {"message": message}

    def answer(self, ask: Ask, scores: FloatArray, model: str) -> Any:
        """Return the body of an answer."""
        results = [{"index": i, "relevance_score": float(scores[i])} for i in ask.best(scores)]
        return {"id": str(uuid.uuid4()), "results": results, "meta": {"api_version": {"version": "2"}}}


class Detail(Dialect):
    """Errors with `detail`, and the model card of other routes."""

    error_model = DetailError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        return {"detail": message}


class Jina(Detail):
    """`/v1/rerank`."""

    def answer(self, ask: Ask, scores: FloatArray, model: str) -> Any:
        """Return the body of an answer."""
        results = []
        for i in ask.best(scores):
            result: dict[str, Any] = {"index": i, "relevance_score": float(scores[i])}
            if ask.with_text:
                result["document"] = {"text": ask.documents[i]}
            results.append(result)
        tokens = ask.tokens()
        return {"id": _identity("rerank-"), "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}, "results": results}


class Voyage(Detail):
    """`/voyage/v1/rerank`."""

    def answer(self, ask: Ask, scores: FloatArray, model: str) -> Any:
        """Return the body of an answer."""
        data = []
        for i in ask.best(scores):
            result: dict[str, Any] = {"index": i, "relevance_score": float(scores[i])}
            if ask.with_text:
                result["document"] = ask.documents[i]
            data.append(result)
        return {"object": "list", "data": data, "model": model, "usage": {"total_tokens": ask.tokens()}}


TEI_TYPES = {413: "Validation", 422: "Validation", 429: "Overloaded", 400: "Validation", 401: "Unauthorized", 500: "Backend"}


class Tei(Dialect):
    """`/rerank`: TEI's where `texts` are given, otherwise Jina's."""

    error_model = TeiError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        return {"error": message, "error_type": TEI_TYPES.get(status, "Unhealthy"), "detail": message}

    def answer(self, ask: Ask, scores: FloatArray, model: str) -> Any:
        """Return the body of an answer."""
        shown = scores
        if ask.raw:  # the ends of [0, 1] would be infinite, which JSON cannot say
            inside = np.clip(scores, 1e-15, 1 - 1e-15)
            shown = np.log(inside / (1 - inside))
        rows = []
        for i in ask.best(scores):
            row: dict[str, Any] = {"index": i, "score": float(shown[i])}
            if ask.with_text:
                row["text"] = ask.documents[i]
            rows.append(row)
        return rows


class Vllm(Dialect):
    """`/score`."""

    error_model = OpenAIError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        kind = "BadRequestError" if 400 <= status < 500 else "InternalServerError"
        return {"error": {"message": message, "type": kind, "code": status}}

    def pairs(self, asks: Sequence[Ask], scores: Sequence[FloatArray], model: str) -> Any:
        """Return the body of an answer about pairs."""
        flat = [float(s) for found in scores for s in found]
        tokens = sum(ask.tokens() for ask in asks)
        return {
            "id": _identity("score-"),
            "object": "list",
            "created": int(time.time()),
            "model": model,
            "data": [{"index": i, "object": "score", "score": score} for i, score in enumerate(flat)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


ROUTES: dict[str, Dialect] = {
    "/v2/rerank": Cohere(),
    "/v1/rerank": Jina(),
    "/voyage/v1/rerank": Voyage(),
    "/rerank": Tei(),
    "/score": Vllm(),
    "/v1/score": Vllm(),
}
"""Path -> dialect, of all routes that score."""

OTHER = Detail()
"""How routes that score nothing say what went wrong."""
