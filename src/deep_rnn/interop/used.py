"""Weights as a module uses them: after pruning, weight_norm, spectral_norm or a parametrisation of theirs."""

from typing import Any

import torch
from torch import Tensor, nn


def is_reparametrised(module: nn.Module, names: list[str]) -> bool:
    """Whether any of these weights is made from other parameters."""
    return any(name not in module._parameters and getattr(module, name, None) is not None for name in names)


@torch.no_grad()
def used_weights(module: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """The weights of these names that are there, detached, as the next forward call would use them.

    Pruning and the older weight_norm and spectral_norm compute theirs in a hook before each call, so what lies in the
    module may be behind its parameters.
    """
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils"):
            hook(module, ())
    values = {name: getattr(module, name, None) for name in names}
    return {name: value.detach() for name, value in values.items() if value is not None}


def trains(module: nn.Module, name: str) -> bool:
    """Whether a weight learns, be it through what it is made from."""
    own = module._parameters.get(name)
    if own is not None:
        return own.requires_grad
    made_from = (f"{name}_", f"parametrizations.{name}.")
    return any(value.requires_grad for key, value in module.named_parameters() if key.startswith(made_from))


def baked(rnn: Any) -> Any:
    """The stack itself, or, where weights are made from others, one like it that has them as parameters of its own."""
    made: Any = type(rnn)(**{**rnn.arguments, "backend": rnn.backend})
    names = {path: [name for name, _ in one.named_parameters(recurse=False)] for path, one in made.named_modules()}
    if not any(is_reparametrised(rnn.get_submodule(path), own) for path, own in names.items()):
        return rnn
    first = next(rnn.parameters())
    made = made.to(first.device, first.dtype).train(rnn.training)
    made.dropout = rnn.dropout
    with torch.no_grad():
        for path, own in names.items():
            for name, value in used_weights(rnn.get_submodule(path), own).items():
                made.get_submodule(path).get_parameter(name).copy_(value)
    return made
