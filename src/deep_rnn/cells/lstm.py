"""Long short-term memory."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deep_rnn.cells.base import Noise, drop, register
from deep_rnn.cells.transition import TransitionCell


class LSTMState(NamedTuple):
    """``h`` [B, H], the output, and ``c`` [B, H], the memory cell."""

    h: Tensor
    c: Tensor


@register("lstm")
class LSTMCell(TransitionCell):
    """LSTM with forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000), as torch.nn.LSTM computes it.

        i, f, o = sigmoid(W x + b_ih + U h + b_hh)      g = tanh(the same, its own rows)
        c' = f * c + i * g
        h' = o * tanh(c')

    With layer_norm=True (Ba et al. 2016) the two products are LN(W x) + b_ih and LN(U h) + b_hh, each over all four
    gates together, and h' = o * tanh(LN(c')).

    Gate order i f g o, as torch and Keras have it (haiku: i g f o; Sonnet: i f g o with +1 on f).

    Args:
        layer_norm, transition_depth, shortcut: see ``TransitionCell``.
    """

    gates = ("i", "f", "g", "o")
    forget_gate, input_gate = "f", "i"
    norm_groups = (4,)
    State = LSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        layer_norm: bool = False,
        transition_depth: int = 1,
        shortcut: bool = False,
        bias: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            layer_norm=layer_norm,
            transition_depth=transition_depth,
            shortcut=shortcut,
            bias=bias,
            **common,
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(hidden_size, bias=bias, **self.factory) if layer_norm else nn.Identity() for _ in self.parts
        )

    def transition(self, gates: Tensor, state: LSTMState, noise: Noise, level: int = 0) -> LSTMState:
        """See the class."""
        i, f, g, o = (gates + self.recurrent(state.h, noise, part=self.parts[level])).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * drop(torch.tanh(g), noise)
        return LSTMState(torch.sigmoid(o) * torch.tanh(self.norms[level](c)), c)

    @property
    def native_mode(self) -> str | None:
        """LSTM; layer norm and deep transitions have no native form."""
        return "LSTM" if self.plain else None

    @property
    def fused_mode(self) -> str | None:
        """By whether the memory is normalised; a normalised shortcut is beyond the kernels."""
        if self.layer_norm:
            return None if self.shortcut else "lstm_norm"
        return "lstm"
