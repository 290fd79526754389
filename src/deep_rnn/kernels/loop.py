"""Backend ``loop``: the cell's own ``step``, once a time step; the written truth that all other backends must equal."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from deep_rnn.kernels import zoneout
from deep_rnn.kernels.call import Call, Result
from deep_rnn.kernels.sequence import begin_anew, valid_steps


def why_not(call: Call) -> str | None:
    """The loop runs any cell under any option, one layer at a time."""
    return "loop runs one layer at a time" if len(call.layers) > 1 else None


def run(call: Call) -> Result:
    """Unroll one layer in all its directions."""
    return in_each_direction(call, unroll)


def in_each_direction(call: Call, unroll: Callable[[Call, int], tuple[Tensor, Any]]) -> Result:
    """One layer from what unrolls one direction: outputs [T, B, H'] and the state where the sequence ends."""
    ended = [unroll(call, direction) for direction in range(len(call.layers[0]))]
    outputs, states = zip(*ended, strict=True)
    return Result(outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1), (tuple(states),))


def unroll(call: Call, direction: int) -> tuple[Tensor, Any]:
    """Unroll one direction: outputs [T, B, H'] and the state where the sequence ends.

    The backward direction visits the steps from the last to the first; padding comes first then, and leaves the state
    untouched, which is what reversing only the valid part amounts to.
    """
    cell, state = call.layers[0][direction], call.states[0][direction]
    time = call.x.shape[0]
    valid = None if call.lengths is None else valid_steps(call.lengths, time)
    begins = None if call.starts is None else begin_anew(call.starts, call.lengths, bool(direction))
    zones = zoneout.draw(call, 0, direction)
    chunk = call.recompute or max(time, 1)
    chunks = []
    starts = range(0, time, chunk)
    for start in reversed(starts) if direction else starts:
        part = slice(start, start + chunk)
        of_steps = call.x[part], None if valid is None else valid[part], zoneout.at(zones, part), state
        begun = None if begins is None else begins[part]
        if call.recompute and torch.is_grad_enabled():
            outputs, state = checkpoint(unroll_chunk, call, direction, *of_steps, begun, use_reentrant=False)
        else:
            outputs, state = unroll_chunk(call, direction, *of_steps, begun)
        chunks.append(outputs)
    if not chunks:
        return cell.output(state)[None][:0], state
    return torch.cat(chunks[::-1] if direction else chunks), state


def unroll_chunk(
    call: Call,
    direction: int,
    x: Tensor,
    valid: Tensor | None,
    zones: zoneout.Zones | None,
    state: Any,
    begins: Tensor | None = None,
) -> tuple[Tensor, Any]:
    """Some consecutive steps of ``unroll``."""
    gates = call.layers[0][direction].project(x)
    outputs: list[Tensor] = [x] * x.shape[0]
    steps = range(x.shape[0])
    for t in reversed(steps) if direction else steps:
        now = None if valid is None else valid[t]
        if begins is not None:
            state = begin(call, direction, state, begins[t])
        state, outputs[t] = advance(call, direction, gates[t], state, now, zoneout.at(zones, t))
    return torch.stack(outputs), state


def begin(call: Call, direction: int, state: Any, begins: Tensor) -> Any:
    """The state before a step, where rows begin anew [B]."""
    pairs = zip(call.fresh[0][direction], state, strict=True)
    return type(state)(*(torch.where(begins[:, None], fresh, before) for fresh, before in pairs))


def advance(
    call: Call, direction: int, gates: Tensor, state: Any, valid: Tensor | None, zones: zoneout.Zones | None = None
) -> tuple[Any, Tensor]:
    """One step from gates [B, G*H], the state before it, valid [B] and zones: the state after it and the output."""
    cell, noise = call.layers[0][direction], call.noise(0, direction)
    new = cell.step(gates, state) if noise is None else cell.step(gates, state, noise)
    if any(call.zoneout):
        new = zoneout.hold(new, state, call.zoneout, zones)
    output = cell.output(new)
    if valid is None:
        return new, output
    keep = valid[:, None]
    held = type(new)(*(torch.where(keep, after, before) for after, before in zip(new, state, strict=True)))
    return held, torch.where(keep, output, 0)
