"""The ragged array, its cut, and the holdout."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.split import UNKNOWN_LABEL, EncodedSplit, holdout_indices

sequences = st.lists(st.lists(st.integers(0, 9999), min_size=1, max_size=12), max_size=20)


def keep(sequence: list[int], length: int | None, part: str) -> list[int]:
    """The obvious way."""
    if length is None or len(sequence) <= length:
        return sequence
    head = {"first": length, "last": 0, "both": length // 2}[part]
    return sequence[:head] + sequence[len(sequence) - (length - head) :]


@given(sequences, st.none() | st.integers(1, 14), st.sampled_from(["first", "last", "both"]))
def test_cut_equals_slicing_every_sequence(made: list[list[int]], length: int | None, part: str) -> None:
    labels = list(range(len(made)))
    cut = EncodedSplit.from_sequences(made, labels).cut(length, part)
    assert [cut[i].tolist() for i in range(len(cut))] == [keep(sequence, length, part) for sequence in made]
    assert cut.lengths.tolist() == [len(keep(sequence, length, part)) for sequence in made]
    assert cut.labels.tolist() == labels
    assert (cut.ids.dtype, cut.offsets.dtype, cut.labels.dtype) == (np.int32, np.int64, np.int64)


def test_both_keeps_the_larger_half_from_the_end() -> None:
    assert EncodedSplit.from_sequences([[1, 2, 3, 4, 5, 6]]).cut(3, "both")[0].tolist() == [1, 5, 6]


def test_without_labels_every_label_is_unknown() -> None:
    assert EncodedSplit.from_sequences([[1], [2]]).labels.tolist() == [UNKNOWN_LABEL] * 2


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 3))
def test_holdout_parts_are_disjoint_complete_and_not_empty(count: int, share: float, seed: int) -> None:
    train, held_out = holdout_indices(count, share, seed)
    assert sorted([*train, *held_out]) == list(range(count))
    assert len(train) >= 1
    assert len(held_out) >= 1
    assert abs(len(held_out) - count * share) <= 1


@pytest.mark.parametrize("seed", [0, 1])
def test_holdout_follows_from_the_seed(seed: int) -> None:
    assert holdout_indices(100, 0.2, seed)[1].tolist() == holdout_indices(100, 0.2, seed)[1].tolist()
    assert holdout_indices(100, 0.2, seed)[1].tolist() != holdout_indices(100, 0.2, seed + 1)[1].tolist()


def test_holdout_is_the_last_part_of_the_shuffle_whatever_its_share() -> None:
    smaller, larger = (set(holdout_indices(100, share, 0)[1]) for share in (0.1, 0.3))
    assert smaller < larger
