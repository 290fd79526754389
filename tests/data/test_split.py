"""The ragged array, its cut, and the holdout."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.split import UNKNOWN_LABEL, EncodedSplit, holdout_indices, iterative_indices, stratified_indices

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


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), st.floats(0.05, 0.95), st.integers(0, 3))
def test_stratified_parts_are_disjoint_and_complete_and_leave_of_every_class_one_to_train_on(
    labels: list[int], share: float, seed: int
) -> None:
    train, held_out = stratified_indices(labels, share, seed)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert len(held_out) >= 1
    classes, counts = np.unique(labels, return_counts=True)
    if counts.max() > 1:
        assert set(np.asarray(labels)[train]) == set(classes)
        assert len(held_out) == min(max(round(len(labels) * share), 1), len(labels) - len(classes))


@pytest.mark.parametrize("seed", range(20))
def test_stratified_holdout_has_its_share_of_common_and_rare_classes_under_every_seed(seed: int) -> None:
    labels = np.repeat([0, 1, 2, 3], [4000, 1000, 5, 2])
    train, held_out = stratified_indices(labels.tolist(), 0.2, seed)
    assert len(held_out) == round(0.2 * len(labels))
    assert np.bincount(labels[held_out]).tolist() == [799, 200, 1, 1]
    assert np.bincount(labels[train]).tolist() == [3201, 800, 4, 1]


def test_stratified_holdout_of_1100_classes_of_two_examples_leaves_all_to_train_on() -> None:
    labels = np.arange(2200) % 1100
    train, held_out = stratified_indices(labels.tolist(), 0.2, 0)
    assert len(held_out) == 440 and len(set(labels[held_out])) == 440
    assert len(set(labels[train])) == 1100


def test_stratified_holdout_follows_from_the_seed_and_is_shuffled() -> None:
    labels = [0, 1] * 50
    first, again, other = (stratified_indices(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first != sorted(first)


def test_stratified_holdout_of_classes_of_one_example_each_is_the_plain_one() -> None:
    for found, plain in zip(stratified_indices(range(10), 0.2, 0), holdout_indices(10, 0.2, 0), strict=True):
        assert found.tolist() == plain.tolist()


several = st.lists(st.frozensets(st.integers(0, 5), max_size=4).map(sorted).map(tuple), min_size=2, max_size=120)


@given(several, st.floats(0.05, 0.95), st.integers(0, 3))
def test_iterative_parts_are_disjoint_and_complete_and_not_empty(
    labels: list[tuple[int, ...]], share: float, seed: int
) -> None:
    train, held_out = iterative_indices(labels, share, seed)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert len(train) and len(held_out)


@pytest.mark.parametrize("seed", range(10))
def test_iterative_holdout_has_its_share_of_common_and_rare_labels_under_every_seed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    has_NC = rng.random((1000, 5)) < [0.5, 0.2, 0.1, 0.02, 0]
    has_NC[rng.choice(1000, 2, replace=False), 4] = True
    labels = [tuple(np.flatnonzero(own).tolist()) for own in has_NC]
    train, held_out = iterative_indices(labels, 0.2, seed)
    counts_C = has_NC.sum(0)
    assert np.abs(has_NC[held_out].sum(0) - 0.2 * counts_C).max() <= 1
    assert has_NC[held_out][:, 4].sum() == has_NC[train][:, 4].sum() == 1
    assert abs(len(held_out) - 200) <= 2


def test_iterative_holdout_follows_from_the_seed_and_is_shuffled() -> None:
    labels = [(0,), (0, 1), ()] * 30
    first, again, other = (iterative_indices(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first != sorted(first)


def test_iterative_holdout_of_one_label_each_is_stratified() -> None:
    labels = np.repeat([0, 1, 2, 3], [400, 100, 5, 2])
    train, held_out = iterative_indices([(label,) for label in labels.tolist()], 0.2, 0)
    assert np.bincount(labels[held_out]).tolist() == [80, 20, 1, 1]
    assert len(train) == len(labels) - len(held_out)
