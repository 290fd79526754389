"""A run that was broken off and taken up again is the run that was not."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from src.errors import RequestError
from src.tracking import read_metrics
from src.training import load_checkpoint

CHANGING = ("time", "train/tokens_per_second", "train/steps_per_second")
OPTIONS: dict[str, Any] = {"epochs": 4, "trainer__average": 0.9, "trainer__accumulate": 2, "trainer__log_every": 2}


def what_counts(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in CHANGING} for line in lines]


def assert_equal(left: Any, right: Any, path: str = "") -> None:
    """Bit for bit, all the way down."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            if key not in ("seconds", "wandb_id"):
                assert_equal(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list):
        assert len(left) == len(right), path
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{path}[{index}]")
    else:
        assert left == right, path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert tiny.in_a_process(folder, OPTIONS) == 0
    return folder


@pytest.mark.parametrize(
    ("signum", "code", "step", "where", "every", "position"),
    [
        pytest.param(9, -9, 12, "_train_step", 60.0, (10, 2, 0), id="kill -9 in the third epoch"),
        pytest.param(9, -9, 13, "_train_step", 1e-9, (13, 2, 6), id="kill -9 with checkpoints inside the epoch"),
        pytest.param(9, -9, 10, "_close_epoch", 60.0, (5, 1, 0), id="kill -9 before the evaluation"),
        pytest.param(15, 143, 12, "_train_step", 60.0, (13, 2, 6), id="SIGTERM in mid-epoch"),
        pytest.param(15, 143, 10, "_evaluate", 60.0, (10, 1, 10), id="SIGTERM in the evaluation"),
        pytest.param(2, 130, 12, "_train_step", 60.0, (13, 2, 6), id="SIGINT in mid-epoch"),
    ],
)
def test_resumed_run_equals_uninterrupted(
    whole: Path, tmp_path: Path, signum: int, code: int, step: int, where: str, every: float, position: tuple[int, ...]
) -> None:
    folder = tmp_path / "run"
    options = OPTIONS | {"trainer__checkpoint_minutes": every}
    assert tiny.in_a_process(folder, options, kill_at=step, signum=signum, kill_in=where) == code
    assert not (folder / "DONE").exists() and not (folder / "FAILED").exists()
    saved = load_checkpoint(folder / "last.ckpt")["position"]
    assert (saved["step"], saved["epoch"], saved["batch"]) == position

    assert tiny.in_a_process(folder, OPTIONS, resume=True) == 0
    assert (folder / "DONE").exists()
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal(load_checkpoint(whole / name), load_checkpoint(folder / name))
    assert what_counts(folder) == what_counts(whole)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (whole, folder)]
    assert summaries[0] | {"seconds": 0} == summaries[1] | {"seconds": 0}


def test_run_killed_before_its_first_checkpoint_starts_anew(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert tiny.in_a_process(folder, OPTIONS, kill_at=3) == -9
    assert not (folder / "last.ckpt").exists()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "train/lo')  # what a kill in the middle of a line leaves
    assert tiny.in_a_process(folder, OPTIONS, resume=True) == 0
    assert_equal(load_checkpoint(whole / "last.ckpt"), load_checkpoint(folder / "last.ckpt"))
    assert what_counts(folder) == what_counts(whole)


def test_resume_for_more_epochs_equals_training_them_in_one_go(whole: Path, tmp_path: Path) -> None:
    constant = {"scheduler": {"name": "constant"}}  # the others depend on how long the run is meant to be
    one, two = tmp_path / "one", tmp_path / "two"
    tiny.run(tiny.make_config(epochs=3, **constant), one)
    tiny.run(tiny.make_config(epochs=2, **constant), two)
    tiny.run(tiny.make_config(epochs=3, **constant), two, resume=True)
    assert_equal(load_checkpoint(one / "last.ckpt"), load_checkpoint(two / "last.ckpt"))
    assert what_counts(one) == what_counts(two)


@pytest.mark.parametrize("limit", [1, 7, 10])
def test_max_steps_ends_anywhere_and_resuming_without_it_gives_the_same_weights(tmp_path: Path, limit: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    constant = {"scheduler": {"name": "constant"}, "epochs": 2}
    tiny.run(tiny.make_config(**constant), whole)
    _, summary = tiny.run(tiny.make_config(max_steps=limit, **constant), cut)
    assert summary["steps"] == limit
    assert "val/accuracy" in summary["final"]
    _, summary = tiny.run(tiny.make_config(**constant), cut, resume=True)
    assert summary["steps"] == 20
    wanted, got = load_checkpoint(whole / "last.ckpt"), load_checkpoint(cut / "last.ckpt")
    for part in ("model", "optimizer", "epoch_metrics", "rng"):
        assert_equal(wanted[part], got[part])


def test_max_minutes_counts_the_time_before_the_break(tmp_path: Path) -> None:
    tiny.run(tiny.make_config(epochs=1), tmp_path / "run")
    spent = load_checkpoint(tmp_path / "run" / "last.ckpt")["position"]["seconds"]
    longer = tiny.make_config(epochs=9, max_minutes=spent / 60)
    _, summary = tiny.run(longer, tmp_path / "run", resume=True)
    assert summary["steps"] == 10  # the time was up before the first step


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny.run(tiny.make_config(epochs=1), tmp_path / "run")
    with pytest.raises(RequestError, match=r"another model.*weight") as caught:
        tiny.run(tiny.make_config(epochs=1, width=7), tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)
