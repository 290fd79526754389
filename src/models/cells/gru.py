"""Gated recurrent units."""

from typing import Any

import torch
from torch import Tensor

from src.models.cells.base import NO_NOISE, Cell, HiddenState, Noise, drop, register


@register("gru")
class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after or before the recurrent product.

        r = sigmoid(W_r x + b_ir + U_r h + b_hr)
        z = sigmoid(W_z x + b_iz + U_z h + b_hz)
        n = tanh(W_n x + b_in + r * (U_n h + b_hn))     reset_after=True: torch.nn.GRU, cuDNN, Keras's default
        n = tanh(W_n x + b_in + U_n (r * h) + b_hn)     reset_after=False: the paper's formula
        h' = (1 - z) * n + z * h

    Gate order r z n, as torch has it (Keras: z r n). Some write z for 1 - z (Cho et al. keep z on h, as here).

    Args:
        reset_after: where the reset gate acts; with True the recurrent product is one matrix product and runs natively.
    """

    gates = ("r", "z", "n")

    def __init__(self, input_size: int, hidden_size: int, *, reset_after: bool = True, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.reset_after = reset_after

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        h, of_gates, of_candidate = state.h, slice(2 * self.hidden_size), slice(2 * self.hidden_size, None)
        x_rz, x_n = gates[..., of_gates], gates[..., of_candidate]
        if self.reset_after:
            products = self.recurrent(h, noise)
            r, z = torch.sigmoid(x_rz + products[..., of_gates]).chunk(2, -1)
            n = torch.tanh(x_n + r * products[..., of_candidate])
        else:
            r, z = torch.sigmoid(x_rz + self.recurrent(h, noise, of_gates)).chunk(2, -1)
            n = torch.tanh(x_n + self.recurrent(r * h, noise, of_candidate))
        return HiddenState((1 - z) * drop(n, noise) + z * h)

    @property
    def native_mode(self) -> str | None:
        """GRU, when the reset gate acts after the product."""
        return "GRU" if self.reset_after else None
