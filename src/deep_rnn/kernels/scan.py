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
from deep_rnn.kernels.loop import advance, begin, in_each_direction
from deep_rnn.kernels.sequence import begin_anew, valid_steps
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
    steps = {"gates": cell.project(call.x)}
    if call.lengths is not None:
        steps["valid"] = valid_steps(call.lengths, call.x.shape[0])
    if call.starts is not None:
        steps["begins"] = begin_anew(call.starts, call.lengths, bool(direction))

    def advance_one(carry: list[Tensor], at: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        state = cell.State(*carry)
        if "begins" in at:
            state = begin(call, direction, state, at["begins"])
        state, output = advance(call, direction, at["gates"], state, at.get("valid"))
        return [value.clone() for value in state], output.clone()  # the operator forbids results that share memory

    first = [value.contiguous() for value in before]  # laid out as what the steps return, which the operator asks for
    after, outputs = scan(advance_one, first, steps, reverse=bool(direction))
    return outputs, cell.State(*after)
