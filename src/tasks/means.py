"""Metrics that are means."""

from typing import Any

from torch import Tensor

from src.data.batch import Batch
from src.tasks.base import StepResult


class Means:
    """The mean of each output of the steps, which is a pair [2]: a sum, and over how many elements it goes."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def update(self, result: StepResult, batch: Batch) -> None:
        """Add a batch, on the device."""
        for name, pair in result.outputs.items():
            self.sums[name] = self.sums[name] + pair if name in self.sums else pair

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint in mid-epoch."""
        return dict(self.sums)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.sums = dict(state)

    def compute(self) -> dict[str, float]:
        """Wait for the device and return the means."""
        assert self.sums, "no batch was evaluated"
        return {name: float(total / count) for name, (total, count) in self.sums.items()}
