"""Batches from encoded sequences: one gather each, in an order that can be taken up again anywhere."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from src.data.batch import Batch
from src.data.split import EncodedSplit

POOL = 50
"""Shuffled batches whose examples are sorted by length together: more waste less padding and mix examples less."""


class BatchLoader:
    """Cut a split into padded batches.

    Everything is in memory and a batch costs a few microseconds, less than handing it over from a worker process
    would.

    Args:
        split: the encoded examples.
        batch_size: examples a batch; the one batch of an epoch that holds the remainder is smaller.
        pad_id: what fills the end of the shorter sequences.
        shuffle: draw a new order each epoch; otherwise examples come as they stand in the split (or by length).
        seed: of the order.
        bucket: put examples of similar length together, which saves padding. Shuffled: pools of ``POOL`` batches are
            sorted by length and the batches shuffled. Not shuffled: everything is sorted by length.
        pin: hand out page-locked batches, for a GPU.
        crop: steps of the window, placed anew each epoch, that stands for a longer sequence; None: all of it.
    """

    def __init__(
        self,
        split: EncodedSplit,
        batch_size: int,
        *,
        pad_id: int = 0,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        pin: bool = False,
        crop: int | None = None,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.pad_id = pad_id
        self.shuffle = shuffle
        self.seed = seed
        self.bucket = bucket
        self.pin = pin
        self.crop = crop
        self._lengths = split.lengths if crop is None else np.minimum(split.lengths, crop)
        self._steps_T1 = np.arange(self._lengths.max(initial=0))[:, None]

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.split) // self.batch_size)

    def batches(self, epoch: int = 0) -> list[NDArray[np.int64]]:
        """The examples of each batch: a function of (seed, epoch) and nothing else."""
        count = len(self.split)
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(count) if self.shuffle else np.arange(count)
        if self.bucket:
            pool = np.arange(count) // (POOL * self.batch_size if self.shuffle else max(count, 1))
            order = order[np.lexsort((self._lengths[order], pool))]
        batches = [order[first : first + self.batch_size] for first in range(0, count, self.batch_size)]
        if self.bucket and self.shuffle:
            batches = [batches[position] for position in rng.permutation(len(batches))]
        return batches

    def indices(self, epoch: int = 0) -> NDArray[np.int64]:
        """[N] the examples in the order in which an epoch hands them out."""
        return np.concatenate([np.empty(0, np.int64), *self.batches(epoch)])

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Go through the batches of an epoch, from batch ``start`` on."""
        starts = self.starts(epoch)
        for examples in islice(self.batches(epoch), start, None):
            batch = self.collate(examples, starts)
            yield batch.pin_memory() if self.pin else batch

    def starts(self, epoch: int = 0) -> NDArray[np.int64]:
        """[N] where each example begins in the flat ids: with ``crop`` a function of (seed, epoch) too."""
        first = self.split.offsets[:-1]
        if self.crop is None:
            return first
        room = self.split.lengths - self._lengths
        return first + np.random.default_rng([self.seed, epoch, 1]).integers(0, room, endpoint=True)

    def collate(self, examples: NDArray[np.int64], starts: NDArray[np.int64]) -> Batch:
        """Make the batch of these examples: one gather from the flat ids, padded to its own longest."""
        lengths = self._lengths[examples]
        steps_T1 = self._steps_T1[: lengths.max()]
        # Past the end of an example this reads its neighbour (past the last one: the last id), and is overwritten.
        ids_TB = self.split.ids.take(steps_T1 + starts[examples], mode="clip").astype(np.int64)
        if lengths.min() < len(steps_T1):
            ids_TB[steps_T1 >= lengths] = self.pad_id
        targets = self.split.labels[examples]
        if targets.ndim == 2:  # a 0 or 1 for each class, kept as bytes
            targets = targets.astype(np.float32)
        return Batch(torch.from_numpy(ids_TB), torch.from_numpy(targets), torch.from_numpy(lengths))
