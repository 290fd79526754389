"""Gated recurrent units."""

from typing import Any

import torch
from torch import Tensor

from deep_rnn.cells.base import HiddenState, Noise, drop, register
from deep_rnn.cells.transition import TransitionCell


@register("gru")
class GRUCell(TransitionCell):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after or before the recurrent product.

        r = sigmoid(W_r x + b_ir + U_r h + b_hr)
        z = sigmoid(W_z x + b_iz + U_z h + b_hz)
        n = tanh(W_n x + b_in + r * (U_n h + b_hn))     reset_after=True: torch.nn.GRU, cuDNN, Keras's default
        n = tanh(W_n x + b_in + U_n (r * h) + b_hn)     reset_after=False: the paper's formula
        h' = (1 - z) * n + z * h

    With layer_norm=True (Ba et al. 2016) every product is LN(W x) + b or LN(U h) + b, r and z normalised together and n
    alone.

    Gate order r z n, as torch has it (Keras: z r n). Some write z for 1 - z (Cho et al. keep z on h, as here).

    Args:
        reset_after: where the reset gate acts; with True the recurrent product is one matrix product and runs natively.
        layer_norm, transition_depth, shortcut: see ``TransitionCell``.
    """

    gates = ("r", "z", "n")
    forget_gate = "z"
    norm_groups = (2, 1)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset_after: bool = True,
        layer_norm: bool = False,
        transition_depth: int = 1,
        shortcut: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            layer_norm=layer_norm,
            transition_depth=transition_depth,
            shortcut=shortcut,
            **common,
        )
        self.reset_after = reset_after

    def transition(self, gates: Tensor, state: HiddenState, noise: Noise, level: int = 0) -> HiddenState:
        """See the class."""
        h, part = state.h, self.parts[level]
        of_gates, of_candidate = slice(2 * self.hidden_size), slice(2 * self.hidden_size, None)
        x_rz, x_n = gates[..., of_gates], gates[..., of_candidate]
        if self.reset_after:
            products = self.recurrent(h, noise, part=part)
            r, z = torch.sigmoid(x_rz + products[..., of_gates]).chunk(2, -1)
            n = torch.tanh(x_n + r * products[..., of_candidate])
        else:
            r, z = torch.sigmoid(x_rz + self.recurrent(h, noise, of_gates, part)).chunk(2, -1)
            n = torch.tanh(x_n + self.recurrent(r * h, noise, of_candidate, part))
        return HiddenState((1 - z) * drop(n, noise) + z * h)

    @property
    def native_mode(self) -> str | None:
        """GRU, when the reset gate acts after the product; layer norm and deep transitions have no native form."""
        return "GRU" if self.reset_after and self.plain else None

    @property
    def fused_mode(self) -> str | None:
        """By where the reset gate acts; a normalised shortcut is beyond the kernels."""
        if self.layer_norm and self.shortcut:
            return None
        return "gru" if self.reset_after else "gru_before"
