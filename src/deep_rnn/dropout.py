"""What a stack makes random in training, and for how long it holds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deep_rnn.cells.base import Cell, Noise
from deep_rnn.specification import per_layer


class Rates(NamedTuple):
    """Probabilities of a layer's noise, each 0 (off) to below 1."""

    dropout: float = 0.0  # of the layer's outputs
    recurrent: float = 0.0  # of h before the recurrent product (Gal & Ghahramani 2016)
    candidate: float = 0.0  # of the candidate update (Semeniuta et al. 2016)
    weight: float = 0.0  # of the recurrent weights (DropConnect; Merity et al. 2018)

    def checked(self) -> "Rates":
        """The rates themselves.

        Raises:
            ValueError: for one outside [0, 1), under the name by which DeepRNN knows it.
        """
        names = ("recurrent_dropout", "candidate_dropout", "weight_drop")
        inner = [check_rate(name, rate) for name, rate in zip(names, self[1:], strict=True)]
        return Rates(check_output_rate(self.dropout), *inner)


class LayerNoise(NamedTuple):
    """One layer's noise for one sequence."""

    cells: tuple[Noise, ...]  # a direction each
    output: Tensor | None  # [B, F] locked mask on the layer's outputs; None: drawn each step, or off


def mask(like: Tensor, shape: tuple[int, ...], rate: float) -> Tensor | None:
    """A mask of 0 and 1/keep with ``like``'s dtype and device, or None when the rate is 0."""
    if rate == 1:
        return like.new_zeros(shape)
    return like.new_empty(shape).bernoulli_(1 - rate).div_(1 - rate) if rate > 0 else None


def weight_masks(cell: Cell, rate: float) -> Mapping[str, Tensor] | None:
    """A mask for each of the cell's recurrent weights (Merity et al. 2018)."""
    if rate == 0:
        return None
    return {name: F.dropout(cell.like.new_ones(shape), rate) for name, shape in cell.recurrent_shapes.items()}


def drop_weights(cell: Cell, noise: Noise) -> Noise:
    """The noise with each weight's mask turned into the weight as it stands now, entries dropped.

    Done anew in each forward call, so that noise handed from chunk to chunk follows the optimizer, and each chunk has
    a graph of its own; the parameters themselves stay as they are. Masks were drawn before the cell's hooks ran, which
    may be what gives the weights their dtype.
    """
    dtype = cell.like.dtype
    state, candidate = (None if mask is None else mask.to(dtype) for mask in (noise.state, noise.candidate))
    if noise.weights is None:
        return Noise(state, candidate)
    return Noise(state, candidate, {name: getattr(cell, name) * mask.to(dtype) for name, mask in noise.weights.items()})


def draw(cell: Cell, rates: Rates, batch_size: int) -> Noise:
    """The noise of one cell over one sequence."""
    return Noise(
        mask(cell.like, (batch_size, cell.output_size), rates.recurrent),
        mask(cell.like, (batch_size, cell.hidden_size), rates.candidate),
        weight_masks(cell, rates.weight),
    )


def select_sequences(noise: Any, column: Tensor) -> Any:
    """A stack's noise for rows that are parts of its sequences: the masks [B, F] of those that ``column`` names."""
    if isinstance(noise, Tensor):
        return noise.index_select(0, column)
    if isinstance(noise, Noise):
        return noise._replace(
            **{name: select_sequences(getattr(noise, name), column) for name in ("state", "candidate")}
        )
    if isinstance(noise, LayerNoise):
        return LayerNoise(select_sequences(noise.cells, column), select_sequences(noise.output, column))
    return noise if noise is None else tuple(select_sequences(one, column) for one in noise)


def drop_outputs(x: Tensor, locked: Tensor | None, rate: float, training: bool) -> Tensor:
    """Dropout on [T, B, F]: by a locked mask [B, F] where there is one, else drawn each step."""
    return x * locked if locked is not None else F.dropout(x, rate, training)


def checked_dropout(dropout: float | Sequence[float], num_layers: int) -> list[float]:
    """The rate of every layer's outputs; one number is that of all layers but the last, as in torch.nn.

    Raises:
        ValueError: for a list of another length, or a rate outside [0, 1].
    """
    if not isinstance(dropout, Sequence):
        dropout = [dropout] * (num_layers - 1) + [0.0 * check_output_rate(dropout)]
    return [check_output_rate(rate) for rate in per_layer("dropout", dropout, num_layers)]


def check_output_rate(rate: float) -> float:
    """The rate itself; 1 drops everything, as in torch.nn.

    Raises:
        ValueError: unless 0 <= rate <= 1.
    """
    if isinstance(rate, str) or not 0 <= rate <= 1:
        raise ValueError(f"dropout is a probability from 0 to 1, not {rate!r}")
    return float(rate)


def check_rate(name: str, rate: float) -> float:
    """The rate itself.

    Raises:
        ValueError: unless 0 <= rate < 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"{name} is a probability from 0 to below 1, not {rate}")
    return float(rate)


def drop_words(embedded: Tensor, rate: float, training: bool) -> Tensor:
    """Set whole steps of [T, B, E] to zero: at evaluation every word is there, so nothing is rescaled."""
    if not training or rate == 0:
        return embedded
    return embedded * (torch.rand(embedded.shape[:-1], device=embedded.device) >= rate).unsqueeze(-1)
