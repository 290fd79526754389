"""The scalar LSTM of xLSTM."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deep_rnn.cells.base import NO_NOISE, Cell, Noise, drop, register


class SLSTMState(NamedTuple):
    """``h`` [B, H] the output, ``c`` and ``n`` [B, H] memory and normaliser divided by exp(m), ``m`` [B, H]."""

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


@register("slstm")
class SLSTMCell(Cell):
    """sLSTM: exponential gating with a normaliser and a stabiliser (Beck et al., "xLSTM", 2024).

        i~, f~, z~, o~ = W x + R h + b              R block-diagonal: each head sees its own part of h
        m' = max(log f + m, i~)                     log f = log sigmoid(f~), or f~ with exponential_forget
        i = exp(i~ - m')      f = exp(log f + m - m')       z = tanh(z~)      o = sigmoid(o~)
        c' = f * c + i * z
        n' = f * n + i
        h' = o * c' / n'

    The sigmoid forget gate is the one the authors' code runs. m only keeps the exponentials in range: h does not depend
    on it. Before the first step (n = 0) there is no scale to keep, so m' is i~ whatever m is; that also makes n' >= 1
    ever after. The head-wise group norm that follows the cell in an xLSTM block belongs to the block. Zoneout holds h
    only, since c, n and m make sense together. Gate order i f z o.

    Args:
        heads: number of blocks of R, which divides H; ``weight_hh`` is [4H, H / heads].
        exponential_forget: f = exp(f~) in place of the sigmoid.
    Raises:
        ValueError: if H cannot be cut into so many heads.
    """

    gates = ("i", "f", "z", "o")
    recurrent_bias = False
    forget_gate, input_gate = "f", "i"
    zoneable = ("h",)
    State = SLSTMState

    def __init__(
        self, input_size: int, hidden_size: int, *, heads: int = 1, exponential_forget: bool = False, **common: Any
    ) -> None:
        if heads < 1 or hidden_size % heads:
            raise ValueError(f"heads must divide hidden_size={hidden_size}; {heads} does not")
        super().__init__(input_size, hidden_size, **common)
        self.heads, self.exponential_forget = heads, exponential_forget
        self.weight_hh = self.parameter(4 * hidden_size, hidden_size // heads)

    def step(self, gates: Tensor, state: SLSTMState, noise: Noise = NO_NOISE) -> SLSTMState:
        """See the class."""
        i, f, z, o = (gates + self.mix(state.h, noise)).chunk(4, -1)
        kept = (f if self.exponential_forget else F.logsigmoid(f)) + state.m
        kept = torch.where(state.n == 0, -torch.inf, kept)
        m = torch.maximum(kept, i)
        i, f = torch.exp(i - m), torch.exp(kept - m)
        c = f * state.c + i * drop(torch.tanh(z), noise)
        n = f * state.n + i
        return SLSTMState(torch.sigmoid(o) * c / n, c, n, m)

    def mix(self, h: Tensor, noise: Noise) -> Tensor:
        """The recurrent product, head by head: [B, H] -> [B, 4H]."""
        if self.heads == 1:
            return self.recurrent(h, noise)
        if noise.state is not None:
            h = h * noise.state
        size = self.hidden_size // self.heads
        blocks = self.matrix("weight_hh", noise).view(4, self.heads, size, size)
        mixed = torch.einsum("bkd,gked->bgke", h.unflatten(-1, (self.heads, size)), blocks)
        return mixed.flatten(1).to(self.weight_hh.dtype)
