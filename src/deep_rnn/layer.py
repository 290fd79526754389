"""One recurrent layer: a cell for each direction, and how the directions merge."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deep_rnn.cells import Cell, Noise
from deep_rnn.dropout import LayerNoise, Rates, draw, drop_weights, mask
from deep_rnn.hooks import must_be_called
from deep_rnn.inputs import checked_dtype
from deep_rnn.kernels import Call, unroll
from deep_rnn.kernels.sequence import reverse_valid, turned_starts
from deep_rnn.kernels.stand_in import with_weights_made
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
        return self._modules["cells"]._modules["0"]  # type: ignore[union-attr]

    @property
    def directions(self) -> tuple[Any, ...]:
        """The cells: of the forward direction, and of the backward one where there is one."""
        return tuple(self._modules["cells"]._modules.values())  # type: ignore[union-attr]

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
        if self.learns_state:
            return self.learned_state(batch_size)
        return tuple([cell.initial_state(batch_size) for cell in self.directions])

    def learned_state(self, batch_size: int) -> tuple[Any, ...]:
        """``initial_state`` where it is learned."""
        learned = iter(self.first_state)
        return tuple(
            cell.State(*(next(learned).expand(batch_size, -1) for _ in cell.state_sizes)) for cell in self.cells
        )

    def draw_noise(self, batch_size: int) -> LayerNoise:
        """Masks for one sequence."""
        output = mask(self.cell.like, (batch_size, self.output_size), self.rates.dropout) if self.locked else None
        return LayerNoise(tuple(draw(cell, self.rates, batch_size) for cell in self.directions), output)

    # --- the call -----------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        states: tuple[Any, ...] | None = None,
        *,
        lengths: Tensor | None = None,
        noise: LayerNoise | None = None,
        starts: Tensor | None = None,
        recompute: int | None = None,
        backend: str = "auto",
        cells: tuple[Any, ...] | None = None,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """This layer over a batch of sequences, x [T, B, I].

        Args:
            states: of each direction before its first step; None: ``initial_state``.
            lengths, noise, starts, recompute, backend: see ``DeepRNN``; noise is this layer's.
            cells: ``cells_with_weights``, where no hook has been able to change them since they were made.
        Returns:
            The output [T, B, output_size] and the state that each direction ended in.
        """
        options: dict[str, Any] = {"lengths": lengths, "noise": noise, "starts": starts, "recompute": recompute}
        if not any(map(must_be_called, self.directions)):
            x = checked_dtype(x, self.cell.like.dtype)
            states = self.initial_state(x.shape[1]) if states is None else states
            result = unroll(self.call(x, states, **options, cells=cells), backend)
            return self.merged(result.output), result.states[0]
        if states is None:
            states = self.learned_state(x.shape[1]) if self.learns_state else (None,) * len(self.cells)
        ended = [self.call_cell(place, x, state, backend, **options) for place, state in enumerate(states)]
        outputs, after = zip(*ended, strict=True)
        return outputs[0] if len(outputs) == 1 else merge_directions(outputs, self.merge), after

    def call_cell(
        self,
        direction: int,
        x: Tensor,
        state: Any,
        backend: str,
        lengths: Tensor | None,
        noise: LayerNoise | None,
        starts: Tensor | None,
        recompute: int | None,
    ) -> tuple[Tensor, Any]:
        """One direction by calling its cell as a module: nothing of its weights is read before its hooks have run."""

        def one_way(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            cell, x = with_weights_made(cell), checked_dtype(x, cell.like.dtype)
            call = Call(
                layers=((cell,),),
                x=reverse_valid(x, lengths) if direction else x,
                states=((state,),),
                lengths=lengths,
                noises=() if noise is None else ((drop_weights(cell, noise.cells[direction]),),),
                zoneout=self.zoneout,
                training=self.training,
                recompute=recompute,
                starts=turned_starts(starts, lengths) if direction else starts,
                turned=bool(direction),
            )
            if starts is not None:
                batch = x.shape[1]
                fresh = self.learned_state(batch)[direction] if self.learns_state else cell.initial_state(batch)
                call = call._replace(fresh=((fresh,),))
            output, ((after,),) = unroll(call, backend)
            return reverse_valid(output, lengths) if direction else output, after

        result: tuple[Tensor, Any] = self.directions[direction](x, state, unroll=one_way)
        return result

    def call(
        self,
        x: Tensor,
        states: tuple[Any, ...],
        lengths: Tensor | None,
        noise: LayerNoise | None,
        recompute: int | None = None,
        starts: Tensor | None = None,
        cells: tuple[Any, ...] | None = None,
    ) -> Call:
        """What this layer asks of a backend, x [T, B, I]."""
        cells = self.cells_with_weights() if cells is None else cells
        return Call(
            layers=(cells,),
            x=x,
            states=(states,),
            lengths=lengths,
            noises=(self.noises(cells, noise),) if noise is not None else (),
            zoneout=self.zoneout,
            training=self.training,
            recompute=recompute,
            starts=starts,
            fresh=() if starts is None else (self.initial_state(x.shape[1]),),
        )

    def cells_with_weights(self) -> tuple[Any, ...]:
        """The cells as a backend takes them."""
        return tuple([with_weights_made(cell) for cell in self.directions])

    def noises(self, cells: tuple[Any, ...], noise: LayerNoise) -> tuple[Noise, ...]:
        """The noise of each direction, as a backend takes it."""
        return tuple(map(drop_weights, cells, noise.cells))

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
