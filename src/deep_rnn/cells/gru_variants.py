"""Relatives of the GRU with one gate."""

from typing import Any

import torch
from torch import Tensor

from deep_rnn.cells.base import NO_NOISE, Cell, HiddenState, Noise, drop, register
from deep_rnn.cells.norm import GateNorm


@register("mgu")
class MGUCell(Cell):
    """Minimal gated unit (Zhou, Wu, Zhang & Zhou 2016): one gate resets and updates.

        f = sigmoid(W_f x + U_f h + b_f)
        n = tanh(W_n x + U_n (f * h) + b_n)
        h' = (1 - f) * h + f * n

    Gate order f n. The paper calls f a forget gate, but f = 1 forgets: it is no gate for a forget bias.
    """

    gates = ("f", "n")
    recurrent_bias = False
    fused_mode = "mgu"

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        h, of_gate, of_candidate = state.h, slice(self.hidden_size), slice(self.hidden_size, None)
        f = torch.sigmoid(gates[..., of_gate] + self.recurrent(h, noise, of_gate))
        n = torch.tanh(gates[..., of_candidate] + self.recurrent(f * h, noise, of_candidate))
        return HiddenState((1 - f) * h + f * drop(n, noise))


@register("ugrnn")
class UGRNNCell(Cell):
    """Update gate RNN (Collins, Sohl-Dickstein & Sussillo, "Capacity and trainability in RNNs", 2017).

        g = sigmoid(W_g x + U_g h + b_g)        c = tanh(W_c x + U_c h + b_c)
        h' = g * h + (1 - g) * c

    Gate order c g, as in the paper. g keeps the memory: a forget bias (the paper's b^fg) goes on it.
    """

    gates = ("c", "g")
    recurrent_bias = False
    forget_gate = "g"
    fused_mode = "ugrnn"

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        c, g = (gates + self.recurrent(state.h, noise)).chunk(2, -1)
        g = torch.sigmoid(g)
        return HiddenState(g * state.h + (1 - g) * drop(torch.tanh(c), noise))


@register("ligru")
class LightGRUCell(Cell):
    """Light GRU (Ravanelli, Brakel, Omologo & Bengio 2018): no reset gate, relu, normalised inputs.

        z = sigmoid(LN(W x)_z + b_z + U_z h)
        n = relu(LN(W x)_n + b_n + U_n h)
        h' = z * h + (1 - z) * n

    The paper normalises W x over the batch; here layer norm over both gates (as SpeechBrain offers it) takes its place,
    so that neither padding nor the cutting of a sequence into chunks changes a result. Gate order z n.
    """

    gates = ("z", "n")
    recurrent_bias = False
    forget_gate = "z"
    fused_mode = "ligru"
    fused_names = ("weight_ih", "weight_hh", "bias_ih", "norm_ih.weight")
    norm_groups = (2,)

    def __init__(self, input_size: int, hidden_size: int, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.norm_ih = GateNorm(hidden_size, self.norm_groups, **self.factory)

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        z, n = (gates + self.recurrent(state.h, noise)).chunk(2, -1)
        z = torch.sigmoid(z)
        return HiddenState(z * state.h + (1 - z) * drop(torch.relu(n), noise))
