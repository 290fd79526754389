"""Deep recurrent networks: stacks of any cell, torch.nn's layers on faster kernels, and both explained.

``DeepRNN`` stacks cells (``CELLS``, or your own ``Cell``); ``LSTM``, ``GRU``, ``RNN``, ``LSTMCell`` and ``GRUCell`` are
torch.nn's on our kernels; ``accelerate`` puts them into a model that exists. Everything else in this package may move.
"""

from deep_rnn.accelerate import accelerate, explain, restore
from deep_rnn.cells import CELLS, Cell, HiddenState, Noise, register
from deep_rnn.drop_in import GRU, LSTM, RNN, GRUCell, LSTMCell
from deep_rnn.stack import DeepRNN
from deep_rnn.state import StackState

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "DeepRNN",
    "GRUCell",
    "HiddenState",
    "LSTMCell",
    "Noise",
    "StackState",
    "accelerate",
    "explain",
    "register",
    "restore",
]
