"""The book's recipe for a new task and a new data set, followed to the letter in a copy of the checkout."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

from src.choices import CONF

ROOT = CONF.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## A task in four files")[2]


def recipe() -> dict[str, str]:
    """The files that the page tells one to write, by path, from the comment that opens each block."""
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", SECTION, re.DOTALL)
    return {match[1]: match[2] for block in blocks if (match := re.match(r"# (\S+)\n(.*)", block, re.DOTALL))}


def test_the_recipe_is_one_file_in_each_room_and_two_in_conf() -> None:
    assert sorted(path.rpartition("/")[0] for path in recipe()) == ["conf/data", "conf/task", "src/data", "src/tasks"]


@pytest.mark.slow
def test_following_the_recipe_makes_a_task_that_trains_and_is_judged(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for room in ("src", "conf"):
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in recipe().items():
        assert not (checkout / path).exists()
        (checkout / path).write_text(text)
    command = re.search(r"python -m src\.train (data=.*)", SECTION)
    assert command is not None
    environ = environment(tmp_path) | {"PYTHONPATH": str(checkout)}

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=checkout, env=environ, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run("src.train", *command[1].split(), "logger=none", "hydra.run.dir=run", "device=cpu")
    best = json.loads((checkout / "run" / "summary.json").read_text())["best"]
    assert best["val/loss"] < best["val/baseline"] / 3
    judged = json.loads(run("src.evaluate", "run=run").splitlines()[-1])
    assert judged["val/loss"] == pytest.approx(best["val/loss"], rel=1e-5)
