"""A module with other tensors in the place of its weights."""

import itertools
from typing import Any

from torch import Tensor

MADE_FROM = ("orig", "g", "v")  # what torch's hooks add to the name of a weight that they make


def stand_in(module: Any, named: dict[str, Tensor]) -> Any:
    """A copy of a module that shares everything but the tensors named, which it has in place of its parameters.

    Whatever makes a parameter of its own (a parametrisation, weight_norm, pruning) is left out: the tensors are what
    it made.
    """
    double: Any = object.__new__(unparametrised(module))
    double.__dict__.update(module.__dict__)
    double.__dict__["_parameters"] = dict(module._parameters)
    double.__dict__["_modules"] = {name: one for name, one in module._modules.items() if name != "parametrizations"}
    inner: dict[str, dict[str, Tensor]] = {}
    for name, tensor in named.items():
        first, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(first, {})[rest] = tensor
        else:
            double.__dict__.pop(name, None)
            double._parameters[name] = tensor
    for name, tensors in inner.items():
        double._modules[name] = stand_in(module._modules[name], tensors)
    return double


def unparametrised(module: Any) -> type:
    """The class that a module had before torch.nn.utils.parametrize put properties in the place of its weights."""
    kinds, parametrised = type(module).__mro__, module._modules.get("parametrizations")
    if parametrised is None:
        return kinds[0]
    with_properties = [place for place, kind in enumerate(kinds) if parametrised._modules.keys() & vars(kind).keys()]
    return kinds[with_properties[-1] + 1]


def with_weights_made(cell: Any) -> Any:
    """The cell itself, or, where weights of its own are made from others, one that has them as they are now.

    So a parametrisation is asked once a forward call, however often a backend reads the weight: as often as torch.nn
    asks it, and one draw if it is random.
    """
    parametrised = cell._modules.get("parametrizations")
    if parametrised is None and not cell._forward_pre_hooks:
        return cell
    made = {} if parametrised is None else {name: getattr(cell, name) for name in parametrised._modules}
    made |= {name: value for name, value in cell.__dict__.items() if isinstance(value, Tensor)}  # left by those hooks
    if not made:
        return cell
    double = stand_in(cell, made)
    for name, suffix in itertools.product(made, MADE_FROM):
        double._parameters.pop(f"{name}_{suffix}", None)
    double.__dict__["stands_for"] = cell
    return double


def original(cell: Any) -> Any:
    """The cell that a stand-in stands for, or the cell itself."""
    return cell.__dict__.get("stands_for", cell)
