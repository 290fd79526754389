"""Second derivatives of the fused kernels: the operator ``deep_rnn::unroll_twice``, by the cells' own ``step``.

The kernels' backward pass is written by hand and has no derivative. Where one is asked for (a gradient penalty, a
Hessian) the same backward pass is taken through the steps in plain PyTorch, from what the call had kept, and
differentiated. That costs what ``loop`` costs, and only those pay who ask.
"""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_rnn.kernels import loop, zoneout
from deep_rnn.kernels.call import Call
from deep_rnn.kernels.sequence import valid_steps
from deep_rnn.kernels.stand_in import original, stand_in
from deep_rnn.kernels.tracing import in_graph

_cells: "weakref.WeakValueDictionary[int, Any]" = weakref.WeakValueDictionary()


class Masks(NamedTuple):
    """What ``deep_rnn.cells.Noise`` is, without importing it."""

    state: Tensor | None
    candidate: Tensor | None
    weights: None = None


def possible() -> bool:
    """Whether a second derivative may be asked for: gradients are on, and no graph is made that outlives the cells."""
    return torch.is_grad_enabled() and not in_graph()


def keys_of(cells: Sequence[Any]) -> list[int]:
    """Numbers by which an operator that takes no modules can name these cells while they live, if it has to."""
    if not cells or not possible():
        return []
    keys = []
    for cell in map(original, cells):
        key = id(cell)
        if _cells.get(key) is not cell:
            _cells[key] = cell
        keys.append(key)
    return keys


def unroll_twice(
    grads: list[Tensor],
    grad_output: Tensor,
    grad_final: list[Tensor],
    x: Tensor,
    lengths: Tensor | None,
    initial: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    drops: list[Tensor],
    zones: list[Tensor],
    between: list[Tensor],
    names: list[str],
    zoneout: list[float],
    reverse: list[bool],
    cells: list[int],
    wants_x: bool,
    wants_states: bool,
    wants_weights: bool,
) -> list[Tensor]:
    """From the gradients of a backward pass's results to those of all that it took: of the gradients of the output and
    of the last states, of x, of the initial states and of the weights.

    Raises:
        RuntimeError: for a call inside a compiled graph or under vmap, or if the module that made it is gone.
    """
    if not cells or weights[0].dim() == 3:
        raise RuntimeError("the fused kernels have no second derivative under torch.compile or vmap; use backend=loop")
    alive: list[Any] = [_cells.get(key) for key in cells]
    if any(cell is None for cell in alive):
        raise RuntimeError("the module whose second derivative is asked for no longer exists")
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        firsts = [variable(tensor) for tensor in (grad_output, *grad_final)]
        x, *rest = [variable(tensor) for tensor in (x, *initial, *weights)]
        initial, weights = rest[: len(initial)], rest[len(initial) :]
        named = [dict(zip(names, own, strict=True)) for own in parts(weights, names)]
        stand_ins = [stand_in(cell, cell.unfused(tensors)) for cell, tensors in zip(alive, named, strict=True)]
        noise = Noises(masks, drops, zones, zoneout)
        results = unroll(stand_ins, x, lengths, initial, noise, between, reverse)
        wanted = [x] * wants_x + initial * wants_states + weights * wants_weights
        found = torch.autograd.grad(results, wanted, firsts, create_graph=True, materialize_grads=True)
        pairs = [(one, grad) for one, grad in zip(found, grads, strict=True) if one.requires_grad]
        into = [*firsts, x, *initial, *weights]
        if not pairs:
            return [torch.zeros_like(tensor) for tensor in into]
        outputs, along = zip(*pairs, strict=True)
        return list(torch.autograd.grad(outputs, into, along, create_graph=graph, materialize_grads=True))


def variable(tensor: Tensor) -> Tensor:
    """A tensor of its own for the graph of one call, so that a gradient by it is the call's alone: a weight may also be
    behind x. Derivatives go on through it to where the tensor came from."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


def parts(weights: Sequence[Tensor], names: Sequence[str]) -> Iterator[Sequence[Tensor]]:
    """The weights of one cell after the other."""
    return (weights[k : k + len(names)] for k in range(0, len(weights), len(names)))


class Noises(NamedTuple):
    """The noise of a call as the operator takes it: lists over layers, then directions."""

    masks: list[Tensor]
    drops: list[Tensor]
    zones: list[Tensor]  # per cell and block of its state with zoneout
    rates: list[float]  # per block of a state

    def of(self, place: int) -> Masks:
        """The masks of one cell."""
        return Masks(self.masks[place] if self.masks else None, self.drops[place] if self.drops else None)

    def zones_of(self, place: int, counts: Sequence[int]) -> zoneout.Zones | None:
        """The zones of one cell, field by field of its state; ``counts``: blocks of each field."""
        if not self.zones:
            return None
        zoned = sum(rate > 0 for rate in self.rates)
        own, fields, at = iter(self.zones[place * zoned : (place + 1) * zoned]), [], 0
        for count in counts:
            blocks = [next(own) for rate in self.rates[at : at + count] if rate > 0]
            fields.append(torch.cat(blocks, -1) if blocks else None)
            at += count
        return tuple(fields)


def unroll(
    cells: Sequence[Any],
    x: Tensor,
    lengths: Tensor | None,
    initial: Sequence[Tensor],
    noises: Noises,
    between: Sequence[Tensor],
    reverse: Sequence[bool],
) -> list[Tensor]:
    """What ``deep_rnn::unroll`` returns, step by step: the output [T, B, D*H] and the last states in blocks [B, H]."""
    valid = None if lengths is None else valid_steps(lengths, x.shape[0])
    blocks, ended = iter(initial), []
    layers = len(cells) // len(reverse)
    for layer in range(layers):
        outputs = []
        for direction, backwards in enumerate(reverse):
            place = layer * len(reverse) + direction
            cell = cells[place]
            counts = [size // cell.hidden_size for size in cell.state_sizes]
            state = cell.State(*(torch.cat([next(blocks) for _ in range(count)], -1) for count in counts))
            rates = tuple(noises.rates[sum(counts[:k])] for k in range(len(counts))) if noises.rates else ()
            call = Call(((cell,),), x, ((state,),), lengths, ((noises.of(place),),), rates)
            output, last = one_way(call, backwards, valid, noises.zones_of(place, counts))
            outputs.append(output)
            ended += [block for field in last for block in field.split(cell.hidden_size, -1)]
        x = torch.cat(outputs, -1)
        if between and layer + 1 < layers:
            x = x * between[layer]
    return [x, *ended]


def one_way(call: Call, backwards: bool, valid: Tensor | None, zones: zoneout.Zones | None) -> tuple[Tensor, Any]:
    """One cell over all steps: outputs [T, B, H'] and the state after the last."""
    cell, state = call.layers[0][0], call.states[0][0]
    gates, outputs = cell.project(call.x), [call.x] * call.x.shape[0]
    for t in reversed(range(len(outputs))) if backwards else range(len(outputs)):
        now = None if valid is None else valid[t]
        state, outputs[t] = loop.advance(call, 0, gates[t], state, now, zoneout.at(zones, t))
    return torch.stack(outputs), state
