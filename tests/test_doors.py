"""The command line as a user types it: train, interrupt, resume, evaluate, predict, sweep, on made reviews."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import environment, write_reviews

Door = Callable[..., subprocess.CompletedProcess[str]]
Typed = Callable[..., tuple[int, str, str]]  # exit code, standard output, standard error


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def last_json(result: tuple[int, str, str]) -> Any:
    code, out, err = result
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def small(reviews: Path) -> list[str]:
    """Arguments of a training that takes a second."""
    return ["data=text_file", f"data.path={reviews}", "width=8", "batch_size=16", "lr=0.02", "logger=none"]


def test_train_evaluate_predict_and_resume(typed: Typed, small: list[str], reviews: Path, tmp_path: Path) -> None:
    code, out, err = typed("train", *small, "epochs=8", "hydra.run.dir=a run")
    folder = tmp_path / "a run"
    assert (code, err) == (0, "") and str(folder) in out.splitlines()[-1]
    assert {path.name for path in folder.iterdir()} >= {
        *("config.yaml", "encoder.json", "metrics.jsonl", "summary.json", "best.ckpt", "last.ckpt", "train.log"),
        *("curves.png", "confusion_matrix.csv", "confusion_matrix.png", "most_wrong.csv", "DONE"),
    }
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["path"] == str(reviews)
    best = json.loads((folder / "summary.json").read_text())["best"]
    assert best["val/accuracy"] > best["val/baseline"]

    same = last_json(typed("evaluate", "run=a run"))
    assert same.pop("examples") == 13
    assert same == {name: pytest.approx(best[name]) for name in same}
    other = write_reviews(tmp_path / "other, file.csv", count=20, seed=1)
    assert last_json(typed("evaluate", "run=a run", f"data.path={other}"))["examples"] == 20
    code, _, err = typed("evaluate", "run=a run", "data.split_seed=5")
    assert code == 2 and "holds what it was trained on" in err
    code, _, err = typed("evaluate", "run=a run", "device=gpu")
    assert (code, err) == (2, "error: device=gpu: should be auto, cpu, mps, cuda or cuda:N\n")
    (tmp_path / "plain.txt").write_text("no label\n" * 9)
    code, _, err = typed("evaluate", "run=a run", "data=plain_text", "data.path=plain.txt")
    assert (code, err.count("\n")) == (2, 1) and "have no labels" in err
    code, _, err = typed("evaluate", "run=a run", "split=test")
    assert (code, err) == (2, "error: this data has no split 'test'; known: train, val\n")

    assert last_json(typed("predict", "run=a run", 'text=It\'s a wonderful, "great" film=yes'))["label"] == "pos"
    _, out, _ = typed("predict", "run=a run", stdin="a dreadful plot\nwonderful\n\n")
    predictions = [json.loads(line) for line in out.splitlines()]
    assert [prediction["label"] for prediction in predictions[:2]] == ["neg", "pos"] and len(predictions) == 3
    assert all(0.5 <= prediction["probability"] <= 1 for prediction in predictions)

    before = (folder / "metrics.jsonl").read_text()
    code, _, err = typed("train", *small, "hydra.run.dir=a run")
    assert code == 2 and "already holds a run" in err and len(err.splitlines()) == 1
    assert (folder / "DONE").exists() and (folder / "metrics.jsonl").read_text() == before

    assert typed("train", "resume=a run", "epochs=9")[0] == 0
    assert (folder / "metrics.jsonl").read_text().startswith(before) and metrics(folder)[-1]["epoch"] == 9
    assert yaml.safe_load((folder / "config.yaml").read_text())["resume"] is None

    for damaged, door in [("best.ckpt", "evaluate"), ("encoder.json", "predict"), ("last.ckpt", "train")]:
        content = (folder / damaged).read_bytes()
        (folder / damaged).write_bytes(content[: len(content) // 2])
        code, _, err = typed(door, "resume=a run" if door == "train" else "run=a run")
        assert code == 2 and damaged in err and len(err.splitlines()) == 1
        (folder / damaged).write_bytes(content)


def test_another_file_takes_the_place_of_all_that_a_run_was_trained_and_validated_on(
    typed: Typed, small: list[str], tmp_path: Path
) -> None:
    held = write_reviews(tmp_path / "held.csv", count=10, seed=2)
    assert typed("train", *small, f"data.val_path={held}", "debug=fast", "hydra.run.dir=run")[0] == 0
    assert last_json(typed("evaluate", "run=run"))["examples"] == 10
    other = write_reviews(tmp_path / "other.csv", count=20, seed=1)
    assert last_json(typed("evaluate", "run=run", f"data.path={other}"))["examples"] == 20
    assert last_json(typed("evaluate", "run=run", f"data.val_path={other}"))["examples"] == 20


def test_pictures_that_a_run_was_trained_on_do_not_judge_it(typed: Typed) -> None:
    small = ["data=digits", "data.order=rows", "width=4", "depth=1", "max_steps=2", "logger=none"]
    assert typed("train", *small, "hydra.run.dir=run")[0] == 0
    assert last_json(typed("evaluate", "run=run", "split=val"))["examples"] > 0
    for other in ("data.split_seed=1", "data.holdout=0.5"):
        code, _, err = typed("evaluate", "run=run", other)
        assert code == 2 and "holds what it was trained on" in err


def test_a_run_whose_data_has_changed_is_not_judged_by_it(typed: Typed, small: list[str], reviews: Path) -> None:
    assert typed("train", *small, "debug=fast", "hydra.run.dir=run")[0] == 0
    write_reviews(reviews, count=40, seed=7)
    reviews.write_text(reviews.read_text() + "a brand new word,pos\n")
    code, _, err = typed("evaluate", "run=run")
    assert code == 2 and "has changed since this run was trained" in err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_run_that_can_be_resumed(signum: int, small: list[str], tmp_path: Path, typed: Typed) -> None:
    command = [sys.executable, "-m", "src.train", *small, "epochs=1000000", "trainer.log_every=1", "hydra.run.dir=run"]
    run = tmp_path / "run"
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stderr=stderr)
    while not (run / "last.ckpt").exists():
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        time.sleep(0.05)
    process.send_signal(signum)
    assert process.wait(timeout=120) == 128 + signum
    said = (tmp_path / "stderr").read_text()
    assert f"resume={run}" in said and len(said.splitlines()) == 1
    assert not (run / "DONE").exists() and not (run / "FAILED").exists()
    steps = metrics(run)[-1]["step"]
    assert typed("train", f"resume={run}", f"max_steps={steps + 3}")[0] == 0
    assert metrics(run)[-1]["step"] == steps + 3 and (run / "DONE").exists()


def test_a_run_that_fails_exits_1_with_one_line_and_leaves_its_traceback(
    typed: Typed, small: list[str], tmp_path: Path
) -> None:
    explode = ["model=rnn", "model.options.activation=relu", "optimizer=sgd", "lr=1e20", "clip=null"]
    code, _, err = typed("train", *small, *explode, "hydra.run.dir=run")
    assert code == 1 and "not finite" in err and len(err.splitlines()) == 1
    assert "Traceback" in (tmp_path / "run" / "FAILED").read_text() and not (tmp_path / "run" / "DONE").exists()


def test_every_debug_mode_does_what_it_says(typed: Typed, small: list[str], tmp_path: Path) -> None:
    modes = ["fast", "overfit", "profile", "anomaly"]
    code, _, err = typed("train", "-m", *small[:-2], "logger=none", f"debug={','.join(modes)}", "sweep.name=d")
    assert code == 0, err
    fast, overfit, profile, _ = (next((tmp_path / "outputs/sweeps/d").glob(f"*debug-{mode}*")) for mode in modes)
    assert metrics(fast)[-1]["step"] == 2
    assert metrics(overfit)[-1]["val/loss"] < 0.01
    assert "aten::" in (profile / "profile.txt").read_text() and (profile / "trace.json").exists()


def test_a_failed_job_of_a_sweep_stops_no_other(typed: Typed, small: list[str], tmp_path: Path) -> None:
    code, _, err = typed("train", "-m", *small[:-2], "logger=none", "model.cell=grru,gru", "epochs=1", "sweep.name=s")
    assert code == 2 and any("did you mean gru?" in line for line in err.splitlines())
    (done,) = (path.parent.name for path in (tmp_path / "outputs/sweeps/s").glob("*/DONE"))
    assert done.startswith("model.cell-gru_data-text_file_width-8_batch_size-16_epochs-1-")


def test_a_fresh_process_trains_on_the_real_reviews(door: Door, tmp_path: Path) -> None:
    run = door("train", "model=gru", "depth=3", "debug=fast", "logger=none", "hydra.run.dir=run")
    assert run.returncode == 0, run.stderr
    assert run.stderr == "" and (tmp_path / "run" / "DONE").exists()
    labelled = door("predict", "run=run", stdin="fine\n")
    assert json.loads(labelled.stdout)["label"] in ("neg", "pos") and labelled.returncode == 0
    wrong = door("train", "model=gruu")
    assert (wrong.returncode, wrong.stderr) == (2, "error: model=gruu: no such model (did you mean gru?)\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_on_the_real_reviews_makes_one_wandb_run_a_job(door: Door, tmp_path: Path) -> None:
    cache = os.environ.get("DEEP_RNN_CACHE", str(tmp_path / "cache"))
    sweep = ["model=rnn,lstm,gru", "depth=1,2", "lr=1e-3,3e-3", "debug=fast"]
    run = door("train", "-m", *sweep, DEEP_RNN_CACHE=cache)
    assert run.returncode == 0, run.stderr
    folders = [path.parent for path in (tmp_path / "outputs/sweeps").glob("*/*/DONE")]
    assert len(folders) == 12 and len({folder.parent for folder in folders}) == 1
    ids = {(folder / "wandb_id").read_text() for folder in folders}
    files = list((tmp_path / "outputs/wandb").glob("**/run-*.wandb"))
    assert len(ids) == len(files) == 12
    assert {path.stem.removeprefix("run-") for path in files} == ids
