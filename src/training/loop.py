"""The training loop. Read `Trainer.fit` first; everything else is one of its steps."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from src.config import Config
from src.data.base import Data
from src.data.batch import Batch
from src.tasks.base import Task
from src.tracking import Tracker
from src.training.batches import batches_of
from src.training.checkpoint import save_checkpoint
from src.training.closing import Summary, report, summarize, take_best
from src.training.distributed import ALONE, World
from src.training.gradients import Update
from src.training.judging import Judge
from src.training.limits import Limits
from src.training.optim import scaled_lr
from src.training.precision import autocast
from src.training.profiling import Stepper, profiler
from src.training.progress import Progress
from src.training.state import TrainingState
from src.training.stopping import Interrupted, Signals, catch_signals
from src.training.window import Window


class Trainer(TrainingState):
    """Trains a model on a task and leaves a complete run folder; its arguments are those of `TrainingState`."""

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
        super().__init__(cfg, model, task, data, tracker, run_dir, device, world)
        self.precision = autocast(cfg.amp, device)
        self.limits = Limits(cfg, self.position, world)
        self.progress = Progress(cfg, self.position, self.scaler, self.update, tracker)
        self.judge = Judge(cfg, self.model, self.average, task, data, device, world)
        self.pending: list[Update] = []  # updates that the host has not looked at yet
        self.limit_reached = False
        self.prune: Callable[[int, float], str | None] | None = None  # from epochs and best value to why it should end
        self.pruned: str | None = None
        self.signals = Signals()
        self.profiler: Stepper | torch.profiler.profile = Stepper()

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
        self.judge.check_monitor(self.val_batches)
        with catch_signals() as self.signals:
            if self.cfg.trainer.summary:
                batch = next(iter(self.val_batches.epoch(0))).to(self.device)
                self.tracker.describe(self.model, lambda: self.task.step(self.model, batch, None))
            self.limits.start()
            _, _, self.limit_reached = self.limits.decide(self.signals)
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
        self.limits.tick()
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
            signum, due, self.limit_reached = self.limits.decide(self.signals)
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
        self.limits.tick()
        self._train_step(batches)
        self._look()
        found = self.diagnostics.after_update(self.position.step)
        self.limits.tick()
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
        metrics = {f"train_epoch/{name}": value for name, value in self.whole_epoch().compute().items()}
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
        self.limits.tick()
        self.tracker.log_evaluation(metrics, position, better)
        if whole:
            position.epoch, position.batch = position.epoch + 1, 0
            self.begin_epoch()
        if better:
            self._save("best.ckpt")
        self._save("last.ckpt")
        if self.prune is not None and self.best and whole and not last:
            self.pruned = self.prune(position.epoch, self.best[self.cfg.trainer.monitor])

    def _close(self) -> Summary:
        """Judge the best weights once more, by all that the task reports, and write the summary."""
        take_best(self.model, self.run_dir, self.world)
        test = self._evaluate("test") if "test" in self.data.splits else {}
        files: dict[str, Path] = {}
        if self.world.main:
            split = "test" if test else "val"
            files = report(self.model, self.task, self.data, split, self.run_dir, self.tracker, self.diagnostics)
        self.limits.tick()
        if self.pruned:
            self.tracker.warn(f"pruned: {self.pruned}")
        summary = summarize(self.best, self.latest, test, self.pruned, self.model, self.position)
        self.tracker.close(summary, files)
        return summary

    def _over(self) -> bool:
        return self.position.epoch >= self.cfg.epochs or self.stopping.over or self.limit_reached or bool(self.pruned)

    # ------------------------------------------------------------------------------- what is seen, judged and saved
    def _look(self) -> None:
        """Read the updates since the last look (the one place where the host waits for the device) and judge them."""
        pending, self.pending = self.pending, []
        if not self.progress.read(pending, self.window, self.epoch_window):
            self.carry = None  # what went through a step that failed may be broken itself
        self.window.seconds += self.limits.tick()

    def _log_training(self) -> None:
        """Write a line of the means since the last one, if there was a step since."""
        self._look()
        window, self.window = self.window, Window()
        self.progress.log(window)

    def _evaluate(self, split: str) -> dict[str, float]:
        """Judge the weights on a split; told to end, it does so between two batches of the validation."""
        if split == "val":
            return self.judge(split, self.val_batches, self._save_if_told_to_end)
        return self.judge(split, batches_of(split, self.task, self.data, self.cfg, self.device), lambda: None)

    def _save_if_told_to_end(self) -> None:
        if signum := self.limits.signal(self.signals):
            self._save("last.ckpt")
            raise Interrupted(signum)

    def _save(self, name: str) -> None:
        self._look()
        state = self.state_dict()
        if self.world.main:
            save_checkpoint(self.run_dir / name, state)
        self.limits.saved()
        self.limits.tick()
