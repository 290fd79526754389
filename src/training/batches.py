"""The batches of a split, or as many of them as the debug options leave."""

from itertools import islice
from typing import Any, Protocol

import torch

from src.config import Config
from src.data.base import Data
from src.tasks.base import Task


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


def batches_of(split: str, task: Task, data: Data, cfg: Config, device: torch.device) -> Batches:
    """Make the batches of a split as the run is to see them; ``trainer.overfit`` puts the training's in their place."""
    trainer, first = cfg.trainer, "train" if cfg.trainer.overfit else split
    loader = task.batches(
        data,
        first,
        cfg.batch_size,
        shuffle=first == "train",
        seed=cfg.seed,
        bucket=trainer.bucket,
        pin=device.type == "cuda",
    )
    if trainer.overfit:
        return FirstBatches(loader, 1, same=True)
    return FirstBatches(loader, trainer.limit_batches) if trainer.limit_batches else loader
