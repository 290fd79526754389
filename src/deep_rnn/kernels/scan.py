"""Backend ``scan``: torch's scan operator over the cell's ``step``, one node of a graph whatever the number of steps.

A Python loop and torch's own layers both freeze the number of steps when a graph is exported; the operator keeps it
dynamic. That is what this backend is for: ``auto`` picks it while torch.export runs, and only then; under torch.compile
it can be asked for. Outside a graph it refuses: torch 2.13's operator would trace the step at every call, and give
second derivatives that are wrong.
"""

from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

from deep_rnn.kernels.call import Call, Result
from deep_rnn.kernels.loop import advance, in_each_direction
from deep_rnn.kernels.sequence import valid_steps
from deep_rnn.kernels.tracing import in_graph


def why_not(call: Call) -> str | None:
    """Why the operator cannot run this call, or None."""
    if len(call.layers) > 1:
        return "scan runs one layer at a time"
    if not in_graph():
        return "torch's scan operator belongs in a graph, under torch.export or torch.compile"
    if call.x.shape[0] == 0:
        return "torch's scan operator needs at least one step"
    if call.recompute and torch.is_grad_enabled():
        return "torch's scan operator cannot recompute in chunks of time"
    if call.training and any(call.zoneout):
        return "torch's scan operator takes a pure function, and zoneout draws each step"
    return None


def run(call: Call) -> Result:
    """Unroll one layer in all its directions."""
    return in_each_direction(call, unroll)


def unroll(call: Call, direction: int) -> tuple[Tensor, Any]:
    """Unroll one direction: outputs [T, B, H'] and the state where the sequence ends."""
    cell, before = call.layers[0][direction], call.states[0][direction]
    steps = [cell.project(call.x)]
    if call.lengths is not None:
        steps.append(valid_steps(call.lengths, call.x.shape[0]))

    def advance_one(carry: list[Tensor], at: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        state, output = advance(call, direction, at[0], cell.State(*carry), at[1] if len(at) > 1 else None)
        return [value.clone() for value in state], output.clone()  # the operator forbids results that share memory

    first = [value.contiguous() for value in before]  # laid out as what the steps return, which the operator asks for
    after, outputs = scan(advance_one, first, steps, reverse=bool(direction))
    return outputs, cell.State(*after)
