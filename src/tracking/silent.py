"""The tracker of the processes that write nothing, because process 0 does."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from src.tracking.tracker import Tracker

if TYPE_CHECKING:
    from src.training.stopping import Position


class SilentTracker(Tracker):
    """A ``Tracker`` that neither writes nor shows anything."""

    lines = 0
    wandb_id = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def cut(self, lines: int) -> None:
        """Forget nothing."""

    def log(self, metrics: Mapping[str, float], position: "Position") -> None:
        """Write no line."""

    def log_training(self, metrics: Mapping[str, float], position: "Position") -> None:
        """Write no line."""

    def log_evaluation(self, metrics: Mapping[str, float], position: "Position", better: bool) -> None:
        """Write no line."""

    def describe(self, model: nn.Module, forward: Callable[[], object]) -> None:
        """Show no table."""

    @contextmanager
    def progress_bar(self, step: int, total: int, epochs: int) -> Iterator[None]:
        """Show no bar."""
        yield

    def progress(self, step: int, epoch: int) -> None:
        """Move no bar."""

    def warn(self, message: str) -> None:
        """Say nothing."""

    def close(self, summary: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Write no summary."""
