"""One line for a model that somebody else has written: its recurrent layers on our kernels, in place."""

import functools
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from deep_rnn import torch_calls
from deep_rnn.drop_in import GRU, LSTM, RNN, DropIn, DropInCell, EqualsTorchs, GRUCell, LSTMCell, asked_of, zeros
from deep_rnn.stack import DeepRNN

Model = TypeVar("Model", bound=nn.Module)
OURS: tuple[Any, ...] = (LSTM, GRU, RNN, LSTMCell, GRUCell)
TORCHS: tuple[Any, ...] = tuple(one.torchs for one in OURS)


def accelerate(model: Model) -> Model:
    """Run each LSTM, GRU, RNN, LSTMCell and GRUCell of torch.nn in a model on the fused kernels where they are faster.

    Only the class of the layers changes, in place: parameters, buffers, hooks, the optimizers that hold the parameters
    and the keys of checkpoints stay what they are. Results are the same up to rounding, and dropout draws the same from
    the same seed. ``restore`` undoes it; ``explain`` says what runs each layer.

    Returns:
        The model itself.
    """
    for module in model.modules():
        if isinstance(module, TORCHS) and not isinstance(module, DropIn):
            module.__class__ = swapped(type(module), is_parametrized(module))
    return model


def restore(model: Model) -> Model:
    """Give the layers that ``accelerate`` changed torch's own classes again, in place; returns the model."""
    for module in model.modules():
        if isinstance(module, DropIn):
            module.__class__ = swapped_back(type(module), is_parametrized(module))
    return model


def explain(model: nn.Module) -> str:
    """What runs each recurrent layer of a model, a line each, and why; stacks of ``DeepRNN`` say it of each layer."""
    lines = []
    for name, module in model.named_modules():
        said = explain_one(module)
        if said is not None:
            lines += [f"{name or type(module).__name__}: {line}" for line in said.splitlines()]
    return "\n".join(lines) or f"{type(model).__name__} has no recurrent layer of torch.nn or deep_rnn"


def explain_one(module: nn.Module) -> str | None:
    """What runs one module; None if it is no recurrent layer."""
    if isinstance(module, DeepRNN):
        return module.explain()
    if not isinstance(module, TORCHS):
        return None
    if not isinstance(module, DropIn):
        return "torch.nn (deep_rnn.accelerate has not been called)"
    if isinstance(module, DropInCell):
        return "fused, where torch.nn does not start quicker"
    layer: Any = module
    x = next(layer.parameters()).new_zeros(1, 1, layer.input_size)
    asked = asked_of(module, x, zeros(module, x))
    reason = torch_calls.why_torch(asked)
    if reason is not None:
        return f"torch.nn ({reason})"
    starts_quicker = (
        "" if isinstance(module, nn.LSTM) else " (calls of a step or a few: torch.nn, which starts quicker)"
    )
    return f"fused{starts_quicker}"


def base_of(cls: type) -> Any:
    """Our layer for a class of torch.nn, or a subclass of one."""
    return next(one for one in OURS if issubclass(cls, one.torchs))


def swapped(cls: type, parametrized: bool) -> type:
    """The class to give a module of class ``cls``.

    The class of a parametrised module is its own, made by torch.nn.utils.parametrize on top of the one it had; a
    parametrisation that is removed looks for that below it.
    """
    if parametrized:
        return on_top_of(swapped(cls.__mro__[1], False), cls)
    return base_of(cls) if any(cls is one for one in TORCHS) else subclass(cls)


def swapped_back(cls: type, parametrized: bool) -> type:
    """The class that a module of class ``cls`` had before ``accelerate``, or that is torch's counterpart."""
    if parametrized:
        return on_top_of(swapped_back(cls.__mro__[1], False), cls)
    return cls.__dict__.get("original") or base_of(cls).torchs


def on_top_of(base: type, cls: type) -> type:
    """A class like ``cls`` on another base."""
    own = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(base)(cls.__name__, (base,), own)


@functools.cache
def subclass(cls: type) -> type:
    """Somebody's subclass of a torch.nn layer on our kernels: its own methods first, and ours where it goes on to
    torch's (``super().forward``)."""
    own = {"original": cls, "torchs": cls, "__reduce_ex__": reduce_subclass}
    kind = EqualsTorchs if issubclass(EqualsTorchs, type(cls)) else type("Kind", (EqualsTorchs, type(cls)), {})
    return kind(cls.__name__, (cls, base_of(cls)), own)


def reduce_subclass(module: Any, protocol: Any) -> Any:
    """Pickle and copy a module whose class is made by ``subclass``."""
    return new_of_subclass, (type(module).original,), module.__getstate__()


def new_of_subclass(cls: type) -> Any:
    """An empty module of the class that ``subclass`` makes of ``cls``."""
    made: Any = subclass(cls)
    return made.__new__(made)
