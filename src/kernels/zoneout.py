"""Zoneout (Krueger et al. 2017): a unit keeps its old value with some probability; evaluated, its expectation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from src.kernels.call import Call

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
    drawn = like.new_empty(time, batch, sum(sizes), dtype=torch.bool)
    rates = {rate for rate in call.zoneout if rate > 0}
    if len(rates) == 1:
        drawn.bernoulli_(rates.pop())
    else:
        each = [like.new_full((size,), rate) for size, rate in zip(sizes, call.zoneout, strict=True)]
        drawn.bernoulli_(torch.cat(each).expand(drawn.shape))
    return tuple(zone if zone.shape[-1] else None for zone in drawn.split(sizes, -1))


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
