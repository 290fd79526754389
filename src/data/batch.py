"""What a model is fed: one batch of sequences."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Sequences side by side, time first, each padded at its end to the longest of the batch."""

    inputs: Tensor
    """[T, B] int64 ids, or [T, B, I] floats."""
    targets: Tensor
    """[B] int64 classes (-1 where the class is not known), or [B, O] floats; where every step has one [T, B] (the id to
    come after it, say) or [T, B, O]."""
    lengths: Tensor
    """[B] int64, the valid steps of each column."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Move all of it; without waiting if ``non_blocking`` and the batch is pinned."""
        return Batch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))

    def columns(self, first: int, last: int) -> "Batch":
        """The columns from ``first`` to before ``last``."""
        cut = slice(first, last)
        each_step = self.targets.ndim - self.targets.is_floating_point() == 2  # floats have an axis of features
        targets = self.targets[:, cut] if each_step else self.targets[cut]
        return Batch(self.inputs[:, cut].contiguous(), targets.contiguous(), self.lengths[cut])

    def pin_memory(self) -> "Batch":
        """Copy to page-locked memory, from where a GPU fetches without stopping the host."""
        return Batch(*(tensor.pin_memory() for tensor in self))
