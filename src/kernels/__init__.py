"""How recurrent layers are unrolled over time: one set of parameters, several backends proven equal."""

from src.kernels.call import Call, Result
from src.kernels.dispatch import BACKENDS, pick, takes_whole_stack, unroll, unroll_whole_stack

__all__ = ["BACKENDS", "Call", "Result", "pick", "takes_whole_stack", "unroll", "unroll_whole_stack"]
