"""Widths that spend a given number of parameters, so that a sweep over depth compares depth and not size."""

from typing import Any, NamedTuple

from deep_rnn.stack import DeepRNN


class Budget(NamedTuple):
    """What a budget bought."""

    width: int
    parameters: int
    asked: int

    @property
    def error(self) -> float:
        """How far the stack is from what was asked for, as a share of it."""
        return abs(self.parameters - self.asked) / self.asked

    def __str__(self) -> str:
        note = "" if self.error <= 0.01 else ", the nearest that a whole width allows"
        return f"width {self.width}: {self.parameters:,} of {self.asked:,} parameters in the stack{note}"


def count_parameters(width: int, **arguments: Any) -> int:
    """Parameters of ``DeepRNN(hidden_size=width, **arguments)``, without the memory for them."""
    rnn = DeepRNN(hidden_size=width, **{**arguments, "device": "meta"})
    return sum(parameter.numel() for parameter in rnn.parameters())


def smallest_width(multiple: int, **arguments: Any) -> int:
    """The narrowest stack that its options allow (a projection must be narrower than its layer, say).

    Raises:
        ValueError: what the stack says against it, if none of the first widths is allowed.
    """
    refused = ValueError("no width was tried")
    for width in range(multiple, 1024 * multiple, multiple):
        try:
            count_parameters(width, **arguments)
        except ValueError as error:
            refused = error
        else:
            return width
    raise refused


def fit_width(budget: int, multiple: int = 1, **arguments: Any) -> Budget:
    """The width at which a stack comes nearest to a number of parameters; embedding and head stand apart.

    Args:
        budget: parameters to spend.
        multiple: the width is a multiple of this (sLSTM's heads, say).
        arguments: of DeepRNN, without ``hidden_size``.
    Raises:
        ValueError: if the narrowest stack already holds more than the budget by over 1 %.
    """
    low = smallest_width(multiple, **arguments) // multiple
    high = 2 * low
    while count_parameters(high * multiple, **arguments) < budget:
        low, high = high, high * 2
    while high - low > 1:  # parameters grow with the width
        middle = (low + high) // 2
        low, high = (middle, high) if count_parameters(middle * multiple, **arguments) <= budget else (low, middle)
    options = [Budget(w * multiple, count_parameters(w * multiple, **arguments), budget) for w in (low, high)]
    best = min(options, key=lambda option: option.error)
    if best.width == low * multiple and best.parameters > 1.01 * budget:
        least = f"the {best.parameters} parameters of a stack of width {multiple}"
        raise ValueError(f"param_budget={budget} is below {least}")
    return best
