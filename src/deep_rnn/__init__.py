"""Deep recurrent networks: stacks of any cell, torch.nn's layers on faster kernels, and both explained.

``DeepRNN`` stacks cells (``CELLS``, or your own ``Cell``); ``LSTM``, ``GRU`` and ``RNN`` are torch.nn's on our kernels;
``accelerate`` puts them into a model that exists. Everything else in this package may move.
"""

from deep_rnn.accelerate import accelerate, explain, restore
from deep_rnn.cells import CELLS, Cell, HiddenState, Noise, register
from deep_rnn.drop_in import GRU, LSTM, RNN
from deep_rnn.stack import DeepRNN
from deep_rnn.state import StackState

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "DeepRNN",
    "HiddenState",
    "Noise",
    "StackState",
    "accelerate",
    "explain",
    "register",
    "restore",
]
