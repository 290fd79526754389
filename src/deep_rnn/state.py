"""The state of a stack: one entry a layer, each a cell's state, or a pair of them when bidirectional."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import SequenceKey, _register_namedtuple, register_pytree_node

from deep_rnn.cells import CELLS
from deep_rnn.cells.elementwise import PoolState
from deep_rnn.layer import Layer


@dataclass(frozen=True, eq=False)
class StackState:
    """The state of a DeepRNN, one entry a layer: ``state[0]`` is layer 0's, ``state.layers`` all of them.

    It cannot be unpacked: ``_, (h, c) = rnn(x)``, written for torch.nn.LSTM, would else give two layers' states for h
    and c, in silence. To torch's utilities (compile, export, vmap, checkpoint) it is a container of its tensors.
    """

    layers: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: Any) -> Any:
        return StackState(self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __iter__(self) -> Iterator[Any]:
        """Raises TypeError."""
        raise TypeError(
            "the state of a DeepRNN has one entry a layer and is not torch.nn's (h, c): "
            "use state.layers to go over the layers, rnn.state_to_torch(state) for (h, c)"
        )


register_pytree_node(
    StackState,
    lambda state: (list(state.layers), None),
    lambda layers, _: StackState(tuple(layers)),
    serialized_type_name="deep_rnn.StackState",  # what an exported program is saved with
    flatten_with_keys_fn=lambda state: ([(SequenceKey(k), layer) for k, layer in enumerate(state.layers)], None),
    to_dumpable_context=lambda _: None,
    from_dumpable_context=lambda _: None,
)

Inner = tuple[tuple[Any, ...], ...]  # per layer, per direction: how the stack holds states inside


class Ended(NamedTuple):
    """Where the two directions of a layer ended.

    The backward one ended at the first step, so this is no place from which a longer sequence can go on: a stack
    refuses it as ``state``. A pair given by hand (``(forward, backward)``) is the initial state of each direction.
    """

    forward: Any
    backward: Any


KINDS: set[Any] = {*(cell.State for cell in CELLS.values()), PoolState, Ended}
for _kind in KINDS:  # so that exported programs can be saved
    _register_namedtuple(_kind, serialized_type_name=f"deep_rnn.{_kind.__name__}")
torch.serialization.add_safe_globals([StackState, *KINDS])  # a state, too, is read back by torch.load as it is


def to_outer(states: Inner) -> StackState:
    """What a stack returns."""
    return StackState(tuple([layer[0] if len(layer) == 1 else Ended(*layer) for layer in states]))


def entries(state: Any, layers: Sequence[Layer], pairs: bool = False) -> Sequence[Any]:
    """The entries of a state as passed in: a StackState, or a tuple or list with one entry a layer.

    Args:
        pairs: whether a layer's entry is a pair, for the message.
    Raises:
        ValueError: for torch.nn's form, anything else, or a wrong number of layers.
    """
    if not isinstance(state, StackState):
        refuse_torch_form(state, layers, pairs)
    found = state.layers if isinstance(state, StackState) else state
    if len(found) != len(layers):
        raise ValueError(f"state has {len(found)} entries; this stack has {len(layers)} layers")
    return found


def refuse_torch_form(state: Any, layers: Sequence[Layer], pairs: bool) -> None:
    """Raise ValueError for a tensor, or tensors where there should be a layer's entry."""
    hint = "torch.nn's h, or (h, c), goes through rnn.state_from_torch first"
    if isinstance(state, Tensor):
        raise ValueError(f"state must have one entry a layer, not be a Tensor; {hint}")
    if not isinstance(state, tuple | list):
        raise ValueError(f"state must be a StackState or a tuple with one entry a layer, not {type(state).__name__}")
    for index, entry in enumerate(state):
        if isinstance(entry, Tensor):
            kind = layers[min(index, len(layers) - 1)].cell.State
            wanted = f"{'a pair of ' if pairs else ''}{kind.__name__}({', '.join(kind._fields)})"
            raise ValueError(f"state of layer {index} must be {wanted}, not a Tensor; {hint}")


def to_inner(state: Any, layers: Sequence[Layer], batch_size: int) -> Inner:
    """A state as passed in, checked against the layers.

    Raises:
        ValueError: for a wrong number of layers, kind of state or shape, torch.nn's form, or a carried bidirectional
            state.
    """
    inner = []
    for index, (entry, layer) in enumerate(zip(entries(state, layers, len(layers[0].cells) == 2), layers, strict=True)):
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
    if isinstance(state, StackState):
        return StackState(map_state(function, state.layers))
    values = (map_state(function, value) for value in state)
    return type(state)(*values) if hasattr(state, "_fields") else tuple(values)


def batched(state: Any, layers: Sequence[Layer], pairs: bool) -> StackState:
    """An unbatched state, of tensors [H], as that of a batch of one; errors as in ``entries``."""
    found = entries(state, layers, pairs or len(layers[0].cells) == 2)
    return StackState(tuple(map_state(lambda value: value.unsqueeze(0), entry) for entry in found))


def detach(state: Any) -> Any:
    """The state cut from its history, for truncated back-propagation through time."""
    return map_state(Tensor.detach, state)


def to_torch(state: Any) -> Any:
    """A stack's state as torch.nn has it: h [L*D, B, H], or (h, c) for cells with a memory.

    Raises:
        ValueError: if widths or kinds differ between layers, for which torch.nn has no form.
    """
    layers = state.layers if isinstance(state, StackState) else state
    cells = [one for entry in layers for one in (entry if is_pair(entry) else (entry,))]
    if len({(type(one), *(value.shape for value in one)) for one in cells}) > 1:
        raise ValueError("torch.nn's state is one tensor: all layers must have one cell and width")
    stacked = tuple(torch.stack(values) for values in zip(*cells, strict=True))
    return stacked[0] if len(stacked) == 1 else stacked


def from_torch(state: Any, kind: Any, num_layers: int, directions: int) -> StackState:
    """torch.nn's h, or (h, c), of shape [L*D, B, H] as a state of ``num_layers`` cells of one ``kind`` of state.

    Raises:
        ValueError: for another number of tensors than the cell has fields, or if the first dimension is not layers
            times directions.
    """
    if isinstance(state, StackState):
        raise ValueError("state_from_torch takes torch.nn's h, or (h, c); this is a StackState already")
    tensors, fields = (state,) if isinstance(state, Tensor) else tuple(state), kind._fields
    if len(tensors) != len(fields):
        wanted = fields[0] if len(fields) == 1 else f"({', '.join(fields)})"
        found = "one tensor" if len(tensors) == 1 else f"{len(tensors)} tensors"
        raise ValueError(f"the state of these cells in torch.nn's form is {wanted}, not {found}")
    for tensor in tensors:
        if tensor.shape[0] != num_layers * directions:
            expected = f"{num_layers} layers x {directions} directions"
            raise ValueError(f"torch.nn's state has {tensor.shape[0]} entries; this stack has {expected}")
    states = [kind(*values) for values in zip(*(tensor.unbind(0) for tensor in tensors), strict=True)]
    return StackState(tuple(states) if directions == 1 else tuple(zip(states[::2], states[1::2], strict=True)))


def split_pairs(state: Any, layers: Sequence[Layer]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The states of the forward and of the backward stack, from one pair a layer.

    Raises:
        ValueError: for a wrong number of layers, an entry that is no pair, or a carried state.
    """
    state = entries(state, layers, pairs=True)
    for index, entry in enumerate(state):
        check_pair(entry, index)
    forward, backward = zip(*state, strict=True)
    return forward, backward


def checked_inner(state: Any, rnn: Any, batch_size: int) -> Inner:
    """``to_inner`` for a whole DeepRNN: of one that runs both ways as two stacks, layer by layer both of them."""
    if rnn.mirror is None:
        return to_inner(state, list(rnn.layers), batch_size)
    halves = split_pairs(state, list(rnn.layers))
    ways = [to_inner(half, list(one.layers), batch_size) for half, one in zip(halves, (rnn, rnn.mirror), strict=True)]
    return tuple(forward + backward for forward, backward in zip(*ways, strict=True))


def ended_inner(state: StackState) -> Inner:
    """Per layer and direction the state that a stack returned."""
    return tuple(tuple(entry) if isinstance(entry, Ended) else (entry,) for entry in state.layers)


def to_given(states: Inner) -> StackState:
    """A state to be passed in: pairs of initial states where layers have two directions."""
    return StackState(tuple(layer[0] if len(layer) == 1 else layer for layer in states))


def map_inner(function: Any, *states: Inner) -> Inner:
    """Apply ``function(*tensors, backward=...)`` to the tensors at the same place of some states."""
    return tuple(
        tuple(
            type(ways[0])(*(function(*values, backward=bool(direction)) for values in zip(*ways, strict=True)))
            for direction, ways in enumerate(zip(*layers, strict=True))
        )
        for layers in zip(*states, strict=True)
    )


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
