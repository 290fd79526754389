"""A small model, task and batch for the diagnostics to look at."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from deep_rnn import DeepRNN
from src.data.batch import Batch
from src.diagnostics.base import Scene
from src.tasks.base import StepResult


class Model(nn.Module):
    """Numbers -> stack -> a linear map of the last valid output; enough of a model for the diagnostics."""

    def __init__(self, rnn: DeepRNN, outputs: int = 1) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(rnn.output_size, outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output, _ = self.rnn(x, None, lengths)
        return self.head(output[lengths - 1, torch.arange(x.shape[1])])


class Task:
    """The sum of squares of what the model answers, over one batch that is every split's only one."""

    def __init__(self, *batches: Batch) -> None:
        self.all = batches

    def step(self, model: nn.Module, batch: Batch, carry: Any) -> StepResult:
        return StepResult(model(batch.inputs, batch.lengths).square().sum(), {})

    def batches(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(epoch=lambda epoch: iter(self.all))


def make_batch(time: int, lengths: list[int], features: int, seed: int = 0) -> Batch:
    x = torch.randn(time, len(lengths), features, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.zeros(len(lengths), dtype=torch.int64), torch.tensor(lengths))


def make_scene(rnn: DeepRNN, *batches: Batch, outputs: int = 1) -> Scene:
    cfg: Any = SimpleNamespace(trainer=SimpleNamespace(bucket=False), batch_size=8)
    return Scene(cfg, Model(rnn, outputs), rnn, Task(*batches), None, torch.device("cpu"))  # type: ignore[arg-type]
