"""Where a training stands, on disk: a killed run goes on and ends with the same weights.

A checkpoint is a folder `step-N`: trainable weights, the optimizer's state, and the position. Everything else (order of rows,
learning rate, dropout) is a function of seed and step, so nothing else has to be kept. A folder of that name is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zelo.encoders.extras import import_extra
from zelo.errors import InputError

_WEIGHTS, _BEST, _OPTIMIZER, _STATE = "weights.safetensors", "best.safetensors", "optimizer.pt", "state.json"


def trainable(module: Any) -> dict[str, Any]:
    """Return the parameters of a torch module that learn, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def copy_of(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parameters now, on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in weights.items()}


def put_back(module: Any, weights: Mapping[str, Any]) -> None:
    """Set the trainable parameters of a module.

    Raises:
        InputError: they have other names or shapes.
    """
    torch = import_extra("torch", "torch")
    own = trainable(module)
    if own.keys() != weights.keys() or any(own[n].shape != weights[n].shape for n in own):
        raise InputError("the checkpoint's weights are those of another model", remedy="delete the checkpoint")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def write(folder: Path, step: int, state: Mapping[str, Any], weights: Mapping[str, Any], optimizer: Any, best: Mapping[str, Any]) -> None:
    """Write `folder/step-N` and then remove the older ones.

    Args:
        folder: of this training alone.
        step: steps done.
        state: what JSON can hold.
        weights: as `copy_of` gives them.
        optimizer: its state, whole.
        best: weights of the best evaluation so far, or nothing.
    """
    torch, safetensors = import_extra("torch", "torch"), import_extra("safetensors.torch", "safetensors")
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    safetensors.save_file({n: w.contiguous() for n, w in weights.items()}, partial / _WEIGHTS)
    if best:
        safetensors.save_file({n: w.contiguous() for n, w in best.items()}, partial / _BEST)
    torch.save(optimizer, partial / _OPTIMIZER)
    (partial / _STATE).write_text(json.dumps({"step": step, **state}), "utf-8")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    done = folder / f"step-{step:09d}"
    shutil.rmtree(done, ignore_errors=True)
    os.replace(partial, done)
    _sync(folder)
    for other in folder.glob("step-*"):
        if other != done:
            shutil.rmtree(other, ignore_errors=True)


def read(folder: Path, identity: str) -> tuple[dict[str, Any], dict[str, Any], Any, dict[str, Any]] | None:
    """Return (state, weights, state of the optimizer, best weights) of the newest checkpoint, or None.

    Args:
        folder: as for `write`.
        identity: what the state's "identity" must be; a checkpoint of another training is left out.

    Raises:
        InputError: it is damaged.
    """
    torch, safetensors = import_extra("torch", "torch"), import_extra("safetensors.torch", "safetensors")
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((path / _STATE).read_text("utf-8"))
            if state["identity"] != identity:
                continue
            weights = safetensors.load_file(path / _WEIGHTS)
            optimizer = torch.load(path / _OPTIMIZER, map_location="cpu", weights_only=True)
            best = safetensors.load_file(path / _BEST) if (path / _BEST).exists() else {}
        except Exception as error:  # a damaged file raises what its library likes: pickle, zip, JSON, safetensors
            what = f"the checkpoint cannot be read ({type(error).__name__}: {error})"
            raise InputError(what, where=str(path), remedy="delete it; training starts over") from error
        return state, weights, optimizer, best
    return None


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
