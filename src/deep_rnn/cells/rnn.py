"""The simple recurrent network of Elman (1990)."""

from typing import Any

from torch import Tensor, nn

from deep_rnn.cells.base import ACTIVATIONS, HiddenState, Noise, drop, register
from deep_rnn.cells.transition import TransitionCell
from deep_rnn.naming import unknown


@register("rnn")
class RNNCell(TransitionCell):
    """Elman RNN (Elman, "Finding structure in time", Cognitive Science 1990).

        h' = f(W x + b_ih + U h + b_hh)
        h' = f(LN(W x + U h))               layer_norm=True: gain and bias are the norm's (Ba et al. 2016, eq. 4)

    Gate order: the one candidate ``g``. Same parameters and formula as torch.nn.RNN, with any activation f.

    Args:
        activation: f, one of ``ACTIVATIONS``; torch.nn has tanh and relu only.
        layer_norm, transition_depth, shortcut: see ``TransitionCell``.
    Raises:
        ValueError: for an unknown activation.
    """

    gates = ("g",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        layer_norm: bool = False,
        transition_depth: int = 1,
        shortcut: bool = False,
        bias: bool = True,
        **common: Any,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        super().__init__(
            input_size,
            hidden_size,
            layer_norm=layer_norm,
            transition_depth=transition_depth,
            shortcut=shortcut,
            bias=bias and not layer_norm,
            **common,
        )
        self.activation = activation
        self.norms = nn.ModuleList(
            nn.LayerNorm(hidden_size, bias=bias, **self.factory) if layer_norm else nn.Identity() for _ in self.parts
        )

    def transition(self, gates: Tensor, state: HiddenState, noise: Noise, level: int = 0) -> HiddenState:
        """See the class."""
        total = self.norms[level](gates + self.recurrent(state.h, noise, part=self.parts[level]))
        return HiddenState(drop(ACTIVATIONS[self.activation](total), noise))

    @property
    def native_mode(self) -> str | None:
        """RNN_TANH or RNN_RELU; other activations, layer norm and deep transitions have no native form."""
        return {"tanh": "RNN_TANH", "relu": "RNN_RELU"}.get(self.activation) if self.plain else None

    @property
    def fused_mode(self) -> str | None:
        """By the activation, tanh or relu, and whether it is normalised."""
        norm = "_norm" if self.layer_norm else ""
        return f"rnn_{self.activation}{norm}" if self.activation in ("tanh", "relu") else None
