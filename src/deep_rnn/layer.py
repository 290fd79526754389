"""One recurrent layer: a cell for each direction, and how the directions merge."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deep_rnn.cells import Cell, Noise
from deep_rnn.dropout import LayerNoise, Rates, draw, drop_weights, mask
from deep_rnn.kernels import Call
from deep_rnn.naming import check_name

NO_RATES = Rates()
MERGES = ("concat", "sum", "mean", "mul")


class Layer(nn.Module):
    """A cell in one or two directions.

    Args:
        cells: the forward cell, and the backward one of a bidirectional layer.
        merge: concat [fwd, bwd], sum, mean or mul of the two outputs.
        rates: probabilities of the layer's noise.
        locked: whether the mask on the outputs holds for a whole sequence.
        zoneout: probability that a unit of the state keeps its old value; one for all fields, or one a field.
        learn_state: whether the state before the first step is learned (it starts at zero).
    Raises:
        ValueError: for an unknown merge, rates that the cell has no use for, or a zoneout of the wrong length.
    """

    cells: Any  # nn.ModuleList of Cell

    def __init__(
        self,
        cells: list[Cell],
        merge: str = "concat",
        rates: Rates = NO_RATES,
        locked: bool = False,
        zoneout: float | tuple[float, ...] = 0.0,
        learn_state: bool = False,
    ) -> None:
        super().__init__()
        check_name("merge", merge, MERGES)
        check_noise(cells[0], rates)
        self.cells = nn.ModuleList(cells)
        self.merge, self.rates, self.locked, self.learns_state = merge, rates, locked, learn_state
        self.zoneout = zoneout_rates(cells[0], zoneout)
        sizes = [(cell, size) for cell in cells for size in cell.state_sizes]
        self.first_state = nn.ParameterList(
            nn.Parameter(cell.weight_ih.new_zeros(size)) for cell, size in sizes if learn_state
        )

    @property
    def cell(self) -> Any:
        """The forward cell, which speaks for both."""
        return self.cells[0]

    @property
    def output_size(self) -> int:
        """Features of the merged output."""
        return merged_size(self.cell.output_size, len(self.cells), self.merge)

    @property
    def is_noisy(self) -> bool:
        """Whether training draws masks for this layer."""
        return any(self.rates)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The state of each direction before its first step."""
        states = tuple([cell.initial_state(batch_size) for cell in self.cells])
        if not self.learns_state:
            return states
        learned = iter(self.first_state)
        return tuple(type(s)(*(next(learned).expand(batch_size, -1) for _ in s)) for s in states)

    def draw_noise(self, batch_size: int) -> LayerNoise:
        """Masks for one sequence."""
        output = mask(self.cell.weight_ih, (batch_size, self.output_size), self.rates.dropout) if self.locked else None
        return LayerNoise(tuple(draw(cell, self.rates, batch_size) for cell in self.cells), output)

    def call(
        self,
        x: Tensor,
        states: tuple[Any, ...],
        lengths: Tensor | None,
        noise: LayerNoise | None,
        recompute: int | None = None,
        starts: Tensor | None = None,
    ) -> Call:
        """What this layer asks of a backend, x [T, B, I]."""
        return Call(
            layers=(tuple(self.cells),),
            x=x,
            states=(states,),
            lengths=lengths,
            noises=(self.noises(noise),) if noise is not None else (),
            zoneout=self.zoneout,
            training=self.training,
            recompute=recompute,
            starts=starts,
            fresh=() if starts is None else (self.initial_state(x.shape[1]),),
        )

    def noises(self, noise: LayerNoise) -> tuple[Noise, ...]:
        """The noise of each direction, as a backend takes it."""
        return tuple(map(drop_weights, self.cells, noise.cells))

    def merged(self, output: Tensor) -> Tensor:
        """A backend's output [T, B, D*H'] under this layer's merge."""
        if len(self.cells) == 1 or self.merge == "concat":
            return output
        return merge_directions(output.chunk(2, -1), self.merge)

    def extra_repr(self) -> str:
        """What is not in the cells."""
        return f"merge={self.merge}" if len(self.cells) > 1 else ""


def merge_directions(outputs: Sequence[Tensor], merge: str) -> Tensor:
    """Join the outputs [T, B, H'] of the forward and the backward direction."""
    forward, backward = outputs
    if merge == "concat":
        return torch.cat((forward, backward), -1)
    if merge == "mul":
        return forward * backward
    total = forward + backward
    return total / 2 if merge == "mean" else total


def merged_size(size: int, directions: int, merge: str) -> int:
    """Features of the joined output of directions with ``size`` features each."""
    return size * (directions if merge == "concat" else 1)


def check_noise(cell: Cell, rates: Rates) -> None:
    """Refuse a kind of noise that means nothing to a cell.

    Raises:
        ValueError: for a mask that the cell's equations have no place for, or weight drop without a recurrent matrix.
    """
    name = type(cell).__name__
    if rates.recurrent and "state" not in cell.noises:
        raise ValueError(f"recurrent_dropout: {name} has no recurrent product to drop the state of")
    if rates.candidate and "candidate" not in cell.noises:
        raise ValueError(f"candidate_dropout: {name} has no candidate update to drop")
    if rates.weight and not cell.recurrent_weights:
        raise ValueError(f"weight_drop: {name} has no recurrent weight matrix to drop")


def zoneout_rates(cell: Cell, zoneout: float | tuple[float, ...]) -> tuple[float, ...]:
    """One rate a field of the cell's state; () when all are 0."""
    fields = cell.State._fields
    if isinstance(zoneout, int | float):
        rates = tuple(float(zoneout) if field in (cell.zoneable or fields) else 0.0 for field in fields)
    else:
        rates = tuple(float(rate) for rate in zoneout)
        if len(rates) != len(fields):
            named = f"{type(cell).__name__} has {len(fields)}: {', '.join(fields)}"
            raise ValueError(f"zoneout has {len(rates)} rates; {named}")
    if any(not 0 <= rate < 1 for rate in rates):
        raise ValueError(f"zoneout is a probability from 0 to below 1, not {zoneout}")
    return rates if any(rates) else ()
