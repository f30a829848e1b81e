"""Weights, gradients and the optimizer's state in parts, one per process: PyTorch's FSDP2 (`fully_shard`).

accelerate prepares FSDP on accelerators only. Here `fully_shard` is called directly, on a CPU as on GPUs, by what accelerate's
configuration file asks for; so the tests run the code that GPUs run. Weights enter whole and leave whole: every
process loads all of them before, and has all of them after training. In between it has its part of everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from zelo.encoders.extras import import_extra
from zelo.errors import InputError
from zelo.training import checkpoints
from zelo.training.processes import Found, MakeOptimizer, Replicated


class Sharded(Replicated):
    """Every process holds a part of each weight (see `Replicated`)."""

    def _prepare(self, make: MakeOptimizer) -> tuple[Any, Any]:
        self._torch, self._tensor = import_extra("torch", "torch"), import_extra("torch.distributed.tensor", "torch")
        self._fsdp = import_extra("torch.distributed.fsdp", "torch")
        plugin = _checked(import_extra("accelerate", "accelerate").FullyShardedDataParallelPlugin())  # made of what was launched
        module = self.scorer.module.to(self.accelerator.device)
        self._before = _attributes(module)
        mesh = import_extra("torch.distributed", "torch").init_device_mesh(self.accelerator.device.type, (self.world,))
        for unit in self._units(module, plugin):
            self._fsdp.fully_shard(unit, mesh=mesh, reshard_after_forward=bool(plugin.reshard_after_forward))
        self._fsdp.fully_shard(module, mesh=mesh)
        for name in self.scorer.entries:
            self._fsdp.register_fsdp_forward_method(module, name)
        return module, make(module)

    def _units(self, module: Any, plugin: Any) -> list[Any]:
        """The layers, which are gathered one at a time; inner ones first.

        The processes must gather the same layers in the same order. Where a pass runs layers as often as its texts need, which
        differs between processes, all are gathered at once.
        """
        if not self.scorer.layers_once or plugin.auto_wrap_policy is None:
            return []
        names = set(plugin.transformer_cls_names_to_wrap or ())
        if not names:
            names = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
        return [part for part in reversed(list(module.modules())) if type(part).__name__ in names and part is not module]

    def passes(self, counts: Sequence[int]) -> int:
        """All make as many as the one that has most: a layer is gathered by all or by none."""
        return max(counts)

    def accumulating(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged in every pass: kept until the last one, they would be whole in every process."""
        return nullcontext()

    def clip(self, most: float) -> float:
        """Scale the gradient by the norm over all processes."""
        utils, learn = self._torch.nn.utils, [p for p in self.module.parameters() if p.grad is not None]
        norm = utils.get_total_norm([p.grad for p in learn])
        utils.clip_grads_with_norm_(learn, most, norm)
        return float(self._whole(norm))

    def after_scoring(self) -> None:
        """Give back what was gathered: weights that change after it would not be seen."""
        for part in self.module.modules():
            if isinstance(part, self._fsdp.FSDPModule):
                part.reshard()

    def weights(self) -> dict[str, Any]:
        """Return the trainable weights, gathered, in the main process; none elsewhere."""
        self.after_scoring()
        return self._gathered(checkpoints.trainable(self.module))

    def put_back(self, weights: Mapping[str, Any]) -> None:
        """Deal out the weights of the main process."""
        self.after_scoring()
        with self._torch.no_grad():
            for name, parameter in checkpoints.trainable(self.module).items():
                parameter.copy_(self._dealt(weights.get(name), parameter))

    def optimizer_state(self) -> Any:
        """Return the optimizer's state as one process would have it, in the main process."""
        body = self.optimizer.state_dict()
        return {**body, "state": {number: self._gathered(state) for number, state in body["state"].items()}}

    def resume(self, folder: Path, identity: str) -> Found | None:
        """Read the checkpoint in the main process and deal it out; what the others return has the state alone."""
        found: Found | None = None
        failed: InputError | None = None
        if self.is_main:
            try:
                found = checkpoints.read(folder, identity)
            except InputError as error:
                failed = error
        state, damaged = self.agreed((found[0] if found else None, failed is not None))
        if damaged:
            raise failed or InputError("the checkpoint cannot be read", where=str(folder), remedy="see what the main process says")
        if state is None:
            return None
        weights, optimizer, best = found[1:] if found else ({}, None, {})
        self.put_back(weights)
        self._load_optimizer(optimizer)
        return dict(state), weights, optimizer, best

    def _load_optimizer(self, whole: Any) -> None:
        learn = [p for group in self.optimizer.param_groups for p in group["params"]]

        def is_dealt(value: Any, number: int) -> bool:
            return isinstance(value, self._torch.Tensor) and value.shape == learn[number].shape and value.ndim > 0

        small: Any = None
        if self.is_main:  # whole tensors stay there; None says where they belong
            state = {n: {k: None if is_dealt(v, n) else v for k, v in part.items()} for n, part in whole["state"].items()}
            small = {**whole, "state": state}
        small = self.agreed(small)
        for number, part in small["state"].items():
            for name in [name for name, value in part.items() if value is None]:
                part[name] = self._dealt(whole["state"][number][name] if self.is_main else None, learn[number])
        self.optimizer.load_state_dict(small)

    def _whole(self, tensor: Any) -> Any:
        return tensor.full_tensor() if isinstance(tensor, self._tensor.DTensor) else tensor

    def _gathered(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """One after the other, so that a process that keeps none needs room for the largest only."""
        found = {}
        for name, tensor in tensors.items():
            whole = self._whole(tensor.detach()).cpu()
            if self.is_main:
                found[name] = whole.clone()
        return found

    def _dealt(self, whole: Any, like: Any) -> Any:
        """This process's part of a tensor that the main process has."""
        torch, device = self._torch, like.to_local().device
        sent = torch.empty(like.shape, dtype=like.dtype, device=device) if whole is None else whole.to(device, like.dtype)
        return self._tensor.distribute_tensor(sent, like.device_mesh, like.placements)

    def finish(self) -> None:
        """Undo `fully_shard`: the scorer's module is as before, with the weights that it learned."""
        self.after_scoring()
        self.optimizer = None  # its state may be larger than the weights
        self.scorer.module = self.module = _restored(self._torch, self.module, self._before, self._whole)


def _checked(plugin: Any) -> Any:
    """Raise for what a configuration may ask for and would not get."""
    where = "accelerate's configuration"
    if plugin.fsdp_version != 2:
        raise InputError("FSDP of version 1 cannot be used", where=where, remedy="set fsdp_version: 2 in fsdp_config")
    if type(plugin.cpu_offload).__name__ == "CPUOffloadPolicy" or plugin.cpu_offload is True:
        raise InputError("weights kept off the device cannot be used", where=where, remedy="set fsdp_offload_params: false")
    if plugin.activation_checkpointing:
        remedy = "set it to false, and gradient_checkpointing in zelo's settings"
        raise InputError("fsdp_activation_checkpointing is not read", where=where, remedy=remedy)
    if "size_based" in str(plugin.auto_wrap_policy):
        raise InputError("layers cannot be chosen by size", where=where, remedy="set fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP")
    return plugin


Attributes = dict[str, tuple[type, dict[str, Any], dict[str, int]]]
"""Name of a module -> its class, its attributes, and the numbers of its parameters; those that are shared have one number."""


def _attributes(module: Any) -> Attributes:
    """What `fully_shard` will change, without the tensors."""
    numbers = {id(p): number for number, p in enumerate(module.parameters())}
    found = {}
    for name, part in module.named_modules():
        kept = {key: value.copy() if "hook" in key and hasattr(value, "copy") else None for key, value in vars(part).items()}
        own = {key: numbers[id(p)] for key, p in part._parameters.items() if p is not None}
        found[name] = (type(part), kept, own)
    return found


def _restored(torch: Any, module: Any, before: Attributes, whole: Any) -> Any:
    """The module with plain, whole parameters and the classes, hooks and attributes that it had.

    A sharded module is replaced by a new object: PyTorch remembers it as sharded for as long as it lives.
    """
    parameters = [torch.nn.Parameter(whole(p.detach()), requires_grad=p.requires_grad) for p in module.parameters()]
    parts: dict[str, Any] = dict(module.named_modules())
    replaced: dict[int, Any] = {}
    for name, (kind, kept, own) in before.items():
        part = parts[name]
        attributes: dict[str, Any] = part.__dict__
        for key in [key for key in attributes if key not in kept]:
            del attributes[key]
        attributes.update({key: hooks for key, hooks in kept.items() if hooks is not None})
        part._parameters.update({key: parameters[number] for key, number in own.items()})
        if type(part) is not kind:
            new: Any = object.__new__(kind)
            new.__dict__.update(attributes)
            replaced[id(part)] = new
    for part in [*parts.values(), *replaced.values()]:
        part._modules.update({name: replaced.get(id(child), child) for name, child in part._modules.items()})
    return replaced[id(module)]
