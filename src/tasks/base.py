"""What a task is: it knows what a batch means, and nobody else does."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from src.config import Config
from src.data.base import Data, DataSpec, Loader
from src.data.batch import Batch
from src.data.encoder import TextEncoder
from src.errors import RequestError


class StepResult(NamedTuple):
    """What one batch gave."""

    loss: Tensor
    """Scalar to differentiate: the mean over ``Task.count(batch)`` elements."""
    outputs: dict[str, Tensor]
    """Detached, on the device; what the metrics need."""
    carry: Any = None
    """State for the next batch, where the task has one: tensors [B, *], batch axis first, cut from their history, in
    tuples of any depth. A checkpoint keeps the structure and not the types: named tuples come back as plain ones."""
    lr_scale: float = 1.0
    """Factor of the learning rate for an update by this batch."""


class Metrics(Protocol):
    """Sums over batches that stay on the device until they are asked for."""

    def update(self, result: StepResult, batch: Batch) -> None:
        """Add a batch; no wait for the device."""

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far by name, none or None where not begun; several processes add theirs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""

    def compute(self) -> dict[str, float]:
        """Return the metrics of all batches so far, by name and without the split's prefix."""


class Task(Protocol):
    """Builds its model from what the data says of itself, and gives loss and metrics for a batch."""

    def build_model(self, cfg: Config, spec: DataSpec) -> nn.Module:
        """Make the model; ``RequestError`` where config and data do not fit."""

    def batches(self, data: Data, split: str, batch_size: int, **how: Any) -> Loader:
        """Cut a split into batches, ``how`` as ``Data.loader`` takes it; a language model reads one long stream."""
        return data.loader(split, batch_size, **how)

    def count(self, batch: Batch) -> int:
        """Elements that the loss of this batch is the mean of, known without asking the device."""

    def step(self, model: nn.Module, batch: Batch, carry: Any) -> StepResult:
        """Run the model on a batch that is on its device; ``carry`` is what the batch before it left, first None."""

    def new_metrics(self) -> Metrics:
        """Start the metrics of one pass over a split."""

    def baseline(self, data: Data, split: str) -> dict[str, float]:
        """Return what the trivial predictor reaches, by the names that ``Metrics.compute`` uses: what the data says."""
        return dict(data.spec.baseline.get(split, {}))

    def report(self, model: nn.Module, data: Data, split: str, folder: Path) -> dict[str, Path]:
        """Write what a person wants to look at after training; return the files by title: none."""
        return {}

    def label(self, model: nn.Module, encoder: TextEncoder, texts: list[str]) -> list[dict[str, Any]]:
        """Say what the model makes of texts it has never seen, one plain dict each.

        Raises:
            RequestError: this task has no answer to a text alone.
        """
        raise RequestError("python -m src.predict labels texts, which is for task=classification")
