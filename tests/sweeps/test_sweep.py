"""A sweep as a user types it: what is done stays, what was cut off goes on, what failed is tried again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import composed, environment, wandb_records
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from sweep_helpers import content, runs, trouble_environment, wait_for

from src.arguments import CONF
from src.sweeps.sweeper import FolderSweeper, grid

LAUNCHERS = {
    "basic": [],
    "joblib": ["launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["launcher=submitit_local", "hydra.sweeper.at_once=2"],
    "ray": ["launcher=ray"],
}
Typed = Callable[..., tuple[int, str, str]]  # exit code, standard output, standard error


@pytest.fixture
def small(reviews: Path) -> list[str]:
    """Arguments of runs that take a second."""
    return ["-m", "data=text_file", f"data.path={reviews}", "width=4", "batch_size=16", "epochs=1", "sweep.name=s"]


@pytest.fixture
def fast(small: list[str]) -> list[str]:
    """The same without W&B."""
    return [*small, "logger=none"]


# ------------------------------------------------------------------------------------------- interrupted
@pytest.mark.parametrize("lost", ["dropped", "replaced"])
def test_ctrl_c_ends_a_sweep_whatever_the_launcher_makes_of_it(
    typed: Typed, fast: list[str], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    def launch(*_: object) -> list[JobReturn]:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            if lost == "replaced":  # as when the processes that it ends have died of the same signal
                raise RuntimeError("a worker process was terminated") from None
        return [JobReturn(status=JobStatus.FAILED) for _ in range(2)]

    def setup(sweeper: FolderSweeper, **hydra: Any) -> None:
        usual(sweeper, **hydra)
        sweeper.launch_all = launch

    usual = FolderSweeper.setup
    monkeypatch.setattr(FolderSweeper, "setup", setup)
    code, _, err = typed("train", *fast, "depth=1,2")
    assert (code, err.splitlines()) == (
        130,
        ["2 runs: 2 new", "stopped by SIGINT; the same command goes on with what is left"],
    )


# -------------------------------------------------------------------------------- the same command again
def test_the_same_command_again_does_nothing_and_a_larger_one_only_what_is_new(
    typed: Typed, fast: list[str], tmp_path: Path
) -> None:
    assert typed("train", *fast, "depth=1,2")[0] == 0
    first = runs(tmp_path, "DONE")
    assert {name[:7] for name in first} == {"depth-1", "depth-2"} and len(first) == 2
    before = content(first)
    code, _, err = typed("train", *fast, "depth=1,2")
    assert (code, err) == (0, "2 runs: 2 done\ntable and figures: outputs/sweeps/s/page.html\n")
    code, _, err = typed("train", *fast, "depth=1,2,3", "lr=1e-3", "seed=0", "launcher=basic")
    assert (code, err.splitlines()[0]) == (0, "3 runs: 2 done, 1 new")  # in other words, but the same runs
    assert content(first) == before and len(runs(tmp_path, "DONE")) == 3
    table = (tmp_path / "outputs/sweeps/s/table.md").read_text()
    assert "3 runs: 3 DONE" in table


def test_what_failed_is_tried_again_unless_it_is_not_to_be(typed: Typed, fast: list[str], tmp_path: Path) -> None:
    explode = ["model=rnn", "model.options.activation=relu", "optimizer=sgd", "clip=null", "lr=1e20,1e-3"]
    code, _, err = typed("train", *fast, *explode)
    assert code == 1
    (failed,) = runs(tmp_path, "FAILED").values()
    note = (failed / "FAILED").read_text()
    assert "Traceback" in note and note.splitlines()[-1] == "reason: not finite"
    assert sum("not finite" in line for line in err.splitlines()) == 1 and len(runs(tmp_path, "DONE")) == 1
    before = content({"": failed})
    code, _, err = typed("train", *fast, *explode, "sweep.retry_failed=false")
    assert code == 1 and content({"": failed}) == before and "1 failed, and left so" in err
    code, _, err = typed("train", *fast, *explode)
    assert code == 1 and "to be tried again" in err and content({"": failed}) != before


def test_fail_fast_lets_no_other_run_begin(typed: Typed, fast: list[str], tmp_path: Path) -> None:
    explode = ["model=rnn", "model.options.activation=relu", "optimizer=sgd", "clip=null", "lr=1e20,1e-3"]
    code, _, err = typed("train", *fast, *explode, "sweep.fail_fast=true")
    assert code == 1 and "1 of 2 runs are not finished" in err
    assert (len(runs(tmp_path, "FAILED")), len(runs(tmp_path, "DONE"))) == (1, 0)
    assert typed("train", *fast, *explode)[0] == 1 and len(runs(tmp_path, "DONE")) == 1


def test_a_wrong_name_is_refused_before_anything_runs(typed: Typed, fast: list[str], tmp_path: Path) -> None:
    code, _, err = typed("train", *fast, "model=gru,gruu")
    assert code == 2 and "did you mean gru?" in err and not runs(tmp_path, "DONE", "FAILED")
    code, _, err = typed("train", *fast[1:], "sweep=depth")
    assert code == 2 and "add -m" in err


def test_named_sweeps_vary_what_their_files_say_and_what_is_typed_wins(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import src.train

    made: list[tuple[str, object, object, int]] = []

    def train(cfg, folder):
        (folder / "DONE").touch()
        made.append((folder.parent.name, cfg.model.cell, cfg.depth, cfg.epochs))

    monkeypatch.setattr(src.train, "train", train)
    assert typed("train", "-m", "sweep=depth", "model=gru", "epochs=2")[0] == 0
    assert made == [("depth", "gru", depth, 2) for depth in (1, 2, 4, 8)]


@pytest.mark.parametrize("name", ["depth", "cells", "links", "lr_range"])
def test_a_named_sweep_has_a_folder_of_its_name_and_a_size_for_a_laptop(name: str) -> None:
    cfg = composed(f"sweep={name}", return_hydra_config=True)
    typed = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
    assert cfg.sweep.name == name and 10 <= len(grid(OverridesParser.create().parse_overrides(typed))) <= 24


# ------------------------------------------------------------------------------------------------------ W&B
def test_runs_of_a_sweep_share_group_job_type_and_tags_in_wandb_and_each_has_its_own_id(
    door: Callable[..., subprocess.CompletedProcess[str]], small: list[str], tmp_path: Path
) -> None:
    done = door("train", *small, "depth=1,2", "logger.tags=[mine]")
    assert done.returncode == 0, done.stderr
    found = {}
    for log in (tmp_path / "outputs/wandb").glob("offline-run-*/run-*.wandb"):
        (run,) = (record["run"] for record in wandb_records(log) if record["type"] == "run")
        found[run["run_id"]] = (run["run_group"], run["job_type"], run["tags"])
    ids = {(run / "wandb_id").read_text().strip() for run in runs(tmp_path, "DONE").values()}
    assert len(ids) == 2 and found == dict.fromkeys(ids, ("s", "sweep", ["mine", "s"]))


# ------------------------------------------------------------------------------------- frozen when it starts
def test_editing_conf_in_mid_sweep_changes_nothing_that_runs(fast: list[str], tmp_path: Path) -> None:
    for room in ("src", "conf"):
        shutil.copytree(CONF.parent / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    env = environment(tmp_path) | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", *fast, "depth=1,2"],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: bool(runs(tmp_path, "config.yaml")), process)
    conf = tmp_path / "conf/config.yaml"
    conf.write_text(conf.read_text().replace("lr: 1e-3", "lr: 7e-3").replace("depth: 2 #", "depths: 2 #"))
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert len(runs(tmp_path, "DONE")) == 2
    assert all("\nlr: 0.001\n" in (run / "config.yaml").read_text() for run in runs(tmp_path, "DONE").values())


# ------------------------------------------------------------------------------ twelve runs, one failure, one kill
@pytest.fixture
def trouble(tmp_path: Path) -> dict[str, str]:
    """The environment in which cells of `trouble_cells` find their flags."""
    return trouble_environment(tmp_path)


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_runs_made_side_by_side_put_what_tells_them_apart_before_their_lines(
    typed: Typed, fast: list[str], tmp_path: Path, launcher: str
) -> None:
    code, out, err = typed("train", *fast, "depth=1,2", "lr=1e-3,1e-2", *LAUNCHERS[launcher])
    assert code == 0, err
    lines = [line.partition("epoch 1/1  step ")[0] for line in out.splitlines() if "epoch 1/1  step " in line]
    ends = [line.partition("best val/")[0] for line in out.splitlines() if "best val/" in line]
    names = [f"depth={depth} lr={lr}: " for depth in (1, 2) for lr in (0.001, 0.01)]
    assert sorted(lines) == sorted(ends) == (names if launcher == "joblib" else [""] * 4), out
    for run in runs(tmp_path, "DONE").values():
        assert "depth=" not in (run / "train.log").read_text().replace(str(run), "")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_twelve_runs_with_a_failure_and_a_kill_are_all_done_after_the_same_command_again(
    launcher: str, small: list[str], trouble: dict[str, str], tmp_path: Path
) -> None:
    cells = "trouble_cells.Plain,trouble_cells.Once,trouble_cells.Held"
    varied = ["model=custom", f"model.cell={cells}", "depth=1,2", "lr=0.01,0.02", "epochs=3", "trainer.log_every=1"]
    command = [sys.executable, "-m", "src.train", *small, *varied, *LAUNCHERS[launcher]]
    flags, said = tmp_path / "trouble", tmp_path / "said"
    (flags / "fail").touch()
    (flags / "hold").touch()
    with said.open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=trouble, stdout=output, stderr=output)
    wait_for((flags / "pid").exists, process, 600)
    os.kill(int((flags / "pid").read_text()), signal.SIGKILL)
    code = process.wait(timeout=600)
    assert code == (-signal.SIGKILL if launcher == "basic" else 1), said.read_text()
    (failed,) = runs(tmp_path, "FAILED").values()
    assert (failed / "FAILED").read_text().endswith("\nreason: RuntimeError: made to fail once\n")
    assert sum("made to fail once" in line for line in said.read_text().splitlines()) == 1

    done = runs(tmp_path, "DONE")
    before = content(done)
    again = subprocess.run(command, cwd=tmp_path, env=trouble, capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert len(runs(tmp_path, "DONE")) == 12 and not runs(tmp_path, "FAILED")
    assert content(done) == before
    assert "12 runs: 12 DONE" in (tmp_path / "outputs/sweeps/s/table.md").read_text()

    owned = Counter(path.name.rpartition("-")[2] for path in (tmp_path / "outputs/wandb").glob("offline-run-*"))
    ids = {(run / "wandb_id").read_text().strip(): run for run in runs(tmp_path, "DONE").values()}
    assert owned.keys() == ids.keys() and len(ids) == 12
    twice = {ids[id].name: ids[id] for id, count in owned.items() if count > 1}
    assert failed.name in twice
    gone_on = [run for name, run in twice.items() if "Held" in name]
    assert gone_on
    for run in gone_on:  # begun twice, and yet each epoch was done once
        log = (run / "train.log").read_text()
        assert [log.count(f" epoch {epoch}/3") for epoch in (1, 2, 3)] == [1, 1, 1]
        assert [line["step"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())][-1] == 12
