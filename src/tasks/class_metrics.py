"""What a classifier is judged by, from a few sums for each class: the whole confusion matrix of 5,000 takes 200 MB."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.batch import Batch
from src.tasks.base import StepResult


class ClassificationMetrics:
    """Loss, accuracy, balanced accuracy and macro-F1, from counts that are summed on the device.

    Of two classes, where the steps say their scores (in evaluation), the areas under the ROC and the precision-recall
    curve too, which need every example's.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: Tensor | None = None  # [3 * C] examples of each class that were named right, exist, were named
        self.loss: Tensor | None = None
        self.count = 0
        self.scored: list[Tensor] = []  # [2, B] score of the second class, and whether it is the true one

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
        if "score" in result.outputs:
            score_B = result.outputs["score"]
            self.scored.append(torch.stack((score_B, targets_B.to(score_B.dtype))))

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint in mid-epoch."""
        return {"counts": self.counts, "loss": self.loss, "count": self.count, "scored": self.scored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned; older checkpoints hold the whole confusion matrix."""
        counts, self.loss, self.count = state.get("counts"), state["loss"], state["count"]
        if state.get("confusion") is not None:
            whole_CC = state["confusion"].view(self.classes, self.classes)  # true class by named class
            counts = torch.cat((whole_CC.diagonal(), whole_CC.sum(1), whole_CC.sum(0)))
        self.counts, self.scored = counts, list(state.get("scored") or [])

    def compute(self) -> dict[str, float]:
        """Wait for the device and return ``loss``, ``accuracy``, ``balanced_accuracy`` (the mean recall of the classes
        that there are) and ``macro_f1``; with scores ``roc_auc`` and ``average_precision``, not a number where only one
        class is there."""
        assert self.counts is not None and self.loss is not None, "no batch was evaluated"
        right_C, meant_C, named_C = self.counts.view(3, self.classes).cpu().double()
        there_C = meant_C > 0
        return {
            "loss": self.loss.item() / self.count,
            "accuracy": (right_C.sum() / meant_C.sum()).item(),
            "balanced_accuracy": (right_C[there_C] / meant_C[there_C]).mean().item(),
            # 0 for a class that is nowhere
            "macro_f1": (2 * right_C / (meant_C + named_C).clamp(min=1)).mean().item(),
            **(areas(torch.cat(self.scored, 1)) if self.scored else {}),
        }


def areas(scored_2N: Tensor) -> dict[str, float]:
    """The areas under the curves of true against false positives, and of precision against recall (as the mean
    precision, without interpolation): those of scikit-learn, whose import would cost a run more than a second."""
    score_N, true_N = scored_2N.cpu().double().numpy()
    positives, negatives = true_N.sum(), (1 - true_N).sum()
    if not (positives and negatives) or not np.isfinite(score_N).all():
        return {"roc_auc": math.nan, "average_precision": math.nan}
    order = np.argsort(-score_N)
    last = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1)  # of each run of equal scores
    hits = np.append(0, true_N[order].cumsum()[last])  # found at each threshold, from none
    named = np.append(0, last + 1)
    return {
        "roc_auc": float((np.diff(named - hits) * (hits[1:] + hits[:-1])).sum() / (2 * positives * negatives)),
        "average_precision": float((np.diff(hits) / positives * hits[1:] / named[1:]).sum()),
    }
