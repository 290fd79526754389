"""Cells whose recurrence has no matrix: every hidden unit carries its own state and mixes only through the layers.

Where the recurrence is ``h' = a * h + b`` with a and b from the input alone (fo_pool, mingru, minlstm), a parallel scan
could compute the whole sequence at once.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deep_rnn.cells.base import ACTIVATIONS, NO_NOISE, Cell, HiddenState, Noise, drop, product, register
from deep_rnn.cells.lstm import LSTMState
from deep_rnn.naming import unknown


@register("indrnn")
class IndRNNCell(Cell):
    """Independently recurrent neural network (Li, Li, Cook, Zhu & Gao 2018).

        h' = f(W x + u * h + b)

    u is ``weight_hh`` [H], from U(0, 1) at the start as the paper has it for long memories. Gate order: the one ``g``.

    Args:
        activation: f, one of ``ACTIVATIONS``; relu in the paper.
        bound: largest |u| after an update (see ``constrain``); None: any. Over T steps a relu unit may grow by u^T: the
            paper bounds u by 2^(1/T).
    Raises:
        ValueError: for an unknown activation, or a bound that is not positive.
    """

    gates = ("g",)
    recurrent_gates = ()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "relu",
        bound: float | None = 1.0,
        **common: Any,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if bound is not None and not bound > 0:
            raise ValueError(f"bound must be a positive number or None, not {bound}")
        super().__init__(input_size, hidden_size, **common)
        self.activation, self.bound = activation, bound
        self.weight_hh = self.parameter(hidden_size)

    def settle(self) -> None:
        """u in the range in which a relu unit neither explodes nor changes sign."""
        torch.nn.init.uniform_(self.weight_hh, 0, 1)

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        h = state.h if noise.state is None else state.h * noise.state
        return HiddenState(drop(ACTIVATIONS[self.activation](gates + self.weight_hh * h), noise))

    def constrain(self) -> None:
        """Put u back within its bound."""
        if self.bound is not None:
            self.weight_hh.clamp_(-self.bound, self.bound)

    @property
    def fused_mode(self) -> str | None:
        """By the activation: relu or tanh."""
        return f"indrnn_{self.activation}" if self.activation in ("relu", "tanh") else None


@register("sru")
class SRUCell(Cell):
    """Simple recurrent unit (Lei, Zhang, Wang, Dai & Artzi 2018).

        f = sigmoid(W_f x + v_f * c + b_f)      r = sigmoid(W_r x + v_r * c + b_r)
        c' = f * c + (1 - f) * (W x)
        h' = r * c' + (1 - r) * S x             S the identity where I = H, else learned (``weight_ih_skip``)

    The version of the conference paper: v in both gates, no tanh on c', no bias on W x; without its scaling of the skip
    at initialisation. Recurrent dropout acts on c before v. Gate order f r g, g the candidate W x.
    """

    gates = ("f", "r", "g")
    recurrent_gates = ()
    forget_gate = "f"
    zoneable = ("c",)  # h is read by no later step
    State = LSTMState

    def __init__(self, input_size: int, hidden_size: int, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.bias_ih = self.parameter(2 * hidden_size) if self.bias else None
        self.weight_cf, self.weight_cr = self.parameter(hidden_size), self.parameter(hidden_size)
        self.weight_ih_skip = None if input_size == hidden_size else self.parameter(hidden_size, input_size)

    def project(self, x: Tensor) -> Tensor:
        """The gates' input products, and what the skip carries: [..., I] -> [..., 4H]."""
        bias = None if self.bias_ih is None else F.pad(self.bias_ih, (0, self.hidden_size))
        gates = product(x, self.weight_ih, bias)
        skip = x if self.weight_ih_skip is None else product(x, self.weight_ih_skip, None)
        return torch.cat((gates, skip.to(gates.dtype)), -1)

    def step(self, gates: Tensor, state: LSTMState, noise: Noise = NO_NOISE) -> LSTMState:
        """See the class."""
        f, r, g, skip = gates.chunk(4, -1)
        seen = state.c if noise.state is None else state.c * noise.state
        f, r = torch.sigmoid(f + self.weight_cf * seen), torch.sigmoid(r + self.weight_cr * seen)
        c = f * state.c + (1 - f) * drop(g, noise)
        return LSTMState(r * c + (1 - r) * skip, c)

    @property
    def fused_mode(self) -> str | None:
        """By what the skip carries: x itself, or its product with ``weight_ih_skip``."""
        return "sru" if self.weight_ih_skip is not None else "sru_same_width"

    def fused_weights(self, noise: Noise | None = None) -> dict[str, Tensor]:
        """The input weights in one, with a bias of zero where there is none."""
        skip, size = self.weight_ih_skip, self.hidden_size
        named = {"weight_ih": self.weight_ih if skip is None else torch.cat((self.weight_ih, skip))}
        if self.bias_ih is not None:
            named["bias_ih"] = F.pad(self.bias_ih, (0, size if skip is None else 2 * size))
        return {**named, "weight_cf": self.weight_cf, "weight_cr": self.weight_cr}

    def unfused(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """The input weights apart, and the bias of the gates alone."""
        parts = dict(named)
        if self.weight_ih_skip is not None:
            parts["weight_ih"], parts["weight_ih_skip"] = named["weight_ih"].split(
                (3 * self.hidden_size, self.hidden_size)
            )
        if "bias_ih" in named:
            parts["bias_ih"] = named["bias_ih"][: 2 * self.hidden_size]
        return parts


class PoolState(NamedTuple):
    """``h`` [B, H] the output, ``c`` [B, H] the memory, ``ahead`` [B, 3H(k-1)] what past inputs add to coming gates."""

    h: Tensor
    c: Tensor
    ahead: Tensor


@register("fo_pool")
class FOPoolCell(Cell):
    """Quasi-recurrent network with fo-pooling (QRNN; Bradbury, Merity, Xiong & Socher 2017).

        z = tanh(W_z * x)       f, o = sigmoid(W_f * x), sigmoid(W_o * x)       * a causal convolution over k steps
        c' = f c + (1 - f) z
        h' = o c'

    A convolution's reach into the past is state: each input's share in the gates of the k - 1 steps to come is carried
    along (``ahead``), so that a sequence may be cut anywhere. Tap 0, the current input, is ``weight_ih`` [3H, I]; the
    taps 1 ... k-1 are stacked in ``weight_ih_past`` [3H(k-1), I]. No recurrent weights. Gate order z f o.

    Args:
        window: k, steps the convolution sees; 1 is a plain product.
    Raises:
        ValueError: for a window below 1.
    """

    gates = ("z", "f", "o")
    recurrent_gates = ()
    noises = ("candidate",)
    forget_gate = "f"
    zoneable = ("c",)  # the paper's own zoneout; h is read by no later step

    def __init__(self, input_size: int, hidden_size: int, *, window: int = 1, **common: Any) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        super().__init__(input_size, hidden_size, **common)
        self.window = window
        self.State = PoolState if window > 1 else LSTMState
        if window > 1:
            self.weight_ih_past = self.parameter(3 * hidden_size * (window - 1), input_size)

    def project(self, x: Tensor) -> Tensor:
        """This step's own share in the gates, then its shares in those of the steps to come: [..., I] -> [..., 3Hk]."""
        now = super().project(x)
        return now if self.window == 1 else torch.cat((now, product(x, self.weight_ih_past, None)), -1)

    def step(self, gates: Tensor, state: Any, noise: Noise = NO_NOISE) -> Any:
        """See the class."""
        size = 3 * self.hidden_size
        now, *ahead = gates.split([size, size * (self.window - 1)], -1) if self.window > 1 else (gates,)
        if self.window > 1:
            now = now + state.ahead[..., :size]
            ahead = [ahead[0] + F.pad(state.ahead[..., size:], (0, size))]
        z, f, o = now.chunk(3, -1)
        f = torch.sigmoid(f)
        c = f * state.c + (1 - f) * drop(torch.tanh(z), noise)
        return self.State(torch.sigmoid(o) * c, c, *ahead)

    @property
    def fused_mode(self) -> str | None:
        """By the window, up to 3 steps."""
        return {1: "fo_pool", 2: "fo_pool_2", 3: "fo_pool_3"}.get(self.window)

    def fused_weights(self, noise: Noise | None = None) -> dict[str, Tensor]:
        """The window's weights in one, with a bias for its first tap only."""
        named = super().fused_weights(noise)
        if self.window > 1:
            named["weight_ih"] = torch.cat((self.weight_ih, self.weight_ih_past))
        if self.window > 1 and self.bias_ih is not None:
            named["bias_ih"] = F.pad(self.bias_ih, (0, self.weight_ih_past.shape[0]))
        return named

    def unfused(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """The window's weights of this step and of the past ones, and the bias of this one's."""
        if self.window == 1:
            return named
        own, past = named["weight_ih"].tensor_split((3 * self.hidden_size,))
        parts = {**named, "weight_ih": own, "weight_ih_past": past}
        if "bias_ih" in named:
            parts["bias_ih"] = named["bias_ih"][: 3 * self.hidden_size]
        return parts

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """H, H, and with a window the gates of the coming steps."""
        sizes = (self.hidden_size, self.hidden_size, 3 * self.hidden_size * (self.window - 1))
        return sizes if self.window > 1 else sizes[:2]


@register("mingru")
class MinGRUCell(Cell):
    """Minimal GRU (minGRU; Feng et al., "Were RNNs all we needed?", 2024).

        z = sigmoid(W_z x + b_z)        n = W_n x + b_n
        h' = (1 - z) * h + z * n

    Gate order z n.

    Args:
        positive: use g(n) in place of n, g(a) = a + 1/2 for a >= 0, else sigmoid(a): the candidate of the paper's
            log-space form, which computes the same h' by another route.
    """

    gates = ("z", "n")
    recurrent_gates = ()
    noises = ("candidate",)

    def __init__(self, input_size: int, hidden_size: int, *, positive: bool = False, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.positive = positive

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        z, n = gates.chunk(2, -1)
        z, n = torch.sigmoid(z), above_zero(n) if self.positive else n
        return HiddenState((1 - z) * state.h + z * drop(n, noise))

    @property
    def fused_mode(self) -> str | None:
        """By the candidate."""
        return "mingru_positive" if self.positive else "mingru"


@register("minlstm")
class MinLSTMCell(Cell):
    """Minimal LSTM (minLSTM; Feng et al., "Were RNNs all we needed?", 2024), the version with normalised gates.

        f = sigmoid(W_f x + b_f)        i = sigmoid(W_i x + b_i)        n = W_n x + b_n
        h' = f / (f + i) * h + i / (f + i) * n

    f / (f + i) is computed as sigmoid(log f - log i), which stays right where both underflow. Gate order f i n.

    Args:
        positive: as in ``MinGRUCell``.
    """

    gates = ("f", "i", "n")
    recurrent_gates = ()
    noises = ("candidate",)
    forget_gate, input_gate = "f", "i"

    def __init__(self, input_size: int, hidden_size: int, *, positive: bool = False, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.positive = positive

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        f, i, n = gates.chunk(3, -1)
        keep = torch.sigmoid(F.logsigmoid(f) - F.logsigmoid(i))
        return HiddenState(keep * state.h + (1 - keep) * drop(above_zero(n) if self.positive else n, noise))

    @property
    def fused_mode(self) -> str | None:
        """By the candidate."""
        return "minlstm_positive" if self.positive else "minlstm"


def above_zero(x: Tensor) -> Tensor:
    """minGRU's g: x + 1/2 for x >= 0, else sigmoid(x); continuous, positive, and nearly linear above zero."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))
