"""A pointwise reranker in use: from a model folder to scores in [0, 1].

Score = sigmoid(logit / scale). What gives the logit is what the folder's files say: a causal language model's "Yes" (the
released zerank format, scale 5), as full weights or as low-rank adapters, or a classifier's only output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zelo.encoders.extras import import_extra, loading_errors
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError
from zelo.rerankers.language_model import LanguageModel, Precision
from zelo.rerankers.scorer import Engine
from zelo.rerankers.templates import ChatTemplate, PairTemplate, Template, answer_token, load_tokenizer
from zelo.rerankers.unpadded import try_unpadded

if TYPE_CHECKING:
    from zelo.rerankers.engines import EngineName

FloatArray = NDArray[np.float64]

KIND = "pointwise"
RELEASED_SCALE = 5.0
"""Of the released models: score = sigmoid(logit("Yes") / 5)."""
MOST_TOKENS = 32_768  # context of the released models; a tokenizer often states more than the model was trained for


@dataclass(frozen=True)
class Format:
    """How a pointwise model is asked and read.

    Attributes:
        head: token = a logit of a language model's head, classifier = the only output of a classification head.
        template: chat = the tokenizer's chat template, pair = an encoder's way to join two texts.
        tokens: the id of the token whose logit is read, or two: the first's minus the second's; empty for a classifier.
        scale: score = sigmoid(logit / scale).
        max_tokens: of a sequence.
        options: further variables of the chat template.
    """

    head: Literal["token", "classifier"]
    template: Literal["chat", "pair"]
    tokens: tuple[int, ...]
    scale: float
    max_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sound = self.head in ("token", "classifier") and self.template in ("chat", "pair") and self.scale > 0
        if not sound or len(self.tokens) not in ((1, 2) if self.head == "token" else (0,)):
            raise InputError(f"no pointwise format: {asdict(self)}", remedy="train the model again")

    def make_template(self, tokenizer: Any) -> Template:
        """Return the template with this tokenizer."""
        return (
            ChatTemplate.of(tokenizer, self.max_tokens, self.options)
            if self.template == "chat"
            else PairTemplate(tokenizer, self.max_tokens)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: the part of zelo.json that says how to read the model."""
        return {**asdict(self), "tokens": list(self.tokens), "options": dict(self.options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Format:
        """Read it back.

        Raises:
            InputError: something is missing or of the wrong kind.
        """
        try:
            tokens, options = tuple(map(int, data["tokens"])), dict(data.get("options") or {})
            return cls(data["head"], data["template"], tokens, float(data["scale"]), int(data["max_tokens"]), options)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a pointwise format ({error!r})", remedy="train the model again") from error


class PointwiseReranker:
    """Scores documents one by one, in passes of similar length.

    Attributes:
        scorer: what gives the logits, a torch model (a Scorer) or a compiled one.
        template, format: how it is asked and read.
    """

    def __init__(self, scorer: Engine, template: Template, form: Format, budget: int = 0) -> None:
        """Put together; `budget` is the most padded tokens of a forward pass, 0 = what suits the device."""
        self.scorer, self.template, self.format, self._budget = scorer, template, form, budget

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        budget: int = 0,
        max_tokens: int = 0,
        engine: EngineName = "torch",
    ) -> PointwiseReranker:
        """Load a folder.

        Args:
            folder: full weights of a causal language model, with or without the files of sentence-transformers; low-rank adapters
                of one; or a classifier that zelo wrote.
            device: "cpu", "cuda", ...; auto = a GPU if there is one.
            precision: of a language model's weights; auto = bfloat16 on a GPU, float32 on a CPU.
            budget: most padded tokens of a forward pass; 0 = what suits the device.
            max_tokens: longer sequences are cut; 0 = as the folder says.
            engine: of a classifier, see `engines.classifier_engine`; of a language model torch, or optimized: in bfloat16 on a CPU.

        Raises:
            InputError: the folder holds no such model, the engine cannot be used with it, or its tokenizer has no single token "Yes".
            MissingExtraError: a package of the extra `train` is not installed.
        """
        base = base_of(folder)
        tokenizer = load_tokenizer(folder if has_tokenizer(folder) else base)
        form = format_of(folder, tokenizer, max_tokens)
        if form.head == "classifier":
            from zelo.rerankers.engines import classifier_engine

            if form.template == "chat" and engine in ("openvino", "optimized"):
                raise InputError(f"the engine {engine} is for encoders", where=str(folder), remedy="use the engine torch or auto")
            scorer: Engine = classifier_engine(folder, engine if form.template == "pair" else "torch", device)
        else:
            if precision == "auto" and engine != "torch":
                from zelo.rerankers.engines import language_model_precision

                precision = language_model_precision(folder, engine, device)
            model = LanguageModel.load(base, form.tokens, precision, device)
            model = model if base == folder else with_adapters(model, folder)
            try_unpadded(model)
            scorer = model
        return cls(scorer, form.make_template(tokenizer), form, budget)

    def score(self, query: str, documents: Sequence[str]) -> FloatArray:
        """Return a score in [0, 1] per document."""
        return np.asarray(expit(self.logits(query, documents) / self.format.scale), np.float64)

    def score_many(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[FloatArray]:
        """Return what `score` returns for each (query, documents), in passes that several requests share."""
        groups = self.template.groups(requests)
        return [np.asarray(expit(part / self.format.scale), np.float64) for part in self.scorer.score_groups(groups, self._budget)]

    @property
    def max_tokens(self) -> int:
        """Tokens of a query and a document together; the rest is cut."""
        return self.format.max_tokens

    def logits(self, query: str, documents: Sequence[str]) -> FloatArray:
        """Return the logit per document, not divided by the scale."""
        return self.scorer.score_groups([self.template.sequences(query, documents)], self._budget)[0] if documents else np.zeros(0)


def is_pointwise(folder: Path) -> bool:
    """Say whether a folder without zelo.json holds a causal language model, or adapters of one, by its files."""
    if (folder / "adapter_config.json").is_file():
        return _read(folder / "adapter_config.json").get("task_type") == "CAUSAL_LM"
    if (folder / "config.json").is_file():
        return str((_read(folder / "config.json").get("architectures") or [""])[0]).endswith(("ForCausalLM", "LMHeadModel"))
    return False


def base_of(folder: Path) -> Path:
    """Return the folder with the full weights: of adapters their base, which adapter_config.json names, otherwise itself.

    Raises:
        InputError: the base is not there.
    """
    config = folder / "adapter_config.json"
    if not config.is_file():
        return folder
    name = str(_read(config).get("base_model_name_or_path") or "")
    if not name:
        raise InputError("names no base model", where=str(config), remedy="set base_model_name_or_path to the folder of the base")
    return resolve_model(name)


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder has a tokenizer of its own; adapters need none."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def with_adapters(model: LanguageModel, folder: Path) -> LanguageModel:
    """Return the model with a folder's low-rank adapters added to its weights.

    Raises:
        InputError: they do not fit.
    """
    peft = import_extra("peft", "peft")
    try:
        with quiet():
            merged = peft.PeftModel.from_pretrained(model.model, str(folder)).merge_and_unload()
    except loading_errors() as error:
        what = f"the adapters cannot be read, or do not fit their base model ({str(error).strip().partition(chr(10))[0]})"
        raise InputError(what, where=str(folder), remedy="copy them again, or name their base in adapter_config.json") from error
    return LanguageModel(merged.eval(), model.tokens, f"{model.identity}+{model_digest(folder)}")


def format_of(folder: Path, tokenizer: Any, max_tokens: int = 0) -> Format:
    """Return how the model of a folder is asked and read.

    zelo.json says it. Without one the files of sentence-transformers do (the token ids of its LogitScore); without those it is
    "Yes". One token is read at the released models' scale of 5, a difference of two at 1: that is log-odds.

    Raises:
        InputError: zelo.json is faulty, or the tokenizer has no single token "Yes".
    """
    described = folder / "zelo.json"
    if described.is_file():
        about = _read(described)
        if about.get("kind") != KIND:
            raise InputError(f"holds a model of kind {about.get('kind')!r}", where=str(folder), remedy="give a pointwise reranker")
        data = dict(about.get("format") or {})
        return Format.from_dict({**data, "max_tokens": max_tokens or data.get("max_tokens", 0)})
    tokens, options = _logit_score(folder)
    tokens = tokens or (answer_token(tokenizer),)
    scale = RELEASED_SCALE if len(tokens) == 1 else 1.0
    return Format("token", "chat", tokens, scale, max_tokens or longest(base_of(folder), tokenizer), options)


def _logit_score(folder: Path) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Token ids and variables of the chat template that the files of sentence-transformers name; none without such files."""
    if not (folder / "modules.json").is_file():
        return (), {}
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    heads = [m for m in modules if str(m.get("type", "")).rpartition(".")[2] == "LogitScore"]
    if not heads:
        return (), {}
    config = _read(folder / str(heads[0]["path"]) / "config.json")
    ids = [config.get("true_token_id"), config.get("false_token_id")]
    texts = folder / "sentence_bert_config.json"
    given = (_read(texts).get("processing_kwargs") or {}).get("chat_template") or {} if texts.is_file() else {}
    about_size = ("restore_suffix", "padding", "truncation", "max_length", "return_tensors")
    return tuple(int(i) for i in ids if i is not None), {k: v for k, v in given.items() if k not in about_size}


def longest(folder: Path, tokenizer: Any) -> int:
    """Return how many tokens a base model reads: what tokenizer and configuration agree on, at most 32,768."""
    config = _read(folder / "config.json")
    stated = (config.get("text_config") or config).get("max_position_embeddings") or MOST_TOKENS
    return int(min(stated, tokenizer.model_max_length, MOST_TOKENS))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path)) from error
    if not isinstance(found, dict):
        raise InputError("is not a JSON object", where=str(path))
    return found
