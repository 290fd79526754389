"""Backend ``fused``: our own CPU kernels, a whole stack over whole sequences in one call (``deep_rnn.kernels.fused``).

``auto`` takes it wherever it can run. Torch.nn's time over its own, on two cores of a Zen 5 server, from 5 to 1024
units and 35 steps on: above 1 everywhere, least for an LSTM of 256 over 128 sequences without gradients, 1.02, and one
of 1024 over 12, 1.03. LSTMs of 200 to 400 units over five sequences of 20 steps of one feature, without gradients: 0.91
to 0.93, and ``native``'s no better. One sequence without gradients is faster in torch.nn's GRU for one step and in its
RNN for up to four: 22 to 31 us a call, where ours spends 34 to 40, most of it in Python; ``native`` would spend 50, so
there is nothing to leave to it. Cells and options that torch's layers do not have would run in the Python loop, which
was never the faster one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deep_rnn.kernels import fused, zoneout
from deep_rnn.kernels.call import NO_STARTS, Call, Result, altered


def why_not(call: Call) -> str | None:
    """Why the fused kernels cannot run this call, or None."""
    first, cells = call.layers[0][0], [cell for layer in call.layers for cell in layer]
    if getattr(first, "fused_mode", None) is None:
        return f"there is no fused kernel for this {type(first).__name__}"
    if torch.jit.is_tracing():
        return "the fused operator takes lists of names, which torch.jit.trace cannot write down"
    if (reason := altered(call)) is not None:
        return reason
    if call.x.device.type != "cpu" or first.weight_ih.dtype not in (torch.float32, torch.float64):
        return "the fused kernels run in float32 and float64 on the CPU"
    if len({(cell.fused_mode, cell.bias, cell.fused_constants) for cell in cells}) > 1:
        return "a fused stack has one cell and bias throughout"
    if (
        len({tuple(cell.fused_weights()) for cell in cells}) > 1
    ):  # transitions, shortcuts and norms can be a layer's own
        return "fused layers with parameters of different names run layer by layer"
    if call.starts is not None:
        return NO_STARTS
    if call.recompute and torch.is_grad_enabled():
        return "the fused kernels cannot recompute in chunks of time"
    if forward_ad._current_level >= 0:
        return "the fused kernels have no forward-mode derivative"
    noises = [noise for layer in call.noises for noise in layer if noise is not None]
    if len({(noise.state is None, noise.candidate is None) for noise in noises}) > 1:
        return "recurrent dropout of some fused layers only runs layer by layer"
    return fused.why_not()


def run(call: Call) -> Result:
    """Run the layers as one call of the fused operator."""
    cells = [cell for layer in call.layers for cell in layer]
    noises = [noise for layer in call.noises for noise in layer] or [None] * len(cells)
    states = [state for layer in call.states for state in layer]
    weights = [cell.fused_weights(noise) for cell, noise in zip(cells, noises, strict=True)]
    dtype, directions = weights[0]["weight_ih"].dtype, len(call.layers[0])
    blocks = [block for cell, state in zip(cells, states, strict=True) for block in blocks_of(cell, state)]
    zones, between = draw(call) if call.zoneout or call.dropout else ((), ())
    output, ended = fused.unroll(
        call.x.to(dtype),  # under autocast, what comes from below may be in half precision
        [block if block.dtype == dtype else block.to(dtype) for block in blocks],
        [weight for named in weights for weight in named.values()],
        cells[0].fused_mode,
        (False, True)[:directions],
        call.lengths,
        [noise.state for noise in noises if noise is not None and noise.state is not None],
        names=list(weights[0]),
        drops=[noise.candidate for noise in noises if noise is not None and noise.candidate is not None],
        zones=zones,
        zoneout=rates_of(call) if call.zoneout else (),
        between=between,
        constants=cells[0].fused_constants,
        cells=cells,
    )
    parts = iter(ended)
    after = [state_of(cell, type(state), state, parts) for cell, state in zip(cells, states, strict=True)]
    return Result(output, tuple(tuple(after[k : k + directions]) for k in range(0, len(after), directions)))


def blocks_of(cell: Any, state: Any) -> Sequence[Tensor]:
    """A state as the kernels have it: fields of some times H features as so many of H."""
    if is_uniform(cell, state):
        return state
    return [block for field in state for block in field.split(cell.hidden_size, -1)]


def is_uniform(cell: Any, state: Any) -> bool:
    """Whether all fields of a state are as wide as the cell: those that are wider stand first or last."""
    return bool(state[0].shape[-1] == state[-1].shape[-1] == cell.hidden_size)


def state_of(cell: Any, kind: Any, like: Any, blocks: Any) -> Any:
    """The inverse of ``blocks_of``, from an iterator over blocks."""
    if is_uniform(cell, like):
        return kind(*[next(blocks) for _ in like])
    fields = []
    for field in like:
        parts = [next(blocks) for _ in range(field.shape[-1] // cell.hidden_size)]
        fields.append(parts[0] if len(parts) == 1 else torch.cat(parts, -1))
    return kind(*fields)


def rates_of(call: Call) -> list[float]:
    """Zoneout, block by block of a state."""
    cell, state = call.layers[0][0], call.states[0][0]
    counts = [field.shape[-1] // cell.hidden_size for field in state]
    return [rate for rate, count in zip(call.zoneout, counts, strict=False) for _ in range(count)]


def draw(call: Call) -> tuple[list[Tensor], list[Tensor]]:
    """The zones of every layer and direction, and the masks of 0 and 1/keep [T, B, D*H] between the layers.

    In the order in which layers that are run one by one draw them: a seed gives every backend the same noise.
    """
    zones: list[Tensor] = []
    between: list[Tensor] = []
    for layer, cells in enumerate(call.layers):
        for direction, cell in enumerate(cells):
            for zone in zoneout.draw(call, layer, direction) or ():
                zones += [] if zone is None else zone.split(cell.hidden_size, -1)
        if call.training and call.dropout > 0 and layer + 1 < len(call.layers):
            shape = (*call.x.shape[:2], sum(cell.output_size for cell in cells))
            between.append(fused.dropout_mask(cells[0].weight_ih, shape, call.dropout))
    return zones, between
