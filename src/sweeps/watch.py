"""Telling at once how runs end that are made in other processes or machines: by looking at their folders."""

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from src.sweeps.plan import Job
from src.tracking.console import say
from src.tracking.run_folder import noted

SECONDS = 0.5
"""Between two looks."""


class Watch(AbstractContextManager["Watch"]):
    """While the block runs, say one line of each run that ends.

    Args:
        jobs: runs that are about to be made.
        active: False says nothing: runs of this process speak for themselves.
    """

    def __init__(self, jobs: Sequence[Job], active: bool) -> None:
        self.left, self.total, self.began = list(jobs), len(jobs), time.time()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True) if active else None

    def __enter__(self) -> "Watch":
        if self.thread is not None:
            self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.thread is not None:
            self.over.set()
            self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(SECONDS):
            self._look()
        self._look()

    def _look(self) -> None:
        for job in [job for job in self.left if job.ended(self.began)]:
            self.left.remove(job)
            count = f"{self.total - len(self.left)} of {self.total}"
            if job.state == "FAILED":
                say(f"error: {job.label}: {noted(job.folder)} ({count}; {job.folder / 'FAILED'})")
            else:
                say(f"{job.state} {job.label} ({count})")
