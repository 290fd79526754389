"""One recurrent layer: a cell for each direction, and how the directions merge."""

from typing import Any, ClassVar

from torch import Tensor, nn

from src.kernels import Call
from src.models.cells import Cell
from src.models.dropout import LayerNoise, Rates, draw, mask
from src.models.naming import unknown

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

    DIRECTIONS: ClassVar[tuple[str, str]] = ("forward", "backward")

    def __init__(
        self,
        cells: list[Cell],
        merge: str = "concat",
        rates: Rates = Rates(),
        locked: bool = False,
        zoneout: float | tuple[float, ...] = 0.0,
        learn_state: bool = False,
    ) -> None:
        super().__init__()
        if merge not in MERGES:
            raise unknown("merge", merge, MERGES)
        if rates.weight and not cells[0].recurrent_weights:
            raise ValueError(f"weight_drop: {type(cells[0]).__name__} has no recurrent weight matrix to drop")
        self.cells = nn.ModuleList(cells)
        self.merge, self.rates, self.locked = merge, rates, locked
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
        return self.cell.output_size * (len(self.cells) if self.merge == "concat" else 1)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The state of each direction before its first step."""
        states = [cell.initial_state(batch_size) for cell in self.cells]
        learned = iter(self.first_state)
        if not len(self.first_state):
            return tuple(states)
        return tuple(type(s)(*(next(learned).expand(batch_size, -1) for _ in s)) for s in states)

    def draw_noise(self, batch_size: int) -> LayerNoise:
        """Masks for one sequence."""
        output = mask(self.cell.weight_ih, (batch_size, self.output_size), self.rates.dropout) if self.locked else None
        return LayerNoise(tuple(draw(cell, self.rates, batch_size) for cell in self.cells), output)

    def call(self, x: Tensor, states: tuple[Any, ...], lengths: Tensor | None, noise: LayerNoise | None) -> Call:
        """What this layer asks of a backend, x [T, B, I]."""
        return Call(
            layers=(tuple(self.cells),),
            x=x,
            states=(states,),
            lengths=lengths,
            noises=(noise.cells,) if noise is not None else (),
            zoneout=self.zoneout,
            training=self.training,
        )

    def merged(self, output: Tensor) -> Tensor:
        """A backend's output [T, B, D*H'] under this layer's merge."""
        if len(self.cells) == 1 or self.merge == "concat":
            return output
        forward, backward = output.chunk(2, -1)
        if self.merge == "mul":
            return forward * backward
        total = forward + backward
        return total / 2 if self.merge == "mean" else total

    def extra_repr(self) -> str:
        """What is not in the cells."""
        return f"merge={self.merge}" if len(self.cells) > 1 else ""


def zoneout_rates(cell: Cell, zoneout: float | tuple[float, ...]) -> tuple[float, ...]:
    """One rate a field of the cell's state; () when all are 0."""
    fields = cell.State._fields
    if isinstance(zoneout, int | float):
        rates = tuple(float(zoneout) if field in (cell.zoneable or fields) else 0.0 for field in fields)
    else:
        rates = tuple(float(rate) for rate in zoneout)
        if len(rates) != len(fields):
            raise ValueError(f"zoneout has {len(rates)} rates; {type(cell).__name__} has {len(fields)}: {', '.join(fields)}")
    if any(not 0 <= rate < 1 for rate in rates):
        raise ValueError(f"zoneout is a probability from 0 to below 1, not {zoneout}")
    return rates if any(rates) else ()
