"""A moving average of the weights, which often judges better than the weights themselves (Polyak & Juditsky 1992)."""

import copy

import torch
from torch import nn


class MovingAverage:
    """Follows a model: average = decay · average + (1 - decay) · weights, after every update.

    The first update copies the weights, as in ``torch.optim.swa_utils.AveragedModel``, which gives the same numbers but
    makes the host wait for the device at every update. Buffers that are no floats are copied.

    Args:
        model: whose weights are averaged; copied as it is now.
        decay: between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        """A model of its own that holds the average."""
        self.decay = decay
        self.updates = 0
        ours = [*self.module.parameters(), *self.module.buffers()]
        theirs = [*model.parameters(), *model.buffers()]
        floats = [tensor.is_floating_point() for tensor in ours]
        self.averaged = [tensor for tensor, is_float in zip(ours, floats, strict=True) if is_float]
        self.followed = [tensor for tensor, is_float in zip(theirs, floats, strict=True) if is_float]
        self.others = [pair for *pair, is_float in zip(ours, theirs, floats, strict=True) if not is_float]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights in."""
        weight = 1 - self.decay if self.updates else 1.0
        torch._foreach_lerp_(self.averaged, self.followed, weight)
        for ours, theirs in self.others:
            ours.copy_(theirs)
        self.updates += 1
