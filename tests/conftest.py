"""What many tests share: composing conf/, a made data set, and the command line as a user types it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import composed, environment, write_reviews

from src.config import Config, compose_config

torch.set_num_threads(1)  # tests run side by side


@pytest.fixture
def configured() -> Callable[..., Config]:
    """A function from overrides to a validated config."""
    return lambda *overrides: compose_config(composed(*overrides))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A small data set of made reviews."""
    return write_reviews(tmp_path / "reviews, a=b 'c'.csv")  # a name that Hydra's grammar would choke on


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
            timeout=240,
        )

    return run
