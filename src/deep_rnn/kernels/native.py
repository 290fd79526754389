"""Backend ``native``: torch's own fused layers, which are cuDNN on CUDA and oneDNN or ATen on CPU.

Variable lengths run on the padded batch. On CPU a PackedSequence falls off oneDNN (a bidirectional LSTM of 64 measured
11 times slower packed than padded), and on CUDA it needs the lengths on the host. Two things make padding harmless:
the backward direction reads a copy whose valid parts are reversed, and one more input feature, 1 at padded steps,
drives the gates to where the state stays as it is (or, for relu, small).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deep_rnn.kernels.call import NO_STARTS, Call, Result, altered
from deep_rnn.kernels.sequence import last_valid, mask_padding, reverse_valid, valid_steps
from deep_rnn.kernels.tracing import in_graph, under_vmap

SATURATED = 1e4  # a gate pre-activation at which sigmoid is exactly 0 or 1 in every dtype, and finite in half precision
PADDING_GATES: dict[str, tuple[float, ...]] = {  # pre-activations that hold the state still, per gate
    "LSTM": (-SATURATED, SATURATED, 0.0, 0.0),  # i = 0, f = 1
    "GRU": (0.0, SATURATED, 0.0),  # z = 1
    "RNN_RELU": (-SATURATED,),  # h = 0: a relu net left running through padding may overflow
    "RNN_TANH": (0.0,),  # bounded: it may run on, its last valid output is what counts
}


def why_not(call: Call) -> str | None:
    """Why torch's own layers cannot run this call, or None."""
    first = call.layers[0][0]
    mode = getattr(first, "native_mode", None)
    cells = [cell for layer in call.layers for cell in layer]
    if mode is None:
        return f"torch.nn has no layer that computes this {type(first).__name__}"
    if (reason := altered(call)) is not None:
        return reason
    if forward_ad._current_level >= 0 and mode == "LSTM" and call.x.device.type == "cpu":
        return "oneDNN's LSTM has no forward-mode derivative"
    if under_vmap():
        return "torch's layers have no rule for vmap"
    if call.x.shape[0] == 0 or call.x.shape[1] == 0:
        return "torch's layers need at least one step and one sequence"
    if len({(cell.native_mode, cell.hidden_size, cell.output_size, cell.bias) for cell in cells}) > 1:
        return "torch.nn stacks layers of one cell, width and bias only"
    if len(call.layers) > 1 and call.lengths is not None:
        return "variable lengths run layer by layer"
    if len(call.layers) > 1 and call.dropout and call.training and in_graph():
        return "in a graph torch's layers lose the dropout between them, so they run layer by layer"
    if call.starts is not None:
        return NO_STARTS
    if any(call.zoneout):
        return "torch's layers have no zoneout"
    if call.recompute and torch.is_grad_enabled():
        return "torch's layers cannot recompute in chunks of time"
    noises = [noise for layer in call.noises for noise in layer if noise is not None]
    if any(noise.state is not None or noise.candidate is not None for noise in noises):
        return "torch's layers have no recurrent dropout"
    return None


def run(call: Call) -> Result:
    """Run the layers as one call of torch's fused layer."""
    if call.lengths is None:
        return call_torch(call)
    if len(call.layers[0]) == 1:
        return run_padded(call, call.lengths)
    halves = []
    for direction, x in enumerate((call.x, reverse_valid(call.x, call.lengths))):
        one_way = call._replace(
            layers=((call.layers[0][direction],),),
            states=((call.states[0][direction],),),
            noises=((call.noise(0, direction),),),
            x=x,
        )
        halves.append(run_padded(one_way, call.lengths))
    forward, backward = halves
    output = torch.cat((forward.output, reverse_valid(backward.output, call.lengths)), -1)
    return Result(output, ((forward.states[0][0], backward.states[0][0]),))


def run_padded(call: Call, lengths: Tensor) -> Result:
    """One layer in one direction over a padded batch."""
    cell, before = call.layers[0][0], call.states[0][0]
    padded = ~valid_steps(lengths, call.x.shape[0])[..., None]
    column = torch.tensor(PADDING_GATES[cell.native_mode], dtype=call.x.dtype, device=call.x.device)
    column = column.repeat_interleave(cell.hidden_size)[:, None]
    output, ((after,),) = call_torch(call._replace(x=torch.cat((call.x, padded.to(call.x.dtype)), -1)), column)
    state = type(after)(last_valid(output, lengths, before[0].to(output.dtype)), *after[1:])
    return Result(mask_padding(output, lengths), ((state,),))


def call_torch(call: Call, input_column: Tensor | None = None) -> Result:
    """``torch._VF``'s layer on full-length sequences; ``input_column`` [G*H, 1] extends the (one) input matrix."""
    cells = [cell for layer in call.layers for cell in layer]
    noises = [noise for layer in call.noises for noise in layer] or [None] * len(cells)
    weights = [weight for cell, noise in zip(cells, noises, strict=True) for weight in flat_weights(cell, noise)]
    if input_column is not None:
        weights[0] = torch.cat((weights[0], input_column.to(weights[0].dtype)), -1)
    fields = [torch.stack(values) for values in zip(*(state for layer in call.states for state in layer), strict=True)]
    mode, directions = cells[0].native_mode, len(call.layers[0])
    options = (cells[0].bias, len(call.layers), call.dropout, call.training, directions == 2, False)
    with full_precision(call.x.device.type):
        x = call.x if call.x.is_cuda else call.x.to(weights[0].dtype)  # ATen's CPU layers want one dtype throughout
        if mode == "LSTM":
            if in_graph() and torch.is_grad_enabled() and not x.requires_grad:
                # Tracing takes an x without gradients for inference, and an operator that has no derivative in a graph.
                x = x + weights[0][:0].sum()
            output, *ended = torch._VF.lstm(x, fields, weights, *options)
        else:
            layer = {"GRU": torch._VF.gru, "RNN_TANH": torch._VF.rnn_tanh, "RNN_RELU": torch._VF.rnn_relu}[mode]
            output, *ended = layer(x, fields[0], weights, *options)
    kinds = [type(state) for layer in call.states for state in layer]
    states = [kind(*values) for kind, *values in zip(kinds, *ended, strict=True)]
    pairs = tuple(tuple(states[k : k + directions]) for k in range(0, len(states), directions))
    return Result(output, pairs)


def full_precision(device: str) -> AbstractContextManager[Any]:
    """Autocast off, except on CUDA, whose layers know it, and where there is none (on the meta device)."""
    if device == "cuda" or not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def flat_weights(cell: Any, noise: Any) -> list[Tensor]:
    """A cell's parameters in torch's order, the recurrent weight as weight drop left it."""
    dropped = (noise.weights or {}).get("weight_hh") if noise is not None else None
    recurrent = cell.weight_hh if dropped is None else dropped
    projection = getattr(cell, "weight_hr", None)  # of an LSTM with proj_size
    biases = (cell.bias_ih, cell.bias_hh) if cell.bias else ()
    return [cell.weight_ih, recurrent, *biases, *(() if projection is None else (projection,))]
