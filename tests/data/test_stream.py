"""A stream in columns and chunks: every token once, in order, and the same batches whenever they are asked for."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data.split import EncodedSplit
from src.data.stream import SHORTENED, StreamLoader, join
from src.data.tokenizer import END_ID


def columns(loader: StreamLoader, epoch: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    """Inputs and targets of each column, all chunks one behind the other, without what does not count."""
    batches = list(loader.epoch(epoch))
    valid = [torch.arange(len(batch.inputs))[:, None] < batch.lengths for batch in batches]
    found = []
    for field in ("inputs", "targets"):
        pairs = [(getattr(batch, field), mask) for batch, mask in zip(batches, valid, strict=True)]
        found.append([torch.cat([ids[mask[:, b], b] for ids, mask in pairs]).tolist() for b in range(loader.columns)])
    return found[0], found[1]


def test_texts_are_joined_whole_with_an_end_after_each_and_a_single_one_stands_as_it_is() -> None:
    assert join(EncodedSplit.from_sequences([[5, 6], [7], [8, 9, 10]])).tolist() == [
        *(5, 6, END_ID, 7, END_ID, 8, 9, 10, END_ID)
    ]
    assert join(EncodedSplit.from_sequences([[5, 6, 7]])).tolist() == [5, 6, 7]


@given(st.integers(2, 200), st.integers(1, 12), st.integers(2, 30))
def test_evaluation_sees_every_token_once_and_in_order(size: int, wanted: int, chunk: int) -> None:
    ids = np.arange(size, dtype=np.int32)
    loader = StreamLoader(ids, wanted, chunk)
    inputs, targets = columns(loader)
    assert [*chain(*inputs)] == ids[:-1].tolist() and [*chain(*targets)] == ids[1:].tolist()
    assert len(list(loader.epoch())) == len(loader) and len(inputs) <= wanted
    assert all(int((batch.targets >= 0).sum()) == int(batch.lengths.sum()) for batch in loader.epoch())


@given(st.integers(100, 400), st.integers(1, 4), st.integers(2, 20), st.booleans(), st.integers(0, 5))
def test_training_columns_are_even_and_go_on_from_chunk_to_chunk(
    size: int, wanted: int, chunk: int, jitter: bool, epoch: int
) -> None:
    ids = np.arange(size, dtype=np.int32)
    loader = StreamLoader(ids, wanted, chunk, jitter=jitter, even=True, seed=3)
    inputs, targets = columns(loader, epoch)
    length = (size - 1) // wanted
    assert inputs == [list(range(b * length, (b + 1) * length)) for b in range(wanted)]
    assert targets == [[token + 1 for token in column] for column in inputs]
    assert len(list(loader.epoch(epoch))) == len(loader)


@pytest.mark.parametrize("jitter", [False, True])
def test_parts_of_the_stream_are_read_in_turn(jitter: bool) -> None:
    loader = StreamLoader(np.arange(601, dtype=np.int32), 2, 8, jitter=jitter, parts=3, even=True)
    read = [columns(loader, epoch)[0] for epoch in range(4)]
    assert [*chain(*(part[0] for part in read[:3]))] == list(range(300))
    assert [*chain(*(part[1] for part in read[:3]))] == list(range(300, 600))
    assert read[3] == read[0] and len(list(loader.epoch(1))) == len(loader)


def test_an_epoch_can_be_taken_up_at_any_chunk() -> None:
    loader = StreamLoader(np.arange(1000, dtype=np.int32), 4, 20, jitter=True, even=True, seed=1)
    whole = list(loader.epoch(2))
    for start in (0, 1, 5, len(loader)):
        rest = list(loader.epoch(2, start))
        assert len(rest) == len(whole) - start
        assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(rest, whole[start:], strict=True))


def test_jittered_lengths_are_drawn_anew_each_epoch_around_the_usual_and_around_half_of_it() -> None:
    loader = StreamLoader(np.zeros(200_001, np.int32), 2, 70, jitter=True, even=True)
    lengths = np.concatenate([np.diff(loader.boundaries(epoch)) for epoch in range(3)])
    assert not np.array_equal(loader.boundaries(0), loader.boundaries(1))
    short = lengths < 50
    assert lengths.min() > 0 and 0.5 * SHORTENED < short.mean() < 2 * SHORTENED
    assert lengths[~short].mean() == pytest.approx(70, abs=1.5) and lengths[short].mean() == pytest.approx(35, abs=3)
    assert 4 < lengths[~short].std() < 6
