"""Named initialisers of a cell's parameters.

Each fills three kinds of parameter: input matrices (``weight_ih``), recurrent matrices (``weight_hh``) and biases;
whatever else a cell owns (peepholes, recurrent vectors, norms) starts as its ``settle`` says, or as here.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.models.cells.base import Cell
from src.models.naming import unknown


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
}
FORGET_BIAS = {"keras": 1.0}  # of initialisers that prescribe one (Gers et al. 2000; Jozefowicz et al. 2015)


@torch.no_grad()
def initialise(cell: Cell, name: str, forget_bias: float | None = None) -> None:
    """Fill a cell's parameters in place by the initialiser ``name``.

    Args:
        forget_bias: sum of the forget gate's two biases at the start; None leaves what the initialiser prescribes.
    Raises:
        ValueError: for an unknown name.
    """
    if name not in INITS:
        raise unknown("init", name, INITS)
    input_matrix, recurrent_matrix, vector = INITS[name]
    for key, parameter in cell.named_parameters():
        if key.startswith("weight_ih"):
            input_matrix(parameter, cell)
        elif key.startswith("weight_hh") and parameter.dim() == 2:
            recurrent_matrix(parameter, cell)
        elif key.startswith("bias"):
            vector(parameter, cell)
        elif "norm" not in key:
            uniform(parameter, cell)
    forget = FORGET_BIAS.get(name) if forget_bias is None else forget_bias
    if forget is not None and cell.forget_gate and cell.bias_ih is not None:
        cell.gate(cell.bias_ih, cell.forget_gate).fill_(forget)
        if cell.bias_hh is not None:
            cell.gate(cell.bias_hh, cell.forget_gate).zero_()
    cell.settle()
