"""What the host sees of the training: means for the log lines, and updates that were not made."""

import math

import torch
from torch import Tensor
from torch.amp import GradScaler

from src.config import Config
from src.errors import NotFiniteError
from src.tracking import Tracker
from src.training.gradients import Update, Updater
from src.training.stopping import Position
from src.training.window import Window

LOWEST_SCALE = 2.0**-10
"""A loss scale below this is fp16 failing, not fp16 looking for its scale."""


class Progress:
    """Reads updates from the device, judges them, and writes their means.

    Args:
        cfg: the run's configuration.
        position: where the run stands; skipped updates are counted here.
        scaler: of the loss; an overflow while it looks for its scale is no fault.
        updater: knows whose gradients are at fault.
        tracker: where lines go.
    """

    def __init__(self, cfg: Config, position: Position, scaler: GradScaler, updater: Updater, tracker: Tracker) -> None:
        self.cfg, self.position, self.scaler, self.updater, self.tracker = cfg, position, scaler, updater, tracker
        self.finding = ""  # what was last found not to be finite, until it is told

    def read(self, updates: list[Update], *windows: Window) -> bool:
        """Fetch what updates know of themselves, for which the host waits, and add those that were made to the windows.

        Returns:
            Whether no fault was found.

        Raises:
            NotFiniteError: loss or gradients are not finite (``trainer.nonfinite=stop``).
        """
        sound = True
        if updates:
            losses, norms = fetch([update.loss for update in updates]), fetch([update.norm for update in updates])
            for update, loss, norm in zip(updates, losses, norms, strict=True):
                if math.isfinite(loss) and math.isfinite(norm):
                    for window in windows:
                        window.add(update, loss, norm)
                elif not (self.scaler.is_enabled() and math.isfinite(loss)):  # fp16 overflows as it looks for its scale
                    sound = False
                    self._judge(update, loss, norm)
        return sound

    def _judge(self, update: Update, loss: float, norm: float) -> None:
        """Stop at an update that was not made because something was not finite, or count it."""
        self.position.skipped += 1
        names = self.updater.blame(update.norms_P)
        where = f" in {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}" if names else ""
        finding = f"step {update.step}: not finite{where} (loss {loss:g}, gradient norm {norm:g}); no update was made"
        if self.cfg.trainer.nonfinite == "stop":
            raise NotFiniteError(
                f"{finding}. Try a lower lr, a smaller clip, amp=off, or trainer.nonfinite=skip to go on without such"
                " steps; debug=anomaly finds the operation"
            )
        self.finding = finding

    def log(self, window: Window) -> None:
        """Write a line of a window's means, if there was a step in it.

        Raises:
            NotFiniteError: fp16 overflows at any loss scale.
        """
        if self.finding:
            self.tracker.warn(f"{self.finding} ({self.position.skipped} so far)")
        elif not window.steps:
            return
        self.finding = ""
        metrics = {
            "train/loss": window.mean_loss,
            "train/grad_norm": window.mean_norm,
            "train/lr": window.lr,
            "train/tokens_per_second": window.per_second(window.tokens),
            "train/steps_per_second": window.per_second(window.steps),
        }
        if self.position.skipped:
            metrics["train/skipped"] = self.position.skipped
        if self.scaler.is_enabled():
            metrics["train/loss_scale"] = self.scaler.get_scale()
            if metrics["train/loss_scale"] < LOWEST_SCALE:
                raise NotFiniteError(
                    f"step {self.position.step}: gradients overflow in fp16 at any loss scale; try amp=bf16"
                )
        self.tracker.log_training(metrics, self.position)


def fetch(scalars: list[Tensor]) -> list[float]:
    """Fetch numbers from the device in one go; those on the CPU are there already."""
    return [scalar.item() for scalar in scalars] if scalars[0].is_cpu else torch.stack(scalars).tolist()
