"""From what a language model wrote to a preference. Strict about the value, patient about its wrapping; nothing becomes a default.

Scores are the paper's: in [-1, 1], negative when the document shown first is better. Preferences have the opposite sign.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zelo.language_models.protocol import Output

CLAMP = 1 / 3
"""Preferences at least this strong count as a win when answers are clamped to {-1, 0, 1} (paper, section 3: scores are clamped). The
paper gives no thresholds. A third makes answers that are uniform in [-1, 1], which is what its prompts are tuned for, uniform in three."""

SCORES = tuple(round(step / 10, 1) for step in range(-10, 11))
"""What a schema lets a model choose from."""

LIMIT_OF = "the limit of "
"""Before the limit in the note of an answer that was cut."""
_REASONS = ("first_document", "second_document", "comparison")
_NUMBER = re.compile(r"[+\-\u2212\u2010-\u2013]?(?:[0-9]{1,3}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})")
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<score>(.*?)</score>", re.DOTALL | re.IGNORECASE)
_ORDER_TAG = re.compile(r"<order>(.*?)</order>", re.DOTALL | re.IGNORECASE)


class Unparsable(ValueError):
    """An answer without one clear value; the message says why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was read: the preference (+ = first is better), the reasons, and how it was wrapped: "json" or "tag"."""

    preference: float
    reasoning: str
    wrapping: str


def score_schema(text_characters: int | None) -> dict[str, object]:
    """Return the JSON schema of an answer: reasons before the score; texts of bounded length, None = no bound (some servers)."""
    text: dict[str, object] = {"type": "string"}
    if text_characters:
        text["maxLength"] = text_characters
    properties: dict[str, object] = {name: dict(text) for name in _REASONS}
    properties["score"] = {"type": "number", "enum": list(SCORES)}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def order_schema(names: Sequence[str], text_characters: int | None) -> dict[str, object]:
    """Return the JSON schema of an order of documents by their names."""
    text: dict[str, object] = {"type": "string", "maxLength": text_characters} if text_characters else {"type": "string"}
    properties = {"comparison": text, "order": {"type": "array", "items": {"type": "string", "enum": list(names)}}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def parse_score(text: str) -> Parsed:
    """Read reasons and score, from a JSON object or from <score> tags.

    Raises:
        Unparsable: no score, two different ones, or one that is not a number in [-1, 1].
    """
    body = _without_thoughts(text)
    found, whole = _json_object(body)
    if whole and "score" not in found:
        raise Unparsable("the JSON has no score")
    inner = [] if whole else _TAG.findall(body)
    values = {_value(said) for said in inner} | ({_value(found["score"])} if "score" in found else set())
    if not values:
        raise Unparsable("no score")
    if len(values) > 1:
        raise Unparsable("two different scores")
    preference = 0.0 - values.pop()
    if inner:
        return Parsed(preference, _TAG.sub("", body).strip(), "tag")
    reasons = [said.strip() for name, said in found.items() if name != "score" and isinstance(said, str)]
    return Parsed(preference, "\n".join(said for said in reasons if said), "json")


def _without_thoughts(text: str) -> str:
    return (_THOUGHTS.sub("", text) if "<" in text else text).strip()


def parse_order(text: str, names: Sequence[str]) -> list[int]:
    """Read an order of all names, from a JSON object or from <order> tags, as places in `names`, best first.

    Raises:
        Unparsable: a name is missing, unknown or there twice, or there are two different orders.
    """
    body = _without_thoughts(text)
    found, _ = _json_object(body)
    if found:
        order = found.get("order")
        if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
            raise Unparsable("the JSON has no order")
        orders = {tuple(name.strip() for name in order)}
    else:
        orders = {tuple(re.split(r"[\s,;>]+", inner.strip(" \t\n[](),;>"))) for inner in _ORDER_TAG.findall(body)}
    if len(orders) != 1:
        raise Unparsable("two different orders" if orders else "no order")
    said = orders.pop()
    if sorted(said) != sorted(names):
        raise Unparsable(f"the order names {len(set(said) & set(names))} of {len(names)} documents")
    place = {name: i for i, name in enumerate(names)}
    return [place[name] for name in said]


def preference_of_labels(top: Mapping[str, float] | None, first: str, second: str) -> float:
    """Return the log odds that the label of the first document is chosen, from the log probabilities of the likeliest tokens.

    Tokens that are a label but for blanks around it count together. A label that is not among the tokens is at most as likely as
    the least likely one listed, and is taken for that likely.

    Raises:
        Unparsable: there are no log probabilities, or neither label is among them.
    """
    if not top:
        raise Unparsable("the server gave no log probabilities")
    masses = []
    for label in (first, second):
        masses.append(sum(math.exp(value) for token, value in top.items() if token.strip(" \u2581\u0120\t\n") == label))
    if not any(masses):
        raise Unparsable(f"neither label is among the {len(top)} likeliest tokens")
    floor = math.exp(min(top.values()))
    p, q = (mass or floor for mass in masses)
    if not (p > 0 and q > 0):
        raise Unparsable("log probabilities without a finite difference")
    return math.log(p) - math.log(q)


def clamped(preference: float) -> float:
    """Return -1, 0 or 1: a preference weaker than `CLAMP` is a tie."""
    return 0.0 if abs(preference) < CLAMP - 1e-9 else math.copysign(1.0, preference)


def wrapping_note(asked: Output, wrapping: str) -> str:
    """Say how an answer was read: the output that was asked for, and what came instead if it did."""
    expected = "tag" if asked == "text" else "json"
    name = "tag" if asked == "text" else asked
    return name if wrapping == expected else f"{name}: read as {wrapping}"


def _value(said: Any) -> float:
    """Read a score, a number or its text."""
    if isinstance(said, str):
        number = said.strip()
        if not _NUMBER.fullmatch(number):
            raise Unparsable(f"the score {_short(said)} is not a number")
        value = float(re.sub("[\u2212\u2010-\u2013]", "-", number))
    elif isinstance(said, int | float) and not isinstance(said, bool):
        value = float(said) if abs(said) <= 1 else math.inf  # a whole number of JSON may be too large for a float
    else:
        raise Unparsable(f"the score {_short(said)} is not a number")
    if not -1.0 <= value <= 1.0:
        raise Unparsable(f"the score {_short(said)} is not in [-1, 1]")
    return value


def _short(said: Any) -> str:
    text = repr(said)
    return text if len(text) <= 30 else text[:27] + "..."


def _json_object(text: str) -> tuple[dict[str, Any], bool]:
    """Return the JSON object in a text, empty if there is none, and whether it is all of the text, a fence apart."""
    fenced = _FENCE.fullmatch(text) if text.startswith("```") else None
    found = _loads(fenced[1] if fenced else text) if text.startswith(("{", "```")) else None
    if found is not None:
        return found, True
    inside = _FENCE.findall(text)
    start, end = text.find("{"), text.rfind("}")
    found = _loads(inside[0]) if len(inside) == 1 else _loads(text[start : end + 1]) if 0 <= start < end else None
    return found or {}, False


def _loads(text: str) -> dict[str, Any] | None:
    try:
        found = _decode(text)
    except Unparsable:
        raise
    except (ValueError, RecursionError):  # not JSON, or a number of thousands of digits
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, refusing a key that comes twice with different values: which one is meant?"""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value and key in ("score", "order"):
            raise Unparsable(f"two different values of {key!r}")
        found[key] = value
    return found


def _constant(name: str) -> float:
    raise Unparsable(f"the answer holds {name}")


_decode = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant).decode


def cut_note(limit: int, written: int) -> str:
    """Say that an answer was cut, and at which limit: a larger one asks again.

    Args:
        limit: tokens it was allowed.
        written: tokens that it has; 0 = the server does not say.
    """
    if 0 < written < limit:  # the server has stopped it
        return f"cut after {written}, below {LIMIT_OF}{limit} output tokens: the context window is full, or the server has its own limit"
    return f"cut at {LIMIT_OF}{limit} output tokens"


def cut_remedy(note: str) -> str:
    """Say what to do about answers with such a note, which would be cut at the same place again; "" where it is not of a cut."""
    if f"below {LIMIT_OF}" in note:
        return "give its server a larger context window or output limit and raise judge.max_output_tokens, lower judge.document_characters"
    return "raise judge.max_output_tokens" if LIMIT_OF in note else ""
