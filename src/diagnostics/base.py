"""What the diagnostics share: a moment in which the model can be looked at and nothing changes, and a record."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from deep_rnn import DeepRNN
from src.config import Config
from src.data.base import Data, Loader
from src.data.batch import Batch
from src.files import write_atomic
from src.tasks.base import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Scene(NamedTuple):
    """What is looked at."""

    cfg: Config
    model: nn.Module
    rnn: DeepRNN
    """The model's stack."""
    task: Task
    data: Data
    device: torch.device

    @property
    def stacks(self) -> list[DeepRNN]:
        """The stack, and the one that reads backwards where there are two."""
        return [self.rnn] if self.rnn.mirror is None else [self.rnn, self.rnn.mirror]

    @property
    def layer_names(self) -> list[str]:
        """``layer_0`` is the lowest."""
        return [f"layer_{number}" for number in range(self.rnn.num_layers)]

    @property
    def rnn_name(self) -> str:
        """Where the stack stands in the model."""
        return next(name for name, module in self.model.named_modules() if module is self.rnn)

    @contextmanager
    def still(self, backend: str | None = None) -> Iterator[None]:
        """Evaluate in eager mode, whole sequences at once, and leave modes and random generators as they were."""
        training = self.model.training
        before = self.rnn.backend, [stack.recompute for stack in self.stacks]
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
                self.model.eval()
                self.rnn.backend = backend or self.rnn.backend
                for stack in self.stacks:
                    stack.recompute = None
                yield
        finally:
            self.model.train(training)
            self.rnn.backend = before[0]
            for stack, recompute in zip(self.stacks, before[1], strict=True):
                stack.recompute = recompute

    def loader(self, split: str) -> Loader:
        """Batches of a split in an order that never changes."""
        options = self.cfg.trainer
        return self.task.batches(
            self.data, split, self.cfg.batch_size, shuffle=True, seed=0, bucket=options.bucket, pin=False
        )

    def probe_batch(self) -> Batch:
        """The same batch of training examples, time and again."""
        return next(iter(self.loader("train").epoch(0))).to(self.device)

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the stack reads of a batch, [T, B, I], and how many steps of it are valid, [B]; it is not run."""
        asks = signature(self.rnn.forward)

        def stop(module: nn.Module, given: Any, named: Any) -> None:
            raise _Heard(asks.bind(*given, **named).arguments)

        hook = self.rnn.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with torch.no_grad():
                self.task.step(self.model, batch, None)
        except _Heard as heard:
            x, lengths = heard.arguments["x"].detach(), heard.arguments.get("lengths")
        finally:
            hook.remove()
        return x, torch.full(x.shape[1:2], len(x), device=x.device) if lengths is None else lengths


class _Heard(Exception):
    """Carries what a stack was called with past the rest of the model."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments


class Record:
    """What a diagnostic found at each step it looked, kept in an ``.npz`` beside the run so that resuming adds to it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[int, dict[str, np.ndarray]] = {}
        with suppress(OSError, ValueError), np.load(path) as file:
            arrays = dict(file)
            for place, step in enumerate(arrays.pop("steps").tolist()):
                self.entries[step] = {name: values[place] for name, values in arrays.items()}

    def __len__(self) -> int:
        """How often it looked."""
        return len(self.entries)

    def add(self, step: int, **found: np.ndarray) -> None:
        """Keep what was found; the shapes are the same each time."""
        self.entries[step] = found
        self._write()

    def rewind(self, step: int) -> None:
        """Forget what came after this step."""
        kept = {at: entry for at, entry in self.entries.items() if at <= step}
        if len(kept) < len(self.entries):
            self.entries = kept
            self._write()

    def stacked(self, name: str) -> np.ndarray:
        """[looks, …] all that was found under a name."""
        return np.stack([entry[name] for entry in self.entries.values()])

    @property
    def steps(self) -> list[int]:
        """When it looked."""
        return list(self.entries)

    def _write(self) -> None:
        if not self.entries:
            self.path.unlink(missing_ok=True)
            return
        data = io.BytesIO()
        arrays: dict[str, Any] = {name: self.stacked(name) for name in self.entries[self.steps[0]]}
        np.savez_compressed(data, **(arrays | {"steps": self.steps}))
        write_atomic(self.path, data.getvalue())


class Diagnostic:
    """Looks at a model at chosen moments. Subclasses say when, what is measured, and how it is drawn."""

    name: str

    def __init__(self, options: Any, scene: Scene, folder: Path) -> None:
        self.options, self.scene, self.folder = options, scene, folder
        self.record = Record(folder / f"{self.name}.npz")

    def due(self, step: int) -> bool:
        """Whether it looks at update ``step``: the first one and every so many."""
        return (step - 1) % self.options.every == 0

    def before_update(self, step: int) -> None:
        """Look before the update, where it is due."""

    def after_update(self, step: int) -> dict[str, float]:
        """Look after the update, where it is due, and return what was found."""
        return {}

    def at_evaluation(self, step: int) -> dict[str, float]:
        """Look where the model is evaluated, and return what was found."""
        return {}

    def figure(self) -> "Figure":
        """Draw all that was found."""
        raise NotImplementedError

    def draw(self) -> Path:
        """Write the picture."""
        picture = io.BytesIO()
        self.figure().savefig(picture, format="png", dpi=110)
        write_atomic(self.folder / f"{self.name}.png", picture.getvalue())
        return self.folder / f"{self.name}.png"


def from_the_end(values_TB: Tensor, lengths: Tensor) -> Tensor:
    """[T, B] by time -> [T, B] by steps before each sequence's last valid one; zero where there are none."""
    places = lengths - 1 - torch.arange(len(values_TB), device=lengths.device)[:, None]
    return values_TB.gather(0, places.clamp(min=0)) * (places >= 0)


def shades(count: int) -> list[Any]:
    """Colours for layers, from the lowest to the highest."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * place / max(count - 1, 1)) for place in range(count)]
