"""Sequences that begin anew inside a call, as in reinforcement learning, cut into episodes with a row for each.

A backend runs the rows as it runs any padded batch with lengths; what it computes is gathered back. The indices are
computed once a call, and every gather is one ``index_select``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from deep_rnn.kernels.sequence import mask_padding, valid_steps


class Episodes(NamedTuple):
    """Where each episode of a batch [T, B] lies; row r of R is one, of T' steps at most.

    Attributes:
        lengths: [R] steps of each; None where all have T'.
        column: [R] which sequence it is cut from.
        first_row, last_row: [B] row of each sequence's first and last episode.
        goes_on: [B] whether the first episode goes on from the state that is given, rather than beginning anew.
        source: [T'*R] which of the T*B steps each step of the rows is.
        target: [T*B] which of the T'*R steps each step of the batch is.
        valid: [B] lengths of the whole sequences; None: all T.
        shapes: T', R, T, B.
    """

    lengths: Tensor | None
    column: Tensor
    first_row: Tensor
    last_row: Tensor
    goes_on: Tensor
    source: Tensor
    target: Tensor
    valid: Tensor | None
    shapes: tuple[int, int, int, int]

    def rows(self, x: Tensor) -> Tensor:
        """x [T, B, F] cut into rows [T', R, F]; what stands behind a row's length is not to be read."""
        time, rows, _, _ = self.shapes
        return x.flatten(0, 1).index_select(0, self.source).unflatten(0, (time, rows))

    def whole(self, output: Tensor) -> Tensor:
        """The rows' outputs [T', R, F] put together to [T, B, F], zero at padded steps."""
        _, _, time, batch = self.shapes
        return mask_padding(output.flatten(0, 1).index_select(0, self.target).unflatten(0, (time, batch)), self.valid)

    def state(self, given: Tensor | None, fresh: Tensor | float = 0.0, backward: bool = False) -> Tensor:
        """The rows' states [..., R, H] before their first step: ``given`` [..., B, H] where a sequence goes on from it.

        Args:
            given: the sequences' states; None: all begin anew (``fresh`` is then returned as it is).
            fresh: [..., R, H] (or a number) for the rows that begin anew.
            backward: of a direction that runs from the end: the last episode is the one that goes on.
        """
        if given is None:
            assert isinstance(fresh, Tensor)
            return fresh
        goes_on = torch.zeros_like(self.column, dtype=torch.bool)
        if backward:
            goes_on[self.last_row] = True
        else:
            goes_on[self.first_row] = self.goes_on
        return torch.where(goes_on[:, None], given.index_select(-2, self.column), fresh)

    def last(self, state: Tensor, backward: bool = False) -> Tensor:
        """The rows' states [..., R, H] after their last step -> the sequences' [..., B, H], where each ended."""
        return state.index_select(-2, self.first_row if backward else self.last_row)


def begin_inside(starts: Tensor) -> bool:
    """Whether any sequence begins anew after its first step."""
    return bool(starts[1:].any())


def cut(starts: Tensor, lengths: Tensor | None = None) -> Episodes:
    """Cut sequences where they begin anew.

    Args:
        starts: bool [T, B], T and B at least 1: whether the state begins anew before a step.
        lengths: [B] valid steps of each sequence, int64; None: all T. A start behind them is none.
    """
    time, batch = starts.shape
    ends = starts.new_full((batch,), time, dtype=torch.int64) if lengths is None else lengths
    begins = starts.clone() if lengths is None else starts & valid_steps(lengths, time)
    goes_on = ~begins[0]
    begins[0] = True  # every sequence has a first episode, be it empty
    column, step = begins.t().nonzero(as_tuple=True)
    closes = torch.ones_like(column, dtype=torch.bool)  # whether a row is the last of its sequence
    closes[:-1] = column[1:] != column[:-1]
    last = closes.nonzero().squeeze(1)
    first = torch.cat((last.new_zeros(1), last[:-1] + 1))
    counts = torch.where(closes, ends[column], step.roll(-1)) - step
    longest, shortest, rows = max(int(counts.max()), 1), int(counts.min()), len(column)
    steps = torch.arange(longest, device=starts.device)[:, None] + step
    source = steps.clamp_(max=time - 1) * batch + column
    row = begins.cumsum(0) - 1 + first  # [T, B], the row of every step
    offset = torch.arange(time, device=starts.device)[:, None] - step[row]
    target = offset.clamp_(max=longest - 1) * rows + row
    return Episodes(
        None if shortest == longest else counts,
        column,
        first,
        last,
        goes_on,
        source.flatten(),
        target.flatten(),
        lengths,
        (longest, rows, time, batch),
    )
