"""W&B gets everything, one run for each run, offline unless asked, and never holds a training up."""

import csv
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers import wandb_records

from src.choices import CONF
from src.config import Config
from src.errors import RequestError
from src.tracking import Tracker, read_metrics
from src.tracking.wandb_run import WandbRun, stable_id
from src.training.stopping import Position

PATIENCE = 15
"""Seconds that a server out of reach may cost."""


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f80f0001010100"
    "1bb6ee560000000049454e44ae426082"
)
"""A picture that takes no time to draw."""


@pytest.fixture(autouse=True)
def fresh_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B as it is in a process of its own, with a home directory of its own and no key."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # so that what the tracker sets is taken back
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("src.tracking.tracker.draw_curves", lambda lines, path, monitor: path.write_bytes(PIXEL))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def make(tmp_path: Path, configured: Callable[..., Config]) -> Callable[..., tuple[Config, Path]]:
    """A config that logs to the test's folder, and the folder of a run."""

    def make(name: str = "run", *overrides: str) -> tuple[Config, Path]:
        options = ["logger.project=test", "logger.group=sweep-1", "logger.tags=[a,b]", *overrides]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return configured(f"logger.dir={tmp_path}/wandb", "data=text_file", "data.path=x.csv", *options), folder

    return make


def train(cfg: Config, folder: Path, steps: tuple[int, ...] = (1, 2)) -> None:
    """What the loop tells a tracker."""
    with Tracker(cfg, folder) as tracker:
        for step in steps:
            tracker.log({"train/loss": 1 / step, "train/lr": 0.1, "train/grad_norm": 2.0}, Position(step=step))
        metrics = {"val/loss": 0.4, "val/accuracy": 0.7, "val/macro_f1": 0.6, "val/baseline": 0.5}
        tracker.log_evaluation(metrics, Position(step=steps[-1]), better=True)
        worst = folder / "most_wrong.csv"
        with worst.open("w", newline="") as file:
            csv.writer(file).writerows([["text", "true"], ["a, b", "NA"]])
        (folder / "best.ckpt").write_bytes(b"weights")
        summary = {"best": metrics | {"epoch": 1}, "final": metrics, "params": 9, "seconds": 1.0, "steps": steps[-1]}
        tracker.close(summary, {"most_wrong": worst})


def runs(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("wandb/*run-*/run-*.wandb"))


def test_offline_run_read_back_holds_everything(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    cfg, folder = make()
    train(cfg, folder)
    (log,) = runs(tmp_path)
    assert log.parent.name.startswith("offline-run-")
    read = wandb_records(log)

    (run,) = (record["run"] for record in read if record["type"] == "run")
    assert run["run_id"] == (folder / "wandb_id").read_text().strip()
    assert (run["project"], run["run_group"], run["job_type"]) == ("test", "sweep-1", "train")
    assert run["tags"] == ["a", "b"]
    config = run["config"]["update"]
    assert config["model"] == json.loads(json.dumps(cfg.to_dict()["model"]))
    assert (config["depth"], config["lr"]) == (cfg.depth, cfg.lr)

    history = [record["history"]["item"] for record in read if record["type"] == "history"]
    training = [item for item in history if "train/loss" in item]
    assert [(item["trainer/step"], item["train/loss"]) for item in training] == [(1, 1.0), (2, 0.5)]
    assert {"train/lr", "train/grad_norm"} <= training[0].keys()
    (evaluation,) = (item for item in history if "val/loss" in item)
    assert (evaluation["val/accuracy"], evaluation["val/macro_f1"], evaluation["trainer/step"]) == (0.7, 0.6, 2)
    assert any("most_wrong._type" in item for item in history)
    assert any(item.get("curves._type") == "image-file" for item in history)

    metrics = {record["metric"].get("name"): record["metric"] for record in read if record["type"] == "metric"}
    assert metrics["val/accuracy"]["summary"] == {"max": True}
    assert metrics["val/loss"]["summary"] == {"min": True}
    assert metrics["val/loss"]["step_metric"] == "trainer/step"
    assert [record["exit"]["exit_code"] for record in read if record["type"] == "exit"] == [0]
    assert not any(record["type"] == "artifact" and record["artifact"]["type"] == "model" for record in read)

    assert not list((tmp_path / "home").rglob("*wandb*"))
    assert "wandb" not in capfd.readouterr().err


def test_best_checkpoint_becomes_an_artifact_only_on_request_and_without_a_copy(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]]
) -> None:
    cfg, folder = make("run", "logger.log_artifact=true")
    train(cfg, folder)
    read = wandb_records(runs(tmp_path)[0])
    (artifact,) = (r["artifact"] for r in read if r["type"] == "artifact" and r["artifact"]["type"] == "model")
    paths = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert paths["best.ckpt"] == str(folder / "best.ckpt")
    assert not list((tmp_path / "home").rglob("*wandb*"))


def test_two_runs_in_one_process_are_two_runs(tmp_path: Path, make: Callable[..., tuple[Config, Path]]) -> None:
    for name in ("one", "two"):
        train(*make(name))
    ids = {(tmp_path / name / "wandb_id").read_text().strip() for name in ("one", "two")}
    logged = {log: wandb_records(log) for log in runs(tmp_path)}
    assert len(logged) == len(ids) == 2
    assert {r["run"]["run_id"] for read in logged.values() for r in read if r["type"] == "run"} == ids
    for read in logged.values():
        assert sum(r["type"] == "history" and "train/loss" in r["history"]["item"] for r in read) == 2


def test_run_that_its_process_leaves_open_does_not_swallow_the_next(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]]
) -> None:
    first = Tracker(*make("one")).__enter__()
    train(*make("two"))
    first.display.close()
    assert len(runs(tmp_path)) == 2


def test_resumed_run_keeps_its_id(tmp_path: Path, make: Callable[..., tuple[Config, Path]]) -> None:
    cfg, folder = make()
    train(cfg, folder, (1, 2))
    train(cfg, folder, (3, 4))
    assert {r["run"]["run_id"] for log in runs(tmp_path) for r in wandb_records(log) if r["type"] == "run"} == {
        stable_id(folder)
    }


KILLED = """
import json, os, signal, sys
from pathlib import Path
from src.config import compose_config
from src.tracking import Tracker
from src.training.stopping import Position

cfg, folder = compose_config(json.loads(sys.argv[2])), Path(sys.argv[1])
tracker = Tracker(cfg, folder).__enter__()
for step in range(1, 41):
    tracker.log({"train/loss": 1 / step}, Position(step=step, seconds=0.1 * step))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("line", [{}, {"time": "x", "step": 1}, [], 1])
def test_a_line_that_cannot_be_sent_again_keeps_no_run_from_going_on(
    line: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = object.__new__(WandbRun)
    run.was_killed = True
    run.send_again([line])
    assert "W&B" in caplog.text


def test_a_run_that_was_killed_has_all_its_steps_in_wandb_once_it_is_resumed(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]]
) -> None:
    cfg, folder = make()
    path = os.pathsep.join([str(CONF.parent), str(CONF.parent / "src")])
    command = [sys.executable, "-c", KILLED, str(folder), json.dumps(cfg.to_dict())]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": path}).returncode == -9
    assert len(read_metrics(folder / "metrics.jsonl")) == 40
    with Tracker(cfg, folder) as tracker:
        tracker.cut(35)  # the checkpoint is from there
        for step in range(36, 51):
            tracker.log({"train/loss": 1 / step}, Position(step=step, seconds=0.1 * step))
    history = [r["history"]["item"] for log in runs(tmp_path) for r in wandb_records(log) if r["type"] == "history"]
    found = {item["trainer/step"]: item["train/loss"] for item in history if "train/loss" in item}
    assert found == {step: pytest.approx(1 / step) for step in range(1, 51)}


def test_a_run_that_was_closed_is_sent_nothing_twice(tmp_path: Path, make: Callable[..., tuple[Config, Path]]) -> None:
    cfg, folder = make()
    train(cfg, folder, (1, 2))
    with Tracker(cfg, folder) as tracker:
        tracker.cut(2)
        tracker.log({"train/loss": 0.1}, Position(step=3))
    history = [r["history"]["item"] for log in runs(tmp_path) for r in wandb_records(log) if r["type"] == "history"]
    assert sorted(item["trainer/step"] for item in history if "train/loss" in item) == [1, 2, 3]


def test_failed_run_is_closed_as_failed(tmp_path: Path, make: Callable[..., tuple[Config, Path]]) -> None:
    with pytest.raises(ZeroDivisionError), Tracker(*make()):
        _ = 1 / 0
    read = wandb_records(runs(tmp_path)[0])
    assert [record["exit"]["exit_code"] for record in read if record["type"] == "exit"] == [1]


def test_without_a_logger_the_files_are_there_all_the_same(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]], configured: Callable[..., Config]
) -> None:
    folder = make()[1]
    train(configured("logger=none", "data=text_file", "data.path=x.csv"), folder)
    assert not (tmp_path / "wandb").exists() and not (folder / "wandb_id").exists()
    assert len(read_metrics(folder / "metrics.jsonl")) == 3
    assert json.loads((folder / "summary.json").read_text())["best"]["val/accuracy"] == 0.7
    assert (folder / "curves.png").exists()


def test_disabled_mode_writes_no_run(tmp_path: Path, make: Callable[..., tuple[Config, Path]]) -> None:
    cfg, folder = make("run", "logger.mode=disabled")
    train(cfg, folder)
    assert runs(tmp_path) == []
    assert len(read_metrics(folder / "metrics.jsonl")) == 3


def test_folder_that_cannot_be_made_is_a_wrong_request(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]]
) -> None:
    (tmp_path / "file").write_text("")
    cfg, folder = make("run", f"logger.dir={tmp_path}/file/wandb")
    with pytest.raises(RequestError, match=r"logger.dir=.*cannot be written"), Tracker(cfg, folder):
        pass


# ---------------------------------------------------------------------------------------- a server out of reach
def assert_goes_on_offline(
    tmp_path: Path, cfg: Config, folder: Path, capfd: pytest.CaptureFixture[str], why: str
) -> None:
    started = time.monotonic()
    train(cfg, folder)
    wandb.teardown()  # what the process does at its end
    assert time.monotonic() - started < PATIENCE
    output = capfd.readouterr().out
    (warning,) = (line for line in output.splitlines() if line.startswith("warning"))
    assert "going on offline" in warning and why in warning
    assert [log.parent.name.split("-")[0] for log in runs(tmp_path)][-1:] in (["offline"], ["run"])
    offline = [log for log in runs(tmp_path) if log.parent.name.startswith("offline")]
    assert len(offline) == 1
    assert sum(record["type"] == "history" for record in wandb_records(offline[0])) == 4
    assert len(read_metrics(folder / "metrics.jsonl")) == 3


@pytest.mark.parametrize("listens", [False, True], ids=["closed port", "accepts and never answers"])
def test_server_out_of_reach_costs_seconds_and_the_run_goes_on_offline(
    tmp_path: Path,
    make: Callable[..., tuple[Config, Path]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    listens: bool,
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen(16)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        cfg, folder = make("run", "logger.mode=online")
        assert_goes_on_offline(tmp_path, cfg, folder, capfd, "does not answer")


class HalfDead(http.server.BaseHTTPRequestHandler):
    """Greets, and never answers a question."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        time.sleep(600)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.slow
def test_server_that_hangs_later_costs_seconds_too(
    tmp_path: Path,
    make: Callable[..., tuple[Config, Path]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HalfDead) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        cfg, folder = make("run", "logger.mode=online")
        assert_goes_on_offline(tmp_path, cfg, folder, capfd, "graphql")
        server.shutdown()


def test_online_without_a_key_goes_on_offline(
    tmp_path: Path,
    make: Callable[..., tuple[Config, Path]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HalfDead) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        cfg, folder = make("run", "logger.mode=online")
        assert_goes_on_offline(tmp_path, cfg, folder, capfd, "No API key")
        server.shutdown()


def test_a_long_table_is_handed_over_in_part_and_a_broken_one_costs_nothing_else(
    tmp_path: Path, make: Callable[..., tuple[Config, Path]]
) -> None:
    cfg, folder = make()
    (folder / "long.csv").write_text("number\n" + "".join(f"{number}\n" for number in range(5000)))
    (folder / "broken.csv").write_text("")
    summary = {"best": {}, "final": {}, "params": 9, "seconds": 1.0, "steps": 1}
    with Tracker(cfg, folder) as tracker:
        tracker.close(summary, {"broken": folder / "broken.csv", "long": folder / "long.csv"})
    (media,) = (r["history"]["item"] for r in wandb_records(runs(tmp_path)[0]) if r["type"] == "history")
    assert media["long.nrows"] == 1000 and media["curves._type"] == "image-file"
    assert "broken._type" not in media
