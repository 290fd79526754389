"""One long text, read by many columns at once, chunk after chunk: what a language model is trained and judged on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.data.batch import Batch
from src.data.split import UNKNOWN_LABEL, EncodedSplit
from src.data.tokenizer import END_ID

SHORTENED = 0.05
"""Share of chunks that are drawn around half the usual length (Merity et al. 2018)."""
SPREAD = 5
"""Standard deviation of a chunk's length, and the least of it."""

COUNTED = 1 << 20
"""Ids that are counted at once, as numbers of eight bytes."""


def join(split: EncodedSplit) -> NDArray[Any]:
    """The texts of a split one behind the other, each with ``END_ID`` after it; a single one stands as it is."""
    if len(split) == 1 or split.joined:
        return split.ids
    return np.insert(split.ids, split.offsets[1:], END_ID)


class StreamLoader:
    """Cut a stream of N tokens into columns that are read side by side, and those into chunks.

    Column b goes on in the next chunk where it stopped, so state that is carried makes of the chunks one text a column.
    Every chunk's targets are its inputs one step later. The batches of an epoch follow from (seed, epoch).

    Args:
        ids: [N] the stream.
        columns: B.
        chunk: T, steps of a chunk.
        jitter: draw the lengths anew each epoch, normally around T, or around T / 2 for one chunk in twenty (Merity et
            al. 2018), so that no token is always the first of its chunk. They are scaled to fill the epoch, whose
            number of chunks stays the same.
        parts: an epoch reads one of so many parts of every column, in turn.
        even: leave out the last few tokens so that all columns have the same length, which is for training; otherwise
            every token counts, and the last column may be shorter.
        seed: of the lengths.
        pin: hand out page-locked batches, for a GPU.
    """

    def __init__(
        self,
        ids: NDArray[Any],
        columns: int,
        chunk: int,
        *,
        jitter: bool = False,
        parts: int = 1,
        even: bool = False,
        seed: int = 0,
        pin: bool = False,
    ) -> None:
        self.ids, self.chunk, self.jitter, self.seed, self.pin = ids, chunk, jitter, seed, pin
        self.parts = parts
        steps = len(ids) - 1  # each with the token after it as its target
        self.length = steps // columns if even else -(-steps // columns)
        self.columns = columns if even else -(-steps // self.length)  # none that would be empty
        self._valid_B = np.minimum(self.length, steps - self.length * np.arange(self.columns))
        self._steps = self.length // parts  # of an epoch
        expected = chunk * (1 - SHORTENED / 2)
        self._count = max(round(self._steps / expected), 1) if jitter else -(-self._steps // chunk)

    def __len__(self) -> int:
        """Chunks an epoch."""
        return self._count

    def boundaries(self, epoch: int = 0) -> NDArray[np.int64]:
        """[chunks + 1] the steps at which the chunks of an epoch begin, and the end of the columns."""
        begin = self._steps * (epoch % self.parts)
        if not self.jitter:
            return begin + np.minimum(np.arange(len(self) + 1) * self.chunk, self._steps)
        rng = np.random.default_rng([self.seed, epoch])
        around = np.where(rng.random(len(self)) < SHORTENED, self.chunk / 2, self.chunk)
        ends = np.cumsum(np.maximum(rng.normal(around, SPREAD), SPREAD))
        return begin + np.concatenate(([0], np.rint(ends * (self._steps / ends[-1])).astype(np.int64)))

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Go through the chunks of an epoch, from chunk ``start`` on."""
        boundaries = self.boundaries(epoch).tolist()
        for first, end in zip(boundaries[start:-1], boundaries[start + 1 :], strict=True):
            batch = self.chunk_from(first, end)
            yield batch.pin_memory() if self.pin else batch

    def chunk_from(self, first: int, end: int) -> Batch:
        """Steps ``first`` to ``end`` of every column: inputs and targets [T, B], lengths [B]."""
        steps_T1 = np.arange(first, end)[:, None]
        at_TB = steps_T1 + self.length * np.arange(self.columns)
        inputs_TB, targets_TB = (self.ids.take(at_TB + k, mode="clip").astype(np.int64) for k in (0, 1))
        targets_TB[steps_T1 >= self._valid_B] = UNKNOWN_LABEL
        lengths_B = np.clip(self._valid_B - first, 0, end - first)
        return Batch(*map(torch.from_numpy, (inputs_TB, targets_TB, lengths_B)))


def count_ids(ids: NDArray[Any], size: int) -> NDArray[np.int64]:
    """[size] how often each id stands in a stream, which need not fit into memory."""
    counts = np.zeros(size, dtype=np.int64)
    for first in range(0, len(ids), COUNTED):
        counts += np.bincount(ids[first : first + COUNTED], minlength=size)
    return counts
