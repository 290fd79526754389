"""What a run is judged by: the monitored metric, of the weights that count, beside its trivial baseline."""

from collections.abc import Callable

import torch
from torch import nn

from src.config import Config
from src.data.base import Data
from src.errors import RequestError, did_you_mean
from src.tasks.base import Task
from src.training.averaging import WeightAverage
from src.training.batches import Batches, FirstBatches
from src.training.distributed import World
from src.training.evaluation import evaluate


class Judge:
    """Evaluates the weights that the run is judged by.

    Args:
        cfg: the run's configuration.
        model: what is trained.
        average: of its weights; None: there is none.
        task: loss and metrics.
        data: for the baselines.
        device: where the model is.
        world: the processes that evaluate together.
    """

    def __init__(
        self,
        cfg: Config,
        model: nn.Module,
        average: WeightAverage | None,
        task: Task,
        data: Data,
        device: torch.device,
        world: World,
    ) -> None:
        self.cfg, self.model, self.average = cfg, model, average
        self.task, self.data, self.device, self.world = task, data, device, world
        self.baselines: dict[str, dict[str, float]] = {}  # of each split, once it is asked for

    def __call__(self, split: str, batches: Batches, between: Callable[[], None]) -> dict[str, float]:
        """Metrics by name, ``split/`` before it, with the trivial baseline of the monitored one beside.

        Args:
            split: the validation split is what averaged weights are judged on; ``best.ckpt`` has them for the others.
            batches: of this split.
            between: called before each batch; may raise to end the pass.
        """
        averaged = self.average is not None and self.average.judges and split == "val"
        model = self.average.module if self.average is not None and averaged else self.model
        metrics = evaluate(self.task, model, batches, self.device, self.cfg.amp, between, self.world).compute()
        if split not in self.baselines:  # a whole text is counted for it
            self.baselines[split] = self.task.baseline(self.data, split)
        baseline = self.baselines[split].get(self.cfg.trainer.monitor.rpartition("/")[2])
        named = {f"{split}/{name}": value for name, value in metrics.items()}
        return named if baseline is None else named | {f"{split}/baseline": baseline}

    def check_monitor(self, batches: Batches) -> None:
        """Find a wrong ``trainer.monitor`` by one batch of evaluation, and not after an epoch.

        Raises:
            RequestError: it is no metric of the task.
        """
        one = FirstBatches(batches, 1)
        metrics = evaluate(self.task, self.model, one, self.device, self.cfg.amp, world=self.world).compute()
        names, monitor = [f"val/{name}" for name in metrics], self.cfg.trainer.monitor
        if monitor not in names:
            raise RequestError(f"trainer.monitor={monitor}: no such metric{did_you_mean(monitor, names)}")
