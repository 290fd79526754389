"""A run with diagnostics is the same run without them, to the last bit; broken off and taken up again too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from src.tracking import read_metrics
from src.training import load_checkpoint

ALL: dict[str, Any] = {
    "diagnostics": {
        "gradient_flow": {"every": 7},
        "memory": {"every": 5},
        "probe": {"examples": 40, "ridge": 0.01},
    }
}
FOUND = ("gradient/", "weight/", "update/", "flow/", "memory/", "probe/")


def metrics_of(folder: Path, found: bool) -> list[dict[str, Any]]:
    """The lines without what a clock says, with or without what the diagnostics found."""
    changing = ("time", "train/tokens_per_second", "train/steps_per_second")
    lines = read_metrics(folder / "metrics.jsonl")
    kept = [
        {name: value for name, value in line.items() if name not in changing and (found or not name.startswith(FOUND))}
        for line in lines
    ]
    return [line for line in kept if any("/" in name for name in line)]


def weights(folder: Path) -> dict[str, Any]:
    state = load_checkpoint(folder / "last.ckpt")
    return {"model": state["model"], "rng": state["rng"]["torch"]} if "torch" in state["rng"] else state["model"]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return torch.equal(left, right)


def test_training_is_bit_for_bit_the_same_with_every_diagnostic_on(tmp_path):
    options = {"trainer__average": 0.9, "backend": "auto", "dropout": 0.3}
    tiny.run(tiny.make_config(**options), tmp_path / "off")
    tiny.run(tiny.make_config(**options, **ALL), tmp_path / "on")
    assert same(weights(tmp_path / "off"), weights(tmp_path / "on"))
    assert metrics_of(tmp_path / "off", found=False) == metrics_of(tmp_path / "on", found=False)
    names = {name for line in read_metrics(tmp_path / "on" / "metrics.jsonl") for name in line}
    expected = {"gradient/embedding", "weight/layer_0", "update/layer_1", "flow/layer_1", "memory/layer_0"}
    assert expected | {"probe/input", "probe/layer_1", "update/head"} <= names


@pytest.mark.slow
def test_a_run_broken_off_and_taken_up_again_finds_the_same_and_draws_it_all(tmp_path):
    tiny.run(tiny.make_config(**ALL), tmp_path / "whole", pictures=True)
    broken = tmp_path / "broken"
    assert tiny.in_a_process(broken, {**ALL, "trainer__checkpoint_minutes": 1e-9}, kill_at=17) == -9
    tiny.run(tiny.make_config(**ALL), broken, resume=True)
    assert metrics_of(tmp_path / "whole", found=True) == metrics_of(broken, found=True)
    for name, looks in (
        ("gradient_flow", [1, 8, 15, 22, 29]),
        ("memory", [1, 6, 11, 16, 21, 26]),
        ("probe", [10, 20, 30]),
    ):
        one, two = np.load(tmp_path / "whole" / f"{name}.npz"), np.load(broken / f"{name}.npz")
        assert one["steps"].tolist() == two["steps"].tolist() == looks
        assert all(np.array_equal(one[key], two[key]) for key in one)
        assert (broken / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_run_that_failed_before_its_first_checkpoint_forgets_what_it_had_found(tmp_path):
    assert tiny.in_a_process(tmp_path / "run", ALL, kill_at=4) == -9
    assert (tmp_path / "run" / "gradient_flow.npz").exists()
    tiny.run(tiny.make_config(**ALL), tmp_path / "run", resume=True)
    assert np.load(tmp_path / "run" / "memory.npz")["steps"].tolist() == [1, 6, 11, 16, 21, 26]


def test_they_combine_on_the_command_line(configured):
    assert configured("logger=none").diagnostics.model_dump() == dict.fromkeys(("gradient_flow", "memory", "probe"))
    chosen = configured("diagnostics=[memory,probe]", "diagnostics.memory.every=5").diagnostics
    assert chosen.gradient_flow is None and chosen.memory.every == 5 and chosen.probe.examples == 1000
    assert configured("diagnostics=gradient_flow").diagnostics.gradient_flow.every == 1000
