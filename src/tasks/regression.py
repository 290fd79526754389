"""Numbers for a whole sequence."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.config import Config
from src.data.base import DataSpec
from src.data.batch import Batch
from src.errors import RequestError
from src.modules.sequence import SequenceModel
from src.tasks.base import StepResult, Task
from src.tasks.means import Means
from src.tasks.options import TaskOptions
from src.tasks.stack import build_stack, input_size


class Options(TaskOptions):
    """``conf/task/regression.yaml``."""

    name: Literal["regression"]


def build(cfg: Config, spec: DataSpec) -> "Regression":
    """Make the task for data that says this of itself.

    Raises:
        RequestError: the data has no numbers to answer with.
    """
    if spec.target_size is None or spec.target != "sequence":
        raise RequestError(f"task=regression: data={cfg.data.name} has no numbers to answer with for a sequence")
    return Regression()


class Regression(Task):
    """Mean squared error of what the head makes of the last step."""

    def build_model(self, cfg: Config, spec: DataSpec) -> SequenceModel:
        """Inputs, stack, last step, head."""
        assert spec.target_size is not None
        size = input_size(cfg, spec)
        return SequenceModel(
            spec.vocab_size,
            spec.target_size,
            size,
            build_stack(cfg, size),
            dropout=0.0 if isinstance(cfg.dropout, list) else cfg.dropout,
            pad_id=spec.pad_id,
            init=cfg.model.init,
        )

    def count(self, batch: Batch) -> int:
        """Numbers of the batch."""
        return batch.targets.numel()

    def step(self, model: nn.Module, batch: Batch, carry: Any = None) -> StepResult:
        """Mean squared error of a batch."""
        answers_BO: Tensor = model(batch.inputs, batch.lengths).float()
        loss = F.mse_loss(answers_BO, batch.targets)
        errors_BO, count = answers_BO.detach() - batch.targets, self.count(batch)
        sums = {"loss": errors_BO.square().sum(), "mae": errors_BO.abs().sum()}
        return StepResult(loss, {name: torch.stack((total, total.new_tensor(count))) for name, total in sums.items()})

    def new_metrics(self) -> Means:
        """``loss``, the mean squared error, and ``mae``, the mean absolute one."""
        return Means()
