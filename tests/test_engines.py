"""Engines: compiled scores are the torch model's, whatever comes with a pair; bytes lose little; what is optimized is used, or refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import zelo
from tiny_models import WORDS, tiny_language_model, write_tiny_bert
from zelo import optimizing
from zelo.encoders import processor
from zelo.errors import InputError
from zelo.progress import Silent
from zelo.rerankers import int8, load_reranker
from zelo.rerankers.compiled import NETWORK, STEP, Compiled, Facts, batches_by_width, convert, convert_pruned, inputs_of, load_compiled
from zelo.rerankers.encoder_classifier import EncoderClassifier
from zelo.rerankers.engines import ABOUT, FOLDER, classifier_engine, optimized_by
from zelo.rerankers.export import write_pointwise
from zelo.rerankers.first_row import first_row_only, pruning
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.pointwise import Format, PointwiseReranker
from zelo.rerankers.templates import load_tokenizer
from zelo.runner import status
from zelo.workspace import Workspace

QUERY = "open file"
DOCUMENTS = ["read a file", "", "merge sort " * 40, "write path list", "cache tree lock queue thread"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder as the stage train writes it, with random weights that tell documents apart."""
    import torch

    root = tmp_path_factory.mktemp("engines")
    bert = write_tiny_bert(root / "bert", WORDS, dim=64, layers=4)
    classifier = EncoderClassifier.load(bert, device="cpu")
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    form = Format("classifier", "pair", (), 1.0, 64)
    reranker = PointwiseReranker(classifier, form.make_template(load_tokenizer(bert)), form)
    write_pointwise(root / "model", reranker, {"base": "tiny"}, "card")
    return root / "model"


@pytest.fixture(scope="module")
def converted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert(EncoderClassifier.load(model, device="cpu"), folder)
    return folder


def sequences(model: Path, count: int = 12) -> list[Any]:
    rng = np.random.default_rng(0)
    template = PointwiseReranker.load(model, device="cpu").template
    texts = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(0, 70, count)]
    return [template.sequences(QUERY, [text])[0] for text in texts]


class TestCompiled:
    def test_it_is_the_torch_model(self, model: Path, converted: Path) -> None:
        asked = sequences(model)
        expected = EncoderClassifier.load(model, device="cpu").score(asked)
        np.testing.assert_allclose(load_compiled(converted, "").score(asked), expected, atol=2e-5)
        assert np.std(expected) > 0.01

    @pytest.mark.parametrize("form", ["f32", "bf16", "bytes"])
    def test_a_score_does_not_depend_on_what_comes_with_it(self, model: Path, converted: Path, form: str) -> None:
        asked = sequences(model)
        engine = bytes_of(converted, asked) if form == "bytes" else None
        try:
            engine = engine or load_compiled(converted, "", "bf16" if form == "bf16" else "f32")
        except InputError:
            pytest.skip("this processor computes no bfloat16")
        alone = [float(engine.score([sequence])[0]) for sequence in asked]
        np.testing.assert_array_equal(engine.score(asked), alone)
        np.testing.assert_array_equal(engine.score(asked, budget=50), alone)
        np.testing.assert_array_equal(np.concatenate(engine.score_groups([asked[:5], [], asked[5:]])), alone)

    def test_the_first_row_is_the_whole_layer(self, model: Path) -> None:
        classifier = EncoderClassifier.load(model, device="cpu")
        asked = sequences(model)
        whole = classifier.score(asked)
        with first_row_only(classifier.model) as changed:
            assert changed
            np.testing.assert_allclose(classifier.score(asked), whole, atol=1e-5)
        np.testing.assert_array_equal(classifier.score(asked), whole)

    def test_layers_of_another_kind_are_left_alone(self) -> None:
        with first_row_only(tiny_language_model()) as changed:
            assert not changed

    def test_pruning_starts_in_the_middle(self) -> None:
        assert pruning(6) == {3: 10, 4: 8}
        assert pruning(12) == {6: 10, 7: 10, 8: 8, 9: 8, 10: 8}
        assert [pruning(layers) for layers in (1, 2, 3)] == [{}, {}, {}]

    def test_pruning_that_keeps_every_row_changes_nothing(self, model: Path) -> None:
        classifier = EncoderClassifier.load(model, device="cpu")
        asked = sequences(model)
        whole = classifier.score(asked)
        with first_row_only(classifier.model, {1: 20, 2: 20}):
            np.testing.assert_allclose(classifier.score(asked), whole, atol=1e-5)

    def test_pruning_computes_the_rows_that_the_first_token_looks_at_most(self, model: Path) -> None:
        import torch

        classifier = EncoderClassifier.load(model, device="cpu")
        asked, states = sequences(model, 30), list[Any]()
        layers, longest = classifier.model.bert.encoder.layer, max(asked, key=len)
        whole = classifier.score(asked)
        with first_row_only(classifier.model, {1: 10, 2: 8}), torch.no_grad():
            for place in (1, 2, 3):
                layers[place].register_forward_pre_hook(lambda module, given: states.append(given[0][0]))
            classifier.score([longest])
            before, after = states[0], states[1]
            same = [any(torch.equal(row, old) for old in before) for row in after]
            computed = -(-len(longest) * 10 // 20)
            assert same == [False] * computed + [True] * (len(longest) - computed)
            found = classifier.score(asked)
        with first_row_only(classifier.model, {1: 1, 2: 1}):
            hardly = classifier.score(asked)
        assert 0 < np.abs(found - whole).max() < np.abs(hardly - whole).max()

    def test_pruned_rows_are_those_of_torch_compiled_for_any_length(self, model: Path, tmp_path: Path) -> None:
        classifier = EncoderClassifier.load(model, device="cpu")
        assert convert_pruned(classifier, tmp_path)  # which compares
        asked = sequences(model, 30)
        engine, whole = load_compiled(tmp_path, ""), classifier.score(asked)
        found = engine.score(asked)
        assert 1e-4 < np.abs(found - whole).max() < 0.5 * np.std(whole)
        np.testing.assert_array_equal(found, [float(engine.score([sequence])[0]) for sequence in asked])

    def test_pruning_that_compiles_to_something_else_is_left_out(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(Compiled, "score", lambda self, asked: np.ones(len(asked)))
        assert not convert_pruned(EncoderClassifier.load(model, device="cpu"), tmp_path)
        assert "no token pruning" in caplog.text
        assert not (tmp_path / NETWORK).exists()

    def test_too_few_layers_are_not_pruned(self, tmp_path: Path) -> None:
        bert = write_tiny_bert(tmp_path / "bert", WORDS, layers=3)
        assert not convert_pruned(EncoderClassifier.load(bert, device="cpu"), tmp_path)
        assert not (tmp_path / NETWORK).exists()

    def test_a_wrong_conversion_is_found(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        classifier = EncoderClassifier.load(model, device="cpu")
        monkeypatch.setattr(Compiled, "score", lambda self, asked: np.ones(len(asked)))
        with pytest.raises(InputError, match="differs from the original"):
            convert(classifier, tmp_path)

    @given(st.lists(st.integers(1, 90), min_size=1, max_size=30), st.integers(1, 300))
    @settings(max_examples=30, deadline=None)
    def test_batches_hold_every_row_once_and_one_width(self, lengths: list[int], budget: int) -> None:
        widths = -(-np.array(lengths) // STEP) * STEP
        batches = batches_by_width(widths, budget)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(len(set(widths[rows])) == 1 and (len(rows) == 1 or widths[rows].sum() <= budget) for rows in batches)


def bytes_of(converted: Path, asked: Sequence[Any]) -> Compiled:
    facts = Facts(**json.loads((converted / "facts.json").read_text("utf-8")))
    ranges = int8.observe(converted / NETWORK, (inputs_of([sequence], facts) for sequence in asked))
    return Compiled(int8.to_bytes(converted / NETWORK, ranges), facts, "")


class TestBytes:
    def test_logits_are_near(self, model: Path, converted: Path) -> None:
        asked = sequences(model, 40)
        exact, found = load_compiled(converted, "").score(asked), bytes_of(converted, asked).score(asked)
        assert 0 < np.abs(found - exact).max() < 0.3 * np.std(exact)
        assert np.corrcoef(found, exact)[0, 1] > 0.99

    def test_every_product_with_weights_is_of_bytes(self, model: Path, converted: Path) -> None:
        from zelo.encoders.openvino_engine import import_openvino

        network = import_openvino().Core().read_model(converted / NETWORK)
        found = int8.products(network)
        assert (
            sum(map(len, found.values())) == 3 * 6 + 4 + 2
        )  # query, key, value, output, two of the feed-forward; last: no key, value; pooler, head
        assert sorted(map(len, found.values()))[-1] == 3  # query, key and value share an activation

    @given(st.floats(-100, 100), st.floats(-100, 100))
    @settings(max_examples=50, deadline=None)
    def test_a_range_holds_its_ends_and_zero_on_a_step(self, a: float, b: float) -> None:
        low, high = int8.byte_range(min(a, b), max(a, b))
        step = (high - low) / int8.LEVELS
        assert low <= min(a, b, 0) + 1e-9
        assert high >= max(a, b, 0) - 1e-9
        assert abs(low / step - round(low / step)) < 1e-6

    def test_rows_of_weights(self) -> None:
        weights = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32) * np.array([[1], [100], [1e-3], [0], [1]], np.float32)
        rows, scale = int8.row_bytes(weights)
        assert rows.dtype == np.int8
        assert (np.abs(rows * scale - weights) <= scale / 2 + 1e-12).all()

    def test_smoothing_moves_outliers_into_the_weights(self) -> None:
        rows = np.array([[-1.0, -100.0], [1.0, 50.0]], np.float32)
        seen = int8.Seen(rows[0], rows[1], rows)
        share = int8.smoothing(seen, [np.ones((3, 2), np.float32)], 0.5)
        assert share[1] / share[0] == pytest.approx(10.0)
        assert np.log(share).mean() == pytest.approx(0.0, abs=1e-6)
        np.testing.assert_array_equal(int8.smoothing(seen, [np.ones((3, 2), np.float32)], 0.0), 1.0)

    def test_steps_are_chosen_by_the_error_of_the_products(self) -> None:
        rng = np.random.default_rng(0)
        rows, weights = rng.normal(size=(200, 64)).astype(np.float32), rng.normal(size=(32, 64)).astype(np.float32)
        rows[:, 3] *= 100.0  # an outlier channel
        exact = rows @ weights.T

        def error(steps: int8.Steps) -> float:
            scaled, scale = int8.row_bytes(weights * steps.share)
            return float(np.square(steps.rounded(rows) @ (scaled * scale).T - exact).mean())

        seen = int8.Seen(rows.min(0), rows.max(0), rows)
        best = int8.best_steps(seen, [weights])
        plain = int8.Steps(np.ones(64, np.float32), *int8.byte_range(float(rows.min()), float(rows.max())))
        assert error(best) < error(plain) / 4
        rare = rng.normal(size=(2000, 64)).astype(np.float32)
        rare[0, 0] = 1e3  # a single value, which is better cut off than stepped to
        cut = int8.best_steps(int8.Seen(rare.min(0), rare.max(0), rare[1:]), [weights])
        assert cut.high * cut.share.max() < 900

    def test_rounding_is_what_the_compiler_does(self, converted: Path, model: Path) -> None:
        from zelo.encoders.openvino_engine import import_openvino

        ov, ops = import_openvino(), pytest.importorskip("openvino.opset13")
        values = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
        steps = int8.Steps(np.linspace(0.5, 2, 8).astype(np.float32), *int8.byte_range(-1.5, 2.0))
        given = ops.parameter([40, 8], np.float32)
        ends = [ops.constant(np.float32(end)) for end in (steps.low, steps.high, steps.low, steps.high)]
        node = ops.fake_quantize(ops.multiply(given, ops.constant(1 / steps.share)), *ends, int8.LEVELS + 1)
        found = ov.compile_model(ov.Model([node], [given]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(values)[0]
        np.testing.assert_allclose(found, steps.rounded(values), atol=1e-5)


class TestProcessor:
    def test_names(self, tmp_path: Path) -> None:
        text = "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\nbugs : amx_int8\n"
        (tmp_path / "cpuinfo").write_text(text, "utf-8")
        found = processor.instruction_sets(tmp_path / "cpuinfo")
        assert found == ("avx2", "avx512", "bf16", "vnni")
        assert processor.multiplies_bytes(found)
        assert not processor.multiplies_bytes(("avx2", "avx512"))
        assert processor.instruction_sets(tmp_path / "absent") == ()


class TestOptimize:
    @pytest.fixture
    def ready(self, model: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
        """A model of a workspace whose texts are other words: that it ranks at random is no matter."""
        monkeypatch.setattr(optimizing, "_speeds", lambda engines, *_: [2.0**place for place in range(len(engines) - 1)] + [0.5])
        monkeypatch.setattr(optimizing, "multiplies_bytes", lambda: True)
        return shutil.copytree(model, tmp_path / "model"), workspace

    def test_the_fastest_is_written_and_used(self, ready: tuple[Path, Path]) -> None:
        folder, workspace = ready
        found = zelo("optimize", folder, "--workspace", workspace, "--most-loss", "1")
        assert found.code == 0, found.err
        assert "kept: bytes" in found.out
        assert "queries that the model may have learned" in found.out  # 8 training queries: too few to hold any out
        about = optimized_by(folder)
        assert about["form"].startswith("bytes")
        names = [t["name"] for t in about["trials"]]
        assert (names[0], names[-1]) == ("float32", "torch float32")
        for trial in about["trials"]:
            low, high = trial["lost"]
            assert low - 1e-9 <= 1 - trial["ndcg"] / about["trials"][0]["ndcg"] <= high + 1e-9
        assert any(low < high for low, high in (trial["lost"] for trial in about["trials"]))
        used = load_reranker(folder)
        assert isinstance(used.scorer, Compiled)  # type: ignore[attr-defined]
        plain = load_reranker(folder, engine="torch").score(QUERY, DOCUMENTS)
        assert 0 < np.abs(used.score(QUERY, DOCUMENTS) - plain).max() < 0.1
        np.testing.assert_allclose(load_reranker(folder, engine="openvino").score(QUERY, DOCUMENTS), plain, atol=1e-5)
        lines = "".join(f"{document or '-'}\n" for document in DOCUMENTS).encode()
        said = {
            engine: zelo("rerank", folder, "--query", QUERY, "--engine", engine, stdin=lines) for engine in ("auto", "optimized", "torch")
        }
        assert all(ran.code == 0 for ran in said.values())
        assert said["auto"].out == said["optimized"].out != said["torch"].out

    def test_what_loses_too_much_is_refused(self, ready: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder, workspace = ready

        def losing(forms: Sequence[Any], *rest: Any) -> list[optimizing.Trial]:
            return [optimizing.Trial(form.name, 2.0**i, 0.5 if i == 0 else 0.497, 0.1) for i, form in enumerate(forms)]

        monkeypatch.setattr(optimizing, "_measured", losing)
        found = zelo("optimize", folder, "--workspace", workspace)
        assert found.code == 2
        assert "0.60%" in found.out
        assert "refused" in found.out
        assert "no form is faster than float32 and keeps 99.5 %" in found.err
        named = "bfloat16" if "\nbfloat16" in found.out else "float32"
        found = zelo("optimize", folder, "--workspace", workspace, "--form", f"{named}, pruned")
        assert found.code == 2
        assert "pruned keeps less than 99.5 % of nDCG@10" in found.err
        assert "auto computes in float32" in found.err
        (folder / FOLDER).mkdir()  # of an earlier call
        assert "the form made before stays in use" in zelo("optimize", folder, "--workspace", workspace).err
        (folder / FOLDER).rmdir()
        monkeypatch.setattr(optimizing, "_measured", lambda *_: [optimizing.Trial("float32", 1.0, 0.5, 0.0)])  # a processor without more
        assert zelo("optimize", folder, "--workspace", workspace).code == 2
        assert not (folder / FOLDER).exists()
        assert not [path for path in folder.parent.iterdir() if "optimizing" in path.name]

    def test_a_form_of_ones_own_choice(self, ready: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder, workspace = ready
        asked = ("optimize", folder, "--workspace", workspace, "--most-loss", "1", "--form")
        found = zelo(*asked, "bytes")
        assert found.code == 2
        assert "no form 'bytes' of this model on this processor" in found.err
        names = re.findall(r"'([^']*)'", found.err.partition("name one of: ")[2])
        assert any("pruned" in name for name in names)
        assert "delete" in zelo(*asked, "float32").err
        plain = next(name for name in names if name.startswith("bytes") and "pruned" not in name)  # not the fastest one
        slower = zelo(*asked, plain)
        assert slower.code == 2
        assert f"{plain} is not faster than float32" in slower.err
        monkeypatch.setattr(optimizing, "_speeds", lambda engines, *_: [1.0, 2.0])
        found = zelo(*asked, plain)
        assert found.code == 0, found.err
        assert f"kept: {plain}." in found.out
        assert [t["name"] for t in optimized_by(folder)["trials"]] == ["float32", plain]

    def test_the_best_is_the_fastest_of_those_that_lose_little(self) -> None:
        exact, halves, small = (
            optimizing.Trial(name, speed, ndcg, 0.0) for name, speed, ndcg in (("a", 1, 0.8), ("b", 2, 0.797), ("c", 3, 0.79))
        )
        torch = optimizing.Trial("torch float32", 9, 0.8, 0.0)
        assert optimizing._best([exact, halves, small, torch], 0.005) is halves
        assert optimizing._best([exact, halves, small, torch], 0.05) is small
        assert optimizing._best([exact, halves, small, torch], 0.0) is None

    def test_what_is_no_model_is_said(self, tmp_path: Path) -> None:
        for path, what in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no model")):
            found = zelo("optimize", path)
            assert (found.code, found.out) == (2, "")
            assert what in found.err
            assert "models/pointwise" in found.err

    def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(
        self, ready: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, workspace = ready

        def refuse(**_: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(optimizing.tempfile, "TemporaryDirectory", refuse)
        found = zelo("optimize", folder, "--workspace", workspace)
        assert found.code == 2
        assert "cannot be written beside the model (Read-only file system)" in found.err

    def test_an_interrupted_measurement_leaves_the_model_as_it_was(self, ready: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder, workspace = ready
        before = sorted(p.name for p in folder.rglob("*"))

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(optimizing, "_measured", interrupt)
        with pytest.raises(KeyboardInterrupt):
            optimizing.optimize(folder, Workspace.open(workspace), Silent())
        assert sorted(p.name for p in folder.rglob("*")) == before
        assert not list(folder.parent.glob(".*optimizing*"))

    def test_other_models_are_refused(self, workspace: Path, model: Path) -> None:
        found = zelo("optimize", workspace)  # its student is a blend
        assert found.code == 2
        assert "it is a blend" in found.err
        alone = zelo("optimize", model)
        assert alone.code == 2
        assert "--workspace" in alone.err


class TestChoice:
    def pretend(self, folder: Path, converted: Path, **changes: Any) -> Path:
        """Put an engine into a model's folder."""
        from zelo.encoders.weights import model_digest

        shutil.copytree(converted, folder / FOLDER)
        about = {"model_digest": model_digest(folder), "precision": "f32", "instruction_sets": [], **changes}
        (folder / FOLDER / ABOUT).write_text(json.dumps(about), "utf-8")
        return folder

    def test_an_engine_of_other_weights_or_processors_is_not_used(self, model: Path, converted: Path, tmp_path: Path) -> None:
        fits = self.pretend(shutil.copytree(model, tmp_path / "fits"), converted)
        assert classifier_engine(fits, "optimized").score_groups([[[2, 5, 3]]])[0].shape == (1,)
        for name, changes, what in (
            ("stale", {"model_digest": "another"}, "other weights"),
            ("moved", {"instruction_sets": ["vnni", "of_the_future"]}, "of_the_future, which this one lacks"),
            ("broken", {"precision": "f64"}, "cannot be read|cannot compile"),
        ):
            folder = self.pretend(shutil.copytree(model, tmp_path / name), converted, **changes)
            with pytest.raises(InputError, match=what):
                classifier_engine(folder, "optimized")
            np.testing.assert_allclose(
                load_reranker(folder).score(QUERY, DOCUMENTS), load_reranker(model, engine="torch").score(QUERY, DOCUMENTS), atol=1e-5
            )
        with pytest.raises(InputError, match="was not optimized"):
            classifier_engine(model, "optimized")
        with pytest.raises(InputError, match="no engine"):
            classifier_engine(model, "fast")  # type: ignore[arg-type]

    def test_a_compiled_model_cannot_be_written(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no weights to write"):
            write_pointwise(tmp_path / "out", PointwiseReranker.load(model, engine="openvino"), {}, "card")

    def test_what_was_made_from_a_model_is_no_part_of_it(self, workspace: Path) -> None:
        before = Workspace.open(workspace).digest("model")
        folder = workspace / "models/pointwise" / FOLDER
        folder.mkdir()
        (folder / "openvino_model.xml").write_text("<net/>", "utf-8")
        opened = Workspace.open(workspace)
        assert opened.digest("model") == before
        stale = {state.stage.name: state.reason for state in status(opened) if not state.done}
        assert "models/pointwise/openvino changed" in stale["rank"]
        assert "train" not in stale


class TestSharedPrefix:
    def test_groups_score_as_their_sequences(self) -> None:
        scorer = LanguageModel(tiny_language_model(), (5,))
        rng = np.random.default_rng(0)
        groups = [[np.r_[start, rng.integers(1, 60, size)] for size in rng.integers(1, 30, 7)] for start in (rng.integers(1, 60, 20), [3])]
        groups += [[], [rng.integers(1, 60, 9)], [groups[0][0], groups[0][0]]]
        for budget in (0, 40):
            for group, found in zip(groups, scorer.score_groups(groups, budget), strict=True):
                np.testing.assert_allclose(found, scorer.score(group) if group else [], atol=1e-5)
