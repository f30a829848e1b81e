"""Query, document A, document B, label position: both documents are cut alike, and the template never is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import WORDS, write_tiny_bert, write_tiny_qwen
from zelo.errors import InputError
from zelo.rerankers.pairwise_template import PairwiseTemplate, encoder_template, fair, language_model_template
from zelo.rerankers.templates import load_tokenizer

TEXTS = ["open the file and read it", "sort the list, then merge", "Query: Document A: Document B: answer"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {
        "chat": write_tiny_qwen(root / "chat", TEXTS),
        "plain": write_tiny_qwen(root / "plain", TEXTS, chat=False),
        "encoder": write_tiny_bert(root / "bert", WORDS),
    }


def text_of(folder: Path, template: PairwiseTemplate, query: str, first: str, second: str) -> str:
    tokenizer = load_tokenizer(folder)
    ids = template.join(*template.tokenize(tokenizer, [query, first, second]))
    return str(tokenizer.decode(ids))


def test_a_chat_models_template_holds_the_texts(folders: dict[str, Path]) -> None:
    template = language_model_template(load_tokenizer(folders["chat"]), 300)
    text = text_of(folders["chat"], template, "open a file", "one", "two")
    assert text.startswith("<|im_start|>user\n")
    assert text.endswith("\n\nQuery: open a file\n\nDocument A: one\n\nDocument B: two<|im_end|>\n<|im_start|>assistant\n")
    tokenizer = load_tokenizer(folders["chat"])
    assert [tokenizer.decode([label]) for label in template.labels] == ["A", "B"]


def test_a_plain_models_template_ends_before_the_label(folders: dict[str, Path]) -> None:
    template = language_model_template(load_tokenizer(folders["plain"]), 300)
    text = text_of(folders["plain"], template, "open a file", "one", "two")
    assert text.startswith("Which of the two documents")
    assert text.endswith("Document B: two\n\nThe better document is")


def test_an_encoders_template_is_separators(folders: dict[str, Path]) -> None:
    template = encoder_template(load_tokenizer(folders["encoder"]), 40)
    assert text_of(folders["encoder"], template, "open file", "sort list", "tree") == "[CLS] open file [SEP] sort list [SEP] tree [SEP]"


@pytest.mark.parametrize("kind", ["chat", "plain", "encoder"])
def test_whatever_is_cut_the_template_stays(kind: str, folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders[kind])
    make = encoder_template if kind == "encoder" else language_model_template
    full = make(tokenizer, 2000)
    fixed = full.max_tokens - full.room
    long, short = " ".join(WORDS * 200), "open the list"
    for max_tokens in (fixed + 3, fixed + 60, fixed + 301):
        template = make(tokenizer, max_tokens)
        for texts in (
            (short, long, long),
            (short, long, short),
            (short, short, long),
            (long, long, long),
            (long, short, short),
            ("", "", ""),
        ):
            tokens = template.tokenize(tokenizer, list(texts))
            ids = template.join(*tokens).tolist()
            assert len(ids) <= max_tokens
            assert len(ids) == template.length(*map(len, tokens))
            assert tuple(ids[: len(template.pieces[0])]) == template.pieces[0]
            assert tuple(ids[len(ids) - len(template.pieces[3]) :]) == template.pieces[3]
            text = tokenizer.decode(ids)
            if kind != "encoder":
                assert text.count("Document A:") == text.count("Document B:") == 1


def test_both_documents_are_cut_alike_and_a_short_one_lends_its_room(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["encoder"])
    template = encoder_template(tokenizer, 64)  # room for 60
    one, two = " ".join(WORDS[:10] * 20), " ".join(WORDS[10:] * 20)

    def kept(first: str, second: str) -> tuple[int, int]:
        ids = template.join(*template.tokenize(tokenizer, ["open file", first, second])).tolist()
        ends = [i for i, t in enumerate(ids) if t == tokenizer.sep_token_id]
        return ends[1] - ends[0] - 1, ends[2] - ends[1] - 1

    assert kept(one, two) == (29, 29)
    assert kept("sort list tree", two) == (3, 55)
    assert kept(two, "sort list tree") == (55, 3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 120))
def test_fair(lengths: list[int], room: int) -> None:
    kept = fair(lengths, room)
    assert all(0 <= k <= n for k, n in zip(kept, lengths, strict=True))
    assert sum(kept) <= room
    cut = [k for k, n in zip(kept, lengths, strict=True) if k < n]
    if cut:
        assert len(set(cut)) == 1
        assert max(kept) == cut[0]  # nobody keeps more than one that was cut
        assert room - sum(kept) < len(cut)  # and nothing is left but a remainder that cannot be shared
    else:
        assert kept == lengths
    assert fair(lengths[::-1], room) == kept[::-1]


def test_markup_in_a_text_stays_text(folders: dict[str, Path]) -> None:
    for kind, markup in (("chat", "<|im_end|>"), ("encoder", "[SEP]")):
        tokenizer = load_tokenizer(folders[kind])
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        make = encoder_template if kind == "encoder" else language_model_template
        (ids,) = make(tokenizer, 300).tokenize(tokenizer, [f"open {markup} file"])
        assert not special & set(ids.tolist())


def test_it_survives_json(folders: dict[str, Path]) -> None:
    template = language_model_template(load_tokenizer(folders["chat"]), 300)
    assert PairwiseTemplate.from_dict(template.to_dict()) == template
    with pytest.raises(InputError, match="not a pairwise template"):
        PairwiseTemplate.from_dict({"family": "encoder"})


def test_no_room(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="leaves no room"):
        language_model_template(load_tokenizer(folders["chat"]), 20)


def test_templates_that_cannot_be_used(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["chat"])
    for broken in ("{{ raise_exception('needs a system turn') }}", "no texts at all", "{{ messages[0]['content'] * 2 }}"):
        tokenizer.chat_template = broken
        with pytest.raises(InputError, match="chat template"):
            language_model_template(tokenizer, 300)
    with pytest.raises(InputError, match="no tokens for start"):
        tokenizer.eos_token = None
        encoder_template(tokenizer, 300)


def test_nothing_to_tokenize(folders: dict[str, Path]) -> None:
    template = encoder_template(load_tokenizer(folders["encoder"]), 40)
    assert template.tokenize(load_tokenizer(folders["encoder"]), []) == []
    assert np.concatenate(template.tokenize(load_tokenizer(folders["encoder"]), [""])).tolist() == []
