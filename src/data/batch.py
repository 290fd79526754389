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

    def pin_memory(self) -> "Batch":
        """Copy to page-locked memory, from where a GPU fetches without stopping the host."""
        return Batch(*(tensor.pin_memory() for tensor in self))
