"""Cells whose runs get into trouble: one raises once, another waits in mid-epoch to be killed, a third kills itself."""

import os
import signal
import time
from pathlib import Path

import torch

from deep_rnn.cells import NO_NOISE, Cell, HiddenState

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


class Held(Plain):
    """Where there is a file ``hold``, says in ``pid`` in its sixth step which process is at it, and waits to end."""

    calls = 0

    def project(self, x):
        self.calls += self.training
        if self.calls == 6:
            try:
                (TROUBLE / "hold").rename(TROUBLE / "held")
            except FileNotFoundError:
                return super().project(x)
            (TROUBLE / "pid.new").write_text(str(os.getpid()))
            (TROUBLE / "pid.new").rename(TROUBLE / "pid")
            time.sleep(900)
        return super().project(x)


class Waits(Plain):
    """Where there is a file ``wait``, says so by a file ``waits`` in its sixth step, and waits for that to be gone."""

    calls = 0

    def project(self, x):
        self.calls += self.training
        if self.calls == 6 and (TROUBLE / "wait").exists():
            (TROUBLE / "wait").rename(TROUBLE / "waits")
            while (TROUBLE / "waits").exists():
                time.sleep(0.02)
        return super().project(x)


class Dies(Plain):
    """Its process is killed whenever it is used, as if for want of memory."""

    def project(self, x):
        os.kill(os.getpid(), signal.SIGKILL)
        return super().project(x)
