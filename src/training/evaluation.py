"""One pass over a split without learning from it."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

import torch
from torch import nn

from src.training.distributed import ALONE, World
from src.training.precision import autocast


class Batches(Protocol):
    """What hands out the batches of an epoch: a loader, or a part of one."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int = 0, start: int = 0) -> Any:
        """Iterate over the batches of this epoch from this one on."""


class FirstBatches:
    """The first batches of a loader's epochs; with ``same`` the first batches of its first epoch, again and again."""

    def __init__(self, loader: Batches, limit: int, same: bool = False) -> None:
        self.loader, self.limit, self.same = loader, limit, same

    def __len__(self) -> int:
        """Batches an epoch."""
        return min(len(self.loader), self.limit)

    def epoch(self, epoch: int = 0, start: int = 0) -> Any:
        """Iterate over them, from batch ``start`` on."""
        return islice(self.loader.epoch(0 if self.same else epoch, start), len(self) - start)


def evaluate(
    task: Any,
    model: nn.Module,
    batches: Batches,
    device: torch.device,
    amp: str = "off",
    between: Callable[[], None] = lambda: None,
    world: World = ALONE,
) -> Any:
    """Run a model over batches and return the task's metrics, still on the device until ``compute()`` is called.

    Training goes on afterwards as if nothing had happened: the model's mode and the random generators are put back.

    Args:
        task: says what a batch means (``step``, ``new_metrics``).
        model: on ``device``.
        batches: their epoch 0 is evaluated; state that the task carries runs through from the first to the last.
        amp: number format of the forward pass.
        between: called before each batch; may raise to end the pass.
        world: the processes that do this together, each a part of every batch; all get the metrics of the whole.
    """
    metrics, carry, was_training, precision = task.new_metrics(), None, model.training, autocast(amp, device)
    model.eval()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices):
            for batch in batches.epoch(0):
                between()
                part, mine = world.part(batch)
                if not mine:
                    continue
                part = part.to(device, non_blocking=True)
                with precision:
                    result = task.step(model, part, carry)
                metrics.update(result, part)
                carry = result.carry
    finally:
        model.train(was_training)
    return world.summed(metrics, task.new_metrics(), device)
