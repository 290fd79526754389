"""The state of a stack: a tuple with one entry a layer, each a cell's state, or a pair of them when bidirectional."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_rnn.layer import Layer

Inner = tuple[tuple[Any, ...], ...]  # per layer, per direction: how the stack holds states inside


class Ended(NamedTuple):
    """Where the two directions of a layer ended.

    The backward one ended at the first step, so this is no place from which a longer sequence can go on: a stack
    refuses it as ``state``. A pair given by hand (``(forward, backward)``) is the initial state of each direction.
    """

    forward: Any
    backward: Any


def to_outer(states: Inner) -> tuple[Any, ...]:
    """What a stack returns."""
    return tuple(layer[0] if len(layer) == 1 else Ended(*layer) for layer in states)


def to_inner(state: Sequence[Any], layers: Sequence[Layer], batch_size: int) -> Inner:
    """A state as passed in, checked against the layers.

    Raises:
        ValueError: for a wrong number of layers, kind of state or shape, or a carried bidirectional state.
    """
    if len(state) != len(layers):
        raise ValueError(f"state has {len(state)} entries; this stack has {len(layers)} layers")
    inner = []
    for index, (entry, layer) in enumerate(zip(state, layers, strict=True)):
        if len(layer.cells) == 2:
            check_pair(entry, index)
        pair = entry if len(layer.cells) == 2 else (entry,)
        inner.append(tuple(checked(one, cell, index, batch_size) for one, cell in zip(pair, layer.cells, strict=True)))
    return tuple(inner)


def checked(state: Any, cell: Any, layer: int, batch_size: int) -> Any:
    """A cell's state after a check of its fields and shapes."""
    fields = cell.State._fields
    if isinstance(state, Tensor) or not isinstance(state, tuple) or len(state) != len(fields):
        found = f"a {len(state)}-tuple" if isinstance(state, tuple) else f"a {type(state).__name__}"
        raise ValueError(f"state of layer {layer} must be {cell.State.__name__}({', '.join(fields)}), not {found}")
    for name, value, size in zip(fields, state, cell.state_sizes, strict=True):
        if tuple(value.shape) != (batch_size, size):
            expected, got = [batch_size, size], list(value.shape)
            raise ValueError(f"state of layer {layer}: {name} must have shape {expected} (batch, features), not {got}")
    return cell.State(*state)


def map_state(function: Any, state: Any) -> Any:
    """Apply a function to every tensor of a stack's state, keeping its structure."""
    if isinstance(state, Tensor):
        return function(state)
    values = (map_state(function, value) for value in state)
    return type(state)(*values) if hasattr(state, "_fields") else tuple(values)


def detach(state: Any) -> Any:
    """The state cut from its history, for truncated back-propagation through time."""
    return map_state(Tensor.detach, state)


def to_torch(state: Sequence[Any]) -> Any:
    """A stack's state as torch.nn has it: h [L*D, B, H], or (h, c) for cells with a memory.

    Raises:
        ValueError: if widths or kinds differ between layers, for which torch.nn has no form.
    """
    cells = [one for entry in state for one in (entry if is_pair(entry) else (entry,))]
    if len({(type(one), *(value.shape for value in one)) for one in cells}) > 1:
        raise ValueError("torch.nn's state is one tensor: all layers must have one cell and width")
    stacked = tuple(torch.stack(values) for values in zip(*cells, strict=True))
    return stacked[0] if len(stacked) == 1 else stacked


def from_torch(state: Any, kind: Any, num_layers: int, directions: int) -> tuple[Any, ...]:
    """torch.nn's h, or (h, c), of shape [L*D, B, H] as a state of ``num_layers`` cells of one ``kind`` of state.

    Raises:
        ValueError: if the first dimension is not layers times directions.
    """
    tensors = (state,) if isinstance(state, Tensor) else tuple(state)
    for tensor in tensors:
        if tensor.shape[0] != num_layers * directions:
            expected = f"{num_layers} layers x {directions} directions"
            raise ValueError(f"torch.nn's state has {tensor.shape[0]} entries; this stack has {expected}")
    states = [kind(*values) for values in zip(*(tensor.unbind(0) for tensor in tensors), strict=True)]
    return tuple(states) if directions == 1 else tuple(zip(states[::2], states[1::2], strict=True))


def split_pairs(state: Sequence[Any], num_layers: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The states of the forward and of the backward stack, from one pair a layer.

    Raises:
        ValueError: for a wrong number of layers, an entry that is no pair, or a carried state.
    """
    if len(state) != num_layers:
        raise ValueError(f"state has {len(state)} entries; this stack has {num_layers} layers")
    for index, entry in enumerate(state):
        check_pair(entry, index)
    forward, backward = zip(*state, strict=True)
    return forward, backward


def check_pair(entry: Any, layer: int) -> None:
    """Raise ValueError unless a layer's entry is a pair of initial states."""
    if isinstance(entry, Ended):
        raise ValueError(
            "the state that a bidirectional stack ended in cannot be carried on: its backward direction has "
            "already seen the first step; pass (forward, backward) pairs to choose initial states"
        )
    if not isinstance(entry, tuple) or hasattr(entry, "_fields") or len(entry) != 2:
        raise ValueError(f"state of layer {layer} must be a pair (forward, backward): the stack is bidirectional")


def is_pair(entry: Any) -> bool:
    """Whether a layer's entry holds two directions."""
    return isinstance(entry, Ended) or not hasattr(entry, "_fields")
