"""Products of bytes in an OpenVINO model: weights and activations in 8 bits, sums in 32, everything else in floating point.

A matrix product with constant weights becomes one of bytes: each row of weights has its own scale, and each activation one range,
which is read off texts (calibration). Before that, channels of an activation are divided by s and the weights' multiplied by it, so
that neither has to hold outliers alone (SmoothQuant, arXiv 2211.10438, with strength 1/2). Attention's own products, of two
activations, stay as they are. The graph states this by FakeQuantize nodes, which OpenVINO's compiler turns into byte kernels.
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
_SMALLEST = 1e-5


@dataclass
class Range:
    """Least and greatest value of each channel of an activation [channels], over all tokens seen."""

    low: FloatArray
    high: FloatArray

    def widen(self, values: FloatArray) -> None:
        """Take in values [tokens, channels]."""
        np.minimum(self.low, values.min(0), out=self.low)
        np.maximum(self.high, values.max(0), out=self.high)


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


def observe(path: Path, batches: Iterable[Sequence[NDArray[np.int64]]]) -> dict[Key, Range]:
    """Run a float32 model and return the ranges of what its matrix products multiply.

    Args:
        path: of the model.
        batches: its inputs; the second one is the mask [n, length], and what is masked is left out.
    """
    core = import_openvino().Core()
    network = core.read_model(path)
    watched = {key: found[0][0].input_value(0) for key, found in products(network).items()}
    network.add_outputs(list(watched.values()))
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ranges: dict[Key, Range] = {}
    for inputs in batches:
        mask = inputs[1].astype(bool)
        found = compiled(list(inputs))
        for place, key in enumerate(watched, len(network.outputs) - len(watched)):
            values = found[place]
            seen = values[mask] if values.shape[:-1] == mask.shape else values.reshape(-1, values.shape[-1])
            ranges.setdefault(key, Range(seen.min(0), seen.max(0))).widen(seen)
    return ranges


def to_bytes(path: Path, ranges: dict[Key, Range], strength: float = 0.5) -> Any:
    """Return the model with products of bytes.

    Args:
        path: of the model with float32 weights.
        ranges: what `observe` returned for it.
        strength: of the smoothing, 0 to 1: how far ranges of channels are taken out of the activations and put into the weights.
    """
    core, ops = import_openvino().Core(), import_extra("openvino.opset13", "openvino")
    network = core.read_model(path)
    for key, found in products(network).items():
        seen, source = ranges[key], found[0][0].input_value(0)
        share = smoothing(seen, [weights for _, weights in found], strength)
        shape = [1] * (len(source.get_partial_shape()) - 1) + [-1]
        smooth = ops.multiply(source, ops.constant((1 / share).reshape(shape)))
        low, high = byte_range(float((seen.low / share).min()), float((seen.high / share).max()))
        ends = [ops.constant(np.float32(end)) for end in (low, high, low, high)]
        quantized = ops.fake_quantize(smooth, *ends, LEVELS + 1)
        for node, weights in found:
            rows, scale = row_bytes(weights * share)
            dequantized = ops.multiply(ops.convert(ops.constant(rows), "f32"), ops.constant(scale))
            product = ops.matmul(quantized, dequantized, False, True)
            product.set_friendly_name(node.get_friendly_name())
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(product.output(0))
    network.validate_nodes_and_infer_types()
    return network


def smoothing(seen: Range, weights: Sequence[FloatArray], strength: float) -> FloatArray:
    """Return s [channels] > 0, of geometric mean 1; activations are divided by it, weights [rows, channels] multiplied."""
    active = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), _SMALLEST)
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
