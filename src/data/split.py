"""Encoded sequences of different lengths in three flat arrays, and the cut that holds some of them out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    labels: NDArray[Any]
    """[N] int64 classes, ``UNKNOWN_LABEL`` where there is none; or [N, C] uint8, a 0 or 1 for each class"""

    @classmethod
    def from_sequences(
        cls, sequences: Iterable[Sequence[int] | NDArray[np.int32]], labels: Sequence[int] | NDArray[Any] | None = None
    ) -> "EncodedSplit":
        """Lay sequences of ids one behind the other."""
        arrays = [np.asarray(sequence, dtype=np.int32) for sequence in sequences]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        known = np.asarray(np.full(len(arrays), UNKNOWN_LABEL) if labels is None else labels)
        kind = np.uint8 if known.ndim == 2 else np.int64
        # One long text stays where it is: a copy of it may be what no longer fits.
        ids = arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, np.int32), *arrays])
        return cls(ids, offsets, known.astype(kind))

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
        return self.from_sequences([self[example].tolist() for example in examples], self.labels[examples])

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


def stratified_indices(labels: Sequence[int], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `holdout_indices` of as many examples, but every class is held out in its share.

    As many are held out in all. Of a class with two examples or more one at least is held out, where there is room for
    that, and always one is left to train on. Where no class has two, the cut is that of `holdout_indices`.
    """
    classes, counts_C = np.unique(labels, return_counts=True)
    if len(labels) < 2 or counts_C.max() < 2:
        return holdout_indices(len(labels), share, seed)
    most_C = counts_C - 1
    total = min(max(round(len(labels) * share), 1), int(most_C.sum()))
    wanted_C = counts_C * share
    held_C = np.minimum(np.floor(wanted_C).astype(np.int64), most_C)
    if (shown_C := np.maximum(held_C, np.minimum(most_C, 1))).sum() <= total or len(classes) <= total / 2:
        held_C = shown_C
    while (missing := total - held_C.sum()) != 0:  # one at a time, where the share is furthest off
        step = 1 if missing > 0 else -1
        room_C = held_C < most_C if step > 0 else held_C > 1
        held_C[np.where(room_C, step * (wanted_C - held_C), -np.inf).argmax()] += step
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(np.asarray(labels)[order], kind="stable")]  # each class in the order of the shuffle
    place_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(counts_C) - counts_C, counts_C)
    is_held = np.zeros(len(labels), dtype=bool)
    is_held[by_class[place_in_class >= np.repeat(counts_C - held_C, counts_C)]] = True
    return order[~is_held[order]], order[is_held[order]]
