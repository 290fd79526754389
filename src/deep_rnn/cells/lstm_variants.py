"""Relatives of the LSTM: peepholes, coupled gates, a projection, a lone forget gate, multiplicative inputs."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deep_rnn.cells.base import NO_NOISE, Cell, HiddenState, Noise, drop, linear, product, register
from deep_rnn.cells.lstm import LSTMState


@register("peephole")
class PeepholeLSTMCell(Cell):
    """LSTM whose gates see the memory (Gers & Schmidhuber, "Recurrent nets that time and count", 2000).

        i = sigmoid(W_i x + U_i h + p_i * c  + b_i)
        f = sigmoid(W_f x + U_f h + p_f * c  + b_f)
        g = tanh(W_g x + U_g h + b_g)
        c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + p_o * c' + b_o)     the output gate sees the new memory
        h' = o * tanh(c')

    Diagonal peepholes, and tanh on the memory, as in Graves (2013) and Greff et al. (2017). Gate order i f g o.
    """

    gates = ("i", "f", "g", "o")
    recurrent_bias = False
    forget_gate, input_gate = "f", "i"
    State = LSTMState
    fused_mode = "peephole"
    fused_names = ("weight_ih", "weight_hh", "bias_ih", "weight_ci", "weight_cf", "weight_co")

    def __init__(self, input_size: int, hidden_size: int, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.weight_ci, self.weight_cf, self.weight_co = (self.parameter(hidden_size) for _ in "ifo")

    def step(self, gates: Tensor, state: LSTMState, noise: Noise = NO_NOISE) -> LSTMState:
        """See the class."""
        i, f, g, o = (gates + self.recurrent(state.h, noise)).chunk(4, -1)
        i, f = torch.sigmoid(i + self.weight_ci * state.c), torch.sigmoid(f + self.weight_cf * state.c)
        c = f * state.c + i * drop(torch.tanh(g), noise)
        return LSTMState(torch.sigmoid(o + self.weight_co * c) * torch.tanh(c), c)


@register("cifg")
class CoupledLSTMCell(Cell):
    """LSTM with coupled input and forget gates (CIFG; Greff et al., "LSTM: a search space odyssey", 2017).

        f, o = sigmoid(W x + U h + b)       g = tanh(the same, its own rows)
        c' = f * c + (1 - f) * g
        h' = o * tanh(c')

    Without peepholes. The paper writes f = 1 - i; here f is the gate that is learned, so that a forget bias means what
    it means elsewhere. Gate order f g o.
    """

    gates = ("f", "g", "o")
    recurrent_bias = False
    forget_gate = "f"
    State = LSTMState
    fused_mode = "cifg"

    def step(self, gates: Tensor, state: LSTMState, noise: Noise = NO_NOISE) -> LSTMState:
        """See the class."""
        f, g, o = (gates + self.recurrent(state.h, noise)).chunk(3, -1)
        f = torch.sigmoid(f)
        c = f * state.c + (1 - f) * drop(torch.tanh(g), noise)
        return LSTMState(torch.sigmoid(o) * torch.tanh(c), c)


@register("lstmp")
class ProjectedLSTMCell(Cell):
    """LSTM whose output is a projection of the memory's (LSTMP; Sak, Senior & Beaufays 2014), as torch's ``proj_size``.

        i, f, o = sigmoid(W x + b_ih + U h + b_hh)      g = tanh(the same, its own rows)
        c' = f * c + i * g
        h' = P (o * tanh(c'))                           P ``weight_hr`` [proj_size, H]

    Without the paper's peepholes and its second, non-recurrent projection. Gate order i f g o.

    Args:
        proj_size: features of h, from 1 to below H; None takes half of H.
    Raises:
        ValueError: for a proj_size outside that range.
    """

    gates = ("i", "f", "g", "o")
    forget_gate, input_gate = "f", "i"
    State = LSTMState

    def __init__(self, input_size: int, hidden_size: int, *, proj_size: int | None = None, **common: Any) -> None:
        if proj_size is None:
            proj_size = max(1, hidden_size // 2)
        if not 1 <= proj_size < max(hidden_size, 2):
            raise ValueError(f"proj_size must be from 1 to below hidden_size={hidden_size}, not {proj_size}")
        self.proj_size = proj_size  # before the base, which sizes the recurrent weight by it
        super().__init__(input_size, hidden_size, **common)
        self.weight_hr = self.parameter(proj_size, hidden_size)

    def step(self, gates: Tensor, state: LSTMState, noise: Noise = NO_NOISE) -> LSTMState:
        """See the class."""
        i, f, g, o = (gates + self.recurrent(state.h, noise)).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * drop(torch.tanh(g), noise)
        return LSTMState(linear(torch.sigmoid(o) * torch.tanh(c), self.weight_hr, None), c)

    @property
    def output_size(self) -> int:
        """Features of h: the projection's."""
        return self.proj_size

    @property
    def native_mode(self) -> str | None:
        """LSTM, which takes the projection as a fifth parameter; torch wants it smaller than H."""
        return "LSTM" if self.proj_size < self.hidden_size else None


@register("janet")
class JANETCell(Cell):
    """LSTM reduced to its forget gate (JANET; van der Westhuizen & Lasenby, "The unreasonable effectiveness of the
    forget gate", 2018).

        s = W_f x + U_f h + b_f         g = tanh(W_g x + U_g h + b_g)
        h' = sigmoid(s) * h + (1 - sigmoid(s - beta)) * g

    Gate order f g.

    Args:
        beta: how much more freely the input enters than the memory leaves; 1 in the paper, 0 couples the two.
    """

    gates = ("f", "g")
    recurrent_bias = False
    forget_gate = "f"
    fused_mode = "janet"

    def __init__(self, input_size: int, hidden_size: int, *, beta: float = 1.0, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.beta = beta

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        s, g = (gates + self.recurrent(state.h, noise)).chunk(2, -1)
        return HiddenState(torch.sigmoid(s) * state.h + torch.sigmoid(self.beta - s) * drop(torch.tanh(g), noise))

    @property
    def fused_constants(self) -> tuple[float, ...]:
        """beta."""
        return (self.beta,)


@register("mlstm")
class MultiplicativeLSTMCell(Cell):
    """Multiplicative LSTM (Krause, Lu, Murray & Renals 2016): the input chooses the recurrent matrix.

        m = (W_m x) * (U_m h)               no bias; U_m is ``weight_hh_m``
        i, f, o = sigmoid(W x + U m + b)    g = tanh(the same, its own rows)
        c' = f * c + i * g
        h' = o * tanh(c')

    Tanh on the candidate and o outside the last tanh, as in the LSTM above and in Radford et al. (2017); some versions
    of the paper have h' = tanh(o * c'). Not xLSTM's matrix memory of the same name. Gate order i f g o m.
    """

    gates = ("i", "f", "g", "o", "m")
    recurrent_gates = ("i", "f", "g", "o")
    recurrent_bias = False
    forget_gate, input_gate = "f", "i"
    State = LSTMState
    fused_mode = "mlstm"
    fused_names = ("weight_ih", "weight_hh", "weight_hh_m", "bias_ih")

    def __init__(self, input_size: int, hidden_size: int, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.weight_hh_m = self.parameter(hidden_size, hidden_size)
        self.bias_ih = self.parameter(4 * hidden_size) if self.bias else None

    def project(self, x: Tensor) -> Tensor:
        """All gates' input products; m has no bias."""
        bias = None if self.bias_ih is None else F.pad(self.bias_ih, (0, self.hidden_size))
        return product(x, self.weight_ih, bias)

    def step(self, gates: Tensor, state: LSTMState, noise: Noise = NO_NOISE) -> LSTMState:
        """See the class."""
        of_gates, of_m = slice(4 * self.hidden_size), slice(4 * self.hidden_size, None)
        m = gates[..., of_m] * self.recurrent(state.h, noise, part="_m")
        i, f, g, o = (gates[..., of_gates] + linear(m, self.matrix("weight_hh", noise), None)).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * drop(torch.tanh(g), noise)
        return LSTMState(torch.sigmoid(o) * torch.tanh(c), c)

    def fused_weights(self, noise: Noise | None = None) -> dict[str, Tensor]:
        """With a bias of zero for m."""
        named = super().fused_weights(noise)
        if self.bias_ih is not None:
            named["bias_ih"] = F.pad(self.bias_ih, (0, self.hidden_size))
        return named

    def unfused(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the bias for m."""
        if "bias_ih" not in named:
            return named
        return {**named, "bias_ih": named["bias_ih"][: -self.hidden_size]}
