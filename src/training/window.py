"""Running sums of training, kept on the host."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from src.training.gradients import Update


@dataclass
class Window:
    """Updates since the sums were started: since the last log line, or since the epoch began."""

    steps: int = 0
    loss: float = 0.0
    """Sum over elements."""
    count: int = 0
    """Elements in ``loss``."""
    norm: float = 0.0
    """Sum of gradient norms over steps."""
    tokens: int = 0
    lr: float = 0.0
    """Learning rate of the last of them."""
    seconds: float = 0.0

    def add(self, update: Update, loss: float, norm: float) -> None:
        """Count an update whose loss and gradient norm the host has read."""
        self.steps += 1
        self.loss += loss * update.elements
        self.count += update.elements
        self.norm += norm
        self.tokens += update.tokens
        self.lr = update.lr

    @property
    def mean_loss(self) -> float:
        """Mean loss over elements; NaN where nothing was added."""
        return self.loss / self.count if self.count else math.nan

    @property
    def mean_norm(self) -> float:
        """Mean gradient norm over steps, before clipping."""
        return self.norm / self.steps if self.steps else math.nan

    def per_second(self, amount: int) -> float:
        """Turn a sum into a rate over the time that went into training."""
        return amount / self.seconds if self.seconds else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return the sums by name."""
        return asdict(self)
