"""One run in several processes is the run in one: processes that meet over gloo, forked as `tiny` does."""

import math
import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_resume import assert_equal, what_counts

from src.data.batch import Batch
from src.tracking import read_metrics
from src.training import Interrupted, Trainer, join, load_checkpoint
from src.training.distributed import World, join_columns

STILL: dict[str, Any] = {"dropout": 0.0, "task__word_dropout": 0.0}  # nothing random in the forward pass
EXACT: dict[str, Any] = {"epochs": 5, "trainer__log_every": 1, "scheduler": {"name": "constant"}, **STILL}
SIZE = 85  # of the training split: the last of its 11 batches of 8 has 5 sequences


def train_together(
    folder: Path,
    options: dict[str, Any],
    size: int,
    resume: bool = False,
    **trouble: tuple[int, int],
) -> list[int]:
    """Train in ``size`` processes and return their exit codes.

    ``trouble`` comes to a process at a step: ``stop`` tells it to end, ``hurt`` makes its loss no number, and ``late``
    its time be up.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(size):
        meeting = {
            "RANK": rank,
            "WORLD_SIZE": size,
            "LOCAL_RANK": rank,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        started.append(context.Process(target=_child, args=(meeting, folder, options, resume, trouble)))
        started[-1].start()
    for process in started:
        process.join()
    return [process.exitcode or 0 for process in started]


def _child(
    meeting: dict[str, Any], folder: Path, options: dict[str, Any], resume: bool, trouble: dict[str, tuple[int, int]]
) -> None:
    os.environ.update({"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in meeting.items()})
    torch.set_num_threads(1)
    original, rank = Trainer._learn, meeting["RANK"]

    def learn(self: Trainer, batch: Batch, total: int) -> tuple[torch.Tensor, float]:
        here = (rank, self.position.step)
        if here == trouble.get("stop"):
            self.signals.received = 15
        if here == trouble.get("late"):
            self.position.seconds = math.inf
        loss, scale = original(self, batch, total)
        return (loss * math.nan if here == trouble.get("hurt") else loss), scale

    Trainer._learn = learn  # type: ignore[method-assign]
    try:
        with join(torch.device("cpu"), minutes=1) as world:
            tiny.run(tiny.make_config(**options), folder, resume=resume, data=tiny.make_data(SIZE), world=world)
    except Interrupted as error:
        sys.exit(error.exit_code)


def assert_same_run(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Every number of metrics.jsonl and every weight, to rounding."""
    lines, others = what_counts(one), what_counts(other)
    assert [line.keys() for line in lines] == [line.keys() for line in others]
    for line, also in zip(lines, others, strict=True):
        for name, value in line.items():
            near = value if value is None else pytest.approx(value, rel=tolerance, abs=tolerance)
            assert also[name] == near, (name, line["step"])
    weights, also = (load_checkpoint(folder / "last.ckpt")["model"] for folder in (one, other))
    for name, weight in weights.items():
        torch.testing.assert_close(also[name], weight, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        pytest.param(2, {}, id="lengths vary, last batch smaller"),
        pytest.param(3, {}, id="three processes"),
        pytest.param(2, {"trainer__accumulate": 2, "clip": 0.05}, id="accumulated and clipped"),
        pytest.param(3, {"batch_size": 2, "epochs": 2}, id="fewer sequences than processes"),
        pytest.param(2, {"trainer__average": 0.9, "clip": 0.02, "trainer__clip_by": "value"}, id="averaged"),
        pytest.param(2, {"trainer__bucket": False, "deterministic": True}, id="not bucketed, deterministic"),
    ],
)
def test_processes_make_the_updates_that_one_makes(tmp_path: Path, size: int, changes: dict[str, Any]) -> None:
    """More than 50 losses of training to 1e-5, the epochs' metrics too."""
    options = EXACT | changes
    tiny.run(tiny.make_config(**options), tmp_path / "one", data=tiny.make_data(SIZE))
    assert train_together(tmp_path / "many", options, size) == [0] * size
    losses = [line for line in read_metrics(tmp_path / "many" / "metrics.jsonl") if "train/loss" in line]
    assert len(losses) >= 50 or "trainer__accumulate" in changes
    assert_same_run(tmp_path / "one", tmp_path / "many")
    assert (tmp_path / "many" / "DONE").exists()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_differs_by_its_rounding_only(tmp_path: Path, amp: str) -> None:
    options = EXACT | {"amp": amp, "epochs": 2}
    tiny.run(tiny.make_config(**options), tmp_path / "one", data=tiny.make_data(SIZE))
    assert train_together(tmp_path / "many", options, 2) == [0, 0]
    one, many = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("one", "many"))
    assert many["epoch_window"]["loss"] == pytest.approx(one["epoch_window"]["loss"], rel=0.01)
    assert_equal(many["scaler"], one["scaler"])


NOISY: dict[str, Any] = {"epochs": 3, "trainer__log_every": 2, "trainer__accumulate": 2, "trainer__average": 0.9}


def test_resumed_processes_go_on_bit_for_bit(tmp_path: Path) -> None:
    """With dropout: each process has its own generator back."""
    assert train_together(tmp_path / "whole", NOISY, 2) == [0, 0]
    assert train_together(tmp_path / "cut", NOISY, 2, stop=(1, 8)) == [143, 143]  # the other one hears of it
    assert load_checkpoint(tmp_path / "cut" / "last.ckpt")["position"]["step"] == 9
    assert train_together(tmp_path / "cut", NOISY, 2, resume=True) == [0, 0]
    whole, cut = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "cut"))
    assert_equal(whole, cut)
    assert what_counts(tmp_path / "whole") == what_counts(tmp_path / "cut")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])
def test_another_number_of_processes_goes_on_where_these_stopped(tmp_path: Path, before: int, after: int) -> None:
    options = EXACT | {"epochs": 2}
    tiny.run(tiny.make_config(**options), tmp_path / "whole", data=tiny.make_data(SIZE))
    assert train_together(tmp_path / "cut", options, before, stop=(before - 1, 14)) == [143] * before
    saved = load_checkpoint(tmp_path / "cut" / "last.ckpt")
    assert (saved["position"]["epoch"], saved["position"]["batch"], len(saved["rng"])) == (1, 4, before)
    assert train_together(tmp_path / "cut", options, after, resume=True) == [0] * after
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_each_process_draws_its_own_noise(tmp_path: Path) -> None:
    assert train_together(tmp_path / "run", NOISY | {"epochs": 1}, 2) == [0, 0]
    first, second = load_checkpoint(tmp_path / "run" / "last.ckpt")["rng"]
    assert not torch.equal(first["torch"], second["torch"])


def test_a_step_that_is_not_finite_is_skipped_by_all(tmp_path: Path) -> None:
    """The weights of the processes stay one model: at the end they agree with those of one that skips it."""
    options = EXACT | {"epochs": 1, "trainer__nonfinite": "skip"}
    assert train_together(tmp_path / "one", options, 1, hurt=(0, 3)) == [0]
    assert train_together(tmp_path / "two", options, 2, hurt=(1, 3)) == [0, 0]
    assert load_checkpoint(tmp_path / "two" / "last.ckpt")["position"]["skipped"] == 1
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("late", "steps"), [(0, 4), (1, 11)])
def test_the_clock_of_process_0_decides_for_all(tmp_path: Path, late: int, steps: int) -> None:
    options = EXACT | {"epochs": 1, "max_minutes": 600.0}
    assert train_together(tmp_path / "run", options, 2, late=(late, 3)) == [0, 0]
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["position"]["step"] == steps


def test_columns_are_shared_out_in_order_and_nothing_is_left_over() -> None:
    for size in (1, 2, 3, 7):
        for count in (0, 1, 2, 5, 8, 64):
            parts = [World(rank, size).columns(count) for rank in range(size)]
            assert [step for first, last in parts for step in range(first, last)] == list(range(count))
            assert max(last - first for first, last in parts) <= -(-count // size)


@pytest.mark.parametrize(
    ("targets", "axis"),
    [
        (torch.arange(5), 0),
        (torch.arange(20).view(4, 5), 1),
        (torch.rand(5, 2), 0),
        (torch.rand(4, 5, 2), 1),
    ],
    ids=["classes", "classes a step", "numbers", "numbers a step"],
)
def test_columns_of_a_batch_keep_inputs_targets_and_lengths_together(targets: torch.Tensor, axis: int) -> None:
    batch = Batch(torch.arange(20).view(4, 5), targets, torch.tensor([4, 3, 2, 1, 4]))
    parts = [batch.columns(0, 2), batch.columns(2, 5)]
    assert torch.equal(torch.cat([part.inputs for part in parts], 1), batch.inputs)
    assert torch.equal(torch.cat([part.targets for part in parts], axis), batch.targets)
    assert torch.equal(torch.cat([part.lengths for part in parts]), batch.lengths)


def test_carried_state_is_put_together_and_shared_out_again_for_any_number() -> None:
    whole = [[torch.arange(10.0).view(5, 2)], [torch.arange(5.0).view(5, 1), None]]
    for before in (1, 2, 3, 7):
        parts = [World(rank, before).own_columns(whole) for rank in range(before)]
        assert_equal(join_columns(parts), whole)
    assert join_columns([]) is None
    assert World(1, 2).own_columns(None) is None
