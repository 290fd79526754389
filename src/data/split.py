"""Encoded sequences of different lengths in three flat arrays, and the cut that holds some of them out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UNKNOWN_LABEL = -1


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """A ragged array: example ``i`` is ``ids[offsets[i]:offsets[i + 1]]``, of class ``labels[i]``."""

    ids: NDArray[np.int32]
    """[tokens of all examples]"""
    offsets: NDArray[np.int64]
    """[N + 1], from 0 up to ``len(ids)``"""
    labels: NDArray[np.int64]
    """[N] classes, ``UNKNOWN_LABEL`` where there is none"""

    @classmethod
    def from_sequences(cls, sequences: Iterable[Sequence[int]], labels: Sequence[int] | None = None) -> "EncodedSplit":
        """Lay sequences of ids one behind the other."""
        arrays = [np.asarray(sequence, dtype=np.int32) for sequence in sequences]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        known = np.full(len(arrays), UNKNOWN_LABEL) if labels is None else labels
        return cls(np.concatenate([np.empty(0, np.int32), *arrays]), offsets, np.asarray(known, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, example: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[example] : self.offsets[example + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] tokens of each example."""
        return np.diff(self.offsets)

    def take(self, examples: NDArray[np.int64]) -> "EncodedSplit":
        """Some of the examples."""
        return self.from_sequences([self[example].tolist() for example in examples], self.labels[examples].tolist())

    def cut(self, max_length: int | None, keep: Literal["first", "last", "both"]) -> "EncodedSplit":
        """Shorten every example to ``max_length``.

        ``both`` keeps ``max_length // 2`` tokens from the beginning and the rest from the end: in long reviews the
        verdict stands at either end (Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?").
        """
        lengths = self.lengths
        if max_length is None or not len(self) or lengths.max() <= max_length:
            return self
        kept = np.minimum(lengths, max_length)
        offsets = np.concatenate([[0], np.cumsum(kept)])
        position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], kept)
        head = {"first": max_length, "last": 0, "both": max_length // 2}[keep]
        skipped = np.repeat(lengths - kept, kept) * (position >= head)
        return EncodedSplit(self.ids[np.repeat(self.offsets[:-1], kept) + position + skipped], offsets, self.labels)


def holdout_indices(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shuffle ``count`` examples and return (the ones to train on, the last ``share`` of them).

    A function of its arguments only, so that every run with the same seed holds the same examples out. Both parts have
    at least one example if there are two.
    """
    order = np.random.default_rng(seed).permutation(count)
    train = min(max(count - round(count * share), 1), count - 1)
    return order[:train], order[train:]
