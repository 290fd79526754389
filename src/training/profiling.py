"""Where the time of a training step goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from src.files import write_atomic


class Stepper:
    """What is told of each training step; this one does nothing with it, torch's profiler records it."""

    def step(self) -> None:
        """One training step is over."""


@contextmanager
def profiler(wanted: bool, run_dir: Path) -> Iterator[Stepper | torch.profiler.profile]:
    """Record the block under torch's profiler if that is wanted.

    Writes ``profile.txt`` (operators by their own time) and ``trace.json`` (for chrome://tracing) to the run folder.
    The first two steps warm up and are left out.
    """
    if not wanted:
        yield Stepper()
        return

    def write(recorded: torch.profiler.profile) -> None:
        accelerated = torch.cuda.is_available()
        order = "self_cuda_time_total" if accelerated else "self_cpu_time_total"
        write_atomic(run_dir / "profile.txt", recorded.key_averages().table(sort_by=order, row_limit=40) + "\n")
        recorded.export_chrome_trace(str(run_dir / "trace.json"))

    schedule = torch.profiler.schedule(wait=1, warmup=1, active=18, repeat=1)
    with torch.profiler.profile(schedule=schedule, on_trace_ready=write) as recorded:
        yield recorded
