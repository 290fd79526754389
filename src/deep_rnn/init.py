"""Named initialisers of a cell's parameters.

Each fills three kinds of parameter: input matrices (``weight_ih``), recurrent matrices (``weight_hh``) and biases;
whatever else a cell owns (peepholes, recurrent vectors, norms) starts as its ``settle`` says, or as here.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deep_rnn.cells.base import Cell
from deep_rnn.naming import check_name


def uniform(weight: Tensor, cell: Cell) -> None:
    """U(-1/sqrt(H), 1/sqrt(H)), torch.nn's choice for every parameter of an RNN."""
    bound = 1 / math.sqrt(cell.hidden_size)
    nn.init.uniform_(weight, -bound, bound)


def zeros(weight: Tensor, cell: Cell) -> None:
    """All zero."""
    nn.init.zeros_(weight)


def glorot(weight: Tensor, cell: Cell) -> None:
    """Glorot & Bengio 2010 over the stacked matrix: fans I and G*H, as Keras counts them."""
    nn.init.xavier_uniform_(weight)


def orthogonal(weight: Tensor, cell: Cell) -> None:
    """Orthonormal columns over the stacked recurrent matrix [G*H, H], as Keras does (Saxe et al. 2014)."""
    nn.init.orthogonal_(weight)


def orthogonal_gates(weight: Tensor, cell: Cell) -> None:
    """Every gate's own [H, H] block orthogonal, so that each alone keeps the norm of h."""
    for block in weight.split(cell.hidden_size):
        nn.init.orthogonal_(block)


def identity_gates(weight: Tensor, cell: Cell) -> None:
    """Every gate's block the identity (IRNN, Le, Jaitly & Hinton 2015; meant for relu)."""
    for block in weight.split(cell.hidden_size):
        nn.init.eye_(block)


def small_normal(weight: Tensor, cell: Cell) -> None:
    """N(0, 0.001²): the IRNN's input weights."""
    nn.init.normal_(weight, std=0.001)


Filler = Callable[[Tensor, Cell], None]
INITS: dict[str, tuple[Filler, Filler, Filler]] = {  # name -> how input matrices, recurrent matrices, biases are filled
    "torch": (uniform, uniform, uniform),
    "keras": (glorot, orthogonal, zeros),
    "orthogonal": (glorot, orthogonal_gates, zeros),
    "identity": (small_normal, identity_gates, zeros),
    "chrono": (glorot, orthogonal_gates, zeros),
}


@torch.no_grad()
def initialise(cell: Cell, name: str, forget_bias: float | None = None, horizon: int = 100) -> None:
    """Fill a cell's parameters in place by the initialiser ``name``.

    Args:
        forget_bias: start of the bias of the gate that keeps the memory; None leaves what the initialiser prescribes
            (keras: 1 in an LSTM, after Gers et al. 2000 and Jozefowicz et al. 2015).
        horizon: T_max of ``chrono``, the longest dependency in steps to prepare for.
    Raises:
        ValueError: for an unknown name.
    """
    check_name("init", name, INITS)
    input_matrix, recurrent_matrix, vector = INITS[name]
    for key, parameter in cell.named_parameters():
        kind = key.rpartition(".")[-1]
        if "norm" in key:
            continue  # norms initialise themselves
        if kind.startswith("weight_ih"):
            input_matrix(parameter, cell)
        elif kind.startswith("weight_hh") and parameter.dim() == 2:
            recurrent_matrix(parameter, cell)
        elif kind.startswith("bias"):
            vector(parameter, cell)
        else:
            uniform(parameter, cell)
    if name == "chrono":
        chrono(cell, horizon)
    if name == "keras" and forget_bias is None and cell.forget_gate == "f":
        forget_bias = 1.0
    if forget_bias is not None:
        cell.set_gate_bias(cell.forget_gate, forget_bias)
    cell.settle()


def chrono(cell: Cell, horizon: int) -> None:
    """Biases that keep units' memories for 1 to ``horizon`` steps: b_f = log U(1, T_max - 1), b_i = -b_f.

    Tallec & Ollivier 2018, "Can recurrent neural networks warp time?"
    """
    bias = torch.empty(cell.hidden_size).uniform_(1, max(horizon - 1, 1)).log()
    cell.set_gate_bias(cell.forget_gate, bias)
    cell.set_gate_bias(cell.input_gate, -bias)
