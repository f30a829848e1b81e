"""Query and document into one token sequence for pointwise rerankers: what a model was trained with, to the token.

Language models read the format of the released zerank models: the tokenizer's own chat template, system turn = query, user
turn = document, generation prompt appended. The rendered text is tokenized as a whole, as sentence-transformers and vLLM do,
because tokens can join across the seams. What is too long is cut where it does least harm: the end of the document, never the
template; the released models read their score at its last token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError

Ids = NDArray[np.int32]

QUERY, DOCUMENT = "THEQUERYGOESHERE", "THEDOCUMENTGOESHERE"  # stand for the texts while a chat template is taken apart
LEAST_DOCUMENT = 0.25  # share of the room for texts that a document keeps beside an overlong query
LONGEST_TOKEN = 128  # characters; text that could not possibly be shown is not tokenized


class Template(Protocol):
    """Makes the sequences of a pointwise reranker."""

    @property
    def tokenizer(self) -> Any:
        """Of transformers."""
        ...

    @property
    def max_tokens(self) -> int:
        """Of a sequence."""
        ...

    def sequences(self, query: str, documents: Sequence[str]) -> list[Ids]:
        """Return the token ids of (query, document) for every document, special tokens included, cut to max_tokens."""
        ...

    def groups(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[list[Ids]]:
        """Return what `sequences` returns for each (query, documents)."""
        ...


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template taken apart: before + query + between + document + after.

    Attributes:
        tokenizer: of transformers, fast.
        max_tokens: of a sequence.
        before, between, after: what the template puts around the texts.
        trims: the template strips spaces off both ends of a text.
    """

    tokenizer: Any
    max_tokens: int
    before: str
    between: str
    after: str
    trims: bool = False
    _room: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        own = len(self._encode([self.before + self.between + self.after])["input_ids"][0])
        object.__setattr__(self, "_room", self.max_tokens - own)
        if self._room < 8:
            what = f"max_tokens = {self.max_tokens} leaves no room for texts beside the {own} tokens of the template"
            raise InputError(what, remedy="raise it")

    @classmethod
    def of(cls, tokenizer: Any, max_tokens: int, options: Mapping[str, Any] | None = None) -> ChatTemplate:
        """Take the tokenizer's chat template apart.

        Args:
            tokenizer: of transformers, fast.
            max_tokens: of a sequence.
            options: further variables of the template, as in `processing_kwargs` of sentence-transformers.

        Raises:
            InputError: there is no chat template, or it does not show a query and a document, once each.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("the tokenizer has no chat template", remedy="use a model with one, for example an instruct model")
        if not getattr(tokenizer, "is_fast", False):
            raise InputError("the tokenizer is not a fast one", remedy="use a model with a tokenizer.json")
        given = {**(options or {}), "add_generation_prompt": True}
        # A template that knows queries and documents (sentence-transformers, vLLM) is asked as they ask it.
        pair = ("query", "document")
        text = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        knows = all(f"'{role}'" in text or f'"{role}"' in text for role in pair)
        roles = pair if knows else ("system", "user")
        before, between, after = _apart(tokenizer, roles, given, QUERY, DOCUMENT)
        spaced = _rendered(tokenizer, roles, given, f" {QUERY}  ", f"  {DOCUMENT} ")
        if spaced not in (f"{before} {QUERY}  {between}  {DOCUMENT} {after}", before + QUERY + between + DOCUMENT + after):
            raise InputError("the chat template changes the texts", remedy="use a model whose chat template shows them as they are")
        return cls(tokenizer, max_tokens, before, between, after, trims=f" {QUERY}" not in spaced)

    def text(self, query: str, document: str) -> str:
        """Return what the model reads, uncut."""
        if self.trims:
            query, document = query.strip(), document.strip()
        return self.before + query + self.between + document + self.after

    def sequences(self, query: str, documents: Sequence[str]) -> list[Ids]:
        """Return the sequences [documents].

        One that is too long loses the end of its document. Only where that would leave the document less than a quarter of the
        room (or than all of it), the query loses its end as well.
        """
        if not documents:
            return []
        most = self.max_tokens * LONGEST_TOKEN
        query, documents = query[:most], [document[:most] for document in documents]
        found = [np.array(ids, np.int32) for ids in self._encode([self.text(query, d) for d in documents])["input_ids"]]
        return [ids if len(ids) <= self.max_tokens else self._cut(query, d) for ids, d in zip(found, documents, strict=True)]

    def groups(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[list[Ids]]:
        """Return what `sequences` returns for each (query, documents)."""
        return [self.sequences(query, documents) for query, documents in requests]

    def cuts_query(self, query: str, document: str) -> bool:
        """Say whether the query loses its end too; sentence-transformers would leave no document at all there, or little."""
        if len(self._encode([self.text(query, document)])["input_ids"][0]) <= self.max_tokens:
            return False
        _, spans, kept = self._spans(query, document)
        return kept[0] < spans[0].size

    def _cut(self, query: str, document: str) -> Ids:
        ids, (q, d), (for_query, for_document) = self._spans(query, document)
        kept = np.r_[: q.start + for_query, q.end : d.start + for_document, d.end : len(ids)]
        return np.asarray(ids[kept])

    def _spans(self, query: str, document: str) -> tuple[Ids, tuple[_Span, _Span], tuple[int, int]]:
        """The ids of a text that is too long, where query and document are in them, and how many of each are kept."""
        text = self.text(query, document)
        encoded = self._encode([text], return_offsets_mapping=True)
        ids = np.array(encoded["input_ids"][0], np.int32)
        starts, ends = np.array(encoded["offset_mapping"][0], np.int64).T
        size = len(query.strip() if self.trims else query)
        query_end = len(self.before) + size
        document_end = len(text) - len(self.after)
        q = _within(starts, ends, len(self.before), query_end)
        d = _within(starts, ends, query_end + len(self.between), document_end)
        room = self.max_tokens - (len(ids) - q.size - d.size)  # for the two texts; a seam's joint token counts as template
        least = min(d.size, max(1, int(room * LEAST_DOCUMENT)))
        for_query = min(q.size, room - least)
        return ids, (q, d), (for_query, room - for_query)

    def _encode(self, texts: list[str], **options: Any) -> Any:
        options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False, **options}
        return self.tokenizer(texts, add_special_tokens=False, **options)


@dataclass(frozen=True)
class PairTemplate:
    """An encoder's own way to join two texts, [CLS] query [SEP] document [SEP]; the longer one is cut, as sentence-transformers does."""

    tokenizer: Any
    max_tokens: int

    def sequences(self, query: str, documents: Sequence[str]) -> list[Ids]:
        """Return the sequences [documents]."""
        return self.groups([(query, documents)])[0]

    def groups(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[list[Ids]]:
        """Return what `sequences` returns for each (query, documents), from one call: the tokenizer takes all cores for it."""
        most = self.max_tokens * LONGEST_TOKEN
        pairs = [(query[:most], document[:most]) for query, documents in requests for document in documents]
        if not pairs:
            return [[] for _ in requests]
        found = self.tokenizer(
            [query for query, _ in pairs],
            [document for _, document in pairs],
            truncation="longest_first",
            max_length=self.max_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        rows = iter(found["input_ids"])
        return [[np.array(next(rows), np.int32) for _ in documents] for _, documents in requests]


@dataclass(frozen=True)
class _Span:
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def _within(starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int) -> _Span:
    """The tokens that lie wholly within some characters."""
    inside = np.flatnonzero((starts >= first) & (ends <= last) & (ends > starts))
    if not len(inside):
        place = int(np.searchsorted(starts, first))
        return _Span(place, place)
    return _Span(int(inside[0]), int(inside[-1]) + 1)


def _rendered(tokenizer: Any, roles: tuple[str, str], options: Mapping[str, Any], query: str, document: str) -> str:
    messages = [{"role": role, "content": text} for role, text in zip(roles, (query, document), strict=True)]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except Exception as error:  # a template is a program of its own and raises what it likes
        what = f"the tokenizer's chat template fails on a {roles[0]} and a {roles[1]} turn ({error})"
        raise InputError(what, remedy="use a model whose chat template has a system turn") from error


def _apart(tokenizer: Any, roles: tuple[str, str], options: Mapping[str, Any], query: str, document: str) -> tuple[str, str, str]:
    text = _rendered(tokenizer, roles, options, query, document)
    before, found_query, rest = text.partition(query)
    between, found_document, after = rest.partition(document)
    if not (found_query and found_document) or query in rest or document in after:
        what = f"the tokenizer's chat template does not show the {roles[0]} turn and then the {roles[1]} turn, once each"
        raise InputError(what, remedy="use a model whose chat template has a system turn")
    return before, between, after


def score_template(template: ChatTemplate, original: str = "") -> str:
    """Return a Jinja template for chat_template.jinja that writes this format for the roles query and document.

    Those are the roles of sentence-transformers and of vLLM's score API, which render without a generation prompt: it is always
    there. A role that is missing is an empty text. Other roles go to `original`, the model's own template.
    """
    query, document = (
        f"(messages | selectattr('role', 'eq', '{role}') | map(attribute='content') | first) or ''" for role in ("query", "document")
    )
    trim = " | trim" if template.trims else ""
    quoted = [json.dumps(piece, ensure_ascii=False) for piece in (template.before, template.between, template.after)]
    body = f"{{{{- {quoted[0]} + (({query}){trim}) + {quoted[1]} + (({document}){trim}) + {quoted[2]} -}}}}"
    asked = "messages | selectattr('role', 'in', ['query', 'document']) | list"
    return f"{{%- if {asked} -%}}\n{body}\n{{%- else -%}}\n{original}\n{{%- endif -%}}\n"


def load_tokenizer(folder: Path) -> Any:
    """Return a folder's tokenizer.

    Raises:
        InputError: it has none.
    """
    library = import_extra("transformers", "transformers")
    try:
        with quiet():
            return library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the tokenizer cannot be loaded ({str(error).partition(chr(10))[0]})", where=str(folder)) from error


def answer_token(tokenizer: Any, answer: str = "Yes") -> int:
    """Return the id of the token whose logit is the score, with its capital: "yes" is another token and another score.

    Raises:
        InputError: the tokenizer splits it, or does not know it.
    """
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        what = f"the tokenizer has no single token for {answer!r}, it makes {pieces}"
        raise InputError(what, remedy="use a model whose vocabulary has that word, as Qwen's has")
    return int(ids[0])
