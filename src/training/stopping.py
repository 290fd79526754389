"""What ends a run before its last epoch: no progress, a limit, a signal."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from src import processes


class Interrupted(Exception):
    """The run was told to end by a signal; it has saved ``last.ckpt`` and can be resumed."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.exit_code = 128 + signum
        """What a shell reports for this signal: 130 for SIGINT, 143 for SIGTERM."""


class Signals:
    """The signal that came, if one did; the loop looks between two steps."""

    received: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Note the signal; the next one of its kind ends the process at once.

        Of several processes it does not: torchrun hands on what the terminal has sent to all, and knows to kill.
        """
        self.received = signum
        signal.signal(signum, signal.SIG_DFL if processes.size() == 1 else signal.SIG_IGN)


@contextmanager
def catch_signals() -> Iterator[Signals]:
    """Collect SIGINT and SIGTERM while the block runs (only a main thread can; elsewhere nothing is caught)."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {signum: signal.signal(signum, signals.handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for signum, handler in before.items():
            if signal.getsignal(signum) is not signal.SIG_IGN:  # of several processes, each is to end in its own time
                signal.signal(signum, handler)


@dataclass
class EarlyStopping:
    """The best evaluation so far, and for how many evaluations there was no better one."""

    mode: str
    patience: int | None
    value: float | None = None
    waited: int = 0

    def better(self, value: float) -> bool:
        """Say whether this is the best value so far (NaN never is), and keep it if so."""
        sign = 1 if self.mode == "max" else -1
        if math.isnan(value) or (self.value is not None and sign * value <= sign * self.value):
            return False
        self.value = value
        return True

    def count(self, better: bool) -> None:
        """Count one regular evaluation."""
        self.waited = 0 if better else self.waited + 1

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"value": self.value, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.value, self.waited = state["value"], state["waited"]


@dataclass
class Position:
    """Where a run stands."""

    step: int = 0
    """Updates of the weights so far, skipped ones included."""
    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches of the current epoch that went into the weights."""
    skipped: int = 0
    """Updates that were not made because loss or gradients were not finite."""
    seconds: float = 0.0
    """Time of training so far, over all its resumptions."""

    def state_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned, here and for all who hold this position."""
        vars(self).update(vars(Position(**state)))
