"""What a backend is asked to run: one recurrent layer, or a plain stack of layers, over one padded batch."""

from typing import Any, NamedTuple

from torch import Tensor

NO_STARTS = "it runs no sequences that begin anew inside a call; outside a graph a stack cuts them for it"


class Call(NamedTuple):
    """Layers to unroll over a sequence.

    Shapes: T time, B batch, I input size, H' a cell's output size, D directions (1, or 2 when bidirectional).
    The cells are ``deep_rnn.cells.Cell`` by contract, not by import: kernels know no models.
    """

    layers: tuple[tuple[Any, ...], ...]  # per layer its cells: forward, and backward when bidirectional
    x: Tensor  # [T, B, I], time-major; padded steps zero, unless the backend does not read them
    states: tuple[tuple[Any, ...], ...]  # per layer and direction the state before the first step
    lengths: Tensor | None = None  # [B] valid steps, on x's device; None: all T
    noises: tuple[tuple[Any, ...], ...] = ()  # per layer and direction a Noise; empty: none
    zoneout: tuple[float, ...] = ()  # per field of the state the probability of keeping its old value; empty: none
    dropout: float = 0.0  # between the layers, drawn each step
    training: bool = False
    starts: Tensor | None = None  # bool [T, B], before which steps a row's state begins anew; None: nowhere
    fresh: tuple[tuple[Any, ...], ...] = ()  # like states: what it begins anew from, where there are starts
    turned: bool = False  # whether x is turned round; what is drawn for each step is then drawn in its first order
    recompute: int | None = None  # steps a chunk whose activations are recomputed in the backward; None: keep all

    def noise(self, layer: int, direction: int) -> Any:
        """The Noise of one cell, None when the call has none."""
        return self.noises[layer][direction] if self.noises else None


def altered(call: Call) -> str | None:
    """Why the name that a cell gives its steps does not stand for what they compute now, or None."""
    return next((reason for cells in call.layers for cell in cells if (reason := cell.altered) is not None), None)


class Result(NamedTuple):
    """What a backend returns."""

    output: Tensor  # [T, B, D*H'] of the last layer, directions concatenated; zero at padded steps
    states: tuple[tuple[Any, ...], ...]  # like Call.states, after each column's last valid step
