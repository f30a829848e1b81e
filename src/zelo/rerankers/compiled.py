"""A classifier as an OpenVINO model: the scores of the torch model, from a compiled graph, on a CPU.

In float32 it is the torch model to rounding, at about three times its speed; in bfloat16 and bytes (see `int8`) it is faster and
no longer the same, so those are made and measured by `zelo optimize`. A sequence is padded to a multiple of 16 tokens of its
own, and only the padded length decides how sums are split up: its logit does not depend on what it is scored with.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import FACTS, cache_dir, import_openvino, kept_conversion, quiet
from zelo.encoders.processor import cores
from zelo.errors import InputError
from zelo.rerankers.encoder_classifier import EncoderClassifier, padded
from zelo.rerankers.first_row import TWENTIETHS, bert_layers, first_row_only, pruning
from zelo.rerankers.scorer import CPU_TOKENS, FloatArray, IntArray, Tokens

Precision = Literal["f32", "bf16"]
NETWORK = "openvino_model.xml"
STEP = 16
"""Sequences are padded to a multiple of so many tokens: few shapes to compile for, little padding."""
TOLERANCE = 2e-4
"""Largest difference of a logit to the torch model's, of 1 or of the logit if that is more, both in float32."""
PRUNED_TOLERANCE = 1e-2
"""The same with token pruning: of two rows that are looked at alike, each may take the other one."""
_FORMAT = 2  # of the kept folder; raise it when what is kept changes
_STREAMS = 8  # batches worked on at once; more cores work inside a stream
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What scoring needs to know beside the weights: `pad` and `separator` as of EncoderClassifier, `longest` in tokens (0 = no limit)."""

    pad: int
    separator: int | None
    longest: int


class Compiled:
    """Gives logits of token sequences by a compiled model. An Engine, not a Scorer: it does not learn.

    Attributes:
        identity: digest of the weights that it was made from.
        precision: of what is not in bytes: "f32" or "bf16".
    """

    def __init__(self, network: Any, facts: Facts, identity: str, precision: Precision = "f32", threads: int = 0) -> None:
        """Compile for this processor.

        Args:
            network: an OpenVINO model of (ids, mask and, with a separator, types), each int64 [n, length], to logits [n, 1].
            facts: about it.
            identity: digest of the weights.
            precision: what floating-point products are computed in.
            threads: cores to use; 0 = all that this process may use.

        Raises:
            InputError: the processor cannot compute that precision.
        """
        ov = import_openvino()
        threads = threads or cores()
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(min(threads, _STREAMS)),
            "INFERENCE_NUM_THREADS": threads,
        }
        self.identity, self.precision, self._facts = identity, precision, facts
        try:
            self._compiled = ov.Core().compile_model(network, "CPU", settings)
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot compile it in {precision} here ({' '.join(str(error).split())[:200]})") from error

    def score_groups(self, groups: Sequence[Sequence[Tokens]], budget: int = 0) -> list[FloatArray]:
        """Return the logits of each group of sequences."""
        found = self.score([sequence for group in groups for sequence in group], budget)
        return np.split(found, np.cumsum([len(group) for group in groups])[:-1])

    def score(
        self, sequences: Sequence[Tokens], budget: int = 0, advance: Callable[[int, int], None] = lambda done, total: None
    ) -> FloatArray:
        """Return logits [n]; arguments as of `Scorer.score`."""
        lengths = np.array([len(s) for s in sequences], np.int64)
        if not lengths.all():
            raise InputError("an empty sequence has no logit")
        widths = -(-lengths // STEP) * STEP
        if self._facts.longest:
            widths = np.maximum(np.minimum(widths, self._facts.longest), lengths)
        found, done = np.zeros(len(sequences)), 0
        batches = batches_by_width(widths, budget or CPU_TOKENS)
        for rows, logits in self._run(
            (rows, inputs_of([sequences[i] for i in rows.tolist()], self._facts, int(widths[rows[0]]))) for rows in batches
        ):
            found[rows] = logits
            done += len(rows)
            advance(done, len(sequences))
        return found

    def _run(self, batches: Iterator[tuple[IntArray, list[IntArray]]]) -> Iterator[tuple[IntArray, FloatArray]]:
        """Yield rows and logits, with as many batches under way as there are streams, and as many waiting."""
        streams = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        idle = [self._compiled.create_infer_request() for _ in range(2 * streams)]
        running: deque[tuple[Any, IntArray]] = deque()

        def oldest() -> tuple[IntArray, FloatArray]:
            request, rows = running.popleft()
            request.wait()
            idle.append(request)
            return rows, request.get_output_tensor(0).data[:, 0].astype(np.float64)

        for rows, inputs in batches:
            if not idle:
                yield oldest()
            request = idle.pop()
            request.start_async(inputs)
            running.append((request, rows))
        while running:
            yield oldest()


def inputs_of(sequences: Sequence[Tokens], facts: Facts, width: int = 0) -> list[IntArray]:
    """Return what the model takes: ids, mask and, with a separator, types, each [n, longest], or [n, width] if that is longer."""
    ids, mask, types = padded(sequences, facts.pad, facts.separator, width)
    return [ids, mask] if types is None else [ids, mask, types]


def batches_by_width(widths: IntArray, budget: int) -> list[IntArray]:
    """Return batches of rows of one width each, widest first, each of at most `budget` tokens or of a single row."""
    batches = []
    for width in np.unique(widths)[::-1]:
        rows = np.flatnonzero(widths == width)
        size = max(1, budget // max(1, int(width)))
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches


def compiled_classifier(folder: Path, threads: int = 0, precision: Precision = "f32") -> Compiled:
    """Return a folder's classifier compiled. The conversion is kept in the cache folder and made once per model.

    Raises:
        InputError: the folder holds no such model, or OpenVINO cannot stand in for it.
        MissingExtraError: openvino, or for the first conversion transformers, is not installed.
    """
    from zelo.encoders.weights import model_digest

    ov = import_openvino()
    digest = model_digest(folder)
    kept = cache_dir() / "openvino" / f"classifier-{digest[:32]}-{ov.__version__.partition('-')[0]}-{_FORMAT}"
    return kept_conversion(
        kept,
        lambda made: convert(EncoderClassifier.load(folder, device="cpu"), made),
        lambda made: load_compiled(made, digest, precision, threads),
    )


def load_compiled(folder: Path, identity: str, precision: Precision = "f32", threads: int = 0) -> Compiled:
    """Compile what `convert` wrote."""
    facts = Facts(**json.loads((folder / FACTS).read_text("utf-8")))
    return Compiled(import_openvino().Core().read_model(folder / NETWORK), facts, identity, precision, threads)


def convert(classifier: EncoderClassifier, folder: Path) -> None:
    """Write a classifier as an OpenVINO model with float32 weights, after comparing logits.

    Raises:
        InputError: the converted model gives other logits.
    """
    difference = np.inf
    for first_row in (True, False):
        try:
            with first_row_only(classifier.model) if first_row else contextlib.nullcontext(True) as changed:
                network = _traced(classifier) if changed else None
                if network is None:
                    continue
                difference = _difference(classifier, Compiled(network, _facts(classifier), classifier.identity), _torch_logits(classifier))
        except Exception:  # whatever a layer of another make trips over: the whole layer is computed then
            if not first_row:
                raise
            log.debug("the last layer cannot be computed for one row", exc_info=True)
            continue
        if difference <= TOLERANCE:
            _write(network, _facts(classifier), folder)
            return
    raise InputError(f"the converted model differs from the original (logits by {difference:.1e})", remedy="use the engine torch")


def convert_pruned(classifier: EncoderClassifier, folder: Path) -> bool:
    """Write a classifier with token pruning likewise; its logits are not the classifier's. Return whether that can be done.

    It can if the model's layers are as `first_row` takes them to be: with every row computed, torch gives the logits of the whole model.
    """
    layers = bert_layers(classifier.model)
    computed = {} if layers is None else pruning(len(layers))
    if not computed:
        return False
    try:
        whole = _torch_logits(classifier)
        with first_row_only(classifier.model, dict.fromkeys(computed, TWENTIETHS)):
            difference = _apart(_torch_logits(classifier), whole)
        if difference <= TOLERANCE:
            with first_row_only(classifier.model, computed):
                network = _traced(classifier)
                difference = _difference(classifier, Compiled(network, _facts(classifier), classifier.identity), _torch_logits(classifier))
    except Exception as error:  # whatever a layer of another make trips over: this form is one of several
        log.warning("no token pruning: %s", " ".join(str(error).split())[:200])
        return False
    if difference > PRUNED_TOLERANCE:
        log.warning("no token pruning: logits differ by %.1e", difference)
        return False
    _write(network, _facts(classifier), folder)
    return True


def _facts(classifier: EncoderClassifier) -> Facts:
    return Facts(classifier.pad, classifier.separator, int(getattr(classifier.model.config, "max_position_embeddings", 0) or 0))


def _write(network: Any, facts: Facts, folder: Path) -> None:
    import_openvino().save_model(network, folder / NETWORK, compress_to_fp16=False)
    (folder / FACTS).write_text(json.dumps(asdict(facts)) + "\n", "utf-8")


def _traced(classifier: EncoderClassifier) -> Any:
    """The OpenVINO model of a classifier as it is now."""
    torch, ov = import_extra("torch", "torch"), import_openvino()
    names = ["ids", "mask", *(["types"] if classifier.separator is not None else [])]
    example = {name: torch.ones(2, STEP, dtype=torch.long) for name in names}
    with quiet(), torch.no_grad():
        return ov.convert_model(_Logits.of(classifier.module), example_input=example)


class _Logits:
    """Makes a module (ids, mask, types) -> [n, 1] of one that gives [n]: a batch stays a batch in the graph."""

    @staticmethod
    def of(inner: Any) -> Any:
        torch = import_extra("torch", "torch")

        class Logits(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, ids: Any, mask: Any, types: Any = None) -> Any:
                return self.inner(ids, mask, types)[:, None]

        return Logits().eval()


def _difference(classifier: EncoderClassifier, compiled: Compiled, expected: FloatArray) -> float:
    """The largest difference of the compiled model's logits on `_examples` to what torch gives."""
    return _apart(compiled.score(_examples(classifier)), expected)


def _apart(found: FloatArray, expected: FloatArray) -> float:
    return float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max())


def _examples(classifier: EncoderClassifier) -> list[Tokens]:
    """Sequences of random tokens, of several lengths."""
    rng = np.random.default_rng(0)
    vocabulary, end = int(classifier.model.config.vocab_size), classifier.separator
    sequences: list[Tokens] = []
    for length in (3, 17, 40, 64):
        ids = rng.integers(0, vocabulary, length)
        ids[ids == classifier.pad] = (classifier.pad + 1) % vocabulary
        if end is not None:
            ids[[length // 2, -1]] = end
        sequences.append(ids)
    return sequences


def _torch_logits(classifier: EncoderClassifier) -> FloatArray:
    """Of `_examples`, by the classifier as it is now, padded as `Compiled` pads: how many rows are computed goes by the padded length."""
    torch, found = import_extra("torch", "torch"), []
    with torch.inference_mode():
        for sequence in _examples(classifier):
            given = [torch.from_numpy(part) for part in inputs_of([sequence], _facts(classifier), -(-len(sequence) // STEP) * STEP)]
            found.append(float(classifier.module(*given)[0]))
    return np.array(found)
