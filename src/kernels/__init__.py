"""How recurrent layers are unrolled over time: one set of parameters, several backends proven equal."""

from src.kernels.call import Call, Result
from src.kernels.dispatch import BACKENDS, Choices, choose, pick, unroll

__all__ = ["BACKENDS", "Call", "Choices", "Result", "choose", "pick", "unroll"]
