"""A sentence-transformers model as an OpenVINO model, converted once and kept on disk.

Importing torch, transformers and sentence-transformers and converting takes about 9 s for a small encoder; reading the
kept conversion takes 0.5 s and needs none of them. What is kept is the model in OpenVINO's format with float32 weights,
the tokenizer exactly as sentence-transformers configured it, and the pooling; the folder's name holds the digest of the
model it came from and OpenVINO's version. Delete the folder at any time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zelo.encoders.extras import import_extra, loading_errors
from zelo.errors import InputError

T = TypeVar("T")

FACTS = "facts.json"
"""Written last into a kept conversion: a folder that holds it is whole."""
_FORMAT = 1  # of the kept folder; raise it when what is kept changes
_PROBES = ("a", "How do I read a file line by line?", "Zebras, 3.5 kg of lentils; naïve café -- " * 8)
_MIN_COSINE = 0.9999  # of the converted model to sentence-transformers on the probes, both float32
_MAX_STREAMS = 8  # batches worked on at once; each stream holds some 50 MB, more cores work inside a stream
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What encoding needs to know beside the weights: vector length, token limit, padding token, "mean" or "cls"."""

    dim: int
    max_tokens: int
    pad_id: int
    pooling: str


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    On import it would write an identifier into ~/intel and send it to a server, and its thread can hang the process at its end
    after an interrupt. Without the package `openvino_telemetry` OpenVINO does the same without it; None stands for absent.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_extra("openvino", "openvino")


def cache_dir() -> Path:
    """Return the folder for things that can be made again: $ZELO_CACHE, else zelo in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("ZELO_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zelo"


def pooling_of(folder: Path) -> str | None:
    """Return "mean" or "cls" if the model is transformer + that pooling (+ normalize) without a default prompt, else None."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return None
        config = json.loads((folder / modules[1]["path"] / "config.json").read_text(encoding="utf-8"))
        general = folder / "config_sentence_transformers.json"
        if general.is_file() and json.loads(general.read_text(encoding="utf-8")).get("default_prompt_name"):
            return None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    mode = config.get("pooling_mode")  # since sentence-transformers 5.4; before, one flag per mode
    if mode is None:
        flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
        mode = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}.get(flags[0]) if len(flags) == 1 else None
    return mode if mode in ("mean", "cls") else None


def precision() -> str:
    """Return "bf16" where OpenVINO says that this CPU computes it (avx512_bf16 or amx), else "f32"."""
    ov = import_openvino()
    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


@functools.lru_cache(maxsize=4)
def compile_model(folder: Path, digest: str, precision: str, threads: int) -> tuple[Any, Any, ModelFacts]:
    """Return (compiled OpenVINO model, tokenizer, facts) of a model folder; once per process and setting.

    The compiled model takes int64 `input_ids` and `attention_mask` [batch, length] and gives float32 hidden states
    [batch, length, dim].

    Raises:
        InputError: OpenVINO cannot stand in for this model.
        MissingExtraError: openvino, or for the first conversion sentence-transformers, is not installed.
    """
    ov = import_openvino()
    streams = min(threads, _MAX_STREAMS)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": threads,
    }
    kept = cache_dir() / "openvino" / f"{digest[:32]}-{ov.__version__.partition('-')[0]}-{_FORMAT}"
    return kept_conversion(kept, lambda made: _convert(folder, made), lambda made: _compile(made, settings))


def _compile(kept: Path, settings: dict[str, Any]) -> tuple[Any, Any, ModelFacts]:
    ov = import_openvino()
    tokenizers = import_extra("tokenizers", "tokenizers")
    facts = ModelFacts(**json.loads((kept / FACTS).read_text(encoding="utf-8")))
    tokenizer = tokenizers.Tokenizer.from_file(str(kept / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=facts.max_tokens)
    core = ov.Core()
    return core.compile_model(core.read_model(kept / "model.xml"), "CPU", settings), tokenizer, facts


def kept_conversion(kept: Path, convert: Callable[[Path], object], load: Callable[[Path], T]) -> T:
    """Load a conversion from where it is kept; else make it, keep it if there is a place for it, and load that.

    It is always loaded from the files, so that the first process and all later ones use the same model.

    Args:
        kept: its folder in the cache; whole if it holds FACTS.
        convert: writes it into an empty folder.
        load: reads it.
    """
    if (kept / FACTS).is_file():
        try:
            return load(kept)
        except (RuntimeError, OSError, ValueError, TypeError) as error:
            log.warning("cannot use the kept model %s (%s): converting again", kept, " ".join(str(error).split())[:200])
            shutil.rmtree(kept, ignore_errors=True)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        parent: Path | None = kept.parent if os.access(kept.parent, os.W_OK) else None
    except OSError:
        parent = None  # no place to keep it: convert in every process
    with tempfile.TemporaryDirectory(dir=parent, prefix="converting-", ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        convert(made)
        loaded = load(made)
        if parent is not None and not kept.exists():
            with contextlib.suppress(OSError):  # another process was first, or the disk is full
                made.rename(kept)
    return loaded


def _convert(folder: Path, target: Path) -> None:
    """Write model.xml, model.bin, tokenizer.json and facts.json, after comparing with sentence-transformers itself."""
    ov = import_openvino()
    torch = import_extra("torch", "torch")
    pooling = pooling_of(folder)
    with quiet():
        model = load_sentence_transformer(folder)
        transformer, tokenizer = model[0].auto_model.eval(), getattr(model.tokenizer, "backend_tokenizer", None)
        if pooling is None or tokenizer is None:
            raise InputError("OpenVINO needs transformer + mean or cls pooling and a fast tokenizer", where=str(folder))

        base: Any = torch.nn.Module

        class HiddenStates(base):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.transformer = transformer

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                return self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        example = {name: torch.ones(2, 8, dtype=torch.long) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            converted = ov.convert_model(HiddenStates().eval(), example_input=example)
        ov.save_model(converted, target / "model.xml", compress_to_fp16=False)
        expected = model.encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False)
    facts = ModelFacts(int(expected.shape[1]), token_limit(model), int(model.tokenizer.pad_token_id or 0), pooling)
    tokenizer.save(str(target / "tokenizer.json"))
    (target / FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")
    cosine = _probe(target, expected)
    if not cosine >= _MIN_COSINE:
        raise InputError(f"the converted model differs from the original (cosine {cosine:.4f})", where=str(folder))


def _probe(target: Path, expected: Any) -> float:
    """Return the smallest cosine between converted and original model on texts of different lengths in one padded batch."""
    compiled, tokenizer, facts = _compile(target, {"INFERENCE_PRECISION_HINT": "f32"})
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(_PROBES))]
    shape = len(ids), max(map(len, ids))
    padded, mask = np.full(shape, facts.pad_id, np.int64), np.zeros(shape, np.int64)
    for row, line in enumerate(ids):
        padded[row, : len(line)], mask[row, : len(line)] = line, 1
    hidden = compiled([padded, mask])[0]
    pooled = np.stack([h[0] if facts.pooling == "cls" else h[: len(line)].mean(0) for h, line in zip(hidden, ids, strict=True)])
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    return float((pooled * expected).sum(1).min())


def load_sentence_transformer(folder: Path) -> Any:
    """Load a folder with sentence-transformers, on the CPU, from local files only.

    Raises:
        InputError: the folder cannot be loaded.
        MissingExtraError: sentence-transformers is not installed.
    """
    st = import_extra("sentence_transformers", "sentence-transformers")
    try:
        with quiet():
            return st.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except loading_errors() as error:
        message = str(error).strip().partition("\n")[0]
        raise InputError(
            f"sentence-transformers cannot load the model ({message})", where=str(folder), remedy="check the folder"
        ) from error


def token_limit(model: Any) -> int:
    """Return a sentence-transformers model's limit in tokens; a tokenizer without one has the model's positions, else 512."""
    limit = getattr(model, "max_seq_length", None)
    positions = getattr(getattr(model[0], "auto_model", None), "config", None)
    return int(min(limit or 1_000_000, getattr(positions, "max_position_embeddings", None) or 512))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers and torch print while a model is loaded and traced; nothing else."""
    logging_of = import_extra("transformers.utils.logging", "transformers")
    level, bar = logging_of.get_verbosity(), logging_of.is_progress_bar_enabled()
    logging_of.set_verbosity_error()
    logging_of.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(transformers|torch|openvino)\b")
            yield
    finally:
        logging_of.set_verbosity(level)
        if bar:
            logging_of.enable_progress_bar()
