"""Encoded sequences of different lengths in three flat arrays, and the cut that holds some of them out."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.data.tokenizer import END_ID

UNKNOWN_LABEL = -1


STRETCHES = 1 << 11
"""Stretches of ids that are gathered at once."""
Piece = tuple[NDArray[Any], bool]
"""Ids of a part of an example, and whether it is its last part."""


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """A ragged array: the examples' ids one behind the other."""

    ids: NDArray[Any]
    """[tokens of all examples] whole numbers, of any width"""
    offsets: NDArray[np.int64]
    """[N + 1] where each example begins, and the end of the last"""
    labels: NDArray[Any]
    """[N] int64 classes, ``UNKNOWN_LABEL`` where there is none; or [N, C] uint8, a 0 or 1 for each class"""
    joined: bool = False
    """Whether an ``END_ID`` that is no part of it stands behind each example, as in a stream."""

    @classmethod
    def from_sequences(
        cls, sequences: Iterable[Sequence[int] | NDArray[np.int32]], labels: Sequence[int] | NDArray[Any] | None = None
    ) -> "EncodedSplit":
        """Lay sequences of ids one behind the other."""
        return cls.from_pieces(((np.asarray(sequence, dtype=np.int32), True) for sequence in sequences), labels)

    @classmethod
    def from_pieces(cls, pieces: Iterable[Piece], labels: Sequence[int] | NDArray[Any] | None = None) -> "EncodedSplit":
        """Lay examples that come in pieces one behind the other."""
        parts = list[NDArray[Any]]()
        offsets = lay(pieces, parts.append)
        # One long text stays where it is: a copy of it may be what no longer fits.
        ids = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])
        return cls(ids, offsets, label_array(labels, len(offsets) - 1))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, example: int) -> NDArray[Any]:
        return self.ids[self.offsets[example] : self.offsets[example + 1] - self.joined]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] tokens of each example."""
        return np.diff(self.offsets) - self.joined

    def take(self, examples: NDArray[np.int64]) -> "EncodedSplit":
        """Some of the examples."""
        return self._gather(self.offsets[examples], self.lengths[examples], self.labels[examples])

    def cut(self, max_length: int | None, keep: Literal["first", "last", "both"]) -> "EncodedSplit":
        """Shorten every example to ``max_length``.

        ``both`` keeps ``max_length // 2`` tokens from the beginning and the rest from the end: in long reviews the
        verdict stands at either end (Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?").
        """
        lengths = self.lengths
        if max_length is None or not len(self) or lengths.max() <= max_length:
            return self
        head = np.minimum(lengths, {"first": max_length, "last": 0, "both": max_length // 2}[keep])
        tail = np.minimum(lengths, max_length) - head
        first = self.offsets[:-1]
        starts, kept = np.stack([first, first + lengths - tail], 1), np.stack([head, tail], 1)
        return self._gather(starts, kept, self.labels)

    def _gather(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], labels: NDArray[Any]) -> "EncodedSplit":
        """The examples that consist of these stretches of the ids: one each, [N], or several, [N, K]."""
        offsets = np.concatenate([[0], np.cumsum(lengths if lengths.ndim == 1 else lengths.sum(1))])
        starts, lengths = starts.ravel(), lengths.ravel()
        ids, done = np.empty(offsets[-1], self.ids.dtype), 0
        for first in range(0, len(starts), STRETCHES):  # the place of each id takes eight bytes: not all at once
            start, own = starts[first : first + STRETCHES], lengths[first : first + STRETCHES]
            places = np.arange(own.sum()) + np.repeat(start - (np.cumsum(own) - own), own)
            ids[done : done + len(places)] = self.ids[places]
            done += len(places)
        return EncodedSplit(ids, offsets, labels)


def lay(pieces: Iterable[Piece], write: Callable[[NDArray[Any]], Any], joined: bool = False) -> NDArray[np.int64]:
    """Write the pieces of examples one behind the other; return the offsets (see `EncodedSplit`)."""
    position, offsets = 0, array("q", [0])
    for ids, is_last in pieces:
        write(ids)
        position += len(ids)
        if is_last and joined:
            write(np.full(1, END_ID, dtype=ids.dtype))
        if is_last:
            position += joined
            offsets.append(position)
    return np.array(offsets, dtype=np.int64)


def label_array(labels: Sequence[int] | NDArray[Any] | None, count: int) -> NDArray[Any]:
    """Labels as an `EncodedSplit` has them; None: they are not known."""
    known = np.full(count, UNKNOWN_LABEL) if labels is None else np.asarray(labels)
    return known.astype(np.uint8 if known.ndim == 2 else np.int64)


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


def iterative_indices(
    labels: Sequence[Sequence[int]], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `stratified_indices`, of examples with any number of labels each, by iterative stratification.

    Sechidis, Tsoumakas & Vlahavas 2011, "On the stratification of multi-label data": again and again the label of which
    the fewest examples are left is dealt out, each of its examples to the part that lacks more of the label; where both
    lack as many, to the one that lacks more examples. Those without labels come last and fill up the parts. Of a label
    with two examples one is to be held out and one to be trained on, unless that would be asked for too many labels.
    About as many are held out in all as the share says, and always one.
    """
    count = len(labels)
    if count < 2:
        return holdout_indices(count, share, seed)
    order = np.random.default_rng(seed).permutation(count)
    counts_C = np.bincount(np.array([label for own in labels for label in own], dtype=np.int64))
    total = min(max(round(count * share), 1), count - 1)
    wanted_C = counts_C * share
    if (counts_C > 1).sum() <= total / 2:
        wanted_C = np.where(counts_C > 1, np.clip(wanted_C, 1, counts_C - 1), wanted_C)
    lacking = [(counts_C - wanted_C).tolist(), wanted_C.tolist()]  # of each label to train on, and to hold out
    room = [count - total, total]
    of_label = [list[int]() for _ in counts_C]
    for example in order.tolist():
        for label in labels[example]:
            of_label[label].append(example)
    part_N, left_C = np.full(count, -1), counts_C.astype(float)
    while (left_C > 0).any():
        rarest = int(np.where(left_C > 0, left_C, np.inf).argmin())
        for example in of_label[rarest]:
            if part_N[example] >= 0:
                continue
            part = int((lacking[1][rarest], room[1]) > (lacking[0][rarest], room[0]))
            part_N[example] = part
            room[part] -= 1
            for label in labels[example]:
                lacking[part][label] -= 1
                left_C[label] -= 1
    bare = order[part_N[order] < 0]
    held = min(max(room[1], 0), len(bare))
    part_N[bare[: len(bare) - held]], part_N[bare[len(bare) - held :]] = 0, 1
    if len(set(part_N)) == 1:
        part_N[order[-1]] = 1 - part_N[order[-1]]
    return order[part_N[order] == 0], order[part_N[order] == 1]
