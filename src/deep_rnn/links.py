"""Links around a layer: how what entered it joins what it computed, on the way to the layer above.

A link is a module with ``output_size`` whose call ``link(below, out)`` takes the layer's input [T, B, I] and output
[T, B, O] and gives what the next layer reads, [T, B, output_size].
"""

from typing import Any

import torch
from torch import Tensor, nn

from deep_rnn.hooks import must_be_called
from deep_rnn.kernels.highway import gated, mix


class NoLink(nn.Module):
    """``y = out``: a plain stack."""

    def __init__(self, input_size: int, layer_size: int, **factory: Any) -> None:
        super().__init__()
        self.output_size = layer_size

    def forward(self, below: Tensor, out: Tensor) -> Tensor:
        """See the class."""
        return out


class Residual(nn.Module):
    """``y = out + P below`` (He et al. 2016; between recurrent layers Wu et al. 2016).

    P is the identity where the widths agree, else a learned matrix.
    """

    def __init__(self, input_size: int, layer_size: int, **factory: Any) -> None:
        super().__init__()
        self.output_size = layer_size
        self.projection = projection(input_size, layer_size, **factory)

    def forward(self, below: Tensor, out: Tensor) -> Tensor:
        """See the class."""
        return out + self.projection(below)


class Highway(nn.Module):
    """``y = T * out + (1 - T) * P below``, ``T = sigmoid(W below + b)`` (Srivastava, Greff & Schmidhuber 2015).

    Args:
        gate_bias: b at the start; negative, so that a deep stack begins by carrying its input upwards.
    """

    def __init__(self, input_size: int, layer_size: int, gate_bias: float = -2.0, **factory: Any) -> None:
        super().__init__()
        self.output_size = layer_size
        self.projection = projection(input_size, layer_size, **factory)
        self.gate = nn.Linear(input_size, layer_size, **factory)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, below: Tensor, out: Tensor) -> Tensor:
        """See the class."""
        carried = self.projection(below)
        if must_be_called(self.gate):
            return gated(carried, out, self.gate(below))
        return mix(carried, out, below, self.gate.weight, self.gate.bias)


class Dense(nn.Module):
    """``y = [below, out]``: every layer sees the input and all layers below it (Huang et al. 2017).

    The stack gives its head the outputs of all layers, as in Graves (2013).
    """

    def __init__(self, input_size: int, layer_size: int, **factory: Any) -> None:
        super().__init__()
        self.output_size = input_size + layer_size

    def forward(self, below: Tensor, out: Tensor) -> Tensor:
        """See the class."""
        return torch.cat((below, out), -1)


def projection(input_size: int, output_size: int, **factory: Any) -> nn.Module:
    """The identity where the sizes agree, else a learned matrix without bias."""
    return nn.Identity() if input_size == output_size else nn.Linear(input_size, output_size, bias=False, **factory)


LINKS: dict[str, type[nn.Module]] = {"none": NoLink, "residual": Residual, "highway": Highway, "dense": Dense}
