"""A cell as a user would write one in a file of their own: DeepRNN(cell="own_cell.LeakyIntegrator")."""

import torch

from deep_rnn.cells import NO_NOISE, Cell, HiddenState
from deep_rnn.cells.base import drop


class LeakyIntegrator(Cell):
    """h' = (1 - leak) * h + leak * tanh(W x + U h + b)."""

    gates = ("g",)

    def __init__(self, input_size, hidden_size, *, leak=0.3, **common):
        super().__init__(input_size, hidden_size, **common)
        self.leak = leak

    def step(self, gates, state, noise=NO_NOISE):
        g = torch.tanh(gates + self.recurrent(state.h, noise))
        return HiddenState((1 - self.leak) * state.h + self.leak * drop(g, noise))
