"""Helpers of the tests that are no fixtures."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from deep_rnn.kernels import fused
from src.choices import CONF

needs_fused = pytest.mark.skipif(fused.why_not() is not None, reason=str(fused.why_not()))
BACKENDS = ["loop", "native", "eager", pytest.param("fused", marks=needs_fused)]
FILLER = ["the", "a", "film", "plot", "cast", "music", "and", "of", "it", "was,", '"really"', "so"]


def composed(*overrides: str, return_hydra_config: bool = False) -> DictConfig:
    """What Hydra makes of conf/ and these overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config)


def write_reviews(path: Path, count: int = 64, seed: int = 0) -> Path:
    """A CSV of short made reviews whose label hangs on one word of each; a model learns it in a few steps."""
    rng = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number in range(count):
            filler = rng.choices(FILLER, k=rng.randint(2, 8))
            filler.insert(rng.randrange(len(filler)), ["dreadful", "wonderful"][number % 2])
            rows.writerow([" ".join(filler), ["neg", "pos"][number % 2]])
    return path


def environment(folder: Path) -> dict[str, str]:
    """One thread, a cache of its own, and this checkout's ``src``."""
    root = str(CONF.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DEEP_RNN_CACHE": str(folder / "cache")}


def wandb_records(path: Path) -> list[dict[str, Any]]:
    """Every record of a W&B run's log, by W&B's own reader."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines() if line.strip()]
