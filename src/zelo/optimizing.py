"""`zelo optimize`: compile a model for this machine, measure what that changes, keep the fastest form that loses next to nothing.

The forms of an encoder are float32, bfloat16 and bytes, and those with token pruning, by OpenVINO; those of a language model float32
and bfloat16, by torch. What they lose is nDCG@10 on training queries that the model did not learn (the held-out ones), with their targets
as gains: no label is read. Ranges for bytes are read off pairs of other training queries.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from zelo.core.metrics import ndcg_at
from zelo.core.significance import bootstrap_interval
from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import FACTS, import_openvino
from zelo.encoders.processor import cores, instruction_sets, multiplies_bytes
from zelo.encoders.weights import model_digest
from zelo.errors import InputError, WorkspaceError
from zelo.pipeline import Context
from zelo.progress import Progress, Silent
from zelo.rerankers import int8
from zelo.rerankers.compiled import NETWORK, Compiled, Facts, Precision, convert, convert_pruned, inputs_of, load_compiled
from zelo.rerankers.encoder_classifier import EncoderClassifier
from zelo.rerankers.engines import ABOUT
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.pointwise import KIND, PointwiseReranker
from zelo.rerankers.scorer import Engine, FloatArray, computes_bfloat16
from zelo.rerankers.templates import Ids
from zelo.stages import inputs
from zelo.stages.train import streamed_targets
from zelo.training.pointwise import is_held_out
from zelo.workspace import DERIVED, Workspace

MOST_LOSS = 0.005
"""Share of nDCG@10 that a form may lose."""
LEAST_HELD_OUT = 20
"""Held-out queries; with fewer, learned ones are measured on."""
_WORDS: dict[Precision, str] = {"f32": "float32", "bf16": "bfloat16"}
_PRUNED = ", pruned"
_TIMED = 64  # pairs that speed is measured on, three times, in turns
_ROUNDS = 3
_DRAWS = 2000  # of the queries, for an interval


@dataclass(frozen=True)
class Question:
    """A training query: the token sequences of its documents, and their targets."""

    sequences: list[Ids]
    targets: FloatArray


@dataclass(frozen=True)
class Trial:
    """One form of the model.

    Attributes:
        name: in words.
        per_second: pairs per second on all cores, on real pairs.
        ndcg: nDCG@10 with targets as gains, mean over the measured queries.
        difference: largest difference of a score to float32's.
        lost: 95 % of the share of nDCG@10 that it loses against float32, over the queries (bootstrap).
    """

    name: str
    per_second: float
    ndcg: float
    difference: float
    lost: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Optimized:
    """What was tried on how many queries, whether the model had learned those, and which trial was kept (None: none was better)."""

    trials: tuple[Trial, ...]
    queries: int
    learned: bool
    kept: str | None


@dataclass(frozen=True)
class _Form:
    name: str
    engine: Engine
    precision: Precision
    network: Any = None  # of OpenVINO
    measured: bool = True  # else it is float32 and known to be the same


def find_model(path: Path, workspace: Path | None = None) -> tuple[Path, Workspace]:
    """Return the model folder and the workspace whose texts it is measured on, from a workspace or a model folder.

    Raises:
        WorkspaceError: the workspace has no model, or is none.
        InputError: there is no model, or it lies in no workspace and none is named.
    """
    if not path.is_dir():
        raise InputError("no such folder", where=str(path), remedy="name a workspace or a model folder, such as WORKSPACE/models/pointwise")
    if (path / "recipe.toml").is_file():
        opened = Workspace.open(path)
        if not opened.path("model").is_dir():
            raise WorkspaceError("has no trained model yet", where=str(path), remedy=f"`zelo run {path}` makes it")
        return opened.path("model"), opened
    if not (path / "config.json").is_file() and not (path / "zelo.json").is_file():
        raise InputError("holds no model", where=str(path), remedy="name a workspace or a model folder, such as WORKSPACE/models/pointwise")
    around = workspace or next((p for p in path.resolve().parents if (p / "recipe.toml").is_file()), None)
    if around is None:
        raise InputError("lies in no workspace", where=str(path), remedy="name one whose texts it is measured on: --workspace WORKSPACE")
    return path, Workspace.open(around)


def optimize(folder: Path, workspace: Workspace, progress: Progress, *, most_loss: float = MOST_LOSS, queries: int = 100,
             pairs: int = 200, form: str | None = None) -> Optimized:  # fmt: skip
    """Make and measure the forms, and write the fastest one that loses no more than `most_loss` into the model's folder.

    Args:
        folder: of a student that reads both texts (`cross_encoder`, `language_model`).
        workspace: with targets.
        progress: told what is done.
        most_loss: share of nDCG@10 that a form may lose against float32.
        queries: measured on at most so many.
        pairs: that the ranges of bytes are read off.
        form: measure and keep this one only, by its name; None = the fastest.

    Raises:
        InputError: another kind of model, no targets to measure on, no such form on this processor, or a folder that cannot be written.
        MissingExtraError: openvino, torch or transformers is not installed.
    """
    model = _load(folder)
    if form is not None:
        _check(form, model, folder)
    measured, others, learned = _questions(model, workspace, queries)
    with _partial(folder) as made:
        if isinstance(model.scorer, EncoderClassifier):
            convert(model.scorer, made)
            forms = _forms(model.scorer, made, _drawn(others or measured, pairs), progress.task("making the forms"), form)
        else:
            forms = _forms_of_language_model(folder, model)
        if form is not None and not any(one.name == form for one in forms):
            raise InputError(f"its layers do not allow the form {form!r}", where=str(folder), remedy="leave out --form")
        trials = _measured(forms, measured, model.format.scale, progress)
        kept = _best(trials, most_loss)
        if kept is not None:
            chosen = next(one for one in forms if one.name == kept.name)
            _write(made, chosen, model_digest(folder), trials, len(measured), pairs)
            if (folder / DERIVED).is_dir():
                shutil.rmtree(folder / DERIVED)
            os.replace(made, folder / DERIVED)
    return Optimized(tuple(trials), len(measured), learned, kept.name if kept else None)


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside a model's, and remove it afterwards: what is half written is never in use.

    Raises:
        InputError: nothing can be written there.
    """
    prefix = f".{folder.name}.optimizing-"
    for left in folder.parent.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        temporary = tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        what = f"the optimized form cannot be written beside the model ({error.strerror})"
        raise InputError(what, where=str(folder.parent), remedy="copy the model to where you may write") from error
    with temporary as name:
        made = Path(name) / DERIVED
        made.mkdir()
        yield made


def _load(folder: Path) -> PointwiseReranker:
    described = folder / "zelo.json"
    kind = json.loads(described.read_text("utf-8")).get("kind") if described.is_file() else KIND
    model = PointwiseReranker.load(folder, device="cpu") if kind == KIND else None
    if model is not None and isinstance(model.scorer, LanguageModel if model.format.template == "chat" else EncoderClassifier):
        return model
    what = f"has nothing to optimize: it is a {'sequence classifier of a language model' if model else kind}"
    raise InputError(what, where=str(folder), remedy="optimize the student cross_encoder or language_model; auto is the fastest for others")


def _questions(model: PointwiseReranker, workspace: Workspace, most: int) -> tuple[list[Question], list[Question], bool]:
    """Questions to measure on, others, and whether the model may have learned the former."""
    targets = workspace.path("targets")
    if not targets.is_file():
        raise InputError("has no targets", where=str(workspace.root), remedy=f"`zelo run {workspace.root} --to calibrate` makes them")
    context = Context(workspace, workspace.recipe, workspace.root, Silent())
    texts, words = inputs.documents(context), inputs.queries(context)
    held: list[tuple[str, list[str], FloatArray]] = []
    others: list[tuple[str, list[str], FloatArray]] = []
    for query_id, doc_ids, values in streamed_targets(targets):
        text, recipe = words[query_id], workspace.recipe
        chosen = held if is_held_out(text, recipe.train.held_out, recipe.seed) else others
        if len(chosen) < 2 * most and np.ptp(values) > 0:
            chosen.append((text, doc_ids, values))

    def read(rows: Sequence[tuple[str, list[str], FloatArray]]) -> list[Question]:
        return [Question(model.template.sequences(text, [texts[d] for d in ids]), values) for text, ids, values in rows]

    learned = len(held) < LEAST_HELD_OUT
    if learned:
        held, others = others[1::2] or others, others[::2]
    if not held:
        raise InputError("has no query with targets", where=str(workspace.root), remedy="train on more questions")
    return read(held[:most]), read(others[:most]), learned


def _drawn(questions: Sequence[Question], pairs: int) -> list[Ids]:
    """Pairs of as many queries as there are, spread over their documents."""
    rng = np.random.default_rng(0)
    each = -(-pairs // len(questions))
    found = [q.sequences[i] for q in questions for i in rng.permutation(len(q.sequences))[:each].tolist()]
    return [found[i] for i in rng.permutation(len(found))[:pairs].tolist()]


def _forms(classifier: EncoderClassifier, made: Path, calibration: Sequence[Ids], advance: Callable[[int, int], None],
           only: str | None = None) -> list[_Form]:  # fmt: skip
    """Float32, what this processor computes by itself (bfloat16, bytes), and both with token pruning where the model allows it.

    With `only`, float32 and the form of this name.
    """
    core = import_openvino().Core()
    facts, identity = Facts(**json.loads((made / FACTS).read_text("utf-8"))), classifier.identity
    rest = _rest()
    word = _WORDS[rest]
    pruned = made.with_name("pruned")
    pruned.mkdir()

    def of_bytes(folder: Path) -> Any:
        return int8.to_bytes(folder / NETWORK, int8.observe(folder / NETWORK, (inputs_of([sequence], facts) for sequence in calibration)))

    forms = [_Form("float32", load_compiled(made, identity), "f32", core.read_model(made / NETWORK))]
    may_prune = only is None or only.endswith(_PRUNED)
    folders = [(made, ""), *([(pruned, _PRUNED)] if may_prune and convert_pruned(classifier, pruned) else [])]
    for place, (folder, suffix) in enumerate(folders):
        if (rest == "bf16" or suffix) and only in (None, f"{word}{suffix}"):
            forms.append(_Form(f"{word}{suffix}", load_compiled(folder, identity, rest), rest, core.read_model(folder / NETWORK)))
        if multiplies_bytes() and only in (None, f"bytes, {word}{suffix}"):
            network = of_bytes(folder)
            forms.append(_Form(f"bytes, {word}{suffix}", Compiled(network, facts, identity, rest), rest, network))
        advance(place + 1, len(folders))
    if only is not None:
        return forms
    return [*forms, _Form("torch float32", classifier, "f32", measured=False)]  # as it was: `convert` has compared them


def _forms_of_language_model(folder: Path, model: PointwiseReranker) -> list[_Form]:
    """Torch in float32, and in bfloat16 where the processor computes that by itself."""
    torch = import_extra("torch", "torch")
    forms = [_Form("float32", model.scorer, "f32")]
    if computes_bfloat16(torch.device("cpu")):
        forms.append(_Form("bfloat16", PointwiseReranker.load(folder, device="cpu", precision="bfloat16").scorer, "bf16"))
    return forms


def _check(form: str, model: PointwiseReranker, folder: Path) -> None:
    """Refuse a name that no form has here, before anything is computed."""
    if form == "float32":
        raise InputError(
            "float32 is no form to be kept", where=str(folder), remedy=f"delete {folder / DERIVED}: the engine auto then computes it"
        )
    if isinstance(model.scorer, EncoderClassifier):
        word = _WORDS[_rest()]
        every = [word, *([f"bytes, {word}"] if multiplies_bytes() else [])]
        names = [*(name for name in every if name != "float32"), *(f"{name}{_PRUNED}" for name in every)]
    else:
        torch = import_extra("torch", "torch")
        names = ["bfloat16"] if computes_bfloat16(torch.device("cpu")) else []
    if form not in names:
        known = ", ".join(map(repr, names))
        remedy = f"name one of: {known}" if names else "leave it as it is: this processor computes no other form by itself"
        raise InputError(f"no form {form!r} of this model on this processor", where=str(folder), remedy=remedy)


def _rest() -> Precision:
    """What is not in bytes is computed in, if it is not to be float32's results."""
    return "bf16" if "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _measured(forms: Sequence[_Form], questions: Sequence[Question], scale: float, progress: Progress) -> list[Trial]:
    speeds = _speeds([form.engine for form in forms], [s for q in questions for s in q.sequences], progress.task("timing the forms"))
    trials: list[Trial] = []
    exact: list[FloatArray] = []
    whole: list[float] = []
    for form, speed in zip(forms, speeds, strict=True):
        if not form.measured:
            trials.append(Trial(form.name, speed, trials[0].ndcg, 0.0))
            continue
        advance: Callable[[int, int], None] = progress.task(f"measuring {form.name}")
        found = []
        for done, question in enumerate(questions, 1):
            found.append(np.asarray(expit(form.engine.score_groups([question.sequences])[0] / scale)))
            advance(done, len(questions))
        exact = exact or found
        gains = [
            ndcg_at(q.targets[np.argsort(-scores, kind="stable")].tolist(), q.targets.tolist(), 10)
            for q, scores in zip(questions, found, strict=True)
        ]
        difference = max(float(np.abs(a - b).max()) for a, b in zip(found, exact, strict=True))
        whole = whole or gains
        lost = (np.array(whole) - np.array(gains)) / (np.mean(whole) or 1.0)
        interval = bootstrap_interval(lost, 0.95, _DRAWS, rng=np.random.default_rng(0))
        trials.append(Trial(form.name, speed, float(np.mean(gains)), difference, interval))
    return trials


def _speeds(engines: Sequence[Engine], sequences: Sequence[Ids], advance: Callable[[int, int], None]) -> list[float]:
    """Pairs per second of each: the best of three turns, the first turn's compilation left out."""
    rng = np.random.default_rng(0)
    sample = [sequences[i] for i in rng.permutation(len(sequences))[:_TIMED].tolist()]
    best = np.full(len(engines), np.inf)
    for turn in range(_ROUNDS + 1):
        for place, engine in enumerate(engines):
            start = time.perf_counter()
            engine.score_groups([sample])
            if turn:
                best[place] = min(best[place], time.perf_counter() - start)
            advance(turn * len(engines) + place + 1, (_ROUNDS + 1) * len(engines))
    return [float(len(sample) / seconds) for seconds in best]


def _best(trials: Sequence[Trial], most_loss: float) -> Trial | None:
    """The fastest form that is no worse than allowed; None if that is float32, which the engine auto has anyway."""
    exact, *others = trials
    able = [t for t in others if not t.name.startswith("torch") and t.ndcg >= (1 - most_loss) * exact.ndcg]
    best = max([exact, *able], key=lambda trial: trial.per_second)
    return None if best is exact else best


def _write(made: Path, form: _Form, identity: str, trials: Sequence[Trial], queries: int, pairs: int) -> None:
    if form.network is not None:
        import_openvino().save_model(form.network, made / f"_{NETWORK}", compress_to_fp16=False)
        for suffix in (".xml", ".bin"):
            name = Path(NETWORK).with_suffix(suffix).name
            os.replace(made / f"_{name}", made / name)
    about = {
        "form": form.name,
        "precision": form.precision,
        "model_digest": identity,
        "instruction_sets": list(instruction_sets()),
        "cores": cores(),
        "queries": queries,
        "calibration_pairs": pairs,
        "trials": [asdict(trial) for trial in trials],
    }
    (made / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def lines(found: Optimized, most_loss: float = MOST_LOSS) -> list[str]:
    """Return what was found, as a table and a sentence."""
    exact = found.trials[0]
    of = "queries that the model may have learned, as too few were held out" if found.learned else "held-out queries"
    width = max(len(trial.name) for trial in found.trials)
    shown = [f"{'form':<{width}} {'pairs/s':>8} {'nDCG@10':>8} {'lost':>7} {'95 %':>16} {'largest difference of a score':>30}"]
    for trial in found.trials:
        lost = 1 - trial.ndcg / exact.ndcg if exact.ndcg else 0.0
        interval = f"[{100 * trial.lost[0]:.2f}, {100 * trial.lost[1]:.2f}]"
        measured = f"{trial.name:<{width}} {trial.per_second:>8.1f} {trial.ndcg:>8.4f} {100 * lost:>6.2f}% {interval:>16}"
        shown.append(f"{measured} {trial.difference:>30.1e}{'  refused' if lost > most_loss else ''}")
    return [*shown, f"nDCG@10: targets as gains, {found.queries} {of}. pairs/s: {cores()} cores, {' '.join(instruction_sets())}."]
