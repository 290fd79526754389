"""The clock of a run, and what it and a signal decide between two steps."""

import math
import time

from src.config import Config
from src.training.distributed import World
from src.training.stopping import Position, Signals


class Limits:
    """Counts the run's time, and says when to save and when to end.

    Args:
        cfg: the run's configuration.
        position: where the run stands; its seconds are counted here.
        world: the processes that are to decide alike.
    """

    def __init__(self, cfg: Config, position: Position, world: World) -> None:
        self.cfg, self.position, self.world = cfg, position, world
        self.start()

    def start(self) -> None:
        """Count time from here on, and the time to the next checkpoint."""
        self.ticked_at = self.saved_at = time.monotonic()

    def saved(self) -> None:
        """Count the time to the next checkpoint from here on."""
        self.saved_at = time.monotonic()

    def tick(self) -> float:
        """Add the time since the last tick to the run's, and return it."""
        now = time.monotonic()
        seconds, self.ticked_at = now - self.ticked_at, now
        self.position.seconds += seconds
        return seconds

    def decide(self, signals: Signals) -> tuple[int, bool, bool]:
        """Which signal came (0: none), whether to save, and whether to end: the same in all processes.

        A signal may reach any of them; the clock is process 0's.
        """
        due = time.monotonic() - self.saved_at > 60 * self.cfg.trainer.checkpoint_minutes
        by_clock = (due, self._beyond()) if self.world.main else (False, False)
        signum, save, over = self.world.largest(signals.received or 0, *by_clock)
        return signum, bool(save), bool(over)

    def signal(self, signals: Signals) -> int:
        """Which signal came to any of the processes (0: none)."""
        (signum,) = self.world.largest(signals.received or 0)
        return signum

    def _beyond(self) -> bool:
        """Whether ``max_steps`` or ``max_minutes``, counted over all resumptions, are used up."""
        limit, now = self.cfg.max_minutes, self.position.seconds + time.monotonic() - self.ticked_at
        return self.position.step >= (self.cfg.max_steps or math.inf) or now >= 60 * (limit or math.inf)
