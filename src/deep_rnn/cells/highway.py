"""The recurrent highway network."""

from typing import Any

import torch
from torch import Tensor

from deep_rnn.cells.base import NO_NOISE, Cell, HiddenState, Noise, drop, register


@register("rhn")
class RHNCell(Cell):
    """Recurrent highway network (Zilly, Srivastava, Koutník & Schmidhuber 2017): highway layers within a time step.

        s_0 = h
        g_k = tanh(W_g x [k = 1] + R_gk s_{k-1} + b_gk)
        t_k = sigmoid(W_t x [k = 1] + R_tk s_{k-1} + b_tk)
        s_k = t_k * g_k + (1 - t_k) * s_{k-1}               k = 1 ... n
        h' = s_n

    With the carry gate coupled, c = 1 - t, as in the paper's experiments. Parameters of layer k > 1 end in ``_k``. Gate
    order g t.

    Args:
        transition_depth: n, the paper's recurrence depth.
        transform_bias: start of every b_t, whatever the initialiser; negative, so that a step begins by carrying.
    Raises:
        ValueError: for a depth below 1.
    """

    gates = ("g", "t")
    recurrent_bias = False
    fused_mode = "rhn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        transition_depth: int = 3,
        transform_bias: float = -2.0,
        **common: Any,
    ) -> None:
        if transition_depth < 1:
            raise ValueError(f"transition_depth must be at least 1, not {transition_depth}")
        super().__init__(input_size, hidden_size, **common)
        self.transition_depth, self.transform_bias = transition_depth, transform_bias
        self.parts = ("", *(f"_{k}" for k in range(2, transition_depth + 1)))
        for part in self.parts[1:]:
            setattr(self, f"weight_hh{part}", self.parameter(2 * hidden_size, hidden_size))
            setattr(self, f"bias_hh{part}", self.parameter(2 * hidden_size) if self.bias else None)
        of_parts = (f"{name}{part}" for part in self.parts for name in ("weight_hh", "bias_hh"))
        self.fused_names = ("weight_ih", "bias_ih", *of_parts)

    def settle(self) -> None:
        """Begin by carrying."""
        self.set_gate_bias("t", self.transform_bias)

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        s = state.h
        for part in self.parts:
            total = self.recurrent(s, noise, part=part)
            g, t = (gates + total if part == "" else total).chunk(2, -1)
            t = torch.sigmoid(t)
            s = t * drop(torch.tanh(g), noise) + (1 - t) * s
        return HiddenState(s)
