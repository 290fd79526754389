"""Batches: nothing lost, nothing twice, and an order that can be taken up anywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data.batch import Batch
from src.data.loader import BatchLoader
from src.data.split import EncodedSplit

PAD = 99


def make_split(lengths: list[int]) -> EncodedSplit:
    """Example i holds i+1, i+1, … and has label i, so that every column tells where it comes from."""
    return EncodedSplit.from_sequences([[i + 1] * n for i, n in enumerate(lengths)], range(len(lengths)))


loaders = st.builds(
    lambda lengths, size, shuffle, seed, bucket: BatchLoader(
        make_split(lengths), size, pad_id=PAD, shuffle=shuffle, seed=seed, bucket=bucket
    ),
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 5),
    st.booleans(),
)
epochs = st.integers(0, 3)


@given(loaders, epochs)
def test_every_example_comes_exactly_once_an_epoch(loader: BatchLoader, epoch: int) -> None:
    seen = torch.cat([batch.targets for batch in loader.epoch(epoch)])
    assert sorted(seen.tolist()) == list(range(len(loader.split)))
    assert seen.tolist() == loader.indices(epoch).tolist()


@given(loaders, epochs)
def test_every_column_is_its_example_and_padding_to_the_longest(loader: BatchLoader, epoch: int) -> None:
    for batch in loader.epoch(epoch):
        assert batch.inputs.dtype == batch.targets.dtype == batch.lengths.dtype == torch.int64
        assert batch.inputs.shape == (batch.lengths.max(), len(batch.targets))
        for column, label, length in zip(batch.inputs.T, batch.targets, batch.lengths, strict=True):
            assert length == loader.split.lengths[label]
            assert (column[:length] == label + 1).all()
            assert (column[length:] == PAD).all()


@given(loaders, epochs, st.integers(0, 70))
def test_an_epoch_goes_on_from_any_batch_exactly_as_it_would_have(loader: BatchLoader, epoch: int, start: int) -> None:
    whole = list(loader.epoch(epoch))
    rest = list(loader.epoch(epoch, start))
    assert len(whole) == len(loader)
    assert len(rest) == max(0, len(whole) - start)
    for batch, same in zip(rest, whole[start:], strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, same, strict=True))


@given(loaders)
def test_all_batches_but_one_are_full(loader: BatchLoader) -> None:
    sizes = sorted(len(batch.targets) for batch in loader.epoch())
    assert sizes[1:] == [loader.batch_size] * (len(sizes) - 1)


def test_order_follows_from_seed_and_epoch_and_changes_with_either() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return BatchLoader(make_split([3] * 50), 4, shuffle=True, seed=seed).indices(epoch).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_an_earlier_epoch_leaves_no_trace_in_a_later_one() -> None:
    used, fresh = (BatchLoader(make_split([2] * 20), 3, shuffle=True) for _ in range(2))
    list(used.epoch(0))
    assert used.indices(1).tolist() == fresh.indices(1).tolist()


def test_unshuffled_examples_come_as_they_stand() -> None:
    assert BatchLoader(make_split([3, 1, 2]), 2).indices(7).tolist() == [0, 1, 2]


def test_bucketing_without_shuffling_sorts_by_length() -> None:
    assert BatchLoader(make_split([3, 1, 2, 1]), 2, bucket=True).indices().tolist() == [1, 3, 2, 0]


def test_bucketing_saves_most_of_the_padding_and_still_shuffles() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2000).tolist()

    def padding(bucket: bool) -> int:
        loader = BatchLoader(make_split(lengths), 20, shuffle=True, bucket=bucket)
        return sum(batch.inputs.numel() - int(batch.lengths.sum()) for batch in loader.epoch())

    assert padding(True) < 0.1 * padding(False)
    loader = BatchLoader(make_split(lengths), 20, shuffle=True, bucket=True)
    longest = [int(batch.lengths.max()) for batch in loader.epoch()]
    assert longest != sorted(longest)
    assert loader.indices(0).tolist() != loader.indices(1).tolist()


def test_an_empty_split_gives_no_batches() -> None:
    loader = BatchLoader(make_split([]), 4, shuffle=True, bucket=True)
    assert len(loader) == 0
    assert list(loader.epoch()) == []


def test_a_batch_moves_as_a_whole() -> None:
    batch = next(BatchLoader(make_split([2, 1]), 2).epoch())
    moved = batch.to("meta", non_blocking=True)
    assert isinstance(moved, Batch)
    assert {tensor.device.type for tensor in moved} == {"meta"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_pinned_batches_reach_the_gpu_unchanged() -> None:
    plain, pinned = (next(BatchLoader(make_split([2, 1]), 2, pin=pin).epoch()) for pin in (False, True))
    assert all(tensor.is_pinned() for tensor in pinned)
    moved = pinned.to("cuda", non_blocking=True)
    assert all(torch.equal(there.cpu(), here) for there, here in zip(moved, plain, strict=True))


def test_a_crop_is_a_window_of_the_text_placed_anew_each_epoch() -> None:
    split = EncodedSplit.from_sequences([list(range(2, 42)), [50, 51]], [0, 1])
    loader = BatchLoader(split, 2, shuffle=True, seed=3, crop=5)
    windows = set()
    for epoch in range(40):
        (batch,) = loader.epoch(epoch)
        for ids, length in zip(batch.inputs.T.tolist(), batch.lengths.tolist(), strict=True):
            if length == 5:
                assert ids == list(range(ids[0], ids[0] + 5)) and 2 <= ids[0] <= 37
                windows.add(ids[0])
            else:
                assert (length, ids[:2], ids[2:]) == (2, [50, 51], [0, 0, 0])
        (again,) = loader.epoch(epoch)
        assert torch.equal(batch.inputs, again.inputs)  # a function of seed and epoch: a resumed run reads the same
    assert len(windows) > 15
