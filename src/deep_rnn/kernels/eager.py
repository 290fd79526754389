"""Backend ``eager``: whole sequences in plain PyTorch, gradients by hand, for machines that cannot compile ``fused``.

The equations are in ``by_hand.py``. Rows are sorted by length, so that steps past a row's end cost nothing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from deep_rnn.kernels import by_hand, native
from deep_rnn.kernels.call import NO_STARTS, Call, Result, altered
from deep_rnn.kernels.sequence import mask_padding
from deep_rnn.kernels.tracing import in_graph, transformed


def why_not(call: Call) -> str | None:
    """Why the sequences by hand cannot run this call, or None."""
    cells = [cell for layer in call.layers for cell in layer]
    if any(getattr(cell, "native_mode", None) is None or hasattr(cell, "weight_hr") for cell in cells):
        return f"there are no gradients by hand for this {type(cells[0]).__name__}"
    if (reason := altered(call)) is not None:
        return reason
    if call.x.device.type != "cpu":
        return "gradients by hand are for the CPU"
    if torch.jit.is_tracing():
        return "gradients by hand are no operator that torch.jit.trace could write down"
    if in_graph() or transformed() or forward_ad._current_level >= 0:
        return "gradients by hand cannot be compiled, transformed by torch.func, or differentiated forward"
    if call.starts is not None:
        return NO_STARTS
    if any(call.zoneout):
        return "gradients by hand know no zoneout"
    if call.recompute and torch.is_grad_enabled():
        return "gradients by hand cannot recompute in chunks of time"
    if any(noise is not None and noise.candidate is not None for layer in call.noises for noise in layer):
        return "gradients by hand know no dropout of the candidate"
    return None


def yields(call: Call) -> str | None:
    """Why ``auto`` passes this by where torch's own layers can run the call: those measured faster.

    By ``scripts/benchmark.py`` on one core of a Zen 5 server, torch's time over this one's. RNN with gradients: 1.0 to
    2.9 at every size from 5 to 1024 units. GRU with gradients: 1.1 to 2.9 up to 4,096 units times sequences, 0.9 to 1.1
    above, where its arrays leave the caches. Without gradients 0.1 to 1.4. LSTM: 0.04 to 0.84, since oneDNN's
    is a fused kernel.
    """
    first, batch = call.layers[0][0], call.x.shape[1]
    if native.why_not(call) is not None:
        return None
    if first.native_mode == "LSTM":
        return "oneDNN's LSTM is faster than gradients by hand"
    if not torch.is_grad_enabled():
        return "torch's own layers are faster where no gradients are asked for"
    if first.native_mode == "GRU" and first.hidden_size * batch >= 8192:
        return "torch's GRU is faster than gradients by hand at this width and batch"
    return None


def run(call: Call) -> Result:
    """Run the layers one after another, rows sorted by length if lengths vary."""
    dtype = call.layers[0][0].weight_ih.dtype
    x, lengths, order, active = call.x.to(dtype), call.lengths, None, None
    if lengths is not None:
        lengths, order = lengths.sort(descending=True, stable=True)
        x = x.index_select(1, order)
        active = (lengths > torch.arange(x.shape[0])[:, None]).sum(1).tolist()
    states = []
    with torch.autocast("cpu", enabled=False):
        for layer in range(len(call.layers)):
            if layer and call.dropout:
                x = F.dropout(x, call.dropout, call.training)
            ended = [
                unroll(call, layer, direction, x, lengths, order, active)
                for direction in range(len(call.layers[layer]))
            ]
            outputs, after = zip(*ended, strict=True)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            states.append(tuple(after))
    if order is None:
        return Result(x, tuple(states))
    back = order.argsort()
    unsorted = [tuple(type(s)(*(f.index_select(0, back) for f in s)) for s in pair) for pair in states]
    return Result(x.index_select(1, back), tuple(unsorted))


def unroll(
    call: Call,
    layer: int,
    direction: int,
    x: Tensor,
    lengths: Tensor | None,
    order: Tensor | None,
    active: list[int] | None,
) -> tuple[Tensor, Any]:
    """One direction of one layer over sorted rows: outputs [T, B, H] and the state after the last step."""
    cell, state, noise = call.layers[layer][direction], call.states[layer][direction], call.noise(layer, direction)
    weight_ih, weight_hh, *biases = native.flat_weights(cell, noise)
    if biases and not by_hand.CELLS[cell.native_mode].own_bias:
        biases = [biases[0] + biases[1]]
    bias_ih, bias_hh = [*biases, None, None][:2]
    mask = None if noise is None else noise.state
    first = [field.to(x.dtype) for field in state]
    if order is not None:
        first = [field.index_select(0, order) for field in first]
        mask = None if mask is None else mask.index_select(0, order)
    sweep = by_hand.Sweep(x.shape[0], bool(direction), active)
    gates = F.linear(x, weight_ih, bias_ih)
    trace = gates.flatten()[:1].clone()
    arguments = (cell.native_mode, sweep, lengths, gates, trace, weight_hh, bias_hh, mask)
    output, *last = by_hand.Unroll.apply(*arguments, *first)
    return mask_padding(output, lengths) if direction else output, type(state)(*last)
