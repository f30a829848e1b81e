"""What servers say to parameters that they do not take; `FaultServer(check=refusing(...))` says it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def refusing(*rules: tuple[Callable[[Mapping[str, Any]], bool], str]) -> Callable[[Mapping[str, Any]], tuple[int, Any] | None]:
    def check(body: Mapping[str, Any]) -> tuple[int, Any] | None:
        for applies, words in rules:
            if applies(body):
                return 400, {"error": {"message": words, "type": "invalid_request_error"}}
        return None

    return check


OLD_LIMIT = (
    lambda b: "max_tokens" in b,
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
)
NEW_LIMIT = (lambda b: "max_completion_tokens" in b, "Unrecognized request argument supplied: max_completion_tokens")
NO_TEMPERATURE = (
    lambda b: "temperature" in b,
    "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported.",
)
CLAUDE_TEMPERATURE = (lambda b: "temperature" in b, "`temperature` is deprecated for this model.")
NO_BOUNDS = (lambda b: "maxLength" in json.dumps(b), "Invalid schema for response_format 'answer': 'maxLength' is not permitted.")
NO_SYSTEM = (lambda b: b["messages"][0]["role"] == "system", "System role not supported")
NO_FORMAT = (lambda b: "output_config" in b, "output_config: Extra inputs are not permitted")
NO_SCHEMA = (
    lambda b: b.get("response_format", {}).get("type") == "json_schema",
    "'response_format' of type 'json_schema' is not supported with this model.",
)
