"""What torch.utils.flop_counter counts of the fused operators: two a multiplication of their matrix products.

That is what it counts of everything else: no biases, norms, activations or products by element. Padded steps count as
they do in ``loop``, which computes them, although the kernels pass them by: a formula sees shapes, not lengths.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch.utils import flop_counter
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

Shape = Sequence[int]

COMPUTED = {  # beside the matrices of further transitions, those that read more than the state before the step
    ("gru_before", "weight_hh"): Fraction(1, 3),
    ("mgu", "weight_hh"): Fraction(1, 2),
    ("lem", "weight_hh_y"): Fraction(1),
    ("mlstm", "weight_hh"): Fraction(1),
}


def register() -> None:
    """Tell the counters, those too that count already while the operators are being loaded."""
    formulas: dict[Any, Callable[..., int]] = {
        torch.ops.deep_rnn.unroll: unroll,
        torch.ops.deep_rnn.unroll_backward: unroll_backward,
        torch.ops.deep_rnn.highway: highway,
        torch.ops.deep_rnn.highway_backward: highway_backward,
        torch.ops.deep_rnn.linear_cross_entropy: linear_cross_entropy,
    }
    for operator, formula in formulas.items():
        flop_counter.register_flop_formula(operator)(formula)
    for mode in _get_current_dispatch_mode_stack():
        if isinstance(mode, flop_counter._FlopCounterMode):
            mode.counter.flop_registry |= {one: flop_counter.flop_registry[one] for one in formulas}


def by_name(operator: Any, arguments: Sequence[Any]) -> dict[str, Any]:
    """The arguments of an operator (tensors as shapes) by the names that its schema gives them."""
    return {one.name: value for one, value in zip(operator.default._schema.arguments, arguments, strict=False)}


def unroll(*arguments: Any, **result: Any) -> int:
    """Every matrix times what it is read with, at every step."""
    given = by_name(torch.ops.deep_rnn.unroll, arguments)
    return sum(products(given["x"], shape) for shape in given["weights"] if is_matrix(shape, given["x"]))


def unroll_backward(*arguments: Any, **result: Any) -> int:
    """The gradient of every matrix, and of what it was read with, where that leads on to something wanted."""
    given = by_name(torch.ops.deep_rnn.unroll_backward, arguments)
    x, names, total = given["x"], given["names"], 0
    for place, shape in enumerate(given["weights"]):
        if not is_matrix(shape, x):
            continue
        layer, name = place // (len(names) * len(given["reverse"])), names[place % len(names)]
        every = products(x, shape)
        total += every * given["wants_weights"]
        if name.startswith("weight_ih"):
            total += every * (given["wants_x"] or layer > 0)
        else:
            total += every
            if x[-3] and not given["wants_states"]:  # what the first step reads is the initial state
                total -= int(every // x[-3] * (1 - computed_rows(given["cell"], name)))
    return total


def is_matrix(weight: Shape, x: Shape) -> bool:
    """Whether a weight is multiplied with as a matrix; x has a dimension more, of time."""
    return len(weight) == len(x) - 1


def products(x: Shape, weight: Shape) -> int:
    """Operations of a matrix at all steps of x [..., T, B, I]."""
    return 2 * x[-3] * x[-2] * prod(weight)


def computed_rows(cell: str, name: str) -> Fraction:
    """The share of a matrix's rows that are multiplied with what the step computed, not with the state before it."""
    if name.rpartition("_")[-1].isdigit():  # of a further transition
        return Fraction(1)
    return COMPUTED.get((cell, name), Fraction(0))


def highway(carried: Shape, out: Shape, below: Shape, weight: Shape, bias: Shape, **result: Any) -> int:
    """The product of the gate."""
    return 2 * prod(below[:-1]) * prod(weight)


def highway_backward(
    grad: Shape, carried: Shape, out: Shape, below: Shape, weight: Shape, gate: Shape, wants_below: bool, **result: Any
) -> int:
    """The gradients of the gate's weight, and of what it reads if wanted."""
    return highway(carried, out, below, weight, weight[:1]) * (1 + wants_below)


def linear_cross_entropy(
    hidden: Shape, weight: Shape, bias: Shape, targets: Shape, wants_hidden: bool, wants_weight: bool, **result: Any
) -> int:
    """The product, and those of its gradients, which the operator makes along with the loss."""
    return 2 * hidden[0] * prod(weight) * (1 + wants_hidden + wants_weight)
