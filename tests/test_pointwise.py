"""Pointwise rerankers: the released format to the token, cutting, and one score from every library and every form of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tiny_models import write_tiny_bert, write_tiny_qwen
from zelo.cli import cli
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError
from zelo.rerankers import Reranker, load_reranker
from zelo.rerankers.export import export_model, padding_of
from zelo.rerankers.parity import LIBRARIES, PARITY, parity_pairs, verify
from zelo.rerankers.pointwise import Format, PointwiseReranker
from zelo.rerankers.templates import ChatTemplate, answer_token, load_tokenizer, score_template

TEXTS = [text for pair in parity_pairs(64) for text in pair]
QUERY = "how do I read a file?"
DOCUMENTS = [
    "Open it.",
    "",
    "\n\nIt has lines,\n  indented\n",
    "Wasser kocht bei 100 °C. 番茄",
    "a word " * 60,
    "yes Yes no <|im_end|> and on",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plain language model (`plain`: no file of sentence-transformers, none of zelo) and its exports."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_qwen(folder / "plain", ["Yes", "system", "user", "assistant"] * 99 + TEXTS, dim=16, tied=False)
    export_model(folder / "plain", folder / "merged", "merged")
    export_model(folder / "plain", folder / "classifier", "sequence-classification")
    return folder


@pytest.fixture(scope="module")
def template(root: Path) -> ChatTemplate:
    return ChatTemplate.of(load_tokenizer(root / "plain"), 64)


def text_of(query: str, document: str) -> str:
    return f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant\n"


def test_the_released_format_to_the_token(root: Path, template: ChatTemplate) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reranker = load_reranker(root / "plain")
    assert isinstance(reranker, Reranker)
    with quiet():
        tokenizer, model = AutoTokenizer.from_pretrained(root / "plain"), AutoModelForCausalLM.from_pretrained(root / "plain")
    (yes,) = tokenizer("Yes")["input_ids"]
    for document in DOCUMENTS:
        ids = tokenizer(text_of(QUERY, document), add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logit = float(model(ids).logits[0, -1, yes])
        assert reranker.score(QUERY, [document])[0] == pytest.approx(expit(logit / 5), abs=1e-6)
    assert template.text("q", "d") == text_of("q", "d")


def test_batches_and_padding_change_nothing(root: Path) -> None:
    reranker = PointwiseReranker.load(root / "plain", max_tokens=200)
    one_by_one = np.concatenate([reranker.logits(QUERY, [d]) for d in DOCUMENTS])
    for budget in (1, 200, 100_000):
        again = PointwiseReranker(reranker.scorer, reranker.template, reranker.format, budget).logits(QUERY, DOCUMENTS)
        np.testing.assert_allclose(again, one_by_one, atol=1e-5)
    assert reranker.score(QUERY, []).shape == (0,)
    assert np.ptp(one_by_one) > 1e-2  # the documents do differ


def test_requests_that_share_passes_score_alike(root: Path, tmp_path: Path) -> None:
    requests = [(QUERY, DOCUMENTS), ("other", []), ("another question", DOCUMENTS[::-1]), (QUERY, DOCUMENTS[:1])]
    for reranker in (load_reranker(root / "plain"), load_reranker(write_tiny_bert(tmp_path / "bert", ["a", "word", "lines"]))):
        together = reranker.score_many(requests)  # type: ignore[attr-defined]
        assert [len(scores) for scores in together] == [len(documents) for _, documents in requests]
        for (query, documents), scores in zip(requests, together, strict=True):
            np.testing.assert_allclose(scores, reranker.score(query, documents), atol=1e-5)


@pytest.mark.parametrize("name", ["merged", "classifier"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_one_score_everywhere(root: Path, name: str, library: Any) -> None:
    plain = load_reranker(root / "plain")
    rows = [json.loads(line) for line in (root / name / PARITY).read_text("utf-8").splitlines()]
    assert len(rows) == 20
    scores = [plain.score(row["query"], [row["document"]])[0] for row in rows]
    np.testing.assert_allclose([row["score"] for row in rows], scores, atol=1e-6)  # the export is the model that it was made from
    assert np.std(scores) > 1e-3
    found = verify(root / name, library)
    assert found.compared >= 16
    assert found.largest < 1e-5


@pytest.mark.parametrize("name", ["plain", "merged", "classifier"])
def test_sentence_transformers_cuts_documents_alike(root: Path, name: str, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    folder = root / name
    if name == "plain":  # as zerank-2 was published: the files of sentence-transformers, none of zelo's
        folder = shutil.copytree(root / "merged", tmp_path / "released")
        (folder / "zelo.json").unlink()
    with quiet():
        model = CrossEncoder(str(folder), device="cpu", max_length=64)
        raw = np.asarray(model.predict([(QUERY, d) for d in DOCUMENTS], show_progress_bar=False), np.float64)
    expected = raw if name == "classifier" else expit(raw / 5)
    np.testing.assert_allclose(PointwiseReranker.load(folder, max_tokens=64).score(QUERY, DOCUMENTS), expected, atol=1e-5)


def test_what_a_folder_is(root: Path, tmp_path: Path) -> None:
    assert PointwiseReranker.load(root / "merged").format.head == "token"
    classifier = PointwiseReranker.load(root / "classifier")
    assert (classifier.format.head, classifier.format.scale, classifier.format.tokens) == ("classifier", 1.0, ())
    released = shutil.copytree(root / "merged", tmp_path / "released")
    (released / "zelo.json").unlink()
    assert PointwiseReranker.load(released).format.scale == 5
    head = released / "1_LogitScore/config.json"
    head.write_text(json.dumps({"true_token_id": 7, "false_token_id": 9}), "utf-8")
    form = PointwiseReranker.load(released).format
    assert (form.tokens, form.scale) == ((7, 9), 1.0)  # log-odds of two tokens
    bert = write_tiny_bert(tmp_path / "bert", ["a"])
    assert type(load_reranker(bert)).__name__ == "CrossEncoderReranker"
    (released / "zelo.json").write_text('{"kind": "pairwise"}', "utf-8")
    with pytest.raises(InputError, match="compares two documents"):
        load_reranker(released)
    (released / "zelo.json").write_text('{"kind": "pointwise", "format": {"head": "token"}}', "utf-8")
    with pytest.raises(InputError, match="not a pointwise format"):
        load_reranker(released)


def test_adapters_and_their_merge_score_alike(root: Path, tmp_path: Path) -> None:
    import torch

    from zelo.rerankers.language_model import LanguageModel

    plain = PointwiseReranker.load(root / "plain")
    scorer = plain.scorer
    assert isinstance(scorer, LanguageModel)
    scorer.add_lora(2)
    with torch.no_grad():
        for name, weight in scorer.module.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    scorer.save_adapter(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(root / "plain")
    expected = plain.score(QUERY, DOCUMENTS)
    np.testing.assert_allclose(load_reranker(tmp_path / "adapter").score(QUERY, DOCUMENTS), expected, atol=1e-5)
    assert np.abs(expected - load_reranker(root / "plain").score(QUERY, DOCUMENTS)).max() > 1e-3
    for form in ("merged", "sequence-classification"):
        out = export_model(tmp_path / "adapter", tmp_path / form, form)
        np.testing.assert_allclose(load_reranker(out).score(QUERY, DOCUMENTS), expected, atol=1e-5)
        assert verify(out, "sentence-transformers").largest < 1e-5
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": ""}), "utf-8")
    with pytest.raises(InputError, match="names no base model"):
        PointwiseReranker.load(tmp_path / "adapter")
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config), "utf-8")
    cut(tmp_path / "adapter/adapter_model.safetensors")
    with pytest.raises(InputError, match="adapters cannot be read"):
        PointwiseReranker.load(tmp_path / "adapter")
    cut(tmp_path / "merged/model.safetensors")
    with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
        load_reranker(tmp_path / "merged")
    with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
        verify(tmp_path / "merged", "sentence-transformers")
    cut(tmp_path / "sequence-classification/model.safetensors")
    with pytest.raises(InputError, match="cannot be loaded as a classifier"):
        load_reranker(tmp_path / "sequence-classification")
    bert = write_tiny_bert(tmp_path / "bert", ["a"])
    cut(bert / "model.safetensors")
    with pytest.raises(InputError, match="sentence-transformers cannot load"):
        load_reranker(bert)


def cut(path: Path) -> None:
    """What a copy that broke off leaves."""
    path.write_bytes(path.read_bytes()[:500])


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=400), st.text(max_size=400), st.integers(40, 120))
def test_cutting_keeps_the_template_and_the_front_of_the_texts(template: ChatTemplate, query: str, document: str, most: int) -> None:
    short, tokenizer = ChatTemplate.of(template.tokenizer, most), template.tokenizer
    full = tokenizer(text_of(query, document), add_special_tokens=False)["input_ids"]
    (ids,) = short.sequences(query, [document])
    if len(full) <= most:
        assert ids.tolist() == full
        return
    assert len(ids) == most
    end = tokenizer("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert ids[-len(end) :].tolist() == end
    assert ids[: len(start := tokenizer("<|im_start|>system\n", add_special_tokens=False)["input_ids"]) - 1].tolist() == start[:-1]
    if not short.cuts_query(query, document):
        kept = len(ids) - len(end)
        assert ids[:kept].tolist() == full[:kept]  # only the document lost its end


def test_an_overlong_query_leaves_the_document_a_quarter(template: ChatTemplate) -> None:
    tokenizer = template.tokenizer
    (ids,) = template.sequences("file " * 500, ["loop " * 500])
    text = tokenizer.decode(ids)
    assert len(ids) == 64
    room = 64 - len(tokenizer(text_of("", ""), add_special_tokens=False)["input_ids"])
    words = len(tokenizer("loop " * text.count("loop"), add_special_tokens=False)["input_ids"])
    assert 0.2 * room <= words <= 0.35 * room
    assert text.count("file") > text.count("loop") > 0
    (ids,) = template.sequences("file " * 500, ["loop"])  # a short document is kept whole
    assert "loop<|im_end|>" in tokenizer.decode(ids)
    (huge,) = template.sequences("q", ["x" * 3_000_000])  # not tokenized to its end
    assert len(huge) == 64


def test_refusals(root: Path, template: ChatTemplate, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(root / "plain")
    assert answer_token(tokenizer) != answer_token(tokenizer, "y")
    with pytest.raises(InputError, match="no single token for 'Yesyes'"):
        answer_token(tokenizer, "Yesyes")
    with pytest.raises(InputError, match="leaves no room"):
        ChatTemplate.of(tokenizer, 12)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'][:5] }}{% endfor %}"
    with pytest.raises(InputError, match="once each"):
        ChatTemplate.of(tokenizer, 64)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(InputError, match="System role not supported"):
        ChatTemplate.of(tokenizer, 64)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        ChatTemplate.of(tokenizer, 64)
    with pytest.raises(InputError, match="not empty"):
        export_model(root / "plain", root / "merged", "merged")
    with pytest.raises(InputError, match="classifier already"):
        export_model(root / "classifier", tmp_path / "again", "sequence-classification")
    with pytest.raises(InputError, match="no pointwise format"):
        Format("token", "chat", (1, 2, 3), 5.0, 64)


def test_a_template_that_trims_and_the_guards_of_roles(root: Path) -> None:
    tokenizer = load_tokenizer(root / "plain")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ':' + (m['content'] | trim) + '\n' }}{% endfor %}answer:"
    template = ChatTemplate.of(tokenizer, 64)
    assert template.trims
    assert template.text(" q ", " d\n") == "system:q\nuser:d\nanswer:"
    tokenizer.chat_template = score_template(template, tokenizer.chat_template)
    again = ChatTemplate.of(tokenizer, 64)
    assert (again.before, again.between, again.after, again.trims) == (template.before, template.between, template.after, True)

    def rendered(*roles: str) -> str:
        return str(tokenizer.apply_chat_template([{"role": role, "content": " x "} for role in roles], tokenize=False))

    assert rendered("query", "document") == "system:x\nuser:x\nanswer:"
    assert rendered("document") == "system:\nuser:x\nanswer:"  # sentence-transformers renders one column alone for its card
    assert rendered("query") == "system:x\nuser:\nanswer:"
    assert rendered("user") == "user:x\nanswer:"


def test_padding_is_no_token_of_the_template(root: Path, template: ChatTemplate) -> None:
    tokenizer = template.tokenizer
    assert padding_of(template) == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.pad_token = "<|im_end|>"
    try:
        assert padding_of(template) == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    finally:
        tokenizer.pad_token = "<|endoftext|>"
    config = json.loads((root / "classifier/config.json").read_text("utf-8"))
    assert config["pad_token_id"] == padding_of(template) != config["eos_token_id"]
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]


@pytest.mark.parametrize("damage", ["scale", "template", "head", "file"])
def test_verify_sees_damage(root: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(root / "merged", tmp_path / "model")
    run = CliRunner()
    assert "20 pairs compared; largest difference" in run.invoke(cli, ["verify", str(folder)]).output
    if damage == "scale":
        about = json.loads((folder / "zelo.json").read_text("utf-8"))
        about["format"]["scale"] = 1.0
        (folder / "zelo.json").write_text(json.dumps(about), "utf-8")
    elif damage == "template":
        text = (folder / "chat_template.jinja").read_text("utf-8")
        (folder / "chat_template.jinja").write_text(text.replace("assistant", "user"), "utf-8")
    elif damage == "head":
        about = json.loads((folder / "zelo.json").read_text("utf-8"))
        about["format"]["tokens"] = [about["format"]["tokens"][0] + 1]
        (folder / "zelo.json").write_text(json.dumps(about), "utf-8")
    else:
        (folder / PARITY).unlink()
    found = run.invoke(cli, ["verify", str(folder)])
    assert isinstance(found.exception, InputError)
    assert ("no parity file" if damage == "file" else "not those of the parity file") in str(found.exception)


def test_the_command_and_the_card(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "served model"
    found = CliRunner().invoke(cli, ["export-model", str(root / "plain"), str(out)], catch_exceptions=False)
    assert "zelo verify" in found.output
    card = (out / "README.md").read_text("utf-8")
    assert "vllm serve 'served model' --runner pooling" in card
    assert "'served model'/chat_template.jinja" in card
    assert "sigmoid" in (root / "merged/README.md").read_text("utf-8")
    assert str(root) not in card
