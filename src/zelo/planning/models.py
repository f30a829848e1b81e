"""How large a model is, from its name or its config.json: a plan downloads and loads nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_KNOWN = {  # parameters that are multiplied per token (without the table of word vectors), dimension, most tokens of a text
    "all-MiniLM-L6-v2": (10.6e6, 384, 256),
    "Qwen3-Embedding-0.6B": (0.44e9, 1024, 32768),
    "Qwen3-Embedding-4B": (3.6e9, 2560, 32768),
    "Qwen3-Embedding-8B": (6.9e9, 4096, 32768),
}
_TOKENS = 512
_DIMENSION = 1024
"""Most tokens, and dimension, of a model that is not known."""
ON_A_GPU = 0.1e9
"""Models of so many parameters are planned for a GPU, smaller ones for a CPU."""


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters that are multiplied per token (0 = unknown), dimension of the vectors, most tokens of a text, source of the figures."""

    name: str
    parameters: float
    dimension: int
    tokens: int
    source: str

    @property
    def on_a_gpu(self) -> bool:
        """Whether the plan counts GPU-hours for it."""
        return self.parameters >= ON_A_GPU or not self.parameters


def size_of(name: str) -> Size:
    """Return the size of a model, a name or a folder."""
    last = name.rstrip("/").rpartition("/")[2]
    if last in _KNOWN:
        return Size(name, *_KNOWN[last], "known")
    config = Path(name) / "config.json"
    if config.is_file():
        found = json.loads(config.read_text("utf-8"))
        layers, width, inner = (found.get(key, 0) for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
        return Size(
            name, float(layers * (4 * width**2 + 3 * width * (inner or 4 * width))), int(width or _DIMENSION), _TOKENS, "its config.json"
        )
    said = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", last.replace("-", " "), re.IGNORECASE)
    if said:
        return Size(name, float(said[1]) * (1e9 if said[2].lower() == "b" else 1e6), _DIMENSION, _TOKENS, "its name")
    return Size(name, 0.0, _DIMENSION, _TOKENS, "unknown: the name does not say it")
