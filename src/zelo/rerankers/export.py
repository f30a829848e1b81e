"""Model folders that other libraries load as they are: what is written, and one form made into another.

A language model's folder is the released zerank format: full weights, LogitScore of sentence-transformers, a chat template that
knows the roles query and document. `export_model` makes of it a sequence classifier, which servers such as vLLM take: the row
of "Yes", divided by the scale, becomes the only row of a classification head, so that its sigmoid is the score.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError
from zelo.rerankers.card import model_card, name_of
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.parity import write_parity
from zelo.rerankers.pointwise import KIND, Format, PointwiseReranker
from zelo.rerankers.scorer import Scorer
from zelo.rerankers.templates import ChatTemplate, score_template

FORMATS = ("merged", "sequence-classification")
_ST = "sentence_transformers."


def write_pointwise(folder: Path, model: PointwiseReranker, about: Mapping[str, Any], card: str) -> None:
    """Write a pointwise reranker: weights, tokenizer, the files of sentence-transformers, zelo.json, card, parity file.

    Args:
        folder: where to; made if it does not exist.
        model: what to write. Adapters are merged into the weights.
        about: what zelo.json says beside the format.
        card: README.md.

    Raises:
        InputError: no token can serve as padding, or the model is a compiled one.
    """
    if not isinstance(model.scorer, Scorer):
        raise InputError("a compiled model has no weights to write", where=str(folder), remedy="load it with the engine torch")
    folder.mkdir(parents=True, exist_ok=True)
    model.scorer.save(folder)
    _write_tokenizer(folder, model)
    _write_sentence_transformers(folder, model.format)
    (folder / "zelo.json").write_text(
        json.dumps({"kind": KIND, "version": 1, "format": model.format.to_dict(), **about}, indent=1) + "\n", "utf-8"
    )
    (folder / "README.md").write_text(card, "utf-8")
    write_parity(folder, model)


def export_model(source: Path, out: Path, form: Literal["merged", "sequence-classification"]) -> Path:
    """Write a pointwise language model in another form, in float32 on a CPU.

    Args:
        source: a folder that `PointwiseReranker.load` reads: full weights, or adapters.
        out: where to; empty or new.
        form: merged = one causal language model in the released zerank format; sequence-classification = a classifier whose
            sigmoid is the score.

    Returns:
        `out`.

    Raises:
        InputError: the source is no pointwise language model, `out` is not empty, or the form is unknown.
    """
    if form not in FORMATS:
        raise InputError(f"no format {form!r}", remedy=f"use one of: {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("exists and is not empty", where=str(out), remedy="name a new folder")
    model = PointwiseReranker.load(source, device="cpu", precision="float32")
    if not isinstance(model.scorer, LanguageModel) or not isinstance(model.template, ChatTemplate):
        raise InputError("is a classifier already", where=str(source), remedy="use it as it is; sentence-transformers and servers load it")
    about = _about(source)
    if form == "sequence-classification":
        model = _as_classifier(model, model.scorer, model.template)
    write_pointwise(out, model, about, _card(model.format, about, out))
    return out


def _as_classifier(model: PointwiseReranker, scorer: LanguageModel, template: ChatTemplate) -> PointwiseReranker:
    from zelo.rerankers.encoder_classifier import EncoderClassifier

    library, torch = import_extra("transformers", "transformers"), import_extra("torch", "torch")
    head = scorer.model.get_output_embeddings()
    if head.bias is not None:
        raise InputError("the model's head has a bias, which a sequence classifier has no place for", remedy="use the merged format")
    rows = head.weight[list(scorer.tokens)].detach().float()
    row = (rows[0] - rows[1] if len(rows) == 2 else rows[0]) / model.format.scale
    config = scorer.model.config.__class__.from_dict(scorer.model.config.to_dict())
    config.num_labels, config.pad_token_id = 1, padding_of(template)
    with torch.device("meta"), quiet():
        classifier = library.AutoModelForSequenceClassification.from_config(config)
    setattr(classifier, classifier.base_model_prefix, scorer.model.base_model)
    if not isinstance(getattr(classifier, "score", None), torch.nn.Linear):
        raise InputError(f"{type(classifier).__name__} has no plain head", remedy="use the merged format")
    classifier.score = torch.nn.Linear(len(row), 1, bias=False, dtype=scorer.model.dtype)
    with torch.no_grad():
        classifier.score.weight.copy_(row[None])
    form = replace(model.format, head="classifier", tokens=(), scale=1.0)
    return PointwiseReranker(EncoderClassifier(classifier.eval(), config.pad_token_id, None, scorer.identity), template, form)


def padding_of(template: ChatTemplate) -> int:
    """Return the id of a token for padding that can be no sequence's last: classifiers find the end of a text by it.

    Raises:
        InputError: the vocabulary has none to spare.
    """
    tokenizer = template.tokenizer
    used = set(tokenizer(template.before + template.between + template.after, add_special_tokens=False)["input_ids"])
    used |= {tokenizer.eos_token_id, tokenizer.bos_token_id}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in used:
        return int(tokenizer.pad_token_id)
    spare = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special and i not in used}
    if not spare:
        raise InputError("the vocabulary has no special token to spare for padding", remedy="add one to the tokenizer and the model")
    return int(min(spare, key=lambda i: ("pad" not in spare[i].lower(), "reserved" not in spare[i].lower(), i)))


def _write_tokenizer(folder: Path, model: PointwiseReranker) -> None:
    """With the length, the padding and the chat template that the format needs; the caller's tokenizer stays as it is."""
    tokenizer, template = model.template.tokenizer, model.template
    kept = tokenizer.model_max_length, tokenizer.pad_token, tokenizer.chat_template
    tokenizer.model_max_length = template.max_tokens
    if isinstance(template, ChatTemplate):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding_of(template))
        tokenizer.chat_template = score_template(template, kept[2])
    try:
        with quiet():
            tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length, tokenizer.pad_token, tokenizer.chat_template = kept


def _write_sentence_transformers(folder: Path, form: Format) -> None:
    """What makes `CrossEncoder(folder)` load it. A language model's predictions are raw logits there, as of the released models."""
    method = {"method": "forward", "method_output_name": "logits"}
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{_ST}base.modules.transformer.Transformer"}]
    task, output, activation = "sequence-classification", "scores", "torch.nn.modules.activation.Sigmoid"
    if form.head == "token":
        task, output, activation = "text-generation", "causal_logits", "torch.nn.modules.linear.Identity"
        modules.append({"idx": 1, "name": "1", "path": "1_LogitScore", "type": f"{_ST}cross_encoder.modules.logit_score.LogitScore"})
        ids = [*form.tokens, None][:2]
        _write(folder / "1_LogitScore/config.json", {"true_token_id": ids[0], "false_token_id": ids[1], "module_input_name": output})
    shapes = {"text": method, "message": {**method, "format": "flat"}} if form.template == "chat" else {"text": method}
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"transformer_task": task, "modality_config": shapes, "module_output_name": output})
    _write(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder", "activation_fn": activation, "prompts": {}})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _about(source: Path) -> dict[str, Any]:
    """What the source's zelo.json says beside the format, or its name."""
    path = source / "zelo.json"
    if not path.is_file():
        return {"base": name_of(str(source)), "exported_from": name_of(str(source))}
    found = json.loads(path.read_text("utf-8"))
    return {**{k: v for k, v in found.items() if k not in ("kind", "version", "format")}, "exported_from": name_of(str(source))}


def usage_of(form: Format) -> str:
    """Return Python code that scores with sentence-transformers, for a card."""
    lines = ["from sentence_transformers import CrossEncoder", "", 'model = CrossEncoder("this folder")']
    if form.head == "token":
        lines += ["import torch", "", 'logits = model.predict([("query", "document")], convert_to_tensor=True)']
        return "\n".join([*lines, f"scores = torch.sigmoid(logits / {form.scale:g})  # in [0, 1]"])
    return "\n".join([*lines, 'scores = model.predict([("query", "document")])  # in [0, 1]'])


def serve_section(folder: str, form: Format) -> str:
    """Return what a card says about serving."""
    if form.template != "chat" or form.head != "classifier":
        return (
            "\n## Serving\n\nServers that want a sequence classifier (vLLM, SGLang): "
            "`zelo export-model THIS OUT --format sequence-classification`.\n"
        ) * (form.template == "chat")
    name = shlex.quote(folder)
    return (
        "\n## Serving\n\n"
        f"```bash\nvllm serve {name} --runner pooling --max-model-len {form.max_tokens} --chat-template {name}/chat_template.jinja\n"
        "curl http://localhost:8000/v1/rerank -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{folder}", "query": "a query", "documents": ["a document", "another one"]}}\'\n```\n\n'
        "The server applies a sigmoid by itself; the scale is folded into the head. Without the chat template the scores are wrong. Do not "
        "let the server truncate: it cuts the end of the prompt, where the score is read. Cut long documents before. "
        "`parity.jsonl` has 20 pairs with their scores; compare the server's before you use it (this card was written without one).\n"
    )


def _card(form: Format, about: Mapping[str, Any], out: Path) -> str:
    base = str(about.get("base") or name_of(str(out)))
    kind = "a causal language model" if form.head == "token" else "a sequence classifier"
    facts = {
        "made from": name_of(base),
        "form": kind,
        "score": "sigmoid(logit)" if form.scale == 1 else f"sigmoid(logit / {form.scale:g}), in [0, 1]",
        "longest sequence": f"{form.max_tokens} tokens",
        **{name: value for name, value in about.items() if not isinstance(value, dict | list)},
    }
    summary = "A pointwise reranker: it reads a query and a document together and says in [0, 1] how well the document answers."
    return model_card("Pointwise reranker", summary, facts, base, holds_weights=True, usage=usage_of(form)) + serve_section(out.name, form)


__all__ = ["FORMATS", "export_model", "padding_of", "serve_section", "usage_of", "write_pointwise"]
