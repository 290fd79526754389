"""What a classifier is judged by, from a few sums for each class: the whole confusion matrix of 5,000 takes 200 MB."""

from typing import Any

import torch
from torch import Tensor

from src.data.batch import Batch
from src.tasks.base import StepResult


class ClassificationMetrics:
    """Loss, accuracy, balanced accuracy and macro-F1, from counts that are summed on the device."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: Tensor | None = None  # [3 * C] examples of each class that were named right, exist, were named
        self.loss: Tensor | None = None
        self.count = 0

    def update(self, result: StepResult, batch: Batch) -> None:
        """Add a batch."""
        targets_B, predicted_B = batch.targets, result.outputs["predicted"]
        if self.counts is None or self.loss is None:
            self.counts = torch.zeros(3 * self.classes, dtype=torch.int64, device=targets_B.device)
            self.loss = torch.zeros((), dtype=torch.float32, device=targets_B.device)
        ones_B = torch.ones_like(targets_B)
        places = torch.cat((targets_B, targets_B + self.classes, predicted_B + 2 * self.classes))
        # bincount would wait for the device
        self.counts.index_add_(0, places, torch.cat(((targets_B == predicted_B).long(), ones_B, ones_B)))
        self.loss += result.outputs["loss"] * len(targets_B)
        self.count += len(targets_B)

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint in mid-epoch."""
        return {"counts": self.counts, "loss": self.loss, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.counts, self.loss, self.count = state["counts"], state["loss"], state["count"]

    def compute(self) -> dict[str, float]:
        """Wait for the device and return ``loss``, ``accuracy``, ``balanced_accuracy`` (the mean recall of the classes
        that there are) and ``macro_f1``."""
        assert self.counts is not None and self.loss is not None, "no batch was evaluated"
        right_C, meant_C, named_C = self.counts.view(3, self.classes).cpu().double()
        there_C = meant_C > 0
        return {
            "loss": self.loss.item() / self.count,
            "accuracy": (right_C.sum() / meant_C.sum()).item(),
            "balanced_accuracy": (right_C[there_C] / meant_C[there_C]).mean().item(),
            # 0 for a class that is nowhere
            "macro_f1": (2 * right_C / (meant_C + named_C).clamp(min=1)).mean().item(),
        }
