"""Which engine computes logits: torch, OpenVINO in float32, or what `zelo optimize` chose for this kind of processor."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from zelo.encoders.processor import instruction_sets
from zelo.encoders.weights import model_digest
from zelo.errors import InputError, MissingExtraError
from zelo.rerankers.compiled import NETWORK, Compiled, compiled_classifier, load_compiled
from zelo.rerankers.encoder_classifier import EncoderClassifier
from zelo.rerankers.language_model import Precision
from zelo.rerankers.scorer import Engine, pick_device
from zelo.rerankers.unpadded import try_unpadded

EngineName = Literal["auto", "torch", "openvino", "optimized"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
FOLDER = "openvino"
"""Where in a model's folder the optimized one lies. It is no part of the model: digests leave the folder out."""
ABOUT = "zelo_engine.json"
log = logging.getLogger(__name__)


def classifier_engine(folder: Path, engine: EngineName = "auto", device: str = "auto") -> Engine:
    """Return what computes the logits of a folder's classifier.

    Args:
        folder: of a classifier that zelo wrote.
        engine: torch; openvino = float32, the same scores to rounding; optimized = what `zelo optimize` made; auto = on a GPU torch, on a
            CPU the optimized one if it fits weights and processor, else openvino, else torch.
        device: "cpu", "cuda", ...; auto = a GPU if there is one. OpenVINO is for CPUs.

    Raises:
        InputError: the engine was asked for by name and cannot be used.
        MissingExtraError: likewise, its package is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"no engine {engine!r}", remedy=f"use one of: {', '.join(ENGINES)}")
    if engine == "torch" or (engine == "auto" and not pick_device(device).startswith("cpu")):
        return _torch(folder, device)
    if engine == "optimized":
        return _optimized(folder)
    if engine == "auto" and (folder / FOLDER / ABOUT).is_file():
        try:
            return _optimized(folder)
        except (InputError, MissingExtraError) as error:
            log.warning("not using the optimized model: %s", error)
    try:
        return compiled_classifier(folder)
    except (InputError, MissingExtraError) as error:
        if engine == "openvino":
            raise
        log.warning("scoring with torch instead of OpenVINO: %s", error)
    return _torch(folder, device)


def language_model_precision(folder: Path, engine: EngineName, device: str = "auto") -> Precision:
    """Return the precision of a language model's weights: bfloat16 on a CPU if `zelo optimize` found that it loses next to nothing.

    Raises:
        InputError: the engine was asked for by name and cannot be used.
    """
    if engine not in ENGINES or engine == "openvino":
        raise InputError(f"the engine {engine} is not for language models", where=str(folder), remedy="use auto, torch or optimized")
    if engine == "torch" or (engine == "auto" and not pick_device(device).startswith("cpu")):
        return "auto"
    if engine == "auto" and not (folder / FOLDER / ABOUT).is_file():
        return "auto"
    try:
        optimized_by(folder)
    except InputError as error:
        if engine == "optimized":
            raise
        log.warning("not using the optimized form: %s", error)
        return "auto"
    return "bfloat16"


def optimized_by(folder: Path) -> Mapping[str, Any]:
    """Return what `zelo optimize` says of the engine in a model's folder.

    Raises:
        InputError: there is none, or it is not of these weights, or of another kind of processor.
    """
    path = folder / FOLDER / ABOUT
    try:
        about: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        digest, needs = str(about["model_digest"]), {str(name) for name in about["instruction_sets"]}
    except FileNotFoundError as error:
        raise InputError("the model was not optimized", where=str(folder), remedy=f"`zelo optimize {folder}`") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a description of an engine ({error!r})", where=str(path), remedy=f"`zelo optimize {folder}`") from error
    if digest != model_digest(folder):
        raise InputError("the optimized model is of other weights", where=str(folder), remedy=f"`zelo optimize {folder}`")
    lacking = sorted(needs - set(instruction_sets()))
    if lacking:
        what = f"the optimized model was measured on a processor with {', '.join(lacking)}, which this one lacks"
        raise InputError(what, where=str(folder), remedy=f"`zelo optimize {folder}` on this machine")
    return about


def _torch(folder: Path, device: str) -> EncoderClassifier:
    classifier = EncoderClassifier.load(folder, device=device)
    try_unpadded(classifier)
    return classifier


def _optimized(folder: Path) -> Compiled:
    about = optimized_by(folder)
    try:
        return load_compiled(folder / FOLDER, str(about["model_digest"]), about["precision"])
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        what = f"the optimized model cannot be read ({' '.join(str(error).split())[:200]})"
        raise InputError(what, where=str(folder / FOLDER / NETWORK), remedy=f"`zelo optimize {folder}`") from error


__all__ = ["ABOUT", "ENGINES", "FOLDER", "EngineName", "classifier_engine", "language_model_precision", "optimized_by"]
