"""Cells that are differential equations, stepped in time."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_rnn.cells.base import NO_NOISE, Cell, HiddenState, Noise, drop, linear, register


class OscillatorState(NamedTuple):
    """``y`` [B, H], the output, and ``z`` [B, H]: its velocity (cornn) or its slow partner (lem)."""

    y: Tensor
    z: Tensor


@register("cornn")
class CoRNNCell(Cell):
    """Coupled oscillatory RNN (Rusch & Mishra 2021): forced, damped oscillators y'' = tanh(...) - gamma y - epsilon y'.

        z' = z + dt * (tanh(W y + W_z z + V x + b) - gamma * y - epsilon * z)       W_z is ``weight_hh_z``
        y' = y + dt * z'

    The explicit form of the paper's IMEX scheme, which the authors' code runs, with its defaults for sequential MNIST.
    Gate order: the one forcing ``g``.

    Args:
        dt: time step, positive.
        gamma: frequency of the oscillators.
        epsilon: damping.
    Raises:
        ValueError: for a dt that is not positive.
    """

    gates = ("g",)
    recurrent_bias = False
    State = OscillatorState
    fused_mode = "cornn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dt: float = 0.042,
        gamma: float = 2.7,
        epsilon: float = 4.7,
        **common: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.dt, self.gamma, self.epsilon = positive("dt", dt), gamma, epsilon
        self.weight_hh_z = self.parameter(hidden_size, hidden_size)

    def step(self, gates: Tensor, state: OscillatorState, noise: Noise = NO_NOISE) -> OscillatorState:
        """See the class."""
        y, z = state
        force = torch.tanh(gates + self.recurrent(y, noise) + self.recurrent(z, noise, part="_z"))
        z = z + self.dt * (drop(force, noise) - self.gamma * y - self.epsilon * z)
        return OscillatorState(y + self.dt * z, z)

    @property
    def fused_constants(self) -> tuple[float, ...]:
        """dt, gamma and epsilon."""
        return (self.dt, self.gamma, self.epsilon)

    def fused_weights(self, noise: Noise | None = None) -> dict[str, Tensor]:
        """Both recurrent matrices in one, which reads y and z side by side."""
        named = super().fused_weights(noise)
        part = self.matrix("weight_hh_z", NO_NOISE if noise is None else noise)
        return {**named, "weight_hh": torch.cat((named["weight_hh"], part), 1)}

    def unfused(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """The recurrent matrices of y and of z."""
        of_y, of_z = named["weight_hh"].chunk(2, 1)
        return {**named, "weight_hh": of_y, "weight_hh_z": of_z}


@register("lem")
class LEMCell(Cell):
    """Long expressive memory (Rusch, Mishra, Erichson & Mahoney 2022): two time scales, both learned.

        a = dt * sigmoid(W_a y + V_a x + b_a)       step of z (the paper's Delta t)
        d = dt * sigmoid(W_d y + V_d x + b_d)       step of y (the paper's Delta t bar)
        z' = (1 - a) * z + a * tanh(W_z y + V_z x + b_z)
        y' = (1 - d) * y + d * tanh(W_y z' + V_y x + b_y)       W_y is ``weight_hh_y``

    The output is y. Gate order a d z y.

    Args:
        dt: the largest time step, positive; 1 in most of the paper.
    Raises:
        ValueError: for a dt that is not positive.
    """

    gates = ("a", "d", "z", "y")
    recurrent_gates = ("a", "d", "z")
    recurrent_bias = False
    State = OscillatorState
    fused_mode = "lem"
    fused_names = ("weight_ih", "weight_hh", "weight_hh_y", "bias_ih")

    def __init__(self, input_size: int, hidden_size: int, *, dt: float = 1.0, **common: Any) -> None:
        super().__init__(input_size, hidden_size, **common)
        self.dt = positive("dt", dt)
        self.weight_hh_y = self.parameter(hidden_size, hidden_size)

    def step(self, gates: Tensor, state: OscillatorState, noise: Noise = NO_NOISE) -> OscillatorState:
        """See the class."""
        y, z = state
        from_y, of_y = slice(3 * self.hidden_size), slice(3 * self.hidden_size, None)
        a, d, force = (gates[..., from_y] + self.recurrent(y, noise)).chunk(3, -1)
        a, d = self.dt * torch.sigmoid(a), self.dt * torch.sigmoid(d)
        z = (1 - a) * z + a * drop(torch.tanh(force), noise)
        pull = torch.tanh(gates[..., of_y] + self.recurrent(z, noise, part="_y"))
        return OscillatorState((1 - d) * y + d * drop(pull, noise), z)

    @property
    def fused_constants(self) -> tuple[float, ...]:
        """dt."""
        return (self.dt,)


@register("antisymmetric")
class AntisymmetricRNNCell(Cell):
    """Antisymmetric RNN (Chang, Chen, Haber & Chi 2019): a stable equation, so gradients neither vanish nor explode.

        M = W - W^T - gamma I
        h' = h + epsilon * tanh(M h + V x + b)
        h' = h + epsilon * sigmoid(M h + V_z x + b_z) * tanh(M h + V x + b)     gated=True; both share M

    Gate order g, or g z. W is ``weight_hh`` [H, H], of which only the antisymmetric part counts.

    Args:
        epsilon: step size, positive.
        gamma: diffusion, which keeps the stepped equation stable.
        gated: the gated form.
    Raises:
        ValueError: for an epsilon that is not positive.
    """

    gates: tuple[str, ...] = ("g",)
    recurrent_gates = ("g",)
    recurrent_bias = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        epsilon: float = 0.01,
        gamma: float = 0.01,
        gated: bool = False,
        **common: Any,
    ) -> None:
        if gated:
            self.gates = ("g", "z")
        super().__init__(input_size, hidden_size, **common)
        self.epsilon, self.gamma, self.gated = positive("epsilon", epsilon), gamma, gated

    def step(self, gates: Tensor, state: HiddenState, noise: Noise = NO_NOISE) -> HiddenState:
        """See the class."""
        h = state.h if noise.state is None else state.h * noise.state
        weight = self.matrix("weight_hh", noise)
        spin = linear(h, weight - weight.t(), None) - self.gamma * h
        change = drop(torch.tanh(gates[..., : self.hidden_size] + spin), noise)
        if self.gated:
            change = torch.sigmoid(gates[..., self.hidden_size :] + spin) * change
        return HiddenState(state.h + self.epsilon * change)

    @property
    def fused_mode(self) -> str | None:
        """By whether it is gated."""
        return "antisymmetric_gated" if self.gated else "antisymmetric"

    @property
    def fused_constants(self) -> tuple[float, ...]:
        """epsilon."""
        return (self.epsilon,)

    def fused_weights(self, noise: Noise | None = None) -> dict[str, Tensor]:
        """With M = W - W^T - gamma I for W."""
        named = super().fused_weights(noise)
        weight = named["weight_hh"]
        identity = torch.eye(self.hidden_size, dtype=weight.dtype, device=weight.device)
        return {**named, "weight_hh": weight - weight.t() - self.gamma * identity}

    def unfused(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """A W of which M is made: its upper triangle, which M says all of."""
        return {**named, "weight_hh": named["weight_hh"].triu(1)}


def positive(name: str, value: float) -> float:
    """The value itself.

    Raises:
        ValueError: unless it is above 0.
    """
    if not value > 0:
        raise ValueError(f"{name} must be positive, not {value}")
    return value
