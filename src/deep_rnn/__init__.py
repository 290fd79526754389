"""The library: recurrent cells, and DeepRNN, which stacks them. Imports torch and ``deep_rnn.kernels`` only."""

from deep_rnn.cells import CELLS, Cell, HiddenState, Noise, register
from deep_rnn.stack import DeepRNN

__all__ = ["CELLS", "Cell", "DeepRNN", "HiddenState", "Noise", "register"]
