"""How the program starts: what stands before torch is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

from src.choices import CONF

DOORS = ["train", "evaluate", "predict", "generate", "sweeps"]
WATCH = """
import importlib.abc, os, runpy, sys

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch:", os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
            sys.stdout.flush()
            os._exit(0)  # this is all there is to see

sys.meta_path.insert(0, Watch())
"""


def at_torch(then: str, **env: str) -> str:
    """What a fresh process has in its environment as it begins to import torch."""
    clean = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    clean["PYTHONPATH"] = environment(CONF)["PYTHONPATH"]
    result = subprocess.run([sys.executable, "-c", WATCH + then], env=clean | env, capture_output=True, text=True)
    return result.stdout.strip() or result.stderr


@pytest.mark.parametrize("door", DOORS)
def test_waiting_threads_do_not_spin_for_long_and_that_is_set_before_torch_is_loaded(door: str) -> None:
    then = f"sys.argv = ['']; runpy.run_module('src.{door}', run_name='door'); import torch"
    assert at_torch(then) == "torch: 1000 None"


def test_a_process_that_a_launcher_makes_has_it_too_even_without_the_environment_of_its_parent() -> None:
    then = "import pickle; pickle.loads(b'csrc.train\\ntrain\\n.'); import torch"  # how launchers hand a job over
    assert at_torch(then) == "torch: 1000 None"


@pytest.mark.parametrize(
    ("own", "seen"),
    [({"GOMP_SPINCOUNT": "7"}, "7 None"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None ACTIVE")],
    ids=["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"],
)
def test_the_users_own_setting_of_how_threads_wait_is_kept(own: dict[str, str], seen: str) -> None:
    assert at_torch("import src.train, torch", **own) == f"torch: {seen}"


def test_what_a_launcher_starts_elsewhere_finds_the_checkout(tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    child = f"subprocess.run([sys.executable, '-c', 'import src; print(src.__file__)'], cwd={str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"import src, subprocess, sys; {child}"],
        cwd=CONF.parent,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(CONF.parent / "src" / "__init__.py"), done.stderr


@pytest.mark.parametrize("script", ["benchmark.py", "depth_figure.py", "dashboard.py", "cell_table.py"])
def test_scripts_run_from_anywhere(script: str, tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    path = CONF.parent / "scripts" / script
    done = subprocess.run(
        [sys.executable, str(path), "--help"], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
