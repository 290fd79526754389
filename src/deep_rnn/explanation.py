"""Which backend runs a stack, layer by layer, and why."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deep_rnn.dropout import LayerNoise
from deep_rnn.hooks import why_called
from deep_rnn.inputs import checked_input, checked_lengths, weights_dtype
from deep_rnn.kernels import choose, pick
from deep_rnn.running import layers_of, noise_of, whole_call


def explain(rnn: Any, x: Tensor | None = None, lengths: Tensor | Sequence[int] | None = None) -> str:
    """``DeepRNN.explain``: a line for each layer, or one where a backend runs them all in one call."""
    if x is None:
        x = rnn.layers[0].cell.like.new_zeros(10, 1, rnn.input_size)
    else:
        x = x.unsqueeze(1) if x.dim() == 2 else rnn.time_major(x)
    lengths = checked_lengths(lengths, checked_input(x, rnn.input_size, rnn.batch_first, weights_dtype(rnn)))
    with torch.random.fork_rng():  # the noise of a training stack is drawn to be looked at only
        own = explain_layers(rnn, x, lengths)
        if rnn.mirror is None:
            return own
        return f"forward stack\n{own}\nbackward stack\n{explain_layers(rnn.mirror, x, lengths)}"


def explain_layers(rnn: Any, x: Tensor, lengths: Tensor | None) -> str:
    """``explain`` for the layers of one stack."""
    layers, called = layers_of(rnn), why_called(rnn)
    drawn = noise_of(rnn, layers, None, x.shape[1])
    noise = None if drawn is None else tuple(map(without_weights, drawn))
    cells = tuple(layer.cells_with_weights() for layer in layers)
    whole = None if called else whole_call(rnn, cells, x, None, lengths, noise)
    if whole is not None and rnn.num_layers > 1 and choose(whole, rnn.backend)[0] is not None:
        name, reason = pick(whole, rnn.backend)
        return f"layers 0-{rnn.num_layers - 1} in one call: {name} ({reason})"
    lines = [f"layer by layer: {called}"] if called else []
    for index, layer in enumerate(layers):
        below = x.new_empty(*x.shape[:2], layer.cell.input_size)
        own = None if noise is None else noise[index]
        call = layer.call(below, layer.initial_state(x.shape[1]), lengths, own, rnn.recompute)
        name, reason = pick(call, rnn.backend)
        lines.append(f"layer {index}: {name} ({reason})")
    return "\n".join(lines)


def without_weights(noise: LayerNoise) -> LayerNoise:
    """What a choice goes by: weights may be sharded, or be made from others, until the cell is called."""
    return noise._replace(cells=tuple(one._replace(weights=None) for one in noise.cells))
