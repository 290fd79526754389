"""Examples that are arrays of numbers or ids: a fixed set of them, or as many as one likes, drawn anew each epoch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.data.base import DataSpec, Loader, split_of
from src.data.batch import Batch


class Arrays(NamedTuple):
    """N sequences side by side, each padded with zeros at its end to the longest."""

    inputs: NDArray[Any]
    """[N, T] ids, or [N, T, I] numbers."""
    targets: NDArray[Any]
    """[N] or, where every step has one, [N, T] classes; [N, O] or [N, T, O] numbers."""
    lengths: NDArray[np.int64]
    """[N] valid steps."""
    scale: float = 1.0
    """What the numbers are multiplied with when they are handed out: pixels are kept as bytes."""

    def pick(self, examples: NDArray[np.int64]) -> "Arrays":
        """Return these examples, in this order."""
        return Arrays(self.inputs[examples], self.targets[examples], self.lengths[examples], self.scale)

    def batch(self, per_step: bool) -> Batch:
        """Make a batch of them all, as long as its longest; ``per_step`` says that the targets have a time axis."""
        longest = int(self.lengths.max())
        inputs, targets = _tensor(self.inputs[:, :longest]), _tensor(self.targets)
        if inputs.is_floating_point() and self.scale != 1.0:
            inputs = inputs * self.scale
        return Batch(
            inputs.transpose(0, 1).contiguous(),
            targets[:, :longest].transpose(0, 1).contiguous() if per_step else targets,
            torch.from_numpy(self.lengths),
        )


def _tensor(array: NDArray[Any]) -> Tensor:
    """Ids and classes [N] or [N, T] as int64, numbers (floats, or bytes with a feature axis) as float32."""
    is_number = array.dtype.kind == "f" or array.dtype == np.uint8
    return torch.from_numpy(array.astype(np.float32 if is_number else np.int64))


Draw = Callable[[np.random.Generator, int], Arrays]
"""Draws so many examples."""


class Stream(NamedTuple):
    """Examples that nobody sees twice: an epoch is ``size`` of them, and the next one draws others."""

    draw: Draw
    size: int


class ArrayLoader:
    """Batches of a fixed set.

    Args:
        arrays: the set.
        batch_size: examples a batch; the last one holds the remainder.
        per_step: whether targets have a time axis.
        shuffle: draw a new order each epoch.
        seed: of the order, which is a function of (seed, epoch) and nothing else.
        pin: hand out page-locked batches, for a GPU.
    """

    def __init__(self, arrays: Arrays, batch_size: int, *, per_step: bool, shuffle: bool, seed: int, pin: bool) -> None:
        self.arrays, self.batch_size, self.per_step = arrays, batch_size, per_step
        self.shuffle, self.seed, self.pin = shuffle, seed, pin

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.arrays.lengths) // self.batch_size)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Go through the batches of an epoch, from batch ``start`` on."""
        count = len(self.arrays.lengths)
        order = np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else np.arange(count)
        for first in range(start * self.batch_size, count, self.batch_size):
            batch = self.arrays.pick(order[first : first + self.batch_size]).batch(self.per_step)
            yield batch.pin_memory() if self.pin else batch


class StreamLoader:
    """Batches of new examples: batch ``k`` of an epoch is drawn by (seed, epoch, k) and nothing else.

    So a run that goes on sees what it would have seen, and another seed sees others. Arguments as in ``ArrayLoader``.
    """

    def __init__(self, stream: Stream, batch_size: int, *, per_step: bool, seed: int, pin: bool) -> None:
        self.stream, self.batch_size, self.per_step, self.seed, self.pin = stream, batch_size, per_step, seed, pin

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.stream.size // self.batch_size)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Draw the batches of an epoch, from batch ``start`` on."""
        for number in range(start, len(self)):
            count = min(self.batch_size, self.stream.size - number * self.batch_size)
            rng = np.random.default_rng([TRAINING, self.seed, epoch, number])
            batch = self.stream.draw(rng, count).batch(self.per_step)
            yield batch.pin_memory() if self.pin else batch


TRAINING, VALIDATION = 1, 2
"""First word of a seed, so that no training example is drawn as a validation example was."""


@dataclass(frozen=True, eq=False)
class ArrayData:
    """Splits that are fixed sets or streams; what they are of, the spec says."""

    spec: DataSpec
    splits: Mapping[str, "Split"]
    encoder: None = None

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        pin: bool = False,
    ) -> Loader:
        """Cut a split into batches; a stream has no order to shuffle, and nothing here is sorted by length."""
        examples, per_step = split_of(self.splits, split).examples, self.spec.target == "step"
        if isinstance(examples, Stream):
            return StreamLoader(examples, batch_size, per_step=per_step, seed=seed, pin=pin)
        return ArrayLoader(examples, batch_size, per_step=per_step, shuffle=shuffle, seed=seed, pin=pin)


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of a split, whose number ``len`` says."""

    examples: Arrays | Stream

    def __len__(self) -> int:
        return self.examples.size if isinstance(self.examples, Stream) else len(self.examples.lengths)
