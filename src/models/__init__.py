"""The library: recurrent cells, and DeepRNN, which stacks them. Imports torch and ``src.kernels`` only."""

from src.models.cells import CELLS, Cell, HiddenState, Noise, register
from src.models.deep_rnn import DeepRNN

__all__ = ["CELLS", "Cell", "DeepRNN", "HiddenState", "Noise", "register"]
