"""What many tests share: composing conf/, a made data set, and the command line as a user types it."""

import importlib
import io
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers import composed, environment, write_reviews

from deep_rnn.kernels import build
from src import cli
from src.config import Config, compose_config

torch.set_num_threads(1)  # tests run side by side


def pytest_configure(config: pytest.Config) -> None:
    """Compile the fused kernels before the first test, whose time limit is not meant for a compiler."""
    if not hasattr(config, "workerinput"):
        build.load()


@pytest.fixture
def configured() -> Callable[..., Config]:
    """A function from overrides to a validated config."""
    return lambda *overrides: compose_config(composed(*overrides))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A small data set of made reviews."""
    return write_reviews(tmp_path / "reviews, a=b 'c'.csv")  # a name that Hydra's grammar would choke on


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """``typed("train", "depth=2", …)`` opens a door in this process, in ``tmp_path``, which saves seconds of imports.

    Gives the exit code, standard output and standard error.
    """

    def run(name: str, *arguments: str, stdin: str = "", full_error: str = "0") -> tuple[int, str, str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", full_error)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        module = importlib.import_module(f"src.{name}")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as left:
            (cli.train_door if name == "train" else cli.open_door)(module.main)
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    before, handlers = signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEP_RNN_CACHE", str(tmp_path / "cache"))
    yield run
    signal.signal(signal.SIGTERM, before)
    logging.getLogger().handlers[:] = handlers  # Hydra's own writes to an output that ends with the test


@pytest.fixture
def door(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``door("train", "depth=2", …)`` runs ``python -m src.train depth=2 …`` in a fresh process, in ``tmp_path``."""

    def run(name: str, *arguments: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"src.{name}", *arguments],
            cwd=tmp_path,
            env=environment(tmp_path) | env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=900,  # pytest's own limit comes first
        )

    return run
