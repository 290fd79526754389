"""A class for every step of a sequence."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_rnn.kernels.sequence import valid_steps
from src.config import Config
from src.data.base import DataSpec
from src.data.batch import Batch
from src.errors import RequestError
from src.modules.sequence import SequenceModel
from src.tasks.base import StepResult, Task
from src.tasks.means import Means
from src.tasks.options import TaskOptions
from src.tasks.stack import build_stack, input_size

UNKNOWN = -1  # of a step that is padding, which counts for nothing


class Options(TaskOptions):
    """``conf/task/sequence_labelling.yaml``."""

    name: Literal["sequence_labelling"]


def build(cfg: Config, spec: DataSpec) -> "SequenceLabelling":
    """Make the task for data that says this of itself.

    Raises:
        RequestError: the data has no class for every step.
    """
    if not spec.class_names or spec.target != "step":
        raise RequestError(f"task=sequence_labelling: data={cfg.data.name} has no class for every step")
    return SequenceLabelling()


class SequenceLabelling(Task):
    """Cross-entropy of the classes at every valid step."""

    def build_model(self, cfg: Config, spec: DataSpec) -> SequenceModel:
        """Inputs, stack, and a head at every step."""
        size = input_size(cfg, spec)
        return SequenceModel(
            spec.vocab_size,
            len(spec.class_names),
            size,
            build_stack(cfg, size),
            pooling=None,
            dropout=0.0 if isinstance(cfg.dropout, list) else cfg.dropout,
            pad_id=spec.pad_id,
            init=cfg.model.init,
        )

    def count(self, batch: Batch) -> int:
        """Valid steps of the batch."""
        return int(batch.lengths.sum())

    def step(self, model: nn.Module, batch: Batch, carry: Any = None) -> StepResult:
        """Mean cross-entropy over the valid steps, in nats."""
        logits_TBC: Tensor = model(batch.inputs, batch.lengths)
        valid_TB = valid_steps(batch.lengths, len(batch.targets))
        targets_TB = batch.targets.masked_fill(~valid_TB, UNKNOWN)
        loss = F.cross_entropy(logits_TBC.flatten(0, 1).float(), targets_TB.flatten(), ignore_index=UNKNOWN)
        right_TB = (logits_TBC.detach().argmax(-1) == batch.targets) & valid_TB
        steps, sequences = valid_TB.sum(), batch.lengths.new_tensor(len(batch.lengths))
        whole_B = right_TB.sum(0) == batch.lengths
        sums = {
            "loss": (loss.detach() * steps, steps),
            "accuracy": (right_TB.sum(), steps),
            "exact_match": (whole_B.sum(), sequences),
        }
        return StepResult(loss, {name: torch.stack([part.float() for part in pair]) for name, pair in sums.items()})

    def new_metrics(self) -> Means:
        """``loss``; ``accuracy``, over steps; ``exact_match``, the share of sequences that are right at every step."""
        return Means()
