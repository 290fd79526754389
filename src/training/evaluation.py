"""One pass over a split without learning from it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from src.training.batches import Batches
from src.training.distributed import ALONE, World
from src.training.precision import autocast


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
