"""Backend ``fused``: our own CPU kernels, a whole stack over whole sequences in one call (``src.kernels.fused``)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from src.kernels import fused, native
from src.kernels.call import Call, Result

CELLS = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu", "LSTM": "lstm", "GRU": "gru"}  # by a cell's native_mode


def why_not(call: Call) -> str | None:
    """Why the fused kernels cannot run this call, or None."""
    first, cells = call.layers[0][0], [cell for layer in call.layers for cell in layer]
    mode = getattr(first, "native_mode", None)
    if mode is None or getattr(first, "weight_hr", None) is not None:
        return f"there is no fused kernel for this {type(first).__name__}"
    if call.x.device.type != "cpu" or first.weight_ih.dtype not in (torch.float32, torch.float64):
        return "the fused kernels run in float32 and float64 on the CPU"
    if len({(cell.native_mode, cell.bias) for cell in cells}) > 1:
        return "a fused stack has one cell and bias throughout"
    if len(call.layers) > 1 and call.dropout > 0 and call.training:
        return "dropout between fused layers runs layer by layer"
    if any(call.zoneout):
        return "the fused kernels have no zoneout"
    if call.recompute and torch.is_grad_enabled():
        return "the fused kernels cannot recompute in chunks of time"
    if forward_ad._current_level >= 0:
        return "the fused kernels have no forward-mode derivative"
    noises = [noise for layer in call.noises for noise in layer if noise is not None]
    if any(noise.candidate is not None for noise in noises):
        return "the fused kernels have no dropout of the candidate"
    if len({noise.state is None for noise in noises}) > 1:
        return "recurrent dropout of some fused layers only runs layer by layer"
    return fused.why_not()


def yields(call: Call) -> str | None:
    """Why ``auto`` passes the fused kernels by where torch's own layers can run the call: those measured faster.

    By ``scripts/benchmark.py`` on two cores of a Zen 5 server: RNN and GRU were never slower here. oneDNN's LSTM was,
    up to width 128; at widths of 256 and more it led without gradients (0.9-1.0 of its time against 0.7-0.9), and with
    gradients for batches below 8 (0.96 against 0.9), whose rows are too few to share among threads.
    """
    first, batch = call.layers[0][0], call.x.shape[1]
    wide = first.native_mode == "LSTM" and first.hidden_size >= 256
    if wide and (batch < 8 or not torch.is_grad_enabled()) and native.why_not(call) is None:
        return "oneDNN's LSTM is faster at this width without gradients or with few sequences"
    return None


def run(call: Call) -> Result:
    """Run the layers as one call of the fused operator."""
    cells = [cell for layer in call.layers for cell in layer]
    noises = [noise for layer in call.noises for noise in layer] or [None] * len(cells)
    dtype, directions = cells[0].weight_ih.dtype, len(call.layers[0])
    states = [state for layer in call.states for state in layer]
    kind, fields = type(states[0]), len(states[0])
    output, ended = fused.unroll(
        call.x.to(dtype),  # under autocast, what comes from below may be in half precision
        [value.to(dtype) for state in states for value in state],
        [weight for cell, noise in zip(cells, noises, strict=True) for weight in native.flat_weights(cell, noise)],
        CELLS[cells[0].native_mode],
        (False, True)[:directions],
        call.lengths,
        masks_of(noises),
    )
    after = [kind(*ended[k : k + fields]) for k in range(0, len(ended), fields)]
    return Result(output, tuple(tuple(after[k : k + directions]) for k in range(0, len(after), directions)))


def masks_of(noises: list[Any]) -> list[Tensor]:
    """The masks of recurrent dropout, of every layer and direction or of none."""
    return [noise.state for noise in noises if noise is not None and noise.state is not None]
