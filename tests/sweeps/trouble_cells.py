"""Cells whose runs get into trouble: one raises once, the runs of another can be found and killed in mid-epoch."""

import os
import time
from pathlib import Path

import torch

from src.models.cells import NO_NOISE, Cell, HiddenState

TROUBLE = Path(os.environ.get("TROUBLE", "."))
"""The folder of the flags that the tests set."""


class Plain(Cell):
    """h' = tanh(W x + U h + b)."""

    gates = ("g",)

    def step(self, gates, state, noise=NO_NOISE):
        return HiddenState(torch.tanh(gates + self.recurrent(state.h, noise)))


class Once(Plain):
    """Raises, once, where there is a file ``fail``."""

    def project(self, x):
        try:
            (TROUBLE / "fail").rename(TROUBLE / "failed")
        except FileNotFoundError:
            return super().project(x)
        raise RuntimeError("made to fail once")


class Slow(Plain):
    """As long as there is a file ``slow``: says in ``pid`` which process is at it, and takes its time."""

    def project(self, x):
        if self.training and (TROUBLE / "slow").exists():
            (TROUBLE / "pid").write_text(str(os.getpid()))
            time.sleep(0.1)
        return super().project(x)
