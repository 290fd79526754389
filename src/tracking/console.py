"""What a person sees of a run: a bar on a terminal, plain lines everywhere else, and all lines in train.log."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("src")

REFRESH_SECONDS = 0.25
_speaker: ContextVar[str] = ContextVar("speaker", default="")


def say(line: str) -> None:
    """Put a line on the console at once, also between those of a run."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def speaking_for(name: str) -> Iterator[None]:
    """Put a run's name before its lines on the screen, which it shares with others that run at the same time."""
    token = _speaker.set(f"{name}: ")
    try:
        yield
    finally:
        _speaker.reset(token)


class Display:
    """Lines and the progress bar of one run, on one console that keeps them apart.

    Args:
        log_file: gets every line as well, with the time.
        progress: show the bar, where there is a terminal.
        console: where to show; standard output by default.
    """

    def __init__(self, log_file: Path, progress: bool, console: Console | None = None) -> None:
        self.console = console or Console()
        self.live = progress and self.console.is_terminal
        self.handlers = [_screen(self.console), _file(log_file)]
        for handler in self.handlers:
            log.addHandler(handler)
        self.before = log.level, log.propagate
        log.setLevel(logging.INFO)
        log.propagate = False  # these two handlers are all; `close` gives the logger back as it was
        self.progress: Progress | None = None
        self.due_at = 0.0

    def close(self) -> None:
        """Let go of the log file and of the logger, so that what is said between two runs is heard."""
        for handler in self.handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(self.before[0])
        log.propagate = self.before[1]

    @contextmanager
    def bar(self, done: int, total: int, epochs: int) -> Iterator[None]:
        """Show the bar while the block runs."""
        if not self.live:
            yield
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        # Drawing costs a millisecond or two and a thread of its own would fight for the cores, so `advance` does it.
        with Progress(*columns, console=self.console, transient=True, auto_refresh=False) as self.progress:
            self.task = self.progress.add_task("", total=total, completed=done, epoch=1, epochs=epochs, numbers="")
            try:
                yield
            finally:
                self.progress = None

    def advance(self, step: int, epoch: int) -> None:
        """Move the bar, a few times a second at most."""
        if self.progress is not None and time.monotonic() >= self.due_at:
            self.due_at = time.monotonic() + REFRESH_SECONDS
            self.progress.update(self.task, completed=step, epoch=epoch, refresh=True)

    def show(self, metrics: Mapping[str, float]) -> None:
        """Put the latest training metrics beside the bar."""
        if self.progress is not None:
            numbers = (
                f"{metrics['train/steps_per_second']:.0f} steps/s  loss {metrics['train/loss']:.4f}"
                f"  grad {metrics['train/grad_norm']:.3g}"
            )
            self.progress.update(self.task, numbers=numbers)


def _screen(console: Console) -> logging.Handler:
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False, markup=False)
    else:  # whatever reads this wants whole lines: no wrapping, no colours
        handler = logging.StreamHandler(console.file)
    speaker = _speaker.get().replace("%", "%%")
    handler.setFormatter(_LevelFormatter(f"{speaker}%(message)s"))
    return handler


def _file(path: Path) -> logging.Handler:
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(_LevelFormatter("%(asctime)s %(message)s"))
    return handler


class _LogFile(logging.FileHandler):
    """train.log. Its lines are on the screen as well: where the disk is full, they are missing, and that is all.

    The run fails by itself, and says so, when there is no room for what it cannot do without.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if the file can be made."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave a line out without the traceback that logging would print for each."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Let go of the file, and of lines that it has no room for."""
        with suppress(OSError):
            super().close()


class _LevelFormatter(logging.Formatter):
    """Names the level where it is not the usual one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno > logging.INFO:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)
