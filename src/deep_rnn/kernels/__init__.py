"""How recurrent layers are unrolled over time: one set of parameters, several backends proven equal."""

from deep_rnn.kernels.call import Call, Result
from deep_rnn.kernels.dispatch import BACKENDS, Choices, choose, pick, unroll

__all__ = ["BACKENDS", "Call", "Choices", "Result", "choose", "pick", "unroll"]
