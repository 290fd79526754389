"""The training loop. Read `Trainer.fit` first; everything else is one of its steps."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.config import Config
from src.data.base import Data
from src.data.batch import Batch
from src.diagnostics import Diagnostics
from src.errors import NotFiniteError, RequestError, did_you_mean
from src.files import remove_leftovers
from src.modules.sequence import show_all_words
from src.tasks.base import Metrics, Task
from src.tracking import Tracker
from src.training.averaging import WeightAverage
from src.training.checkpoint import as_tuples, fill, load_checkpoint, load_weights, save_checkpoint, to_device
from src.training.distributed import ALONE, World
from src.training.evaluation import Batches, FirstBatches, evaluate
from src.training.finetuning import Unfreezing, levels_of
from src.training.gradients import Update, Updater
from src.training.optim import Schedule, build_optimizer, scaled_lr
from src.training.precision import autocast, make_scaler, rng_state
from src.training.profiling import Stepper, profiler
from src.training.stopping import EarlyStopping, Interrupted, Position, Signals, catch_signals
from src.training.window import Window

Summary = dict[str, Any]
"""What summary.json holds."""

LOWEST_SCALE = 2.0**-10
"""A loss scale below this is fp16 failing, not fp16 looking for its scale."""


class Trainer:
    """Trains a model on a task and leaves a complete run folder.

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
        self.model = model.to(device)
        world.begin(self.model, cfg.seed)
        trainer = cfg.trainer
        if trainer.overfit:
            show_all_words(self.model)
        self.average = (
            WeightAverage(self.model, trainer.average, trainer.average_after, trainer.mode) if trainer.average else None
        )
        if cfg.compile:
            self.model.compile()
        self.train_batches, self.val_batches = self._batches("train"), self._batches("val")
        steps = cfg.epochs * math.ceil(len(self.train_batches) / cfg.trainer.accumulate)
        self.total_steps = min(steps, cfg.max_steps or steps)
        self.precision = autocast(cfg.amp, device)
        self.scaler = make_scaler(cfg.amp, device)
        self.optimizer = build_optimizer(self.model, cfg)
        self.unfreezing = Unfreezing(levels_of(self.model, cfg), cfg.finetune.unfreeze_epochs)
        if frozen := self.unfreezing.left_frozen(cfg.epochs):
            tracker.warn(
                f"finetune.unfreeze_epochs={cfg.finetune.unfreeze_epochs}: {frozen} of {len(self.unfreezing.levels)}"
                f" levels never learn in epochs={cfg.epochs}"
            )
        self.schedule = Schedule(self.optimizer, cfg, self.total_steps)
        self.update = Updater(self.model, self.optimizer, self.scaler, cfg.clip, cfg.trainer.clip_by)

        self.diagnostics = Diagnostics(cfg, self.model, task, data, run_dir, device, active=world.main)

        self.position = Position()
        self.stopping = EarlyStopping(cfg.trainer.mode, cfg.trainer.patience)
        self.best: dict[str, Any] = {}  # metrics of the best evaluation
        self.latest: dict[str, Any] = {}  # metrics of the last one
        self.baselines: dict[str, dict[str, float]] = {}  # of each split, once it is asked for
        self.carry: Any = None  # the task's state from batch to batch
        self.pending: list[Update] = []  # updates that the host has not looked at yet
        self.window, self.epoch_window, self.epoch_metrics = Window(), Window(), task.new_metrics()
        self.finding = ""  # what was last found not to be finite, until it is told
        self.limit_reached = False
        self.prune: Callable[[int, float], str | None] | None = None  # from epochs and best value to why it should end
        self.pruned: str | None = None
        self.signals = Signals()
        self.profiler: Stepper | torch.profiler.profile = Stepper()
        self.ticked_at = self.saved_at = time.monotonic()

    # ------------------------------------------------------------------------------------------------- the run
    def fit(self) -> Summary:
        """Train until epochs, time, steps or patience are used up, and complete the run folder.

        Returns:
            What summary.json holds: best, final and test metrics, parameters, seconds, steps.

        Raises:
            Interrupted: SIGINT or SIGTERM came; ``last.ckpt`` is saved and the run can be resumed.
            NotFiniteError: loss or gradients are not finite (``trainer.nonfinite=stop``).
            RunError: the disk is full, or another of several processes is gone.
            RequestError: ``trainer.monitor`` is no metric of the task.
        """
        self._check_monitor()
        with catch_signals() as self.signals:
            if self.cfg.trainer.summary:
                batch = next(iter(self.val_batches.epoch(0))).to(self.device)
                self.tracker.describe(self.model, lambda: self.task.step(self.model, batch, None))
            self.ticked_at = self.saved_at = time.monotonic()
            _, _, self.limit_reached = self._decide()
            with (
                profiler(self.cfg.trainer.profile and self.world.main, self.run_dir) as self.profiler,
                torch.autograd.set_detect_anomaly(self.cfg.trainer.anomaly),
                self.tracker.progress_bar(self.position.step, self.total_steps, self.cfg.epochs),
            ):
                while not self._over():
                    self.train_epoch()
                    self._close_epoch()
            return self._close()

    def train_epoch(self) -> None:
        """Train through what is left of the epoch, or until a limit or a signal ends it."""
        self.model.train()
        self.unfreezing.begin(self.position.epoch)
        self._tick()
        for batches in self._updates():
            if self.diagnostics.due(self.position.step + 1):
                self._diagnosed_step(batches)
            else:
                self._train_step(batches)
            self.profiler.step()
            if self.device.type == "cpu":
                self._look()  # reading a number costs nothing here, so a fault shows at once
            if self.position.step % self.cfg.trainer.log_every == 0:
                self._log_training()
            self.tracker.progress(self.position.step, self.position.epoch + 1)
            signum, due, self.limit_reached = self._decide()
            if signum or due:
                self._save("last.ckpt")
            if signum:
                raise Interrupted(signum)
            if self.limit_reached:
                break
        self._log_training()

    def _train_step(self, batches: list[Batch]) -> None:
        """One update of the weights, by the gradient of the mean loss over all elements of these batches together."""
        count = sum(map(self.task.count, batches))
        tokens = sum(int(batch.lengths.sum()) for batch in batches)  # before they move: the host has it
        parts, scales = zip(*(self._learn(batch, max(count, 1)) for batch in batches), strict=True)
        loss = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        loss = self.world.sum_gradients(self.model.parameters(), loss)
        with scaled_lr(self.optimizer, sum(scales) / len(scales)) as lr:
            norm, norms_P = self.update(loss)
        self.schedule.step()
        if self.average is not None:
            self.average.update()
        self.position.step += 1
        self.position.batch += len(batches)
        self.pending.append(Update(self.position.step, loss, norm, norms_P, count, tokens, lr))

    def _learn(self, batch: Batch, total: int) -> tuple[Tensor, float]:
        """Add the gradient of a batch, of this process's part of it, and return its share of the mean over ``total``.

        With it comes what the batch makes of the learning rate.
        """
        part, mine = self.world.part(batch)
        count = self.task.count(part) * mine
        part = part.to(self.device, non_blocking=True)
        with self.precision:
            result = self.task.step(self.model, part, self.carry if mine else None)
        self.carry = result.carry if mine else None
        if count == 0:  # the mean over nothing is not a number
            return self.scaler.scale(torch.zeros((), device=self.device)), result.lr_scale
        loss = result.loss if count == total else result.loss * (count / total)
        self.scaler.scale(loss).backward()
        self.epoch_metrics.update(result, part)
        return loss.detach(), result.lr_scale

    def _diagnosed_step(self, batches: list[Batch]) -> None:
        """One update that the diagnostics look at; the time that takes is the run's, not the training speed's."""
        self._look()
        self.diagnostics.before_update(self.position.step + 1)
        self._tick()
        self._train_step(batches)
        self._look()
        found = self.diagnostics.after_update(self.position.step)
        self._tick()
        self.tracker.log(found, self.position)

    def _updates(self) -> Iterator[list[Batch]]:
        """What is left of the epoch, in groups of batches that make one update each."""
        batches = iter(self.train_batches.epoch(self.position.epoch, self.position.batch))
        while group := list(islice(batches, self.cfg.trainer.accumulate)):
            yield group

    def _close_epoch(self) -> None:
        """Evaluate, keep the best, and save; also where a limit cut the epoch short, which then stays open."""
        position, whole = self.position, self.position.batch >= len(self.train_batches)
        last = self.limit_reached or position.epoch + whole >= self.cfg.epochs
        metrics = {f"train_epoch/{name}": value for name, value in self._whole_epoch().compute().items()}
        metrics["train_epoch/loss"] = self.epoch_window.mean_loss  # without the steps that were skipped
        better = False
        if last or (position.epoch + 1) % self.cfg.trainer.eval_every == 0:
            metrics |= self._evaluate("val") | self.diagnostics.at_evaluation(position.step)
            value = metrics[self.cfg.trainer.monitor]
            better = self.stopping.better(value)
            self.latest = {self.cfg.trainer.monitor: value, "epoch": position.epoch + 1} | metrics
            self.best = self.latest if better else self.best
            if whole:  # what a limit adds must not count for a run that goes on
                self.stopping.count(better)
                self.schedule.evaluated(value)
                if self.average is not None:
                    self.average.evaluated(value)
        self._tick()
        self.tracker.log_evaluation(metrics, position, better)
        if whole:
            position.epoch, position.batch = position.epoch + 1, 0
            self.epoch_window, self.epoch_metrics, self.carry = Window(), self.task.new_metrics(), None
        if better:
            self._save("best.ckpt")
        self._save("last.ckpt")
        if self.prune is not None and self.best and whole and not last:
            self.pruned = self.prune(position.epoch, self.best[self.cfg.trainer.monitor])

    def _close(self) -> Summary:
        """Judge the best weights once more, by all that the task reports, and write the summary."""
        if self.world.main and (self.run_dir / "best.ckpt").exists():
            load_weights(self.model, self.run_dir / "best.ckpt")
        self.world.share_weights(self.model)
        test = self._evaluate("test") if "test" in self.data.splits else {}
        files: dict[str, Path] = {}
        if self.world.main:
            self.model.eval()
            with torch.inference_mode():
                files = self.tracker.attempt(
                    "the report",
                    lambda: self.task.report(self.model, self.data, "test" if test else "val", self.run_dir),
                )
            files |= self.tracker.attempt("the diagnostics' pictures", self.diagnostics.draw)
        self._tick()
        summary: Summary = {"best": self.best, "final": self.latest}
        if test:
            summary["test"] = test
        if self.pruned:
            summary["pruned"] = self.pruned
            self.tracker.warn(f"pruned: {self.pruned}")
        summary["params"] = sum(parameter.numel() for parameter in self.model.parameters())
        summary |= {"seconds": round(self.position.seconds, 3), "steps": self.position.step}
        self.tracker.close(summary, files)
        return summary

    # ------------------------------------------------------------------------------------------- when to end
    def _over(self) -> bool:
        return self.position.epoch >= self.cfg.epochs or self.stopping.over or self.limit_reached or bool(self.pruned)

    def _beyond_limits(self) -> bool:
        """Whether ``max_steps`` or ``max_minutes``, counted over all resumptions, are used up."""
        limit, now = self.cfg.max_minutes, self.position.seconds + time.monotonic() - self.ticked_at
        return self.position.step >= (self.cfg.max_steps or math.inf) or now >= 60 * (limit or math.inf)

    def _decide(self) -> tuple[int, bool, bool]:
        """Which signal came (0: none), whether to save, and whether to end: the same in all processes.

        A signal may reach any of them; the clock is process 0's.
        """
        due = time.monotonic() - self.saved_at > 60 * self.cfg.trainer.checkpoint_minutes
        by_clock = (due, self._beyond_limits()) if self.world.main else (False, False)
        signum, save, over = self.world.largest(self.signals.received or 0, *by_clock)
        return signum, bool(save), bool(over)

    def _save_if_told_to_end(self) -> None:
        (signum,) = self.world.largest(self.signals.received or 0)
        if signum:
            self._save("last.ckpt")
            raise Interrupted(signum)

    def _tick(self) -> float:
        """Add the time since the last tick to the run's, and return it."""
        now = time.monotonic()
        seconds, self.ticked_at = now - self.ticked_at, now
        self.position.seconds += seconds
        return seconds

    # --------------------------------------------------------------------------------------------- what it sees
    def _look(self) -> None:
        """Read the updates since the last look (the one place where the host waits for the device) and judge them."""
        pending, self.pending = self.pending, []
        if pending:
            losses, norms = read([update.loss for update in pending]), read([update.norm for update in pending])
            for update, loss, norm in zip(pending, losses, norms, strict=True):
                if math.isfinite(loss) and math.isfinite(norm):
                    self.window.add(update, loss, norm)
                    self.epoch_window.add(update, loss, norm)
                elif not (self.scaler.is_enabled() and math.isfinite(loss)):  # fp16 overflows as it looks for its scale
                    self._judge(update, loss, norm)
        self.window.seconds += self._tick()

    def _judge(self, update: Update, loss: float, norm: float) -> None:
        """Stop at an update that was not made because something was not finite, or count it."""
        self.position.skipped += 1
        names = self.update.blame(update.norms_P)
        where = f" in {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}" if names else ""
        finding = f"step {update.step}: not finite{where} (loss {loss:g}, gradient norm {norm:g}); no update was made"
        if self.cfg.trainer.nonfinite == "stop":
            raise NotFiniteError(
                f"{finding}. Try a lower lr, a smaller clip, amp=off, or trainer.nonfinite=skip to go on without such"
                " steps; debug=anomaly finds the operation"
            )
        self.finding = finding
        self.carry = None  # what went through a step that failed may be broken itself

    def _log_training(self) -> None:
        """Write a line of the means since the last one, if there was a step since."""
        self._look()
        window, self.window = self.window, Window()
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

    def _evaluate(self, split: str) -> dict[str, float]:
        """Metrics of the weights that the run is judged by, with the trivial baseline of the monitored one beside."""
        batches = self.val_batches if split == "val" else self._batches(split)
        averaged = self.average is not None and self.average.judges and split == "val"
        model = self.average.module if self.average is not None and averaged else self.model
        between = self._save_if_told_to_end if split == "val" else lambda: None
        metrics = evaluate(self.task, model, batches, self.device, self.cfg.amp, between, self.world).compute()
        if split not in self.baselines:  # a whole text is counted for it
            self.baselines[split] = self.task.baseline(self.data, split)
        baseline = self.baselines[split].get(self.cfg.trainer.monitor.rpartition("/")[2])
        named = {f"{split}/{name}": value for name, value in metrics.items()}
        return named if baseline is None else named | {f"{split}/baseline": baseline}

    def _check_monitor(self) -> None:
        """Find a wrong ``trainer.monitor`` by one batch of evaluation, and not after an epoch."""
        one = FirstBatches(self.val_batches, 1)
        metrics = evaluate(self.task, self.model, one, self.device, self.cfg.amp, world=self.world).compute()
        names, monitor = [f"val/{name}" for name in metrics], self.cfg.trainer.monitor
        if monitor not in names:
            raise RequestError(f"trainer.monitor={monitor}: no such metric{did_you_mean(monitor, names)}")

    def _batches(self, split: str) -> Batches:
        """The batches of a split, or as many of them as the debug options leave."""
        trainer, first = self.cfg.trainer, "train" if self.cfg.trainer.overfit else split
        loader = self.task.batches(
            self.data,
            first,
            self.cfg.batch_size,
            shuffle=first == "train",
            seed=self.cfg.seed,
            bucket=trainer.bucket,
            pin=self.device.type == "cuda",
        )
        if trainer.overfit:
            return FirstBatches(loader, 1, same=True)
        return FirstBatches(loader, trainer.limit_batches) if trainer.limit_batches else loader

    # ------------------------------------------------------------------------------------------ saved and taken up
    def resume(self) -> None:
        """Go on from ``last.ckpt``, or from the start where the run ended before there was one.

        Raises:
            RequestError: the checkpoint is damaged, or of another model.
        """
        if self.world.main:
            remove_leftovers(self.run_dir)
        if self.world.mains((self.run_dir / "last.ckpt").exists):
            self.load(self.run_dir / "last.ckpt")
        else:
            self.tracker.cut(0)
            self.diagnostics.rewind(0)

    def _save(self, name: str) -> None:
        self._look()
        state = self.state_dict()
        if self.world.main:
            save_checkpoint(self.run_dir / name, state)
        self.saved_at = time.monotonic()
        self._tick()

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
            "epoch_metrics": self._whole_epoch().state_dict(),
            "lines": self.tracker.lines,
            "wandb_id": self.tracker.wandb_id,
            "rng": self.world.gathered(rng_state()),
        }

    def _whole_epoch(self) -> Metrics:
        """The epoch's metrics over the parts of all processes."""
        return self.world.summed(self.epoch_metrics, self.task.new_metrics(), self.device)

    def load(self, checkpoint: Path) -> None:
        """Continue from a checkpoint as if there had been no break; metrics lines that came after it are cut.

        Raises:
            RequestError: the checkpoint is damaged, or of another model.
        """
        state = self.world.mains(lambda: load_checkpoint(checkpoint))
        fill(self.model, state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["averaging"])
            if self.average.judges:
                fill(self.average.module, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopping.load_state_dict(state["stopping"])
        self.best, self.latest, self.position = state["best"], state["latest"], Position(**state["position"])
        self.carry = as_tuples(to_device(self.world.own_columns(state["carry"]), self.device))
        self.window, self.epoch_window = Window(**state["window"]), Window(**state["epoch_window"])
        if self.world.main:  # what the others add is of batches to come
            self.epoch_metrics.load_state_dict(to_device(state["epoch_metrics"], self.device))
        self.tracker.cut(state["lines"])
        self.diagnostics.rewind(self.position.step)
        self.world.take_rng(state["rng"], self.cfg.seed, self.position.step)


def read(scalars: list[Tensor]) -> list[float]:
    """Fetch numbers from the device in one go; those on the CPU are there already."""
    return [scalar.item() for scalar in scalars] if scalars[0].is_cpu else torch.stack(scalars).tolist()
