"""The table of a running sweep is brought up to date after each job, by many processes, and never fails one."""

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import environment
from made_sweep import make_run

from src.sweeps import refresh
from src.sweeps.report import refresh as module


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Count the drawings of the PNG files, which take a second each."""
    drawn = []
    monkeypatch.setattr(module, "draw", lambda found, folder: drawn.append(folder))
    return drawn


def test_the_files_are_up_to_date_after_each_job_and_the_png_files_in_a_share_of_the_time(tmp_path, drawn, monkeypatch):
    for number in range(3):
        make_run(tmp_path / str(number), depth=1 + number)
        refresh(tmp_path)
        assert f"{number + 1} run" in (tmp_path / "table.md").read_text()
        assert f"{number + 1} run" in (tmp_path / "page.html").read_text()
        notes = json.loads((tmp_path / ".table.json").read_text())
        (tmp_path / ".table.json").write_text(json.dumps(notes | {"took": 5.0}))
    assert len(drawn) == 1
    refresh(tmp_path, final=True)
    assert len(drawn) == 2


def test_many_processes_at_once_leave_one_whole_table_with_every_run(tmp_path):
    code = (
        "import sys; from src.sweeps.report import refresh as module; module.draw = lambda *_: None;"
        "sys.stdin.read(); module.refresh(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    make_run(tmp_path / "0")
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path))
        for _ in range(3)
    ]
    make_run(tmp_path / "1", depth=3)
    with ThreadPoolExecutor() as pool:
        errors = [error for _, error in pool.map(lambda worker: worker.communicate(""), workers)]
    assert errors == [""] * 3
    assert "2 runs: 2 DONE" in (tmp_path / "table.md").read_text()
    assert not list(tmp_path.glob(".*.tmp"))


def test_who_waited_while_another_saw_its_run_does_not_read_again(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    refresh(tmp_path)
    notes = json.loads((tmp_path / ".table.json").read_text())
    (tmp_path / ".table.json").write_text(json.dumps(notes | {"read_at": notes["read_at"] + 3600}))  # after this call
    monkeypatch.setattr(module, "read_runs", lambda folder: pytest.fail("read again"))
    refresh(tmp_path)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), ValueError("a fault in drawing")])
def test_no_trouble_with_the_table_fails_a_job(tmp_path, monkeypatch, caplog, trouble):
    def fail(*_):
        raise trouble

    make_run(tmp_path / "a")
    monkeypatch.setattr(module, "write_tables", fail)
    logging.getLogger("src").propagate = True
    refresh(tmp_path)
    assert len(caplog.records) == 1 and "was not brought up to date" in caplog.text
    refresh(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_asking_for_it_costs_no_import():
    code = "import sys, src.sweeps; print(sorted({'pandas', 'matplotlib', 'torch', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
