"""The simple recurrent network of Elman (1990)."""

from typing import Any

from torch import Tensor

from src.models.cells.base import ACTIVATIONS, NO_NOISE, Cell, HiddenState, Noise, drop, register
from src.models.naming import unknown


@register("rnn")
class RNNCell(Cell):
    """Elman RNN (Elman, "Finding structure in time", Cognitive Science 1990).

        h' = f(W x + b_ih + U h + b_hh)

    Gate order: the one candidate ``g``. Same parameters and formula as torch.nn.RNN, with any activation f.

    Args:
        activation: f, one of ``ACTIVATIONS``; torch.nn has tanh and relu only.
    Raises:
        ValueError: for an unknown activation.
    """

    gates = ("g",)

    def __init__(self, input_size: int, hidden_size: int, *, activation: str = "tanh", **common: Any) -> None:
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        super().__init__(input_size, hidden_size, **common)
        self.activation = activation

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        return HiddenState(drop(ACTIVATIONS[self.activation](gates + self.recurrent(state.h, noise)), noise))

    @property
    def native_mode(self) -> str | None:
        """RNN_TANH or RNN_RELU; other activations have no native form."""
        return {"tanh": "RNN_TANH", "relu": "RNN_RELU"}.get(self.activation)
