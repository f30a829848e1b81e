"""What the providers' adapters share: send, learn from a refusal, send again, read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from zelo.language_models.dialect import TURNS, Dialect, adapted
from zelo.language_models.failures import Refusal, failure
from zelo.language_models.protocol import BadRequest, Reply, Request, UnsupportedOutput
from zelo.language_models.transport import Fixed, Transport, compact

_KEPT = 32
"""Parts of bodies that are kept: a few per judge, unless its schemas differ from call to call."""


def endpoint(base: str, path: str) -> str:
    """Put a path behind a base address, before its query (which Azure's older form has)."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}", fragment=""))


@dataclass
class Adapter(ABC):
    """One model of one provider; a `LanguageModel`.

    Attributes:
        name: as in the recipe.
        model: what the server calls it.
        base: address up to and with the API's version.
        transport: sends; has the key.
        dialect: what the server understands as far as known.
    """

    name: str
    model: str
    base: str
    transport: Transport = field(repr=False)
    dialect: Dialect = field(default_factory=Dialect)

    times_out: ClassVar[bool] = True
    """Each call has a time limit, the transport's: callers need none of their own."""

    def __post_init__(self) -> None:
        self.url = endpoint(self.base, self.path())
        self._fixed: dict[tuple[int, object], tuple[object, Fixed]] = {}

    def fixed(self, source: object, made: Callable[[], dict[str, Any]], way: object = "") -> Fixed:
        """Return a part of the body that is made of `source` in some `way`, made once for all requests with that very object."""
        kept, part = self._fixed.get((id(source), way), (None, None))
        if part is None or kept is not source:  # another object may have got the number of one that is gone, were it not kept
            if len(self._fixed) >= _KEPT:
                self._fixed.clear()
            part = Fixed(made())
            self._fixed[id(source), way] = source, part
        return part

    @abstractmethod
    def path(self) -> str:
        """Return where requests go, behind `base`."""

    @abstractmethod
    def payload(self, request: Request, dialect: Dialect | None = None) -> dict[str, Any]:
        """Return the body of a request, in the dialect known now if none is given.

        Raises:
            UnsupportedOutput: the API has no such output at all.
        """

    @abstractmethod
    def read(self, body: dict[str, Any], seconds: float = 0.0) -> Reply:
        """Read the body of a reply.

        Raises:
            RetryError: it is no reply, or the model gave up in the middle.
        """

    def filtered(self, said: Refusal) -> bool:
        """Whether a refusal is the provider's filter: an answer about the texts, not about the request."""
        return False

    def learn(self, request: Request, said: Refusal, dialect: Dialect) -> bool:
        """Take in what a server said to a request of a batch that was sent in `dialect`; whether to ask again, in another.

        Raises:
            UnsupportedOutput: it knows no such output.
        """
        other = adapted(dialect, request, said)
        if other is not None and self.dialect == dialect:  # else other requests of the batch have taught the same
            self.dialect = other
        return other is not None

    async def complete(self, request: Request) -> Reply:
        """Ask once; see `LanguageModel.complete`. What the server does not understand is said in other words, and remembered."""
        for _ in range(TURNS):
            dialect = self.dialect
            answer, seconds = await self.transport.post(self.url, compact(self.payload(request, dialect)))
            if not isinstance(answer, Refusal):
                return self.read(answer, seconds)
            if self.filtered(answer):
                return Reply("", "filter", 0, 0, 0, seconds)
            try:
                other = adapted(dialect, request, answer)
            except UnsupportedOutput as error:
                raise UnsupportedOutput(error.what, where=self.name) from None
            if other is None:
                raise failure(answer, self.name)
            if self.dialect is dialect:  # else another call has learned something meanwhile
                self.dialect = other
        raise BadRequest("the server contradicts itself about its parameters", where=self.name)

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()
