"""Everything that a run writes down while it trains: metrics.jsonl, W&B, and what a person sees."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from torch import nn

from src.config import Config, LoggerConfig
from src.files import write_atomic
from src.tracking.console import Display
from src.tracking.curves import draw_curves
from src.tracking.metrics_file import MetricsFile, plain_number, read_metrics
from src.tracking.tables import count, model_table
from src.tracking.wandb_run import WandbRun

if TYPE_CHECKING:
    from src.training.stopping import Position

log = logging.getLogger(__name__)


class Tracker:
    """Records one run; a context manager, so that however the run ends its W&B run is closed.

    Args:
        cfg: the run's configuration.
        folder: the run folder; it exists.
        console: where lines are shown; standard output by default.
    """

    def __init__(self, cfg: Config, folder: Path, console: Console | None = None) -> None:
        self.cfg, self.folder, self.console = cfg, folder, console

    def __enter__(self) -> Self:
        cfg, options = self.cfg, self.cfg.logger
        self.file = MetricsFile(self.folder / "metrics.jsonl")
        self.display = Display(self.folder / "train.log", cfg.trainer.progress, self.console)
        self.wandb = WandbRun(cfg, options, self.folder) if isinstance(options, LoggerConfig) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.wandb is not None:
            self.wandb.finish(0 if error is None else getattr(error, "exit_code", 1))
        self.display.close()

    # --------------------------------------------------------------------------------------------- metrics
    @property
    def lines(self) -> int:
        """Lines of metrics.jsonl so far."""
        return self.file.lines

    @property
    def wandb_id(self) -> str | None:
        """Id of the W&B run, if there is one."""
        return self.wandb.id if self.wandb else None

    def cut(self, lines: int) -> None:
        """Forget the lines of metrics.jsonl past this many, and give W&B those before that it may lack."""
        self.file.cut(lines)
        if self.wandb is not None:
            self.wandb.send_again(read_metrics(self.file.path))

    def log(self, metrics: Mapping[str, float], position: "Position") -> None:
        """Write a line of metrics, to the file and to W&B."""
        at = {"step": position.step, "epoch": position.epoch + 1, "time": round(position.seconds, 3)}
        self.file.append({**at, **metrics})
        if self.wandb is not None:
            self.wandb.log({**metrics, "epoch": at["epoch"]}, position.step)

    def log_training(self, metrics: Mapping[str, float], position: "Position") -> None:
        """Write a line about training, and show it beside the bar."""
        self.log(metrics, position)
        self.display.show(metrics)

    def log_evaluation(self, metrics: Mapping[str, float], position: "Position", better: bool) -> None:
        """Write a line about an epoch, and show it."""
        self.log(metrics, position)
        parts = [f"epoch {position.epoch + 1}/{self.cfg.epochs}", f"step {position.step}"]
        for split, title in (("train_epoch", "train"), ("val", "val")):
            named = {name.removeprefix(f"{split}/"): value for name, value in metrics.items() if name.startswith(split)}
            baseline = named.pop("baseline", None)
            if named:
                parts.append(f"{title} " + " ".join(f"{name} {value:.4f}" for name, value in named.items()))
            if baseline is not None:
                parts.append(f"(baseline {self.cfg.trainer.monitor.rpartition('/')[2]} {baseline:.4f})")
        log.info("%s%s", "  ".join(parts), "  best" if better else "")

    # ------------------------------------------------------------------------------------------------ display
    def describe(self, model: nn.Module, forward: Callable[[], object]) -> None:
        """Show the model's table (see `model_table`), on a terminal, and its size elsewhere."""
        if self.display.console.is_terminal:
            self.display.console.print(model_table(model, forward))
        else:
            log.info("%s with %s parameters", type(model).__name__, f"{count(model):,}")

    @contextmanager
    def progress_bar(self, step: int, total: int, epochs: int) -> Iterator[None]:
        """Show the progress bar while the block runs."""
        with self.display.bar(step, total, epochs):
            yield

    def progress(self, step: int, epoch: int) -> None:
        """Move the bar; costs nothing where there is none."""
        self.display.advance(step, epoch)

    def warn(self, message: str) -> None:
        """Say something that should not be overlooked."""
        log.warning(message)

    # -------------------------------------------------------------------------------------------------- the end
    def attempt(self, what: str, action: Callable[[], dict[str, Path]]) -> dict[str, Path]:
        """Do what a trained run can do without: where it fails, that is said, there are no files, and the run goes on.

        Args:
            what: the thing, as the warning is to name it.
            action: writes files and returns them by title.
        """
        try:
            return action()
        except Exception as error:  # whatever it is, the training was done and must not be lost
            reason = " ".join(str(error).split())[:300]
            self.warn(f"{what} was not made, the run is whole without it ({type(error).__name__}: {reason})")
            return {}

    def close(self, summary: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Write summary.json and curves.png, hand everything to W&B, and say how it went.

        Args:
            summary: what summary.json is to hold.
            files: pictures and tables of the task's report, by title.
        """
        monitor, step = self.cfg.trainer.monitor, summary["steps"]
        write_atomic(self.folder / "summary.json", json.dumps(_plain(summary), indent=2) + "\n")
        files = {**files, **self.attempt("curves.png", self._draw_curves)}
        if self.wandb is not None:
            self.wandb.log_files(files, step)
            self.wandb.summarise(_plain(summary))
            if self.cfg.logger.name == "wandb" and self.cfg.logger.log_artifact:
                names = ("best.ckpt", "config.yaml", "encoder.json")
                self.wandb.log_artifact([self.folder / name for name in names if (self.folder / name).exists()])
        best = summary["best"]
        reached = f"best {monitor} {best[monitor]:.4f} in epoch {best['epoch']}" if best else f"{monitor} was no number"
        baseline = best.get(f"{monitor.partition('/')[0]}/baseline")
        reached += "" if baseline is None else f" (baseline {baseline:.4f})"
        log.info("%s  (%d steps, %.0f s)  %s", reached, step, summary["seconds"], self.folder)

    def _draw_curves(self) -> dict[str, Path]:
        path = self.folder / "curves.png"
        draw_curves(read_metrics(self.file.path), path, self.cfg.trainer.monitor)
        return {"curves": path}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return plain_number(value)
