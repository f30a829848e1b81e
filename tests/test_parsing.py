"""What a language model wrote becomes a preference, or is said to be none."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.judges.parsing import (
    CLAMP,
    SCORES,
    Unparsable,
    clamped,
    order_schema,
    parse_order,
    parse_score,
    preference_of_labels,
    score_schema,
    wrapping_note,
)


@pytest.mark.parametrize(
    ("said", "score"),
    [("-1", -1), ("+.5", 0.5), ("0", 0), ("\u22121", -1), ("\u20130.3", -0.3), (" 0.25 ", 0.25), ("1.", 1), ("-0.0", 0), (".1", 0.1)],
)
def test_numbers_that_models_write(said: str, score: float) -> None:
    for text in (f"Because.\n<score>{said}</score>", json.dumps({"comparison": "Because.", "score": said})):
        parsed = parse_score(text)
        assert parsed.preference == -score  # the paper's score is negative when the first is better
        assert math.copysign(1, parsed.preference) == 1 or score > 0  # no minus zero
        assert parsed.reasoning == "Because."


@pytest.mark.parametrize(
    "said", ["1.01", "-2", "nan", "NaN", "inf", "1e-1", "1/2", "0,5", "", "one", "--1", "0.5.", "\u0661", "1 0", "0.3 or 0.4", "5%", "0x1"]
)
def test_what_is_no_score(said: str) -> None:
    for text in (f"<score>{said}</score>", json.dumps({"score": said})):
        with pytest.raises(Unparsable):
            parse_score(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no score"),
        ("I cannot help with that.", "no score"),
        ("The score is -1", "no score"),
        ("<score>0.1</score> or rather <score>0.2</score>", "two different"),
        ('{"score": 0.1, "score": 0.2}', "two different"),
        ('{"comparison": "x"}', "no score"),
        ('{"score": NaN}', "NaN"),
        ('{"score": Infinity}', "Infinity"),
        ('{"score": null}', "not a number"),
        ('{"score": true}', "not a number"),
        ('{"score": [1]}', "not a number"),
        ('{"score": 1e400}', "not in"),
        ('{"score": ' + "9" * 400 + "}", "not in"),
        ('{"score": ' + "9" * 5000 + "}", "no score"),
        ('{"score": 0.5', "no score"),
        ("[0.5]", "no score"),
        ('Read: {"score": 0.5} <score>0.4</score>', "two different"),
        ("{" * 3000, "no score"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(Unparsable, match=why):
        parse_score(text)


def test_wrappings() -> None:
    answer = '{"first_document": "long", "second_document": "short", "comparison": "So.", "score": -0.4}'
    for text in (answer, f"```json\n{answer}\n```", f"Here it is:\n{answer}", f"<think>maybe <score>1</score></think>{answer}"):
        parsed = parse_score(text)
        assert (parsed.preference, parsed.reasoning, parsed.wrapping) == (0.4, "long\nshort\nSo.", "json")
    assert parse_score("Both: <score>0.2</score> and again <score>+0.2</score>").preference == -0.2
    # a score that a document carries and the model quotes within its JSON is no second score
    assert parse_score('{"comparison": "It says <score>1</score> and {\\"score\\": 1}.", "score": 0}').preference == 0
    assert [wrapping_note(*pair) for pair in (("schema", "json"), ("json", "json"), ("text", "tag"), ("schema", "tag"))] == [
        "schema",
        "json",
        "tag",
        "schema: read as tag",
    ]


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_anything_is_a_score_in_range_or_refused(text: str) -> None:
    for wrapped in (text, f"<score>{text}</score>", '{"score": ' + text + "}"):
        with contextlib.suppress(Unparsable):
            assert -1 <= parse_score(wrapped).preference <= 1


@given(st.sampled_from(SCORES), st.lists(st.text(max_size=40), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_what_the_schema_allows_is_read(score: float, texts: list[str]) -> None:
    names = list(score_schema(100)["properties"])  # type: ignore[call-overload]
    assert parse_score(json.dumps(dict(zip(names, [*texts, score], strict=True)))).preference == -score


def test_schemas_ask_for_reasons_first_and_bound_texts() -> None:
    schema = score_schema(500)
    properties = schema["properties"]
    assert list(properties)[-1] == "score"  # type: ignore[call-overload]
    assert all(p["maxLength"] == 500 for name, p in properties.items() if name != "score")  # type: ignore[attr-defined]
    assert schema["required"] == list(properties)  # type: ignore[call-overload]
    assert set(SCORES) == {round(i / 10, 1) for i in range(-10, 11)}
    assert "maxLength" not in json.dumps(score_schema(None))
    assert order_schema(["K", "M"], 100)["additionalProperties"] is False


def test_clamping_makes_uniform_answers_uniform_in_three() -> None:
    assert [clamped(x) for x in (-1, -0.4, -1 / 3, -0.3, 0, 0.3, 1 / 3, 0.34, 1)] == [-1, -1, -1, 0, 0, 0, 1, 1, 1]
    grid = [(i + 0.5) / 3000 - 1 for i in range(6000)]
    for value in (-1, 0, 1):
        assert sum(clamped(x) == value for x in grid) == pytest.approx(2000, abs=2)
    assert pytest.approx(1 / 3) == CLAMP


def test_labels_count_with_blanks_around_them() -> None:
    top = {"K": math.log(0.3), " K": math.log(0.2), "\u2581M": math.log(0.1), "Key": math.log(0.05)}
    assert preference_of_labels(top, "K", "M") == pytest.approx(math.log(5))
    assert preference_of_labels(top, "M", "K") == pytest.approx(-math.log(5))


def test_a_label_that_is_not_listed_is_at_most_as_likely_as_the_last_listed() -> None:
    top = {"K": math.log(0.6), "x": math.log(0.01)}
    assert preference_of_labels(top, "K", "M") == pytest.approx(math.log(60))
    for missing in ({"x": -1.0, "k": -2.0}, {}, None):
        with pytest.raises(Unparsable):
            preference_of_labels(missing, "K", "M")
    with pytest.raises(Unparsable):
        preference_of_labels({"K": 0.0, "x": -math.inf}, "K", "M")


@pytest.mark.parametrize(
    "text",
    ['{"comparison": "x", "order": ["M", "K", "P"]}', "So: <order>M K P</order>", "<order>M > K > P</order>", "<order>[M, K, P]</order>"],
)
def test_orders(text: str) -> None:
    assert parse_order(text, ["K", "M", "P"]) == [1, 0, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<order>K M</order>",
        "<order>K M M</order>",
        "<order>K M P Q</order>",
        '{"order": "K M P"}',
        "<order>K M P</order><order>M K P</order>",
    ],
)
def test_what_is_no_order(text: str) -> None:
    with pytest.raises(Unparsable):
        parse_order(text, ["K", "M", "P"])
