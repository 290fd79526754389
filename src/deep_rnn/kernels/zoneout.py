"""Zoneout (Krueger et al. 2017): a unit keeps its old value with some probability; evaluated, its expectation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deep_rnn.kernels.call import Call
from deep_rnn.kernels.sequence import reverse_valid
from deep_rnn.kernels.tracing import in_graph

Zones = tuple[Tensor | None, ...]  # per field of the state which units keep their old value; None: none do


def draw(call: Call, layer: int, direction: int) -> Zones | None:
    """The zones of every step, bool [T, B, F] each; None where none are drawn.

    Drawn for the whole sequence at once: every backend draws the same, and steps may be computed again. Drawn step by
    step all the same: chunks of a sequence draw what the whole does.
    """
    if not (call.training and any(call.zoneout)):
        return None
    like, (time, batch, _) = call.layers[layer][direction].weight_ih, call.x.shape
    sizes = [
        old.shape[-1] if rate > 0 else 0 for old, rate in zip(call.states[layer][direction], call.zoneout, strict=True)
    ]
    drawn = uniform(like, time, batch, sum(sizes))
    fields = (reverse_valid(drawn, call.lengths) if call.turned else drawn).split(sizes, -1)
    return tuple(bits < below(rate) if rate > 0 else None for bits, rate in zip(fields, call.zoneout, strict=True))


def uniform(like: Tensor, time: int, batch: int, features: int) -> Tensor:
    """Uniform int16 [T, B, F], each step drawn by itself.

    Four come from every number of 64 bits: with a number for each, drawing took a third of a small stack's forward and
    backward.
    """
    if in_graph():  # which draws with its own generator, and knows no `random_`
        return torch.randint(-(2**15), 2**15, (time, batch, features), dtype=torch.int16, device=like.device)
    words = like.new_empty(time, -(-batch * features // 4), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[:, : batch * features].unflatten(1, (batch, features))


def below(rate: float) -> int:
    """What an int16 is below with probability ``rate``, to 2^-17."""
    return min(round(rate * 2**16), 2**16 - 1) - 2**15


def at(zones: Zones | None, step: int | slice) -> Zones | None:
    """The zones of one step, or of some."""
    return None if zones is None else tuple(None if zone is None else zone[step] for zone in zones)


def hold(new: Any, old: Any, rates: Sequence[float], zones: Zones | None) -> Any:
    """The state after a step, with what zoneout keeps of the one before it; without zones the expectation."""
    fields = []
    for after, before, rate, zone in zip(new, old, rates, zones or [None] * len(rates), strict=True):
        if zone is not None:
            fields.append(torch.where(zone, before, after))
        else:
            fields.append(rate * before + (1 - rate) * after if rate > 0 else after)
    return type(new)(*fields)
