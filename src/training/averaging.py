"""An average of the weights over updates, which often judges better than the weights themselves (Polyak & Juditsky)."""

import copy
from typing import Any, Literal

import torch
from torch import nn


class WeightAverage:
    """Follows a model: average = (1 - w) · average + w · weights, after every update from where the average begins.

    With a decay, w = 1 - decay (a moving average); ``uniform`` gives every update the same weight, w = 1 / n (Polyak &
    Juditsky 1992; the averaging of ASGD). The first update copies the weights, as in
    ``torch.optim.swa_utils.AveragedModel``, which gives the same numbers but makes the host wait for the device at
    every update. Buffers that are no floats are copied.

    With ``after`` the average begins at the first evaluation that is worse than the best of those more than ``after``
    evaluations before it, the non-monotone trigger of NT-ASGD (Merity, Keskar & Socher 2018, algorithm 1).

    Args:
        model: whose weights are averaged; copied as it is now.
        decay: between 0 and 1, or ``uniform``.
        after: the trigger's interval; None begins with the first update.
        mode: whether evaluations are better when ``max`` or ``min``.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float | Literal["uniform"],
        after: int | None = None,
        mode: Literal["max", "min"] = "min",
    ) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        """A model of its own that holds the average."""
        self.decay, self.after, self.mode = decay, after, mode
        self.begun = after is None
        self.updates = 0
        self.values: list[float] = []  # of the evaluations so far, as long as the trigger waits
        ours = [*self.module.parameters(), *self.module.buffers()]
        theirs = [*model.parameters(), *model.buffers()]
        floats = [tensor.is_floating_point() for tensor in ours]
        self.averaged = [tensor for tensor, is_float in zip(ours, floats, strict=True) if is_float]
        self.followed = [tensor for tensor, is_float in zip(theirs, floats, strict=True) if is_float]
        self.others = [pair for *pair, is_float in zip(ours, theirs, floats, strict=True) if not is_float]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights in, if the average has begun."""
        if not self.begun:
            return
        weight = 1 / (self.updates + 1) if self.decay == "uniform" or not self.updates else 1 - self.decay
        torch._foreach_lerp_(self.averaged, self.followed, weight)
        for ours, theirs in self.others:
            ours.copy_(theirs)
        self.updates += 1

    @property
    def judges(self) -> bool:
        """Whether there is an average yet, which then stands for the weights."""
        return self.updates > 0

    def evaluated(self, value: float) -> None:
        """Take note of the monitored metric, which may begin the average."""
        if self.begun or self.after is None:
            return
        before = self.values[: max(len(self.values) - self.after, 0)]
        sign = 1 if self.mode == "min" else -1
        self.begun = bool(before) and sign * value > min(sign * old for old in before)
        self.values.append(value)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the averaged weights."""
        return {"begun": self.begun, "updates": self.updates, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.begun, self.updates, self.values = state["begun"], state["updates"], state["values"]
