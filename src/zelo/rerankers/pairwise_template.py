"""How a query and two documents become one token sequence (paper section 5.3): query, document A, document B, label position.

A language model gets a sentence that asks for the label, inside its own chat template if it has one; an encoder gets the three
texts between its separators. The texts are cut to fit, the template never is. Markup in the texts stays text: a document that
holds the name of a special token does not become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError

Family = Literal["encoder", "late_interaction", "language_model"]
Ids = NDArray[np.int32]

TASK = "Which of the two documents answers the query better? Answer with its letter, A or B."
QUERY, DOCUMENT_A, DOCUMENT_B = "\n\nQuery: ", "\n\nDocument A: ", "\n\nDocument B: "
PLAIN_END = "\n\nThe better document is"
_MARK = "THEQUERYANDTHEDOCUMENTS"  # stands for what the user says while the chat template is taken apart
_CHARACTERS_PER_TOKEN = 100  # text beyond the room times this is cut before it is tokenized


@dataclass(frozen=True)
class PairwiseTemplate:
    """What stands around the three texts.

    Attributes:
        family: of the model.
        pieces: token ids before the query, between query and A, between A and B, and after B.
        labels: ids of the label tokens A and B; empty for encoders.
        max_tokens: of a whole sequence.
    """

    family: Family
    pieces: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    labels: tuple[int, ...]
    max_tokens: int

    def __post_init__(self) -> None:
        if self.room < 3:
            what = (
                f"max_tokens = {self.max_tokens} leaves no room for texts beside the {self.max_tokens - self.room} tokens of the template"
            )
            raise InputError(what, remedy="raise it")

    @property
    def room(self) -> int:
        """Tokens left for the three texts."""
        return self.max_tokens - sum(map(len, self.pieces))

    def tokenize(self, tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of texts, cut to what could ever be shown of them."""
        if not texts:
            return []
        found = tokenizer(
            [text[: self.room * _CHARACTERS_PER_TOKEN] for text in texts],
            add_special_tokens=False,
            split_special_tokens=True,
            truncation=True,
            max_length=self.room,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return [np.array(ids, np.int32) for ids in found]

    def join(self, query: Ids, first: Ids, second: Ids) -> Ids:
        """Return the whole sequence; the first document is shown as A."""
        texts = (query, first, second)
        kept = self._kept(*map(len, texts))
        parts: list[Any] = []
        for piece, text, size in zip(self.pieces, texts, kept, strict=False):
            parts += [np.array(piece, np.int32), text[:size]]
        return np.concatenate([*parts, np.array(self.pieces[-1], np.int32)])

    def length(self, query: int, first: int, second: int) -> int:
        """Return the tokens of a sequence of texts of so many tokens."""
        return self.max_tokens - self.room + sum(self._kept(query, first, second))

    def _kept(self, query: int, first: int, second: int) -> list[int]:
        """How many tokens of each text are shown. Where texts are read apart, a document's cut does not depend on the other one."""
        if self.family != "late_interaction":
            return fair((query, first, second), self.room)
        query = min(query, self.room // 3)
        return [query, *(min(size, (self.room - query) // 2) for size in (first, second))]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"family": self.family, "pieces": [list(p) for p in self.pieces], "labels": list(self.labels), "max_tokens": self.max_tokens}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairwiseTemplate:
        """Read it back.

        Raises:
            InputError: something is missing.
        """
        try:
            before, between, middle, after = (tuple(map(int, piece)) for piece in data["pieces"])
            labels = tuple(map(int, data["labels"]))
            return cls(data["family"], (before, between, middle, after), labels, int(data["max_tokens"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a pairwise template ({error!r})", remedy="train the model again") from error


def fair(lengths: Iterable[int], room: int) -> list[int]:
    """Return how many tokens of each text are kept: all of the short ones, and as many of each long one as there is room for.

    Equal texts are treated equally, whatever their place, so that showing two documents the other way round cuts them the same.
    """
    sizes = list(lengths)
    if sum(sizes) <= room:
        return sizes
    left, level = room, 0
    for done, size in enumerate(sorted(sizes)):
        level = left // (len(sizes) - done)
        if size > level:
            break
        left -= size
    return [min(size, level) for size in sizes]


def language_model_template(tokenizer: Any, max_tokens: int) -> PairwiseTemplate:
    """Return the template of a causal language model, its chat template included if it has one.

    Raises:
        InputError: the chat template cannot be used, or A and B are not one token each.
    """
    before, after, labels = "", PLAIN_END, (" A", " B")
    if getattr(tokenizer, "chat_template", None):
        before, after = _chat(tokenizer)
        labels = ("A", "B")
    start = [] if before else _first_token(tokenizer)
    texts = (before + TASK + QUERY, DOCUMENT_A, DOCUMENT_B, after)
    first, second, third, last = (tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    return PairwiseTemplate("language_model", ((*start, *first), second, third, last), _labels(tokenizer, labels), max_tokens)


def encoder_template(tokenizer: Any, max_tokens: int) -> PairwiseTemplate:
    """Return the template of an encoder: [CLS] query [SEP] A [SEP] B [SEP], in its own special tokens.

    Raises:
        InputError: the tokenizer has no such tokens.
    """
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if start is None or end is None:
        raise InputError("the tokenizer has no tokens for start and separator", remedy="use an encoder such as BERT or ModernBERT")
    return PairwiseTemplate("encoder", ((start,), (end,), (end,), (end,)), (), max_tokens)


def _chat(tokenizer: Any) -> tuple[str, str]:
    """What the chat template puts before and after the user's words; models that think are told not to."""
    try:
        message = [{"role": "user", "content": _MARK}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # a template is a program of its own and raises what it likes
        raise InputError(f"the tokenizer's chat template fails on a single message of the user ({error})") from error
    before, mark, after = text.partition(_MARK)
    if not mark or _MARK in after:
        raise InputError("the tokenizer's chat template does not repeat the user's message once", remedy="use another model")
    return before, after


def _first_token(tokenizer: Any) -> list[int]:
    """The token that the model expects at the start of a plain text, if any; a chat template has its own."""
    ids = tokenizer("")["input_ids"]
    return [ids[0]] if ids and ids[0] == tokenizer.bos_token_id else []


def _labels(tokenizer: Any, labels: tuple[str, str]) -> tuple[int, int]:
    for pair in (labels, ("A", "B")):
        first, second = (tokenizer(label, add_special_tokens=False)["input_ids"] for label in pair)
        if len(first) == len(second) == 1 and first != second:
            return int(first[0]), int(second[0])
    raise InputError("the tokenizer has no single tokens for the labels A and B", remedy="use another model")
