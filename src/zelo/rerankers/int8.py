"""Products of bytes in an OpenVINO model: weights and activations in 8 bits, sums in 32, everything else in floating point.

A matrix product with a constant matrix becomes one of bytes: each row of weights has its own scale, and each activation one range,
which is read off texts (calibration). Before that, channels of an activation are divided by s and the weights' multiplied by it, so
that neither has to hold outliers alone (SmoothQuant, arXiv 2211.10438); how strongly, and whether the range cuts outliers off, is
chosen for each activation by the error of its products on calibration texts. Attention's own products, of two activations, stay as they
are. The graph states this by FakeQuantize nodes, which OpenVINO's compiler turns into byte kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import import_openvino

FloatArray = NDArray[np.float32]
Key = tuple[str, int]
LEVELS = 255  # steps of an unsigned byte
STRENGTHS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of smoothing, that are tried: how far ranges of channels are taken out of the activations and put into the weights."""
WIDTHS = (1.0, 0.9, 0.8, 0.7, 0.5)
"""Of a range, as shares of the one that holds everything seen: outliers that are cut off leave smaller steps to the rest."""
_SMALLEST = 1e-5
_LEAST_ACTIVE = 0.01  # of the median channel's range
_ROWS = 4  # of a batch, kept to choose by


@dataclass
class Seen:
    """What calibration saw of an activation.

    Attributes:
        low, high: least and greatest value of each channel [channels], over all tokens.
        rows: some of the tokens [rows, channels], by which `to_bytes` chooses how to quantize.
    """

    low: FloatArray
    high: FloatArray
    rows: FloatArray

    def add(self, values: FloatArray, rows: FloatArray) -> None:
        """Take in values [tokens, channels], and some of them."""
        np.minimum(self.low, values.min(0), out=self.low)
        np.maximum(self.high, values.max(0), out=self.high)
        self.rows = np.concatenate([self.rows, rows])


@dataclass(frozen=True)
class Steps:
    """How an activation is quantized.

    Attributes:
        share: of each channel [channels] > 0: the activation is divided by it, weights are multiplied.
        low, high: of the range of 255 steps after that.
    """

    share: FloatArray
    low: float
    high: float

    def rounded(self, values: FloatArray) -> FloatArray:
        """Return values [rows, channels] as the quantized activation has them, still divided by `share`."""
        step = (self.high - self.low) / LEVELS
        return np.asarray(np.rint((np.clip(values / self.share, self.low, self.high) - self.low) / step) * step + self.low, np.float32)


def products(network: Any) -> dict[Key, list[tuple[Any, FloatArray]]]:
    """Return activation -> the matrix products that multiply it with constant weights [rows, channels], in the order of the graph.

    Args:
        network: an OpenVINO model.
    """
    found: dict[Key, list[tuple[Any, FloatArray]]] = {}
    for node in network.get_ordered_ops():
        if node.get_type_name() == "MatMul" and not node.get_attributes()["transpose_a"]:
            weights, source = _constant(node), node.input_value(0)
            if weights is not None:
                found.setdefault((source.get_node().get_friendly_name(), source.get_index()), []).append((node, weights))
    return found


def observe(path: Path, batches: Iterable[Sequence[NDArray[np.int64]]]) -> dict[Key, Seen]:
    """Run a float32 model and return what its matrix products multiply.

    Args:
        path: of the model.
        batches: its inputs; the second one is the mask [n, length], and what is masked is left out.
    """
    core, rng = import_openvino().Core(), np.random.default_rng(0)
    network = core.read_model(path)
    watched = {key: found[0][0].input_value(0) for key, found in products(network).items()}
    network.add_outputs(list(watched.values()))
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen: dict[Key, Seen] = {}
    for inputs in batches:
        mask = inputs[1].astype(bool)
        found = compiled(list(inputs))
        for place, key in enumerate(watched, len(network.outputs) - len(watched)):
            values = found[place]
            values = values[mask] if values.shape[:-1] == mask.shape else values.reshape(-1, values.shape[-1])
            # the first token, whose values are of another size than the others' and which the head reads, and some others
            rows = values[np.r_[0, rng.permutation(np.arange(1, len(values)))[: _ROWS - 1]]]
            if key in seen:
                seen[key].add(values, rows)
            else:
                seen[key] = Seen(values.min(0), values.max(0), rows.copy())
    return seen


def to_bytes(path: Path, seen: dict[Key, Seen]) -> Any:
    """Return the model with products of bytes.

    Args:
        path: of the model with float32 weights.
        seen: what `observe` returned for it.
    """
    core, ops = import_openvino().Core(), import_extra("openvino.opset13", "openvino")
    network = core.read_model(path)
    for key, found in products(network).items():
        steps, source = best_steps(seen[key], [weights for _, weights in found]), found[0][0].input_value(0)
        shape = [1] * (len(source.get_partial_shape()) - 1) + [-1]
        smooth = ops.multiply(source, ops.constant((1 / steps.share).reshape(shape)))
        ends = [ops.constant(np.float32(end)) for end in (steps.low, steps.high, steps.low, steps.high)]
        quantized = ops.fake_quantize(smooth, *ends, LEVELS + 1)
        for node, weights in found:
            rows, scale = row_bytes(weights * steps.share)
            dequantized = ops.multiply(ops.convert(ops.constant(rows), "f32"), ops.constant(scale))
            product = ops.matmul(quantized, dequantized, False, True)
            product.set_friendly_name(node.get_friendly_name())
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(product.output(0))
    network.validate_nodes_and_infer_types()
    return network


def best_steps(seen: Seen, weights: Sequence[FloatArray]) -> Steps:
    """Return the strength of smoothing and the width of the range that change the products [rows, channels] x weights least.

    One strength for all products will not do: what the second feed-forward product takes has few, large outliers (an activation of
    100 among ones of 1), and at 1/2 that product alone made nine tenths of the error of a MiniLM.
    """
    exact = [seen.rows @ w.T for w in weights]
    tried: list[tuple[float, Steps]] = []
    for strength in STRENGTHS:
        share = smoothing(seen, weights, strength)
        rounded = [np.multiply(*row_bytes(w * share), dtype=np.float32) for w in weights]
        for width in WIDTHS:
            steps = Steps(share, *byte_range(width * float((seen.low / share).min()), width * float((seen.high / share).max())))
            rows = steps.rounded(seen.rows)
            error = sum(float(np.square(rows @ w.T - whole).sum()) for w, whole in zip(rounded, exact, strict=True))
            tried.append((error, steps))
    return min(tried, key=lambda one: one[0])[1]


def smoothing(seen: Seen, weights: Sequence[FloatArray], strength: float) -> FloatArray:
    """Return s [channels] > 0, of geometric mean 1; activations are divided by it, weights [rows, channels] multiplied."""
    active = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), _SMALLEST)
    active = np.maximum(active, _LEAST_ACTIVE * np.median(active))  # what calibration hardly saw may still come
    heavy = np.maximum(np.max([np.abs(w).max(0) for w in weights], axis=0), _SMALLEST)
    share = active**strength / heavy ** (1 - strength) if strength else np.ones_like(active)
    return np.asarray(share / np.exp(np.log(share).mean()), np.float32)


def byte_range(low: float, high: float) -> tuple[float, float]:
    """Return the least range of 255 equal steps that holds low, high and, on a step, 0: padding and zeros stay exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _SMALLEST:
        high = low + 1.0
    zero = min(max(round(-low / (high - low) * LEVELS), int(low < 0)), LEVELS - int(high > 0))
    step = max(-low / zero if zero else 0.0, high / (LEVELS - zero) if zero < LEVELS else 0.0)
    return -zero * step, (LEVELS - zero) * step


def row_bytes(weights: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Return weights [rows, channels] as bytes in -127 .. 127, and the scale of each row [rows, 1]."""
    scale = np.maximum(np.abs(weights).max(1, keepdims=True), _SMALLEST**2) / 127
    return np.clip(np.rint(weights / scale), -127, 127).astype(np.int8), scale.astype(np.float32)


def _constant(node: Any) -> FloatArray | None:
    """The weights [rows, channels] of a matrix product, or None if its second operand is no constant matrix."""
    source, turned = node.input_value(1).get_node(), node.get_attributes()["transpose_b"]
    while source.get_type_name() in ("Convert", "Transpose"):
        turned ^= source.get_type_name() == "Transpose"
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant" or len(source.data.shape) != 2:
        return None
    values = np.asarray(source.data, np.float32)
    return values if turned else np.ascontiguousarray(values.T)
