"""Backend ``fused``: our own CPU kernels, a whole stack over whole sequences in one call (``src.kernels.fused``)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from src.kernels import fused, native, zoneout
from src.kernels.call import Call, Result


def why_not(call: Call) -> str | None:
    """Why the fused kernels cannot run this call, or None."""
    first, cells = call.layers[0][0], [cell for layer in call.layers for cell in layer]
    if getattr(first, "fused_mode", None) is None:
        return f"there is no fused kernel for this {type(first).__name__}"
    if call.x.device.type != "cpu" or first.weight_ih.dtype not in (torch.float32, torch.float64):
        return "the fused kernels run in float32 and float64 on the CPU"
    if len({(cell.fused_mode, cell.bias, cell.fused_constants) for cell in cells}) > 1:
        return "a fused stack has one cell and bias throughout"
    if (
        len({tuple(cell.fused_weights()) for cell in cells}) > 1
    ):  # transitions, shortcuts and norms can be a layer's own
        return "fused layers with parameters of different names run layer by layer"
    if len(call.layers) > 1 and call.dropout > 0 and call.training:
        return "dropout between fused layers runs layer by layer"
    if call.recompute and torch.is_grad_enabled():
        return "the fused kernels cannot recompute in chunks of time"
    if forward_ad._current_level >= 0:
        return "the fused kernels have no forward-mode derivative"
    noises = [noise for layer in call.noises for noise in layer if noise is not None]
    if len({(noise.state is None, noise.candidate is None) for noise in noises}) > 1:
        return "recurrent dropout of some fused layers only runs layer by layer"
    return fused.why_not()


def yields(call: Call) -> str | None:
    """Why ``auto`` passes the fused kernels by where torch's own layers can run the call: those measured faster.

    Torch.nn's time over ours, on a Zen 5 server, one sequence (more sequences only add to it). RNN and GRU: above 1
    from 16 steps on, at widths 5 to 512, with and without gradients. Below that torch.nn itself is the faster one
    (at one step 0.4 to 0.65 without gradients, 0.6 to 1.3 with): 20 us a call, where ours spends 40 in Python and,
    from width 256 on, packs matrices that are then hardly used; ``native`` would spend 50, so there is nothing to
    yield to. LSTM: above 1 everywhere on one thread. But oneDNN shares the units of a few rows among threads, these
    kernels only the rows. On two cores that made it, with gradients, 0.6 to 0.95 at widths 256 to 512 and 1 to 8
    sequences, where ``native`` is torch.nn's equal; 1.3 to 1.8 at width 1024, where it is the weights' gradients
    that cost; without gradients 0.6 to 1 at these widths, and 0.64 for one sequence at 1024. Cells and options that
    torch's layers do not have would run in the Python loop, which was never the faster one.
    """
    first, steps, batch = call.layers[0][0], call.x.shape[0], call.x.shape[1]
    if first.native_mode != "LSTM" or first.hidden_size < 256 or batch > 8 or steps == 1:
        return None
    wins = first.hidden_size < 1024 or (batch == 1 and not torch.is_grad_enabled())
    if wins and torch.get_num_threads() > 1 and native.why_not(call) is None:
        return "oneDNN's LSTM shares few sequences of this width among threads"
    return None


def run(call: Call) -> Result:
    """Run the layers as one call of the fused operator."""
    cells = [cell for layer in call.layers for cell in layer]
    noises = [noise for layer in call.noises for noise in layer] or [None] * len(cells)
    states = [state for layer in call.states for state in layer]
    weights = [cell.fused_weights(noise) for cell, noise in zip(cells, noises, strict=True)]
    dtype, directions = cells[0].weight_ih.dtype, len(call.layers[0])
    output, ended = fused.unroll(
        call.x.to(dtype),  # under autocast, what comes from below may be in half precision
        [block.to(dtype) for cell, state in zip(cells, states, strict=True) for block in blocks_of(cell, state)],
        [weight for named in weights for weight in named.values()],
        cells[0].fused_mode,
        (False, True)[:directions],
        call.lengths,
        [noise.state for noise in noises if noise is not None and noise.state is not None],
        names=list(weights[0]),
        drops=[noise.candidate for noise in noises if noise is not None and noise.candidate is not None],
        zones=zones_of(call) if call.zoneout else (),
        zoneout=rates_of(call) if call.zoneout else (),
        constants=cells[0].fused_constants,
    )
    blocks = iter(ended)
    after = [state_of(cell, type(state), state, blocks) for cell, state in zip(cells, states, strict=True)]
    return Result(output, tuple(tuple(after[k : k + directions]) for k in range(0, len(after), directions)))


def blocks_of(cell: Any, state: Any) -> list[Tensor]:
    """A state as the kernels have it: fields of some times H features as so many of H."""
    size = cell.hidden_size
    return [block for field in state for block in ((field,) if field.shape[-1] == size else field.split(size, -1))]


def state_of(cell: Any, kind: Any, like: Any, blocks: Any) -> Any:
    """The inverse of ``blocks_of``, from an iterator over blocks."""
    if like[0].shape[-1] == like[-1].shape[-1] == cell.hidden_size:
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


def zones_of(call: Call) -> list[Tensor]:
    """The zones of every layer and direction, where zoneout draws them."""
    zones: list[Tensor] = []
    for layer, cells in enumerate(call.layers):
        for direction in range(len(cells)):
            for zone in zoneout.draw(call, layer, direction) or ():
                zones += [] if zone is None else zone.split(cells[direction].hidden_size, -1)
    return zones
