"""The diagnostics of one run, as the training loop calls them."""

from pathlib import Path

import torch
from torch import nn

from deep_rnn import DeepRNN
from src.config import Config
from src.data.base import Data
from src.diagnostics.base import Diagnostic, Scene
from src.diagnostics.gradient_flow import GradientFlow
from src.diagnostics.memory import Memory
from src.diagnostics.probe import Probe
from src.tasks.base import Task

KINDS: dict[str, type[Diagnostic]] = {"gradient_flow": GradientFlow, "memory": Memory, "probe": Probe}


class Diagnostics:
    """Those that ``conf/diagnostics/`` chose; none by default.

    Args:
        cfg: the run's configuration.
        model: on its device; it must hold a DeepRNN.
        task, data: what a batch means, and where it comes from.
        folder: the run folder.
        active: whether this process looks; of several that train a model together one does.
    """

    def __init__(
        self,
        cfg: Config,
        model: nn.Module,
        task: Task,
        data: Data,
        folder: Path,
        device: torch.device,
        active: bool = True,
    ) -> None:
        chosen = {name: getattr(cfg.diagnostics, name) if active else None for name in KINDS}
        self.each: list[Diagnostic] = []
        if any(chosen.values()):
            rnn = next(module for module in model.modules() if isinstance(module, DeepRNN))
            scene = Scene(cfg, model, rnn, task, data, device)
            self.each = [KINDS[name](options, scene, folder) for name, options in chosen.items() if options]

    def due(self, step: int) -> bool:
        """Whether one of them looks at this update, counted from 1."""
        return any(diagnostic.due(step) for diagnostic in self.each)

    def before_update(self, step: int) -> None:
        """Look at the model before update ``step``."""
        for diagnostic in self.each:
            if diagnostic.due(step):
                diagnostic.before_update(step)

    def after_update(self, step: int) -> dict[str, float]:
        """Look at the model after update ``step``, and return what was found."""
        found: dict[str, float] = {}
        for diagnostic in self.each:
            if diagnostic.due(step):
                found |= diagnostic.after_update(step)
        return found

    def at_evaluation(self, step: int) -> dict[str, float]:
        """Look at the model where it is evaluated."""
        return {name: value for diagnostic in self.each for name, value in diagnostic.at_evaluation(step).items()}

    def rewind(self, step: int) -> None:
        """Forget what was found after update ``step``: the run goes on from there."""
        for diagnostic in self.each:
            diagnostic.record.rewind(step)

    def draw(self) -> dict[str, Path]:
        """Draw the pictures and return the files by title."""
        return {diagnostic.name: diagnostic.draw() for diagnostic in self.each if len(diagnostic.record)}
