"""What a checkpoint holds: everything that the rest of a run depends on, made, saved and taken up."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.config import Config
from src.data.base import Data
from src.diagnostics import Diagnostics
from src.files import remove_leftovers
from src.modules.sequence import show_all_words
from src.tasks.base import Metrics, Task
from src.tracking import Tracker
from src.training.averaging import WeightAverage
from src.training.batches import batches_of
from src.training.checkpoint import as_tuples, damaged, fill, load_checkpoint, load_weights, numbers, to_device
from src.training.distributed import ALONE, World
from src.training.finetuning import Unfreezing, levels_of
from src.training.gradients import Updater
from src.training.optim import Schedule, build_optimizer
from src.training.precision import make_scaler, rng_state
from src.training.stopping import EarlyStopping, Position
from src.training.window import Window


class TrainingState:
    """A model on its way: the parts that training changes, as they are at the start or as a checkpoint left them.

    Args:
        cfg: the run's configuration.
        model: on any device; it is moved.
        task: loss and metrics, and what a batch means.
        data: the splits ``train`` and ``val``, and ``test`` if there is one.
        tracker: where numbers and lines go.
        run_dir: the run folder; it exists.
        device: where to train.
        world: the processes that train this model together.
    """

    def __init__(
        self,
        cfg: Config,
        model: nn.Module,
        task: Task,
        data: Data,
        tracker: Tracker,
        run_dir: Path,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self.cfg, self.task, self.data = cfg, task, data
        self.tracker, self.run_dir, self.device, self.world = tracker, run_dir, device, world
        self._prepare_model(model)
        self.train_batches, self.val_batches = (
            batches_of(split, task, data, cfg, device) for split in ("train", "val")
        )
        steps = cfg.epochs * math.ceil(len(self.train_batches) / cfg.trainer.accumulate)
        self.total_steps = min(steps, cfg.max_steps or steps)
        self.scaler = make_scaler(cfg.amp, device)
        self.optimizer = build_optimizer(self.model, cfg)
        self._prepare_unfreezing()
        self.schedule = Schedule(self.optimizer, cfg, self.total_steps)
        self.update = Updater(self.model, self.optimizer, self.scaler, cfg.clip, cfg.trainer.clip_by)
        self.diagnostics = Diagnostics(cfg, self.model, task, data, run_dir, device, active=world.main)
        self.position = Position()
        self.stopping = EarlyStopping(cfg.trainer.mode, cfg.trainer.patience)
        self.best: dict[str, Any] = {}  # metrics of the best evaluation
        self.latest: dict[str, Any] = {}  # metrics of the last one
        self.carry: Any = None  # the task's state from batch to batch
        self.window, self.epoch_window, self.epoch_metrics = Window(), Window(), task.new_metrics()

    def _prepare_model(self, model: nn.Module) -> None:
        cfg, trainer = self.cfg, self.cfg.trainer
        self.model = model.to(self.device)
        self.world.begin(self.model, cfg.seed)
        if trainer.overfit:
            show_all_words(self.model)
        self.average = (
            WeightAverage(self.model, trainer.average, trainer.average_after, trainer.mode) if trainer.average else None
        )
        if cfg.compile:
            self.model.compile()

    def _prepare_unfreezing(self) -> None:
        cfg = self.cfg
        self.unfreezing = Unfreezing(levels_of(self.model, cfg), cfg.finetune.unfreeze_epochs)
        if frozen := self.unfreezing.left_frozen(cfg.epochs):
            self.tracker.warn(
                f"finetune.unfreeze_epochs={cfg.finetune.unfreeze_epochs}: {frozen} of {len(self.unfreezing.levels)}"
                f" levels never learn in epochs={cfg.epochs}"
            )

    def begin_epoch(self) -> None:
        """Start the next epoch's sums, with nothing carried into it."""
        self.epoch_window, self.epoch_metrics, self.carry = Window(), self.task.new_metrics(), None

    def whole_epoch(self) -> Metrics:
        """The epoch's metrics over the parts of all processes."""
        return self.world.summed(self.epoch_metrics, self.task.new_metrics(), self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, also one of another number of processes."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average is not None and self.average.judges else None,
            "averaging": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopping": self.stopping.state_dict(),
            "best": self.best,
            "latest": self.latest,
            "position": self.position.state_dict(),
            "carry": self.world.whole_columns(self.carry),
            "window": self.window.state_dict(),
            "epoch_window": self.epoch_window.state_dict(),
            "epoch_metrics": self.whole_epoch().state_dict(),
            "lines": self.tracker.lines,
            "wandb_id": self.tracker.wandb_id,
            "rng": self.world.gathered(rng_state()),
        }

    def resume(self) -> None:
        """Go on from ``last.ckpt``, or from the start where the run ended before there was one.

        Raises:
            RequestError: the checkpoint is damaged, or of another model.
        """
        if self.world.main:
            remove_leftovers(self.run_dir)
        if self.world.mains((self.run_dir / "last.ckpt").exists):
            if self.world.main and (self.run_dir / "best.ckpt").exists():
                load_weights(self.model, self.run_dir / "best.ckpt")  # needed at the end, too late to find it damaged
            self.load(self.run_dir / "last.ckpt")
        else:
            self.tracker.cut(0)
            self.diagnostics.rewind(0)

    def load(self, checkpoint: Path) -> None:
        """Continue from a checkpoint as if there had been no break; metrics lines that came after it are cut.

        Raises:
            RequestError: the checkpoint is damaged, or of another model.
        """
        state = self.world.mains(lambda: load_checkpoint(checkpoint))
        try:
            self._take(state)
            lines = int(state["lines"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise damaged(checkpoint, error) from error
        self.tracker.cut(lines)  # last: what cannot be taken up leaves metrics.jsonl as it was

    def _take(self, state: dict[str, Any]) -> None:
        fill(self.model, state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["averaging"])
            if self.average.judges:
                fill(self.average.module, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopping.load_state_dict(state["stopping"])
        self.best, self.latest = state["best"], state["latest"]
        self.position.load_state_dict(vars(numbers(Position, state["position"])))
        self.carry = as_tuples(to_device(self.world.own_columns(state["carry"]), self.device))
        self.window, self.epoch_window = (numbers(Window, state[part]) for part in ("window", "epoch_window"))
        if self.world.main:  # what the others add is of batches to come
            self.epoch_metrics.load_state_dict(to_device(state["epoch_metrics"], self.device))
        self.world.take_rng(state["rng"], self.cfg.seed, self.position.step)
        self.diagnostics.rewind(self.position.step)
