"""Long short-term memory."""

from typing import NamedTuple

import torch
from torch import Tensor

from src.models.cells.base import NO_NOISE, Cell, Noise, drop, register


class LSTMState(NamedTuple):
    """``h`` [B, H], the output, and ``c`` [B, H], the memory cell."""

    h: Tensor
    c: Tensor


@register("lstm")
class LSTMCell(Cell):
    """LSTM with forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000), as torch.nn.LSTM computes it.

        i, f, o = sigmoid(W x + b_ih + U h + b_hh)      g = tanh(the same, its own rows)
        c' = f * c + i * g
        h' = o * tanh(c')

    Gate order i f g o, as torch and Keras have it (haiku: i g f o; Sonnet: i f g o with +1 on f).
    """

    gates = ("i", "f", "g", "o")
    forget_gate = "f"
    State = LSTMState

    def step(self, gates: Tensor, state: LSTMState, noise: Noise = NO_NOISE) -> LSTMState:
        """See the class."""
        i, f, g, o = (gates + self.recurrent(state.h, noise)).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * drop(torch.tanh(g), noise)
        return LSTMState(torch.sigmoid(o) * torch.tanh(c), c)

    @property
    def native_mode(self) -> str | None:
        """LSTM."""
        return "LSTM"
