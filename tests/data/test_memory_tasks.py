"""The generated problems are what their definitions say, the same for everyone, and their baselines are what a model
without memory reaches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from src.config import Config
from src.data.arrays import ArrayData
from src.data.base import Data
from src.data.batch import Batch
from src.data.build import build_data
from src.errors import RequestError

Configured = Callable[..., Config]
PROBLEMS = ("copy", "adding", "parity", "temporal_order")
SMALL = ("data.length=20", "data.train_size=50", "data.val_size=300")


def made(configured: Configured, name: str, *overrides: str, seed: int = 0) -> Any:
    data = build_data(configured(f"data={name}", *SMALL, *overrides).data, seed)
    assert isinstance(data, ArrayData)
    return data


def whole(data: Data, split: str = "val") -> Batch:
    """All examples of a split as one batch."""
    (batch,) = data.loader(split, 300).epoch()
    return batch


def test_copy_shows_symbols_and_asks_for_them_after_t_steps(configured: Configured) -> None:
    data = made(configured, "copy", "data.symbols=3", "data.alphabet=4")
    inputs_TB, targets_TB, lengths = whole(data)
    assert inputs_TB.shape == targets_TB.shape == (26, 300) and set(lengths.tolist()) == {26}
    shown, asked = inputs_TB[:3], targets_TB[-3:]
    assert torch.equal(shown, asked) and set(shown.unique().tolist()) == {1, 2, 3, 4}
    marker = (inputs_TB == 5).nonzero()[:, 0]
    assert set(marker.tolist()) == {3 + 20 - 1} and len(marker) == 300  # T steps to the answer
    assert inputs_TB[3:22].count_nonzero() == inputs_TB[23:].count_nonzero() == targets_TB[:-3].count_nonzero() == 0
    assert (data.spec.vocab_size, data.spec.target, len(data.spec.class_names)) == (6, "step", 5)


def test_the_copy_baseline_is_the_loss_of_knowing_when_but_not_what(configured: Configured) -> None:
    data = made(configured, "copy")
    targets_TB = whole(data).targets
    probability = torch.full((*targets_TB.shape, 9), 1e-30)
    probability[:-10, :, 0] = 1  # blanks until the marker
    probability[-10:, :, 1:] = 1 / 8
    loss = -probability.gather(-1, targets_TB[..., None]).log().mean().item()
    assert data.spec.baseline["val"]["loss"] == pytest.approx(loss) == pytest.approx(10 * np.log(8) / 40)
    right = torch.where(targets_TB == 0, 1.0, 1 / 8).mean().item()
    assert data.spec.baseline["val"]["accuracy"] == pytest.approx(right)


def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum(configured: Configured) -> None:
    data = made(configured, "adding", "data.length=21")
    inputs_TBI, targets_BO, _ = whole(data)
    numbers, marks = inputs_TBI.unbind(-1)
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    assert (marks[:10].sum(0) == 1).all() and (marks[10:].sum(0) == 1).all()
    torch.testing.assert_close((numbers * marks).sum(0)[:, None], targets_BO)
    assert 0 <= numbers.min() < 0.01 and 0.99 < numbers.max() <= 1
    assert marks.any(1).all()  # a mark may stand at every step


def test_the_adding_baseline_is_the_error_of_always_answering_one(configured: Configured) -> None:
    data = made(configured, "adding", "data.val_size=200000", "data.length=2")
    (batch,) = data.loader("val", 200_000).epoch()
    error = (batch.targets - 1).square().mean().item()
    assert data.spec.baseline["val"]["loss"] == pytest.approx(1 / 6) == pytest.approx(error, rel=0.01)


def test_parity_counts_the_ones_of_the_valid_part(configured: Configured) -> None:
    data = made(configured, "parity", "data.min_length=3", "data.train_size=300")
    assert set(whole(data).lengths.tolist()) == {20}
    inputs_TBI, targets, lengths = whole(data, "train")
    assert set(lengths.tolist()) == set(range(3, 21))
    for column, (target, length) in enumerate(zip(targets.tolist(), lengths.tolist(), strict=True)):
        bits = inputs_TBI[:, column, 0].tolist()
        assert target == sum(bits[:length]) % 2 and not any(bits[length:]) and set(bits) <= {0.0, 1.0}


def test_temporal_order_hides_two_messages_among_distractors(configured: Configured) -> None:
    data = made(configured, "temporal_order", "data.length=50")
    inputs_TB, targets, _ = whole(data)
    for ids, target in zip(inputs_TB.T.tolist(), targets.tolist(), strict=True):
        places = [step for step, symbol in enumerate(ids) if symbol in (2, 3)]
        assert data.spec.class_names[target] == "".join("XY"[ids[step] - 2] for step in places)
        assert 5 <= places[0] < 10 and 25 <= places[1] < 30
        assert ids[0] == 0 and ids[-1] == 1 and set(ids[1:-1]) <= {2, 3, 4, 5, 6, 7}
    assert set(targets.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_validation_set_is_the_same_for_every_seed_and_the_training_set_for_none(
    name: str, configured: Configured
) -> None:
    one, other = (made(configured, name, seed=seed) for seed in (0, 1))
    assert all(map(torch.equal, whole(one), whole(other)))
    assert not torch.equal(whole(one).inputs, whole(made(configured, name, "data.val_seed=1")).inputs)

    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(iter(one.loader("train", 16, shuffle=True, seed=seed).epoch(epoch))).inputs

    drawn = [first(0, 0), first(0, 1), first(1, 0), whole(one).inputs[:, :16]]
    for index, inputs in enumerate(drawn):
        assert not any(inputs.shape == later.shape and torch.equal(inputs, later) for later in drawn[index + 1 :])
    assert torch.equal(first(1, 3), first(1, 3))


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_epoch_taken_up_anywhere_goes_on_as_if_it_had_not_been_broken_off(name: str, configured: Configured) -> None:
    data = made(configured, name)
    for split in ("train", "val"):
        loader = data.loader(split, 16, shuffle=True, seed=3)
        batches = list(loader.epoch(2))
        assert len(batches) == len(loader) and sum(len(batch.lengths) for batch in batches) == len(data.splits[split])
        for whole_one, resumed in zip(batches[2:], loader.epoch(2, start=2), strict=True):
            assert all(map(torch.equal, whole_one, resumed))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=adding", "data.length=1"], "data.length=1: should be greater than or equal to 2"),
        (["data=copy", "data.length=0"], "data.length=0: should be greater than or equal to 1"),
        (["data=copy", "data.alphabet=1"], "data.alphabet=1: should be greater than or equal to 2"),
        (["data=temporal_order", "data.length=9"], "data.length=9: should be greater than or equal to 10"),
        (["data=parity", "data.length=4", "data.min_length=5"], "data: length=4: should be at least min_length, .* 5"),
        (["data=parity", "data.val_size=0"], "data.val_size=0: should be greater than or equal to 1"),
    ],
)
def test_what_is_too_small_for_its_problem_is_refused(
    overrides: list[str], message: str, configured: Configured
) -> None:
    with pytest.raises(RequestError, match=message):
        configured(*overrides)


def test_each_problem_picks_its_usual_task_and_the_command_line_wins(configured: Configured) -> None:
    usual = {name: configured(f"data={name}").task.name for name in PROBLEMS}
    assert usual == {
        "copy": "sequence_labelling",
        "adding": "regression",
        "parity": "classification",
        "temporal_order": "classification",
    }
    assert configured("data=adding", "task=classification").task.name == "classification"
    assert configured("task=classification", "data=copy").task.name == "classification"


def test_an_unknown_split_is_named(configured: Configured) -> None:
    with pytest.raises(RequestError, match=r"no split 'vall' \(did you mean val\?\)"):
        made(configured, "copy").loader("vall", 2)
