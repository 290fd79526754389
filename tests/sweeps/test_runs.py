"""What a run's folder tells at any moment of its life: how it stands, why, and what it has reached."""

import fcntl
import os

import pytest
from made_sweep import NOT_FINITE, OUT_OF_MEMORY, make_run

from src.errors import RequestError
from src.sweeps.report.runs import CUT_OFF, DONE, FAILED, PRUNED, RUNNING, read_runs
from src.tracking.run_folder import noted


def only(folder):
    (run,) = read_runs(folder)
    return run


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OUT_OF_MEMORY, "out of memory"),
        (NOT_FINITE, "not finite"),
        ("below the median", "below the median"),
        ("Traceback\n  x\nValueError: bad\n\n", "ValueError: bad"),  # of an older version
        ("reason: " + 200 * "x", 160 * "x" + "…"),
        ("", ""),
    ],
)
def test_a_failure_is_told_in_a_few_words(tmp_path, text, reason):
    (tmp_path / "FAILED").write_text(text)
    assert noted(tmp_path) == reason


def test_a_run_that_is_over_says_how_and_why(tmp_path):
    make_run(tmp_path / "a", best=0.9)
    make_run(tmp_path / "b", end=FAILED, why=OUT_OF_MEMORY)
    make_run(tmp_path / "c", end=PRUNED, why="below the median")
    told = [(run.name, run.state, run.reason) for run in read_runs(tmp_path)]
    assert told == [("a", DONE, ""), ("b", FAILED, "out of memory"), ("c", PRUNED, "below the median")]


def test_a_run_that_is_not_over_is_running_while_its_lock_is_held_and_cut_off_afterwards(tmp_path):
    folder = make_run(tmp_path / "a", end=None)
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert only(tmp_path).state == RUNNING
    os.close(lock)
    assert only(tmp_path).state == CUT_OFF
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # asking took nothing away
    os.close(lock)


def test_an_unfinished_run_shows_the_best_it_has_reached(tmp_path):
    make_run(tmp_path / "up", end=None, best=0.8, epochs=3)
    make_run(tmp_path / "down", end=None, best=50.0, epochs=3, monitor="val/perplexity", mode="min")
    (tmp_path / "up" / "metrics.jsonl").open("a").write('{"step": 350, "epoch": 4, "val/acc')  # it is writing
    down, up = read_runs(tmp_path)
    assert 0.78 < up.value("val/accuracy") < 0.8 and up.best["epoch"] == 3 and up.seconds == 4.5 and up.steps == 300
    assert 50 < down.value("val/perplexity") < 51


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "summary.json"])
def test_what_is_damaged_is_named_and_hides_no_other_run(tmp_path, name):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    (tmp_path / "a" / name).write_text("{not: [readable\nat all\n")
    first, second = read_runs(tmp_path)
    assert first.reason == f"{name} is damaged" and first.state == DONE
    assert second.reason == "" and second.value("val/accuracy") == 0.8


def test_a_job_that_failed_before_it_had_a_config_is_a_run_and_what_lies_in_a_run_is_none(tmp_path):
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / FAILED).write_text("Traceback\nreason: width=[1,2] names 2 layers, but depth=3")
    make_run(make_run(tmp_path / "late") / "inner")
    early, late = read_runs(tmp_path)
    assert (early.name, early.reason) == ("early", "width=[1,2] names 2 layers, but depth=3")
    assert late.name == "late"


def test_a_folder_without_runs_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="holds no run"):
        read_runs(tmp_path)
    with pytest.raises(RequestError, match="no such folder"):
        read_runs(tmp_path / "nowhere")
