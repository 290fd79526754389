"""How the program starts: what stands before torch is loaded, and what is loaded before the first step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment, write_reviews

from src.choices import CONF

DOORS = ["train", "evaluate", "predict", "generate", "sweeps"]
UNNEEDED = ["torch._dynamo", "torch._inductor", "sympy", "wandb.sdk.launch", "matplotlib", "pandas", "scipy", "sklearn"]
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
HIDE = """
import importlib.abc

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "hydra":
            raise ModuleNotFoundError(name)

import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "hydra" else real(name, package)
sys.meta_path.insert(0, Hide())
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


def test_what_a_run_does_not_need_is_not_loaded_before_its_first_step(tmp_path: Path) -> None:
    look = (
        "import sys, src.train\n"
        "from src.training.loop import Trainer\n"
        f"unneeded = {UNNEEDED}\n"
        "def first_step(*_):\n"
        "    print('LOADED', 'wandb' in sys.modules, [name for name in unneeded if name in sys.modules], flush=True)\n"
        "    raise KeyboardInterrupt\n"
        "Trainer._train_step = first_step\n"
        "src.cli.train_door(src.train.main)\n"
    )
    reviews = write_reviews(tmp_path / "reviews.csv")
    arguments = ["data=text_file", f"data.path={reviews}", "width=8", "hydra.run.dir=run", "trainer.summary=false"]
    command = [sys.executable, "-c", look, *arguments, f"logger.dir={tmp_path / 'wandb'}"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert "LOADED True []" in result.stdout.splitlines(), result.stderr


@pytest.mark.parametrize("door", DOORS)
def test_a_missing_extra_is_named_in_one_line(door: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{HIDE}")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(CONF.parent / "src"), str(CONF.parent)])}
    done = subprocess.run([sys.executable, "-m", f"src.{door}"], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "pip install -c constraints.txt -e '.[train]'" in done.stderr
