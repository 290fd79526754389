"""Stacks from and to the arrays that ``get_weights()`` of Keras gives; Keras itself is not needed.

One layer in one direction is kernel [I, G*H], recurrent kernel [H, G*H] and, with ``use_bias``, a bias [G*H]; a GRU
with ``reset_after`` has one for each product, [2, 3H]. A Bidirectional layer lists the forward arrays first. Keras
stacks the gates of an LSTM as here, i f g o (it calls g c), those of a GRU as z r n, where torch has r z n.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from deep_rnn.cells.gru import GRUCell
from deep_rnn.cells.lstm import LSTMCell
from deep_rnn.cells.rnn import RNNCell
from deep_rnn.interop.torch import LEFT_BEHIND, NAMES, connections_in_the_way
from deep_rnn.interop.used import is_reparametrised, used_weights
from deep_rnn.naming import check_name
from deep_rnn.specification import per_layer

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
MERGES = {"ave": "mean"}  # what Keras calls otherwise
ARRAYS = ("kernel", "recurrent_kernel", "bias")


def stack_from_keras(
    build: Any,
    weights: Sequence[Any],
    cell: str | Sequence[str],
    bidirectional: bool,
    merge: str,
    reset_after: bool,
    options: dict[str, Any],
) -> Any:
    """A DeepRNN with the weights of stacked Keras layers; depth, widths and dtype are read off the arrays.

    Args:
        build: DeepRNN, or a subclass.
        weights: the layers' ``get_weights()``, from the lowest up, in one list.
        cell: rnn (Keras: SimpleRNN), lstm or gru; a list gives each layer its own.
        bidirectional: whether every layer is Bidirectional.
        merge: concat, sum, ave (or mean) or mul.
        reset_after: of GRUs, as in Keras.
        options: further arguments of DeepRNN: ``bias=False`` for layers with ``use_bias=False``, ``activation`` of a
            SimpleRNN, ``batch_first=True`` for Keras's layout.
    Raises:
        ValueError: for an unknown cell, or arrays whose number or shapes do not fit.
    """
    bias = options.get("bias", True)
    count = (2 + bool(bias)) * (1 + bidirectional)
    if not weights or len(weights) % count:
        layout = f"{'2 directions x ' if bidirectional else ''}{', '.join(ARRAYS[: 2 + bool(bias)])}"
        raise ValueError(f"each layer has {count} arrays ({layout}), which {len(weights)} arrays do not divide into")
    cells = per_layer("cell", cell, len(weights) // count)
    for name in cells:
        check_name("Keras cell", name, GATES)
    arrays = [torch.asarray(array, copy=True) for array in weights]
    sizes = [array.shape[0] if array.dim() == 2 else 0 for array in arrays[1::count]]  # of the recurrent kernels
    arguments: dict[str, Any] = {
        "input_size": arrays[0].shape[0] if arrays[0].dim() == 2 else 0,
        "hidden_size": sizes,
        "num_layers": len(cells),
        "cell": cells,
        "bidirectional": bidirectional,
        "merge": MERGES.get(merge, merge),
        "dtype": arrays[0].dtype,
        **({"reset_after": reset_after} if "gru" in cells else {}),
    }
    check_shapes(arrays, arguments, bool(bias))
    rnn = build(**{**arguments, **options})
    with torch.no_grad():
        for one, start in zip(cells_of(rnn), range(0, len(arrays), 2 + bool(bias)), strict=True):
            fill(one, arrays[start : start + 2 + bool(bias)])
    return rnn


def check_shapes(arrays: list[Tensor], arguments: dict[str, Any], bias: bool) -> None:
    """Refuse arrays that do not fit each other, naming the first.

    Raises:
        ValueError: for an array of the wrong shape.
    """
    directions = 1 + arguments["bidirectional"]
    size, index = arguments["input_size"], 0
    for layer, (cell, hidden) in enumerate(zip(arguments["cell"], arguments["hidden_size"], strict=True)):
        rows = GATES[cell] * hidden
        own_bias = (2, rows) if cell == "gru" and arguments["reset_after"] else (rows,)
        expected = [(size, rows), (hidden, rows), own_bias][: 2 + bias]
        for name, shape in list(zip(ARRAYS, expected, strict=False)) * directions:
            found = tuple(arrays[index].shape)
            if found != shape or 0 in shape:
                hint = " (is reset_after right?)" if name == "bias" and cell == "gru" else ""
                place = f"weights[{index}], the {name} of layer {layer} ({cell}),"
                wanted = ", ".join(str(extent or "?") for extent in shape)
                raise ValueError(f"{place} must have shape [{wanted}], not {list(found)}{hint}")
            index += 1
        size = hidden * (directions if arguments["merge"] == "concat" else 1)


def stack_to_keras(rnn: Any) -> list[Any]:
    """The numpy arrays that ``set_weights`` of the same stack in Keras takes.

    Where Keras has one bias and torch two, it is their sum.

    Raises:
        ValueError: for a stack that Keras has no form for; the message says what is in the way.
    """
    obstacles = [*connections_in_the_way(rnn), *cells_in_the_way(rnn)]
    if obstacles:
        raise ValueError(f"Keras has no form for this stack: {'; '.join(obstacles)}")
    if any(is_reparametrised(cell, [*NAMES]) for cell in cells_of(rnn)):
        warnings.warn(LEFT_BEHIND, stacklevel=3)
    return [array.detach().cpu().contiguous().numpy() for cell in cells_of(rnn) for array in arrays_of(cell)]


def cells_in_the_way(rnn: Any) -> Iterator[str]:
    """Cells that Keras has not."""
    strange = {type(cell).__name__ for cell in cells_of(rnn) if not is_keras(cell)}
    for name in sorted(strange):
        yield f"no layer of Keras computes this {name}"


def is_keras(cell: Any) -> bool:
    """Whether Keras has a layer of this cell."""
    kind = type(cell).__bases__[0] if hasattr(cell, "parametrizations") else type(cell)
    return kind in (RNNCell, LSTMCell, GRUCell) and cell.plain and cell.altered is None


def cells_of(rnn: Any) -> list[Any]:
    """All cells, in the order in which Keras lists their arrays."""
    return [cell for layer in rnn.layers for cell in layer.cells]


def fill(cell: Any, arrays: Sequence[Tensor]) -> None:
    """Set a cell's parameters from its Keras arrays."""
    kernel, recurrent_kernel, *bias = (swap_gates(cell, array) for array in arrays)
    cell.weight_ih.copy_(kernel.T)
    cell.weight_hh.copy_(recurrent_kernel.T)
    if bias:
        both = bias[0] if bias[0].dim() == 2 else torch.stack((bias[0], torch.zeros_like(bias[0])))
        cell.bias_ih.copy_(both[0])
        cell.bias_hh.copy_(both[1])


def arrays_of(cell: Any) -> list[Tensor]:
    """A cell's parameters as Keras arrays."""
    used = used_weights(cell, [*NAMES])
    arrays = [used["weight_ih"].T, used["weight_hh"].T]
    if cell.bias:
        both = torch.stack((used["bias_ih"], used["bias_hh"]))
        arrays.append(both if isinstance(cell, GRUCell) and cell.reset_after else both.sum(0))
    return [swap_gates(cell, array) for array in arrays]


def swap_gates(cell: Any, array: Tensor) -> Tensor:
    """r z n <-> z r n in the last dimension of a GRU's array; any other's array itself."""
    if not isinstance(cell, GRUCell):
        return array
    first, second, candidate = array.chunk(3, -1)
    return torch.cat((second, first, candidate), -1)
